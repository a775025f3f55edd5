"""What may be the unseen target, from frame to frame: can it have come there, and was it followed for long enough?"""

from __future__ import annotations

import numpy as np

from ..records import F64
from .sought import ASTRAY, Sought

SWIFT = 2.5  # target sizes a second against the background: who is as fast does not turn round behind something
HELD_S = 0.1  # for every target size that it is from where it should be, a candidate is followed so long ...
STRAIGHT = 0.3  # ... and the less, down to this share, the better its way fits
OUT_S = 0.2  # in any case for so long, for what comes out is a part of the target at first ...
PART, PART_OUT_S = 0.7, 0.6  # ... and so long where it shows less than this share of the area expected


class Candidate:
    """At most one. ``there``: it was seen in the last frame; ``way``: its mean velocity since, px/s."""

    def __init__(self) -> None:
        self.there = False
        self._held_s, self.way = 0.0, np.zeros(2)  # followed for how long

    def seen(self, sought: Sought, place: F64, size: F64, velocity_px_s: F64, dt_s: float) -> bool | None:
        """Whether it is evidence at ``place`` px, of ``size`` px, ``dt_s`` after the last frame; None: it is not the
        target.

        Args:
            velocity_px_s: of what is there, against the background; of no meaning unless it was ``there`` before.
        """
        was, self.there = self.there, True
        self._held_s = self._held_s + dt_s if was else 0.0
        if not was:
            return True  # one frame alone decides nothing
        self.way = self.way + (velocity_px_s - self.way) * dt_s / self._held_s
        swift = float(np.linalg.norm(sought.velocity)) > SWIFT * sought.side_px
        back = swift and self.way @ sought.velocity < -0.3 * sought.velocity @ sought.velocity
        astray = sought.astray(place, self.way)
        if back or astray > ASTRAY:
            self.there = False
            return None
        far = float(np.linalg.norm(place - sought.centre)) / sought.side_px
        part = size.prod() < PART * sought.size.prod()
        return self._held_s >= max(HELD_S * far * min(1.0, STRAIGHT + astray), PART_OUT_S if part else OUT_S)

    def forget(self) -> None:
        """It is gone, or is the target."""
        self.there = False
