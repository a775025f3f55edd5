"""A target that is out of sight: where it should be, how far off it may be, and what was found of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..records import F64
from .search import REACH

ASTRAY = 2.0  # what is farther off its way is not the target, whatever it looks like
SLOWS_S = 8.0  # an unseen target's velocity is trusted a factor e less after so long


@dataclass(frozen=True)
class Sought:
    """The target is predicted at ``centre`` px, of ``size`` (w, h) px, after ``unseen_s`` s with ``velocity`` px/s
    against the background."""

    centre: F64
    size: F64
    velocity: F64
    unseen_s: float

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

    def astray(self, place: F64, velocity_px_s: ArrayLike) -> float:
        """0..4: how far a place is from where the target would be that changed its velocity evenly from what it was to
        ``velocity_px_s`` (against the background), in target sizes, a longer time excusing more."""
        t = self.unseen_s
        velocity = self.velocity * np.exp(t / SLOWS_S)  # when it was last seen
        predicted = velocity * SLOWS_S * (1 - np.exp(-t / SLOWS_S))
        way = place - (self.centre - predicted)
        off = float(np.linalg.norm(way - t * (velocity + velocity_px_s) / 2)) / self.side_px
        return min(off / (0.5 + 0.5 * t), 4.0)


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
