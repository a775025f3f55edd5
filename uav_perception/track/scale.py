"""Scale and aspect of the target: one-dimensional correlation filters over resampled target windows.

After Danelljan et al., "Discriminative Scale Space Tracking" (PAMI 2017): a filter along the scale axis is learnt by
ridge regression from windows cut at known factors, here with a second filter along the aspect axis.
"""

from __future__ import annotations

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from .features import hog
from .pyramid import Pyramid

F64 = NDArray[np.float64]
SIDE_PX, CELL_PX = 32, 4


class AxisFilter:
    """Finds the factor along one axis of size changes. ``direction`` (1, 1) is scale, (1, -1) aspect (w against h)."""

    def __init__(self, direction: tuple[float, float], steps: int, factor: float, ridge: float, rate: float) -> None:
        exponent = np.arange(steps) - steps // 2
        self.factors = factor ** (exponent[:, None] * np.array(direction))  # (steps, 2) of (w, h)
        label = np.exp(-0.5 * (exponent / (steps / 16.0)) ** 2)
        self._label = np.fft.rfft(label).astype(np.complex64)
        fourier = np.fft.rfft(np.eye(steps), axis=0) * np.hanning(steps + 2)[1:-1]
        self._fourier = np.concatenate([fourier.real, fourier.imag]).astype(np.float32)  # (2 F, steps)
        self._ridge, self._rate = ridge, rate
        self._num: NDArray[np.complex64] | None = None
        self._den: NDArray[np.float32] | None = None
        self.peak = 1.0

    def learn(self, picture: Pyramid, centre: F64, size: F64) -> None:
        """Take the window at ``size`` (w, h px) as the right one."""
        spectra = self._spectra(picture, centre, size)
        num, den = self._label[:, None] * spectra.conj(), np.square(spectra.view(np.float32)).sum(axis=1)
        if self._num is None or self._den is None:
            self._num, self._den = num, den
        else:
            self._num += self._rate * (num - self._num)
            self._den += self._rate * (den - self._den)

    def estimate(self, picture: Pyramid, centre: F64, size: F64) -> F64:
        """Factors (w, h) by which the target's size differs from ``size``."""
        if self._num is None or self._den is None:
            return np.ones(2)
        spectra = self._spectra(picture, centre, size)
        weighed = (self._num * spectra).sum(axis=1) / (self._den + self._ridge * self._mean(self._den))
        response = scipy.fft.irfft(weighed, len(self.factors))
        best = int(response.argmax())
        self.peak = float(response[best])
        offset = 0.0
        if 0 < best < len(response) - 1:
            left, mid, right = response[best - 1 : best + 2]
            curve = left - 2 * mid + right
            offset = float(np.clip(0.5 * (left - right) / curve, -0.5, 0.5)) if curve < 0 else 0.0
        step = self.factors[1] / self.factors[0]
        return np.asarray(self.factors[best] * step**offset)

    def _mean(self, half: NDArray[np.float32]) -> float:
        """Over all frequencies, of which ``half`` has those from 0 to half of the (odd) number of steps."""
        return float(2 * half.sum() - half[0]) / len(self.factors)

    def _spectra(self, picture: Pyramid, centre: F64, size: F64) -> NDArray[np.complex64]:
        """(steps // 2 + 1, features): transforms along the steps, so few that a matrix is faster than an FFT."""
        maps = hog(picture.grey_crops(centre, size * self.factors, SIDE_PX), CELL_PX)
        steps = len(self.factors)
        samples = maps.reshape(len(maps), steps, -1).transpose(1, 0, 2).reshape(steps, -1)
        parts = (self._fourier @ samples).reshape(2, -1, samples.shape[1])
        spectra = np.empty(parts.shape[1:], np.complex64)
        spectra.real, spectra.imag = parts
        return spectra
