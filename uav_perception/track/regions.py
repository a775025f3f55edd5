"""Spatially regularised region kernels: many small regressors, each seeing only some parts of the target.

Source: Sun et al. (CVPR 2018), section 4: convolution kernels under fixed masks (bands, and random taps shared over the
channels), each trained to regress the label alone, then pooled by a distance transform whose price is its learnt
reliability. Here the 5 x 5 taps span the target, features are compressed by PCA of the first frame, and each masked
kernel is a closed-form ridge on one shared Gram matrix instead of gradient steps.
"""

from __future__ import annotations

import cv2
import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from .distance_transform import pool

F32 = NDArray[np.float32]
Bool = NDArray[np.bool_]

TAPS = 5
STIFFNESS = np.array([0.002, 0.005, 0.01, 0.03, 0.1, 1.0], np.float32)  # candidates of the price per squared cell


def region_masks(count: int, seed: int = 0, keep: float = 0.3) -> Bool:
    """(count, 5, 5) masks: four bands of two rows, four of two columns, then Bernoulli(keep) taps (at least two)."""
    masks = np.zeros((count, TAPS, TAPS), bool)
    for k in range(min(4, count)):
        masks[k, k : k + 2, :] = True
    for k in range(4, min(8, count)):
        masks[k, :, k - 4 : k - 2] = True
    rng = np.random.default_rng(seed)
    for k in range(8, count):
        while masks[k].sum() < 2:
            masks[k] = rng.random((TAPS, TAPS)) < keep
    return masks


class RegionRegression:
    """Regresses the label around the middle of a search window from masked parts of the target.

    Args:
        target_cells: (rows, cols) of the target in feature cells.
        radius: shifts of up to this many cells are learnt and answered.
        label_sigma: width of the desired response, cells.
    """

    def __init__(self, target_cells: tuple[float, float], radius: int, label_sigma: float, kernels: int, channels: int,
                 ridge: float, rate: float, pooling_radius: int) -> None:
        self.radius = radius
        self._masks = region_masks(kernels)
        self._channels, self._ridge, self._rate, self._pooling_radius = channels, ridge, rate, pooling_radius
        steps = (np.arange(TAPS) - TAPS // 2) / TAPS
        self._rows = np.round(steps * target_cells[0]).astype(int)
        self._cols = np.round(steps * target_cells[1]).astype(int)
        self._blur = (max(1, round(target_cells[1] / TAPS)), max(1, round(target_cells[0] / TAPS)))
        shifts = np.arange(-radius, radius + 1)
        self.label = np.exp(-0.5 * (shifts[:, None] ** 2 + shifts**2) / label_sigma**2).astype(np.float32)
        self._basis: F32 | None = None
        self._gram: F32 | None = None
        self._cross: F32 | None = None
        self._weights = np.zeros((kernels, TAPS * TAPS * channels), np.float32)
        self.stiffness = np.full(kernels, STIFFNESS[2], np.float32)
        self.lean = np.zeros((kernels, 2), np.float32)

    def samples(self, maps: F32) -> F32:
        """(shifts, 25 * channels): the taps of the target at every shift, from (C, rows, cols) maps."""
        if self._basis is None:
            self._basis = principal_axes(maps, self._channels)
        small = np.tensordot(self._basis, maps, axes=1)
        _, rows, cols = small.shape
        side = 2 * self.radius + 1
        soft = np.stack([cv2.blur(m, self._blur, borderType=cv2.BORDER_REPLICATE) for m in small])
        reach_y, reach_x = np.abs(self._rows).max(), np.abs(self._cols).max()
        pad_y = max(0, self.radius + reach_y - rows // 2 + 1)
        pad_x = max(0, self.radius + reach_x - cols // 2 + 1)
        soft = np.pad(soft, ((0, 0), (pad_y, pad_y), (pad_x, pad_x)), mode="edge")
        top, left = rows // 2 + pad_y - self.radius, cols // 2 + pad_x - self.radius
        taps = [soft[:, top + y : top + y + side, left + x : left + x + side] for y in self._rows for x in self._cols]
        return np.ascontiguousarray(np.stack(taps).reshape(TAPS * TAPS * self._channels, side * side).T)

    def learn(self, samples: F32) -> None:
        """Take ``samples`` as seen with the target at shift zero; refresh kernels and their reliability."""
        gram, cross = samples.T @ samples, samples.T @ self.label.ravel()
        if self._gram is None or self._cross is None:
            self._gram, self._cross = gram, cross
        else:
            self._gram += self._rate * (gram - self._gram)
            self._cross += self._rate * (cross - self._cross)
        ridge = self._ridge * float(np.trace(self._gram)) / len(self._gram)
        for k, mask in enumerate(self._masks):
            on = np.flatnonzero(np.repeat(mask.ravel(), self._channels))
            block = self._gram[np.ix_(on, on)]
            block[np.diag_indices(len(on))] += ridge
            self._weights[k, on] = scipy.linalg.solve(block, self._cross[on], assume_a="pos", check_finite=False)
        self._learn_reliability(self.maps(samples))

    def maps(self, samples: F32) -> F32:
        """(kernels, side, side) response of each region alone."""
        side = 2 * self.radius + 1
        return np.ascontiguousarray((samples @ self._weights.T).T.reshape(-1, side, side))

    def response(self, samples: F32, pooled: bool = True) -> F32:
        """(side, side) mean of all regions; the middle is shift zero."""
        maps = self.maps(samples)
        if pooled:
            maps = pool(maps, self.stiffness, self.lean, self._pooling_radius)
        return np.asarray(maps.mean(axis=0))

    def _learn_reliability(self, maps: F32) -> None:
        """Per region: the price whose pooled map is nearest to the label, and the offset its peak tends to have."""
        peak = maps.reshape(len(maps), -1).argmax(axis=1)
        side = 2 * self.radius + 1
        offset = np.stack([peak // side, peak % side], axis=1).astype(np.float32) - self.radius
        offset = np.clip(offset, -2, 2)
        flat = np.zeros_like(self.lean)
        pooled = [pool(maps, np.full(len(maps), w, np.float32), flat, self._pooling_radius) for w in STIFFNESS]
        error = np.stack([((p - self.label) ** 2).sum(axis=(1, 2)) for p in pooled])
        rate = self._rate if self.lean.any() else 1.0
        best = STIFFNESS[error.argmin(axis=0)]
        self.stiffness = (self.stiffness * (best / self.stiffness) ** rate).astype(np.float32)
        # s - t = -offset must be free of charge: w d^2 + theta d is least at d = -theta / 2 w
        self.lean = (self.lean + rate * (2 * self.stiffness[:, None] * offset - self.lean)).astype(np.float32)


def principal_axes(maps: F32, count: int) -> F32:
    """(count, C) leading eigenvectors of the channels' second moments over (C, H, W) maps."""
    flat = maps.reshape(len(maps), -1)
    _, vectors = np.linalg.eigh(flat @ flat.T)
    return np.ascontiguousarray(vectors[:, ::-1][:, :count].T)
