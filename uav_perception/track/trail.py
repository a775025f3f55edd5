"""The way of a target of late: its velocity before it began to slide behind something.

What still shows of a target that is being covered moves as the cover's edge does, and the tracker may hang on to that
edge for a while. So a lost target's way is told from a little earlier, over a time long enough to be sure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..records import F64
from .camera_motion import mapped

COVERING_NS = 200_000_000  # before it is lost, what is seen of a target is not believed
BASE_NS = 600_000_000  # that its velocity is measured over
KEPT_NS = 2_000_000_000


@dataclass(frozen=True)
class Way:
    """At ``stamp_ns`` the target was at ``place``, px in the newest picture, of ``size`` (w, h) px, and went on with
    ``velocity`` px/s against the background."""

    stamp_ns: int
    place: F64
    size: F64
    velocity: F64


class Trail:
    """Places of the target, carried along with the background into the newest picture."""

    def __init__(self) -> None:
        self._stamps_ns = np.zeros(0, np.int64)
        self._places, self._sizes = np.zeros((0, 2)), np.zeros((0, 2))

    def carry(self, cur_from_prev: F64) -> None:
        """A new picture has come: where the background took the places."""
        if len(self._places):
            self._places = mapped(cur_from_prev, self._places)

    def add(self, stamp_ns: int, place: F64, size: F64) -> None:
        """The target was seen there, px in the newest picture, of this size (w, h) px."""
        kept = self._stamps_ns > stamp_ns - KEPT_NS
        self._stamps_ns = np.append(self._stamps_ns[kept], stamp_ns)
        self._places = np.vstack([self._places[kept], place])
        self._sizes = np.vstack([self._sizes[kept], size])

    def before(self, lost_ns: int) -> Way | None:
        """The way of the target that was last seen at ``lost_ns``, before it was being covered; None where it was not
        known for so long. Its size is the middle one of the time that its velocity is told from."""
        end = int(np.searchsorted(self._stamps_ns, lost_ns - COVERING_NS, side="right")) - 1
        if end < 1:
            return None
        begin = int(np.searchsorted(self._stamps_ns[:end], self._stamps_ns[end] - BASE_NS))
        seconds = (self._stamps_ns[end] - self._stamps_ns[begin]) * 1e-9
        if seconds < 0.1:
            return None
        velocity = (self._places[end] - self._places[begin]) / seconds
        size = np.median(self._sizes[begin:end + 1], axis=0)
        return Way(int(self._stamps_ns[end]), self._places[end], size, velocity)
