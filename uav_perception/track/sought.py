"""A target that is out of sight: where it should be, how far off it may be, and what was found of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..records import F64
from .search import REACH
from .trail import gone

ASTRAY = 2.0  # what is farther off its way is not the target, whatever it looks like


@dataclass(frozen=True)
class Sought:
    """The target is predicted at ``centre`` px, of ``size`` (w, h) px, after ``unseen_s`` s with ``velocity`` px/s
    against the background, while it ``recedes`` by so much a second (see ``trail``)."""

    centre: F64
    size: F64
    velocity: F64
    unseen_s: float
    recedes: float = 0.0

    @property
    def side_px(self) -> float:
        return float(np.sqrt(self.size.prod()))

    @property
    def reach(self) -> float:
        """Target sizes within which it may be, if it turned."""
        return REACH + (1.0 + float(np.linalg.norm(self.velocity)) / self.side_px) * self.unseen_s

    def far(self, place: F64) -> float:
        """Distance of a place, px, from where the target is predicted, as a share of its reach."""
        return float(np.linalg.norm(place - self.centre)) / (self.reach * self.side_px)

    def off(self, place: F64) -> float:
        """0..4: how far a place is from where the target is predicted, in target sizes, a longer time excusing more."""
        return self._excused(place - self.centre, self.side_px)

    def astray(self, place: F64, velocity_px_s: ArrayLike, side_px: float = 0.0) -> float:
        """0..4: how far a place is from where the target would be that changed its velocity evenly from what it was to
        ``velocity_px_s`` (against the background), in the same measure. In sizes of what is seen there if its
        ``side_px`` is larger than expected: it has come nearer, so it may be farther on its way."""
        back, velocity, _, _ = gone(self.velocity, self.recedes, -self.unseen_s)  # to where it was last seen
        turned = place - (self.centre + back) - self.unseen_s * (velocity + np.asarray(velocity_px_s, np.float64)) / 2
        return self._excused(turned, max(self.side_px, side_px))

    def _excused(self, way_px: F64, side_px: float) -> float:
        return min(float(np.linalg.norm(way_px)) / side_px / (0.5 + 0.5 * self.unseen_s), 4.0)


@dataclass(frozen=True)
class Found:
    """What is at ``centre``, of ``size`` (w, h) px, is the target with these log odds."""

    centre: F64
    size: F64
    odds: float

    @property
    def box(self) -> F64:
        return np.concatenate([self.centre - self.size / 2, self.centre + self.size / 2])


def log_odds(probability: float) -> float:
    """log(p / (1 - p)), within +-9.2."""
    p = min(max(probability, 1e-4), 1 - 1e-4)
    return float(np.log(p / (1 - p)))
