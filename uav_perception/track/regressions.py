"""One target to the regressions: the whole by kernel ridge regression, its parts by region kernels (LSART, Sun et al.,
CVPR 2018), both learnt from the same windows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..config import LsartConfig
from ..records import F64
from .features import colours, feature_window, hog
from .krr import C64, CrossPatchRegression, fft2
from .pyramid import Crop, Pyramid
from .regions import RegionRegression
from .search import Peak, find_peak, fuse, peak_quality

F32 = NDArray[np.float32]


class Regressions:
    """Asked where the target is, and taught how it looks. ``size`` (w, h) px is its box's in the first frame."""

    def __init__(self, config: LsartConfig, size: F64) -> None:
        self._config = c = config
        cells = c.window_px // c.cell_px
        self._hann = feature_window(cells, cells)
        target = size[::-1] / np.sqrt(size.prod()) * cells / c.search_ratio  # (rows, cols)
        sigma = float(np.sqrt(target.prod()) / 12)
        patch = np.clip(np.round(target / 3), 1, cells // 3).astype(int)
        self._krr = CrossPatchRegression((cells, cells), (int(patch[0]), int(patch[1])), sigma, c.krr_ridge, c.krr_step)
        self._model: C64 | None = None
        self._regions = RegionRegression((target[0], target[1]), cells // 4, sigma, c.region_count, c.region_channels,
                                         1e-2, 0.1, 5) if c.regions else None

    def place(self, picture: Pyramid, place: F64, size: F64) -> tuple[F64, Peak]:
        """The target's middle, px, as seen in the window around ``place`` for a target of ``size``, and the peak that
        says so. The parts are asked only where the whole is not sure."""
        window = self._window(picture, place, size)
        maps = self._features(window)
        whole = self._krr.response(fft2(maps))
        peak = find_peak(whole)
        if self._regions is not None and peak_quality(peak) <= self._config.region_below:
            parts = self._regions.response(self._regions.samples(maps), self._config.distance_transform)
            fused = fuse(whole, parts, self._config.region_weight, self._config.quality_fusion)
            peak = replace(peak, offset=find_peak(fused).offset)  # sureness stays the whole's: its scale is known
        return np.array(window.to_source(*np.array(peak.offset) * self._config.cell_px)), peak

    def learn(self, picture: Pyramid, centre: F64, size: F64, turn: int) -> None:
        """The target's box of ``size`` is at ``centre``; ``turn`` counts what might have been learnt from so far, for
        the dearer parts learn in some turns alone."""
        c = self._config
        maps = self._features(self._window(picture, centre, size))
        spectra, first = fft2(maps), self._model is None
        self._model = spectra if self._model is None else self._model + c.learn_rate * (spectra - self._model)
        self._krr.solve(self._model, 10 if first else c.krr_iterations)
        if c.cross_patch and turn % max(1, c.cross_patch_every // c.learn_every) == 0:
            self._krr.update_beta(self._model)
        if self._regions and turn % max(1, c.region_every // c.learn_every) == 0:
            self._regions.learn(self._regions.samples(maps))

    def _window(self, picture: Pyramid, centre: F64, size: F64) -> Crop:
        side = np.sqrt(size.prod()) * self._config.search_ratio
        return picture.crop(centre, (side, side), (self._config.window_px, self._config.window_px))

    def _features(self, window: Crop) -> F32:
        maps = hog(window.image, self._config.cell_px)
        if self._config.colour:
            maps = np.concatenate([maps, colours(window.image, self._config.cell_px)])
        return maps * self._hann
