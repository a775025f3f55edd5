"""Figure and ground by colour: refines the box where the target's colours stand out from what surrounds it.

Two colour histograms, of the target and of the ring around it, give each pixel a probability of being the target
(as in Staple, Bertinetto et al. 2016). Its mean profiles along x and y are registered to the first frame's by shift and
stretch, which moves opposite edges of the box independently. How well inside and ring are told apart says how far to
trust it.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from .pyramid import Pyramid

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

SIDE_PX = 64  # the window is twice the box each way, so the box is the middle half
BINS = 16
REACH, STEPS = 0.16, 17  # largest log-stretch, largest shift in box sides, and candidates of each
PRIOR = 1.5  # price of stretch^2 and shift^2 against the profiles' mean squared difference / 0.02


class FigureGround:
    """``figure_rate`` and ``ground_rate`` are shares of the newest frame in the histograms and profiles."""

    def __init__(self, figure_rate: float, ground_rate: float) -> None:
        self._figure_rate, self._ground_rate = figure_rate, ground_rate
        u = (np.arange(SIDE_PX) + 0.5) / SIDE_PX * 2 - 1
        x, y = np.meshgrid(u, u)
        self._inside = (np.abs(x) < 0.5) & (np.abs(y) < 0.5)
        self._ring = ((np.abs(x) > 0.55) | (np.abs(y) > 0.55)).astype(np.float32)
        self._middle = (np.clip(1 - (2 * x) ** 2, 0, 1) * np.clip(1 - (2 * y) ** 2, 0, 1)).astype(np.float32)
        self._matter = np.clip((0.95 - np.abs(u)) / 0.25, 0, 1)
        self._matter /= self._matter.sum()
        self.stretches = np.linspace(-REACH, REACH, STEPS)
        stretch, shift = np.meshgrid(self.stretches, self.stretches, indexing="ij")
        positions = (shift[..., None] + u * np.exp(stretch)[..., None] - u[0]) / (u[1] - u[0])  # in samples of u
        self._left = np.clip(positions.astype(np.intp), 0, SIDE_PX - 2)
        self._share = np.clip(positions - self._left, 0, 1)
        self._price = PRIOR * (stretch**2 + shift**2)
        self._figure: F32 | None = None
        self._ground: F32 | None = None
        self._profiles: list[F64] = []
        self.contrast = 0.0

    def learn(self, picture: Pyramid, centre: F64, size: F64) -> None:
        """Take the box of ``size`` (w, h) px at ``centre`` as the target's."""
        index = self._index(picture, centre, size)
        ground = _histogram(index, self._ring)
        if self._figure is None or self._ground is None:
            self._figure, self._ground = _histogram(index, self._middle), ground
            self._profiles = _profiles(self._probability(index))
            return
        figure = _histogram(index, self._middle * self._probability(index))
        self._figure += np.float32(self._figure_rate) * (figure - self._figure)
        self._ground += np.float32(self._ground_rate) * (ground - self._ground)
        new = _profiles(self._probability(index))
        self._profiles = [p + self._figure_rate * (q - p) for p, q in zip(self._profiles, new, strict=True)]

    def refine(self, picture: Pyramid, centre: F64, size: F64) -> tuple[F64, F64]:
        """(shift (x, y) in box sides, log-stretch (w, h)) of the target against this box; sets ``contrast``."""
        probability = self._probability(self._index(picture, centre, size))
        self.contrast = float(probability[self._inside].mean() - np.average(probability, weights=self._ring))
        shift, stretch = np.zeros(2), np.zeros(2)
        for axis, (seen, known) in enumerate(zip(_profiles(probability), self._profiles, strict=True)):
            moved = seen[self._left] + self._share * np.diff(seen)[self._left]
            error = ((moved - known) ** 2) @ self._matter
            i, j = np.unravel_index(int((error / 0.02 + self._price).argmin()), error.shape)
            stretch[axis], shift[axis] = self.stretches[i], self.stretches[j]
        return shift, stretch

    def _index(self, picture: Pyramid, centre: F64, size: F64) -> NDArray[np.int32]:
        bgr = (picture.crop(centre, 2 * size, (SIDE_PX, SIDE_PX)).image >> 4).astype(np.int32)
        return np.asarray(bgr[..., 0] + (bgr[..., 1] << 4) + (bgr[..., 2] << 8), dtype=np.int32)

    def _probability(self, index: NDArray[np.int32]) -> F32:
        assert self._figure is not None and self._ground is not None
        return np.asarray((self._figure / (self._figure + self._ground))[index])


def _histogram(index: NDArray[np.int32], weight: F32) -> F32:
    """Smoothed joint colour histogram that sums to one."""
    counts = np.bincount(index.ravel(), weight.ravel(), BINS**3).astype(np.float32).reshape(BINS, BINS * BINS)
    kernel = np.array([0.25, 0.5, 0.25], np.float32)
    for _ in range(3):  # along one axis, then turn the cube
        soft = cv2.sepFilter2D(counts, -1, np.ones(1, np.float32), kernel, borderType=cv2.BORDER_REPLICATE)
        counts = np.ascontiguousarray(soft.reshape(BINS, BINS, BINS).transpose(1, 2, 0)).reshape(BINS, BINS * BINS)
    return np.asarray((counts + 1e-4) / (counts + 1e-4).sum(), dtype=np.float32).ravel()


def _profiles(probability: F32) -> list[F64]:
    """Mean over the box's rows as a function of x, and over its columns as a function of y."""
    quarter = SIDE_PX // 4
    middle = slice(quarter, SIDE_PX - quarter)
    return [probability[middle].mean(axis=0).astype(np.float64), probability[:, middle].mean(axis=1).astype(np.float64)]
