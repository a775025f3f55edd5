"""The target tracker: one object, from one box, in real time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..config import LsartConfig, TrackerConfig
from ..records import Detections, Frame, Track, TrackState
from . import TargetTracker
from .features import Crop, colours, crop, feature_window, hog
from .krr import C64, CrossPatchRegression, fft2
from .scale import AxisFilter
from .target import TargetTrack, checked_start_box

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]


class LsartTracker:
    """Kernel ridge regression with cross-patch similarity for the place, correlation filters for scale and aspect."""

    def __init__(self, config: LsartConfig) -> None:
        self._config = config
        self._out = TargetTrack()

    def start(self, frame: Frame, box_xyxy_px: ArrayLike, track_id: int = 0, class_id: int = -1) -> Track:
        config, box = self._config, checked_start_box(box_xyxy_px, frame)
        self._centre, self._size = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
        self._roi_per_size = config.search_ratio
        cells = config.window_px // config.cell_px
        self._window = feature_window(cells, cells)
        target = self._size / np.sqrt(self._size.prod()) * cells / config.search_ratio
        patch = np.clip(np.round(target / 3), 1, cells // 3).astype(int)
        self._krr = CrossPatchRegression((cells, cells), (int(patch[1]), int(patch[0])),
                                         float(np.sqrt(target.prod()) / 12),
                                         config.krr_ridge, config.krr_step, config.krr_cross_patch)
        self._model: C64 | None = None
        self._axes = ([AxisFilter((1, 1), 17, 1.02, 1e-2, 0.025)] if config.scale else []) + (
            [AxisFilter((1, -1), 11, 1.02, 1e-2, 0.025)] if config.aspect else [])
        self._learn(frame.image, 1.0, 10)
        return self._out.start(frame, box, track_id, class_id)

    def update(self, frame: Frame, detections: Detections | None = None) -> Track:
        if not self._out.accepts(frame):
            return self._out.without_evidence(frame, TrackState.OCCLUDED)
        image = frame.image
        window = self._crop(image)
        response = self._krr.response(fft2(self._features(window.image)))
        dx, dy = peak_offset(response)
        cell = self._config.cell_px
        limit = np.array(image.shape[1::-1], dtype=np.float64)
        self._centre = np.clip(window.to_source(dx * cell, dy * cell), 0, limit)
        for axis in self._axes:
            self._size = np.clip(self._size * axis.estimate(image, self._centre, self._size), 2.0, 2 * limit)
        self._learn(image, self._config.learn_rate, self._config.krr_iterations)
        box = np.concatenate([self._centre - self._size / 2, self._centre + self._size / 2])
        return self._out.seen(frame, box, float(response.max()))

    def _crop(self, image: U8) -> Crop:
        side = np.sqrt(self._size.prod()) * self._roi_per_size
        return crop(image, self._centre, (side, side), (self._config.window_px, self._config.window_px))

    def _features(self, patch: U8) -> F32:
        maps = hog(patch, self._config.cell_px)
        if self._config.colour:
            maps = np.concatenate([maps, colours(patch, self._config.cell_px)])
        return maps * self._window

    def _learn(self, image: U8, rate: float, iterations: int) -> None:
        for axis in self._axes:
            axis.learn(image, self._centre, self._size)
        spectra = fft2(self._features(self._crop(image).image))
        self._model = spectra if self._model is None else self._model + np.float32(rate) * (spectra - self._model)
        self._krr.solve(self._model[None], np.ones(1, np.float32), iterations)


def peak_offset(response: F32) -> tuple[float, float]:
    """(dx, dy) of the highest value of a wrapped response from [0, 0], refined by parabolas, in cells."""
    rows, cols = response.shape
    i, j = (int(v) for v in np.unravel_index(int(response.argmax()), response.shape))

    def vertex(left: float, mid: float, right: float) -> float:
        curve = left - 2 * mid + right
        return float(np.clip(0.5 * (left - right) / curve, -0.5, 0.5)) if curve < 0 else 0.0

    dy = vertex(response[i - 1, j], response[i, j], response[(i + 1) % rows, j])
    dx = vertex(response[i, j - 1], response[i, j], response[i, (j + 1) % cols])
    return (j + cols // 2) % cols - cols // 2 + dx, (i + rows // 2) % rows - rows // 2 + dy


def _opencv(name: str) -> Callable[[LsartConfig], TargetTracker]:
    def make(config: LsartConfig) -> TargetTracker:
        from .opencv_trackers import OpenCvTracker

        return OpenCvTracker(name)

    return make


def _nano(config: LsartConfig) -> TargetTracker:
    from .nano import NanoTracker

    return NanoTracker(config)


TARGET_TRACKERS: dict[str, Callable[[LsartConfig], TargetTracker]] = {
    "lsart": LsartTracker,
    "kcf": _opencv("kcf"),
    "csrt": _opencv("csrt"),
    "nano": _nano,
}


def make_target_tracker(config: TrackerConfig, lsart: LsartConfig) -> TargetTracker:
    """The tracker that ``config.target_tracker`` names."""
    return TARGET_TRACKERS[config.target_tracker](lsart)
