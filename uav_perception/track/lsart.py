"""The target tracker: one object, from one box, in real time, after LSART (Sun et al., CVPR 2018).

A frame's path: the search window moves with the camera; a kernel ridge regression sees the whole target, masked
region kernels its parts; their fused response gives the place; correlation filters give scale and aspect, colour
contrast refines the box; the peak's quality decides whether the frame is evidence, is learnt from, or is an occlusion.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..config import LsartConfig, TrackerConfig
from ..records import Detections, Frame, Track, TrackState
from . import TargetTracker
from .camera_motion import CameraMotion
from .features import Crop, colours, crop, feature_window, hog
from .figure import FigureGround
from .krr import C64, CrossPatchRegression, fft2
from .regions import RegionRegression
from .scale import AxisFilter
from .search import Confidence, Peak, find_peak, peak_quality, places_to_search
from .target import TargetTrack, checked_start_box

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]


class LsartTracker:
    """See the module. State between frames: centre and size of the box, the models, and the confidence in them."""

    def __init__(self, config: LsartConfig) -> None:
        self._config = config
        self._out = TargetTrack()

    def start(self, frame: Frame, box_xyxy_px: ArrayLike, track_id: int = 0, class_id: int = -1) -> Track:
        c, box = self._config, checked_start_box(box_xyxy_px, frame)
        self._centre, self._size = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
        self._image_size = np.array(frame.image.shape[1::-1], dtype=np.float64)
        cells = c.window_px // c.cell_px
        self._hann = feature_window(cells, cells)
        target = self._size[::-1] / np.sqrt(self._size.prod()) * cells / c.search_ratio  # (rows, cols)
        sigma = float(np.sqrt(target.prod()) / 12)
        patch = np.clip(np.round(target / 3), 1, cells // 3).astype(int)
        self._krr = CrossPatchRegression((cells, cells), (int(patch[0]), int(patch[1])), sigma, c.krr_ridge, c.krr_step)
        self._model: C64 | None = None
        self._regions = RegionRegression((target[0], target[1]), cells // 4, sigma, c.region_count, c.region_channels,
                                         1e-2, 0.1, 5) if c.regions else None
        self._axes = ([AxisFilter((1, 1), 13, 1.025, 1e-2, 0.04)] if c.scale else []) + (
            [AxisFilter((1, -1), 9, 1.025, 1e-2, 0.04)] if c.aspect else [])
        self._figure = FigureGround(0.02, 0.15) if c.figure else None
        self._camera = CameraMotion(160, 40) if c.camera_motion else None
        self._confidence = Confidence(c)
        self._velocity = np.zeros(2)  # px a frame, the camera's own motion taken out
        self._frames = self._unseen = 0
        self._previous: U8 | None = None
        self._last_evidence = self._centre, self._size
        self._learn(frame.image, first=True)
        return self._out.start(frame, box, track_id, class_id)

    def update(self, frame: Frame, detections: Detections | None = None) -> Track:
        c, image = self._config, frame.image
        size = np.array(image.shape[1::-1], dtype=np.float64)
        if (size != self._image_size).any():
            self._resize(size)
        if not self._out.accepts(frame) or float(image[::16, ::16].std()) < c.contrast_min:
            return self._report(frame, 0.0)  # out of order, or nothing in the picture
        self._frames += 1
        if self._unseen:
            self._coast(image)
        peak, window = self._search(image, detections)
        quality = peak_quality(peak)
        if not self._unseen or quality >= c.quality_regain:
            before = self._centre
            offset = np.array(peak.offset) * c.cell_px
            self._centre = np.clip(window.to_source(*offset), 0, size)
            if not self._unseen:
                self._fit_size(image)
                if quality >= c.quality_min or not c.gate:  # follow a doubtful peak for a frame or two, learn nothing
                    self._velocity = 0.85 * self._velocity + 0.15 * (self._centre - before)
                    self._last_evidence = self._centre, self._size
                    if self._frames % c.learn_every == 0:
                        self._learn(image)
        self._previous = image
        return self._report(frame, quality)

    def _report(self, frame: Frame, quality: float) -> Track:
        box = np.concatenate([self._centre - self._size / 2, self._centre + self._size / 2])
        if not self._config.gate:
            return self._out.seen(frame, box, quality)
        unseen_s = (frame.stamp_ns - self._out.track.last_seen_ns) * 1e-9
        state = self._confidence.step(quality, unseen_s)
        if state is TrackState.TRACKED and quality >= self._config.quality_min:
            self._unseen = 0
            return self._out.seen(frame, box, quality)
        if state is not TrackState.TRACKED:
            if not self._unseen:  # what was followed since the last evidence was not the target
                self._centre, self._size = self._last_evidence
                box = np.concatenate([self._centre - self._size / 2, self._centre + self._size / 2])
            self._unseen += 1
        return self._out.without_evidence(frame, state, box, quality)

    def _resize(self, size: F64) -> None:
        """The stream changed its resolution: the box keeps its share of the picture."""
        ratio = size / self._image_size
        self._centre, self._size, self._image_size = self._centre * ratio, self._size * ratio, size
        self._last_evidence = self._last_evidence[0] * ratio, self._last_evidence[1] * ratio
        self._velocity = self._velocity * ratio

    def _coast(self, image: U8) -> None:
        """Move the box of an unseen target with the background, and on with its own fading velocity."""
        if self._camera and self._previous is not None and self._previous.shape == image.shape:
            box = np.concatenate([self._centre - self._size / 2, self._centre + self._size / 2])
            self._camera.reset()
            self._camera.step(self._previous, box[None])
            step = self._camera.step(image, box[None])
            if step.reliable:
                x, y, w = step.cur_from_prev @ [*self._centre, 1.0]
                self._centre = np.array([x / w, y / w])
        self._centre = np.clip(self._centre + self._velocity * 0.9**self._unseen, 0, self._image_size)

    def _search(self, image: U8, detections: Detections | None) -> tuple[Peak, Crop]:
        """The best peak of this frame's windows (one while the target is seen), with its window."""
        places = [self._centre]
        if self._unseen:
            places = places_to_search(self._centre, self._size, self._image_size, self._unseen, detections,
                                      self._config.search_ratio)
        found = []
        for place in places:
            window = self._crop(image, place)
            found.append((self._peak(self._features(window.image)), window))
        return max(found, key=lambda f: f[0].value)

    def _peak(self, maps: F32) -> Peak:
        """Where the target is in a window. The parts are asked only where the whole is not sure."""
        whole = self._krr.response(fft2(maps))
        peak = find_peak(whole)
        if self._regions is None or peak_quality(peak) > self._config.region_below:
            return peak
        parts = self._regions.response(self._regions.samples(maps), self._config.distance_transform)
        fused = fuse(whole, parts, self._config.region_weight, self._config.quality_fusion)
        return replace(peak, offset=find_peak(fused).offset)  # sureness stays the whole's: its scale is known

    def _fit_size(self, image: U8) -> None:
        size = self._size
        for axis in self._axes:
            size = size * axis.estimate(image, self._centre, size)
        if self._figure:
            shift, stretch = self._figure.refine(image, self._centre, size)
            trust = float(np.clip((self._figure.contrast - self._config.figure_contrast) / 0.15, 0, 1))
            if self._axes:  # where the filters know the target's inside well, its outline has nothing to add
                trust *= float(np.clip((self._config.figure_rigidity - self._axes[0].peak) / 0.12, 0, 1))
            self._centre = np.clip(self._centre + self._config.figure_step * trust * shift * size, 0, self._image_size)
            size = size * np.exp(self._config.figure_step * trust * stretch)
        self._size = np.clip(size, 3.0, 2 * self._image_size)

    def _crop(self, image: U8, centre: F64) -> Crop:
        side = np.sqrt(self._size.prod()) * self._config.search_ratio
        return crop(image, centre, (side, side), (self._config.window_px, self._config.window_px))

    def _features(self, patch: U8) -> F32:
        maps = hog(patch, self._config.cell_px)
        if self._config.colour:
            maps = np.concatenate([maps, colours(patch, self._config.cell_px)])
        return maps * self._hann

    def _learn(self, image: U8, first: bool = False) -> None:
        c = self._config
        for axis in self._axes:
            axis.learn(image, self._centre, self._size)
        if self._figure:
            self._figure.learn(image, self._centre, self._size)
        maps = self._features(self._crop(image, self._centre).image)
        spectra = fft2(maps)
        self._model = spectra if self._model is None else self._model + c.learn_rate * (spectra - self._model)
        self._krr.solve(self._model, 10 if first else c.krr_iterations)
        turn = self._frames // c.learn_every
        if c.cross_patch and turn % max(1, c.cross_patch_every // c.learn_every) == 0:
            self._krr.update_beta(self._model)
        if self._regions and turn % max(1, c.region_every // c.learn_every) == 0:
            self._regions.learn(self._regions.samples(maps))


def fuse(whole: F32, parts: F32, weight: float, by_quality: bool) -> F32:
    """Add the parts' response (middle = no shift) to the whole's (wrapped), the sharper one counting more.

    With ``by_quality`` the parts' weight is scaled by the ratio of the two peaks' sharpness, within a factor of two
    (after Bhat et al., "Unveiling the power of deep tracking", ECCV 2018, who weigh by margin and sharpness).
    """
    radius = parts.shape[0] // 2
    near = np.roll(whole, (radius, radius), (0, 1))[: 2 * radius + 1, : 2 * radius + 1]
    if by_quality:
        weight *= float(np.clip(sharpness(parts) / max(sharpness(near), 1e-6), 0.5, 2.0))
    fused = whole.copy()
    fused[:] -= weight * 0.2  # shifts that the parts do not answer count as unlikely
    index = np.arange(-radius, radius + 1)
    fused[np.ix_(index, index)] = near + weight * parts
    return np.asarray(fused / (1 + weight), dtype=np.float32)


def sharpness(response: F32) -> float:
    """Height of the peak over the rest, in standard deviations of the rest (peak-to-sidelobe ratio)."""
    return float((response.max() - response.mean()) / (response.std() + 1e-6))


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
