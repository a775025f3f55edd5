"""Where to look, and how sure to be: response quality, states, and candidates for finding a lost target again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..config import LsartConfig
from ..records import Detections, TrackState

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


REACH, REACH_PER_S = 0.5, 2.0  # target sizes by which an unseen target may be off, at first and more every second


@dataclass(frozen=True)
class Peak:
    """The best place of a response. ``offset`` (dx, dy) in cells from no shift; ``value`` its height; ``apce`` its
    sharpness (average peak-to-correlation energy, Wang et al., CVPR 2017)."""

    offset: tuple[float, float]
    value: float
    apce: float


def find_peak(response: F32) -> Peak:
    """The highest value of a wrapped (rows, cols) response whose [0, 0] is no shift, refined by parabolas."""
    rows, cols = response.shape
    i, j = (int(v) for v in np.unravel_index(int(response.argmax()), response.shape))

    def vertex(left: float, mid: float, right: float) -> float:
        curve = left - 2 * mid + right
        return float(np.clip(0.5 * (left - right) / curve, -0.5, 0.5)) if curve < 0 else 0.0

    dy = vertex(response[i - 1, j], response[i, j], response[(i + 1) % rows, j])
    dx = vertex(response[i, j - 1], response[i, j], response[i, (j + 1) % cols])
    low = float(response.min())
    spread = float(np.square(response - low).mean())
    offset = ((j + cols // 2) % cols - cols // 2 + dx, (i + rows // 2) % rows - rows // 2 + dy)
    value = float(response[i, j])
    return Peak(offset, value, (value - low) ** 2 / spread if spread > 0 else 0.0)


def peak_quality(peak: Peak) -> float:
    """0..1 from the height of a regression's peak, whose label has height 1.

    Over a target that is not there the regression still finds peaks of 0.1 to 0.25; over one that is, 0.3 and more.
    """
    return float(np.clip((peak.value - 0.12) / 0.4, 0.0, 1.0))


class Confidence:
    """Decides the state from each frame's quality.

    Below ``config.quality_min`` a frame is no evidence. After ``occluded_frames`` such frames the target is OCCLUDED,
    unseen for ``lost_s`` seconds LOST; it is TRACKED again after ``regain_frames`` frames above ``quality_regain``.
    """

    def __init__(self, config: LsartConfig) -> None:
        self._config = config
        self._weak = self._strong = 0
        self.state = TrackState.TRACKED

    def doubt(self) -> None:
        """The target is not where it seemed."""
        self.state, self._strong = TrackState.OCCLUDED, 0

    def step(self, quality: float, unseen_s: float) -> TrackState:
        """The state after a frame of this quality, ``unseen_s`` seconds after the last evidence."""
        c = self._config
        if self.state is TrackState.TRACKED:
            self._weak = self._weak + 1 if quality < c.quality_min else 0
            if self._weak >= c.occluded_frames:
                self.state, self._strong = TrackState.OCCLUDED, 0
        else:
            self._strong = self._strong + 1 if quality >= c.quality_regain else 0
            if self._strong >= c.regain_frames:
                self.state, self._weak = TrackState.TRACKED, 0
            elif unseen_s > c.lost_s:
                self.state = TrackState.LOST
        return self.state


def reach_sizes(unseen_s: float) -> float:
    """Target sizes within which a target unseen for so long is looked for; what is farther off is another."""
    return REACH + REACH_PER_S * unseen_s


def near_detections(centre: F64, size: F64, reach: float, detections: Detections | None) -> list[tuple[F64, F64]]:
    """(Centre, size) of detections of about this size within ``reach`` sizes of a place, the likeliest first."""
    if detections is None or not len(detections):
        return []
    boxes, side = detections.xyxy_px.astype(np.float64), float(np.sqrt(size.prod()))
    middle, extent = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    ratio = np.abs(np.log(np.sqrt(np.maximum(extent.prod(axis=1), 1e-6)) / side))
    distance = np.linalg.norm(middle - centre, axis=1) / side
    cost = np.where((ratio < 0.7) & (distance < reach), distance / reach + ratio, np.inf)
    return [(middle[k], extent[k]) for k in np.argsort(cost, kind="stable").tolist() if np.isfinite(cost[k])]


def places_to_search(centre: F64, size: F64, image_size: F64, unseen_frames: int, reach: float,
                     detections: Detections | None) -> list[tuple[F64, F64]]:
    """(Centre, target size) of windows to look at this frame for a target that is not seen, the likeliest first, three
    at most.

    The predicted place; the detection of about the target's size nearest to it, which tells the size, too; and one
    place of a disk of ``reach`` target sizes (the golden ratio's steps leave no gaps).
    """
    places, side = [(centre, size)], float(np.sqrt(size.prod()))
    places += near_detections(centre, size, reach, detections)[:1]
    turn = unseen_frames * 2.399963
    radius = reach * side * np.sqrt(unseen_frames * 0.618034 % 1.0)
    spot = centre + radius * np.array([np.cos(turn), np.sin(turn)])
    if unseen_frames > 1 and (spot > 0).all() and (spot < image_size).all():
        places.append((spot, size))
    return places


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
