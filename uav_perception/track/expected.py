"""Where the target is expected: as of the last evidence, and from there on as it went before."""

from __future__ import annotations

import numpy as np

from ..records import F64
from .camera_motion import local
from .sought import Sought
from .trail import Trail, gone

SIDES_PX = (6.0, 2000.0)  # nothing is expected to get smaller or larger on its way
FAR_PX = 1e4  # nor farther outside the picture
NEWEST = 0.1  # share of the newest size in the usual one


class Expected:
    """``place`` px in the newest picture; ``size`` (w, h) px that is usual of late, for what slides behind something
    seems to shrink; ``velocity`` px/s against the background."""

    def __init__(self, place: F64, size: F64, velocity: F64) -> None:
        self.place, self.size, self.velocity = place, size, velocity
        self._recedes = 0.0  # 1/s, of what is out of sight (see ``trail``)
        self._trail = Trail()

    def move(self, cur_from_prev: F64, dt_s: float, unseen: bool) -> tuple[F64, float]:
        """The background moved by a homography (3, 3), the target goes on: its own displacement, px, and the share of
        its size, which changes while it is ``unseen``."""
        self._trail.carry(cur_from_prev)
        (self.place,), (turned,), (larger,) = local(cur_from_prev, self.place[None])
        self.velocity = turned @ self.velocity
        way_px, velocity, recedes, share = gone(self.velocity, self._recedes, dt_s)
        if unseen:
            share *= float(larger)
        if SIDES_PX[0] < share * float(np.sqrt(self.size.prod())) < SIDES_PX[1]:
            self.velocity, self._recedes = velocity, recedes
        else:  # it would pass the camera, or is as good as gone
            way_px, self._recedes, share = self.velocity * dt_s, 0.0, 1.0
        self.place, self.size = np.clip(self.place + way_px, -FAR_PX, FAR_PX), self.size * share
        return way_px, share

    def seen(self, stamp_ns: int, place: F64, size: F64, velocity: F64 | None, newest: float) -> None:
        """Evidence: there it is, of this size; ``newest`` is the share of ``velocity`` in what is expected."""
        if velocity is not None:
            self.velocity = self.velocity + newest * (velocity - self.velocity)
        self.place = place
        self._trail.add(stamp_ns, place, size)
        self.size = self.size + NEWEST * (size - self.size)

    @property
    def stopped(self) -> bool:
        """See ``Trail``."""
        return self._trail.stopped

    def found(self, place: F64, velocity: F64 | None) -> None:
        """It is in sight again, with this velocity, where that is known."""
        self.place, self._recedes = place, 0.0
        if velocity is not None:
            self.velocity = velocity

    def lost(self, seen_ns: int, stamp_ns: int) -> None:
        """It was last seen at ``seen_ns``: at ``stamp_ns`` it is where it would be had it gone on as it did before it
        was being covered."""
        way = self._trail.before(seen_ns)
        if way is not None:
            since_s = (stamp_ns - way.stamp_ns) * 1e-9
            way_px, self.velocity, self._recedes, share = gone(way.velocity, way.recedes, since_s)
            self.place, self.size = way.place + way_px, way.size * share

    def resize(self, ratio: F64) -> None:
        """The stream changed its resolution by so much (x, y)."""
        self.place, self.size, self.velocity = self.place * ratio, self.size * ratio, self.velocity * ratio
        self._trail = Trail()

    def sought(self, unseen_s: float) -> Sought:
        """The target, not seen for so long."""
        return Sought(self.place, self.size, self.velocity, unseen_s, self._recedes)
