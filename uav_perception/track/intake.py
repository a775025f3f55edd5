"""Frames and detections of one stream as they come: which of them are used."""

from __future__ import annotations

from collections import Counter

from ..errors import InputError
from ..records import Detections, Frame
from .target import same_picture


class Intake:
    """Keeps the frames of the last ``history_s``; one ``backwards_s`` older than the newest begins another stream."""

    def __init__(self, backwards_s: float, history_s: float) -> None:
        self._backwards_s, self._history_ns = backwards_s, round(history_s * 1e9)
        self._frames: list[Frame] = []  # recent, oldest first: late detections are described in their own picture
        self._alive_ns = 0  # when the picture last changed
        self._pending: Detections | None = None
        self.refused: Counter[str] = Counter()

    def newest(self) -> Frame:
        """Raises InputError before the first frame."""
        if not self._frames:
            raise InputError("a lock before the first frame", "a frame to lock in", "wait for the camera")
        return self._frames[-1]

    def at(self, stamp_ns: int) -> Frame | None:
        return next((f for f in self._frames if f.stamp_ns == stamp_ns), None)

    def reset(self) -> None:
        self._frames.clear()
        self._pending = None

    def late(self, frame: Frame, last: Frame) -> bool:
        """Whether a frame belongs to the stream of the ``last`` one and is not newer."""
        behind_s = (last.stamp_ns - frame.stamp_ns) / 1e9
        return 0 <= behind_s < self._backwards_s and frame.image.shape == last.image.shape

    def refuses(self, frame: Frame) -> bool:
        """Whether this frame is late."""
        if not self._frames or not self.late(frame, self._frames[-1]):
            return False
        self.refused["frame out of order"] += 1
        return True

    def another_stream(self, frame: Frame) -> str:
        """Why this frame belongs to another stream than those before, empty where it does not."""
        if not self._frames:
            return ""
        last = self._frames[-1]
        behind_s = (last.stamp_ns - frame.stamp_ns) / 1e9
        if behind_s >= 0:
            return f"time jumped backwards by {behind_s:.1f} s"
        (h0, w0), (h, w) = last.image.shape[:2], frame.image.shape[:2]
        return "" if frame.image.shape == last.image.shape else f"image size changed from {w0}x{h0} to {w}x{h} px"

    def take(self, frame: Frame) -> int:
        """Keep the frame; returns the stamp of the oldest that may be kept."""
        if not self._frames or not same_picture(frame.image, self._frames[-1].image):
            self._alive_ns = frame.stamp_ns
        self._frames.append(frame)
        horizon_ns = frame.stamp_ns - self._history_ns
        while len(self._frames) > 1 and self._frames[0].stamp_ns < horizon_ns:
            self._frames.pop(0)
        return horizon_ns

    def usable(self, detections: Detections | None, look_ns: int | None) -> Detections | None:
        """What the detector answered, if it is for the newest frame or before and for none up to ``look_ns``."""
        if detections is None:
            detections, self._pending = self._pending, None
        if detections is None:
            return None
        now_ns = self._frames[-1].stamp_ns
        if detections.stamp_ns > now_ns:
            self._pending = detections
            return None
        why = ""
        if look_ns is not None and detections.stamp_ns <= look_ns:
            why = "detections not newer than the last"
        elif detections.stamp_ns > self._alive_ns:
            why = "detections of a frozen picture"
        elif now_ns - detections.stamp_ns > self._history_ns:
            why = "detections too old"
        if why:
            self.refused[why] += 1
            return None
        return detections
