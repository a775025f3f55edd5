"""Kernel ridge regression with a cross-patch kernel, solved as one linear filter in the Fourier domain.

Source: Sun et al., "Learning Spatial-Aware Regressions for Visual Tracking" (CVPR 2018), section 3: the kernel
between two samples is k_ij = sum_mn beta_mn <x_i^m, x_j^n> over 3x3 patches m, n of the target. For a fixed positive
definite B = (beta) the regression equals, in the primal, a ridge with penalty W^T (B^-1 (x) I) W, where W stacks the
nine patch filters. All shifts of a search window are the training samples, so the data term is diagonal in the
Fourier domain; the support constraint and the penalty are spatial. ADMM alternates between the two (the splitting
of Galoogahi et al., ICCV 2017).
"""

from __future__ import annotations

import numpy as np
import scipy.fft
from numpy.typing import NDArray

F32 = NDArray[np.float32]
C64 = NDArray[np.complex64]

PATCHES = 3  # the target is split in 3 x 3


def gaussian_label(rows: int, cols: int, sigma: float) -> F32:
    """Desired response over shifts: 1 at shift (0, 0), which is element [0, 0], wrapping around."""
    y = np.fft.fftfreq(rows) * rows
    x = np.fft.fftfreq(cols) * cols
    return np.exp(-0.5 * (y[:, None] ** 2 + x**2) / sigma**2).astype(np.float32)


def fft2(maps: F32) -> C64:
    """Half spectra (C, rows, cols // 2 + 1) of real (C, rows, cols) maps."""
    return np.asarray(scipy.fft.rfft2(maps, axes=(-2, -1)))


def ifft2(spectra: C64, shape: tuple[int, int]) -> F32:
    """Back from ``fft2`` to maps of ``shape``."""
    return np.asarray(scipy.fft.irfft2(spectra, s=shape, axes=(-2, -1)))


class SupportTransform:
    """Conjugate half spectra of maps that are zero outside of ``support``, by matrices: half the price of an FFT.

    Args:
        shape: rows, cols of the whole maps. support: the part that is not zero.
    """

    def __init__(self, shape: tuple[int, int], support: tuple[slice, slice]) -> None:
        rows, cols = shape
        y, x = np.arange(rows)[support[0]], np.arange(cols)[support[1]]
        v = np.arange(cols // 2 + 1)
        along_y = np.exp(2j * np.pi / rows * np.outer(np.arange(rows), y))
        along_x = np.exp(2j * np.pi / cols * np.outer(x, v))
        twice = np.where((v == 0) | (2 * v == cols), 1.0, 2.0) / cols  # half of the spectrum stands for both
        back = along_x.conj() * twice
        self._along_y, self._back_y = along_y.astype(np.complex64), (along_y.conj().T / rows).astype(np.complex64)
        self._along_x = along_x.astype(np.complex64).view(np.float32)  # (w, 2 V), real and imaginary parts in turn
        self._back_x = np.stack([back.real, -back.imag], axis=2).reshape(len(x), -1).T.astype(np.float32)

    def forward(self, maps: F32) -> C64:
        """(C, rows, cols // 2 + 1) of (C, h, w) maps on the support."""
        c, h, w = maps.shape
        half = (maps.reshape(-1, w) @ self._along_x).view(np.complex64).reshape(c, h, -1)
        return np.asarray(self._along_y @ half)

    def inverse(self, spectra: C64) -> F32:
        """(C, h, w): what the maps with these conjugate spectra are on the support."""
        half = self._back_y @ spectra
        c, h, v = half.shape
        return np.asarray((half.reshape(-1, v).view(np.float32) @ self._back_x).reshape(c, h, -1))


def _dot(a: C64, b: C64) -> C64:
    """(rows, cols) sums of products over the channels (``einsum`` takes four times as long)."""
    return np.asarray((a * b).sum(axis=0))


class CrossPatchRegression:
    """Regresses the label from feature maps with a filter that lives on the target's 3x3 patches only.

    Args:
        shape: rows, cols of the feature maps (search window).
        patch: rows, cols of one patch; the support is three of them each way, in the middle of the window.
        label_sigma: width of the desired response, cells.
        ridge: lambda_1 of the paper. step: ADMM penalty (relative to the features' energy).
    """

    def __init__(self, shape: tuple[int, int], patch: tuple[int, int], label_sigma: float, ridge: float, step: float,
                 beta_ridge: float = 1.0) -> None:
        self.shape, self.patch = shape, patch
        self.ridge, self.step, self.beta_ridge = ridge, step, beta_ridge
        self.label = gaussian_label(*shape, label_sigma)
        self._label_f = fft2(self.label)
        top, left = (shape[0] - 3 * patch[0]) // 2, (shape[1] - 3 * patch[1]) // 2
        self.support = (slice(top, top + 3 * patch[0]), slice(left, left + 3 * patch[1]))
        self._transform = SupportTransform(shape, self.support)
        self.beta = np.eye(PATCHES**2)
        self._filter: F32 | None = None
        self._dual: C64 | None = None
        self._spectrum: C64 | None = None

    def response(self, spectra: C64) -> F32:
        """(rows, cols) regression value of every shift, [0, 0] = no shift, for (C, rows, cols//2+1) spectra."""
        assert self._spectrum is not None
        return ifft2(_dot(spectra, self._spectrum), self.shape)

    def solve(self, sample: C64, iterations: int) -> None:
        """Improve the filter on (C, rows, cols//2+1) spectra, from where it stands."""
        conjugate = sample.conj()
        energy = _dot(sample, conjugate).real
        step = np.float32(self.step * float(energy.mean()) / len(sample))
        gain = 1.0 / (energy + step)
        target = conjugate * (self._label_f / step)
        prox = self._prox()
        if self._spectrum is None or self._dual is None:
            self._spectrum, self._dual = np.zeros_like(sample), np.zeros_like(sample)
        constrained = self._spectrum
        for _ in range(iterations):
            free = constrained - self._dual  # Sherman-Morrison: every frequency is one equation in C unknowns
            free += target
            free -= conjugate * (_dot(sample, free) * gain)
            self._dual += free
            self._filter = self._mix(self._transform.inverse(self._dual), prox)
            constrained = self._transform.forward(self._filter)
            self._dual -= constrained
        self._spectrum = constrained

    def _prox(self) -> F32:
        """(9, 9): the spatial half step, argmin ridge W^T B^-1 W + step |W - v|^2 = M v."""
        return np.linalg.inv(np.eye(9) + self.ridge / self.step * np.linalg.inv(self.beta)).astype(np.float32)

    def _mix(self, maps: F32, matrix: F32) -> F32:
        """Apply a (9, 9) matrix over the patches of (C, 3 ph, 3 pw) maps."""
        (ph, pw), c = self.patch, len(maps)
        patches = maps.reshape(c, 3, ph, 3, pw).transpose(1, 3, 0, 2, 4).reshape(9, -1)
        return np.ascontiguousarray((matrix @ patches).reshape(3, 3, c, ph, pw).transpose(2, 0, 3, 1, 4)
                                    .reshape(c, 3 * ph, 3 * pw))

    def update_beta(self, sample: C64) -> None:
        """The other half of the alternation: B by ridge on 45 symmetric unknowns, with the patch filters fixed.

        Shrunk towards the identity (the plain kernel), made positive definite by clipping eigenvalues (the ridge does
        not keep it so), and normalised to trace 9, which takes the arbitrary factor between B and the coefficients.
        """
        if self._filter is None:
            return
        columns, pairs = self.cross_responses(sample)
        identity = np.array([1.0 if m == n else 0.0 for m, n in pairs])
        gram = columns.T @ columns
        gram[np.diag_indices(len(pairs))] += self.beta_ridge * np.trace(gram) / len(pairs)
        step = np.linalg.solve(gram, columns.T @ (self.label.ravel() - columns @ identity))
        beta = np.zeros((PATCHES**2, PATCHES**2))
        for (m, n), value in zip(pairs, identity + step, strict=True):
            beta[m, n] = beta[n, m] = value
        values, vectors = np.linalg.eigh(beta)
        beta = (vectors * np.clip(values, 0.05, None)) @ vectors.T
        self.beta = beta * (PATCHES**2 / np.trace(beta))

    def cross_responses(self, sample: C64) -> tuple[NDArray[np.float64], list[tuple[int, int]]]:
        """(pixels, 45) responses f_m^T f_n alpha of all pairs of patches, symmetrised, and the pairs (m, n)."""
        assert self._filter is not None
        (ph, pw) = self.patch
        base = self._mix(self._filter, np.linalg.inv(self.beta).astype(np.float32))
        single = np.zeros((PATCHES**2, *self.shape), np.float32)
        one = np.zeros_like(self._filter)
        for n in range(PATCHES**2):
            y, x = n // PATCHES * ph, n % PATCHES * pw
            one[:] = 0.0
            one[:, y : y + ph, x : x + pw] = base[:, y : y + ph, x : x + pw]
            single[n] = ifft2(_dot(sample, self._transform.forward(one)), self.shape)

        def placed(m: int, n: int) -> F32:  # filter of patch n where patch m is
            return np.roll(single[n], ((n // PATCHES - m // PATCHES) * ph, (n % PATCHES - m % PATCHES) * pw), (0, 1))

        pairs = [(m, n) for m in range(PATCHES**2) for n in range(m, PATCHES**2)]
        columns = np.stack([(placed(m, n) + (placed(n, m) if m != n else 0)).ravel() for m, n in pairs], axis=1)
        return columns.astype(np.float64), pairs
