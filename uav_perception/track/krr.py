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
    return np.asarray(scipy.fft.rfft2(maps, axes=(-2, -1)))


def ifft2(spectra: C64, shape: tuple[int, int]) -> F32:
    return np.asarray(scipy.fft.irfft2(spectra, s=shape, axes=(-2, -1)))


class CrossPatchRegression:
    """Regresses the label from feature maps with a filter that lives on the target's 3x3 patches only.

    Args:
        shape: rows, cols of the feature maps (search window).
        patch: rows, cols of one patch; the support is three of them each way, in the middle of the window.
        label_sigma: width of the desired response, cells.
        ridge: lambda_1 of the paper. step: ADMM penalty (relative to the features' energy).
    """

    def __init__(self, shape: tuple[int, int], patch: tuple[int, int], label_sigma: float, ridge: float, step: float,
                 cross_patch: bool = True) -> None:
        self.shape, self.patch = shape, patch
        self.ridge, self.step, self.cross_patch = ridge, step, cross_patch
        self.label = gaussian_label(*shape, label_sigma)
        self._label_f = fft2(self.label)
        top, left = (shape[0] - 3 * patch[0]) // 2, (shape[1] - 3 * patch[1]) // 2
        self.support = (slice(top, top + 3 * patch[0]), slice(left, left + 3 * patch[1]))
        self.beta = np.eye(PATCHES**2)
        self._filter: F32 | None = None
        self._dual: C64 | None = None
        self._spectrum: C64 | None = None

    def response(self, spectra: C64) -> F32:
        """(rows, cols) regression value of every shift, [0, 0] = no shift, for (C, rows, cols//2+1) spectra."""
        assert self._spectrum is not None
        return ifft2(np.einsum("chw,chw->hw", spectra, self._spectrum), self.shape)

    def solve(self, samples: C64, weights: F32, iterations: int) -> None:
        """Improve the filter on (K, C, rows, cols//2+1) spectra with weights (K,) that sum to one."""
        k, c = samples.shape[:2]
        rows = samples * np.sqrt(weights, dtype=np.float32)[:, None, None, None]
        gram = np.einsum("kchw,lchw->hwkl", rows, rows.conj())
        step = self.step * float(gram.real.trace(axis1=2, axis2=3).mean()) / c
        inverse = np.linalg.inv(gram + step * np.eye(k, dtype=np.float32))
        target = (rows.conj() * np.sqrt(weights, dtype=np.float32)[:, None, None, None]).sum(0) * self._label_f
        prox = self._prox()
        if self._filter is None:
            self._filter = np.zeros((c, *self.shape), np.float32)
            self._dual = np.zeros_like(target)
        constrained = fft2(self._filter).conj()
        assert self._dual is not None
        for _ in range(iterations):
            b = target + step * (constrained - self._dual)
            a = np.einsum("kchw,chw->khw", rows, b)
            a = np.einsum("hwkl,lhw->khw", inverse, a)
            free = (b - np.einsum("kchw,khw->chw", rows.conj(), a)) / step
            spatial = ifft2((free + self._dual).conj(), self.shape)[:, self.support[0], self.support[1]]
            self._filter[:, self.support[0], self.support[1]] = self._mix(spatial, prox)
            constrained = fft2(self._filter).conj()
            self._dual += free - constrained
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
