"""What all single-target trackers share: the check of a start box, and the book-keeping of the reported track."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError
from ..geometry import clip_boxes
from ..records import F32, U8, Frame, Track, TrackState

F64 = NDArray[np.float64]
MIN_SIDE_PX = 2.0


def _f32(values: F64) -> F32:
    return np.asarray(values, dtype=np.float32)


def checked_start_box(box_xyxy_px: ArrayLike, frame: Frame) -> F64:
    """The box as (4,) float64 if something can be tracked in it.

    Raises:
        InputError: not four finite numbers, thinner than 2 px, or less than a tenth of it inside the image.
    """
    remedy = "select a box around the visible target"
    try:
        box = np.asarray(box_xyxy_px, dtype=np.float64)
    except (TypeError, ValueError):
        box = np.empty(0)
    if box.shape != (4,) or not np.isfinite(box).all():
        raise InputError(f"target box {box_xyxy_px!r}", "four finite numbers x1, y1, x2, y2 in px", remedy)
    height, width = frame.image.shape[:2]
    size = box[2:] - box[:2]
    shown = ", ".join(f"{v:.1f}" for v in box)
    if (size < MIN_SIDE_PX).any():
        raise InputError(f"target box {shown}", f"x2 - x1 and y2 - y1 of at least {MIN_SIDE_PX:.0f} px", remedy)
    inside = clip_boxes(box[None], width, height)[0]
    if np.prod(inside[2:] - inside[:2]) < 0.1 * np.prod(size):
        raise InputError(f"target box {shown} in an image of {width}x{height} px", "a box inside the image", remedy)
    return np.asarray(box)


def same_picture(a: U8, b: U8) -> bool:
    """Whether two pictures are the same bit for bit (a frozen stream); a few rows tell most that are not."""
    return np.array_equal(a[::64], b[::64]) and np.array_equal(a, b)


class TargetTrack:
    """The track a tracker reports: identity, last box, velocity from stamps, and when the image last supported it."""

    def __init__(self) -> None:
        self._track: Track | None = None
        self._last_stamp_ns = 0
        self.doubted = False

    @property
    def track(self) -> Track:
        assert self._track is not None, "start the tracker first"
        return self._track

    def start(self, frame: Frame, box: F64, track_id: int, class_id: int) -> Track:
        self._last_stamp_ns, self.doubted = frame.stamp_ns, False
        self._track = Track(frame.stamp_ns, track_id, TrackState.TRACKED, _f32(box), _f32(np.zeros(2)), 1.0,
                            class_id, frame.stamp_ns, frame.frame_id)
        return self._track

    def doubt(self) -> None:
        """Nothing is seen until the next start: for trackers that cannot search."""
        self.doubted = True

    def accepts(self, frame: Frame) -> bool:
        """False for a frame that is not newer than the last one (time jumped back, or a repeated frame)."""
        newer = frame.stamp_ns > self._last_stamp_ns
        self._last_stamp_ns = max(frame.stamp_ns, self._last_stamp_ns) if newer else frame.stamp_ns
        return newer

    def seen(self, frame: Frame, box: F64, score: float) -> Track:
        """The image of ``frame`` supports ``box``."""
        last = self.track
        dt_s = (frame.stamp_ns - last.last_seen_ns) * 1e-9
        velocity = np.zeros(2)
        if dt_s > 0:
            moved = (box[:2] + box[2:] - last.xyxy_px[:2] - last.xyxy_px[2:]) / 2
            velocity = 0.5 * moved / dt_s + 0.5 * last.velocity_px_s
        self._track = Track(frame.stamp_ns, last.id, TrackState.TRACKED, _f32(box), _f32(velocity),
                            float(np.clip(score, 0, 1)), last.class_id, frame.stamp_ns, frame.frame_id)
        return self._track

    def unseen_since(self, stamp_ns: int) -> None:
        """What was seen after ``stamp_ns`` was not the target."""
        self._track = replace(self.track, last_seen_ns=min(stamp_ns, self.track.last_seen_ns))

    def without_evidence(self, frame: Frame, state: TrackState, box: F64 | None = None, score: float = 0.0) -> Track:
        """OCCLUDED or LOST at ``box`` (default: the last one); ``last_seen_ns`` stays what it was."""
        last = self.track
        self._track = Track(frame.stamp_ns, last.id, state, last.xyxy_px if box is None else _f32(box),
                            last.velocity_px_s, float(np.clip(score, 0, 1)), last.class_id,
                            min(last.last_seen_ns, frame.stamp_ns), frame.frame_id)
        return self._track


class WithoutSearch:
    """What the target protocol asks of trackers that cannot search for a target; ``_out`` is theirs."""

    _out: TargetTrack

    def believe(self, until_ns: int | None) -> None:
        """It goes back to no place, so it does not matter."""

    def doubt(self) -> None:
        self._out.doubt()

    def may_be(self, track: Track) -> bool:
        return True  # it knows no motion

    @property
    def sure(self) -> bool:
        return False  # it does not know what it follows
