"""The way of a target of late: how it moved before it began to slide behind something.

What still shows of a target that is being covered moves as the cover's edge does, and the tracker may hang on to that
edge for a while. So a lost target's way is told from a little earlier, over a time long enough to be sure.

A target that goes on evenly through space does not so in the picture: as it recedes it gets smaller and slower. Its
size goes as 1 / (1 + w t), its place as p0 + v t / (1 + w t): an evenly moving point, projected. w is told from both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from ..records import F64
from .camera_motion import local

COVERING_NS = 200_000_000  # before it is lost, what is seen of a target is not believed
BASE_NS = 1_200_000_000  # that its way is measured over
KEPT_NS = 2_000_000_000
PLACE_SIGMA, SIZE_SIGMA = 0.02, 0.06  # of places, in target sizes; of sizes, as a share
RECEDES_SIGMA, RECEDES_MAX = 0.15, 0.8  # 1/s: as most do; within BASE_NS none comes from behind the camera
COVERED = 0.9  # share of its length to its width of before, from which on a target is held to be covered
WHOLE_NS = 400_000_000  # that it must have been seen before
STOPPED_NS = 500_000_000  # in less than this nothing comes to rest that went by ...
FAST = 1.5  # ... so many target sizes a second
RESTS = 0.25  # share of its speed with which it is said to rest
NEAREST = 0.05  # share of its distance to which nothing comes nearer


def gone(velocity: F64, recedes: float, t_s: float) -> tuple[F64, F64, float, float]:
    """``t_s`` later (or, where negative, earlier): the displacement px, the velocity px/s and by how much it recedes
    1/s then, and by what its size is multiplied."""
    share = 1.0 / max(1.0 + recedes * t_s, NEAREST)
    return velocity * t_s * share, velocity * share**2, recedes * share, share


@dataclass(frozen=True)
class Way:
    """At ``stamp_ns`` the target was at ``place``, px in the newest picture, of ``size`` (w, h) px, and went on with
    ``velocity`` px/s against the background, while its distance grew by the share ``recedes`` a second."""

    stamp_ns: int
    place: F64
    size: F64
    velocity: F64
    recedes: float


class Trail:
    """Places and sizes of the target, carried along with the background into the newest picture."""

    def __init__(self) -> None:
        self._stamps_ns = np.zeros(0, np.int64)
        self._places, self._sizes = np.zeros((0, 2)), np.zeros((0, 2))

    def carry(self, cur_from_prev: F64) -> None:
        """A new picture has come: where the background took the places, and how large the target would be there."""
        self._places, _, larger = local(cur_from_prev, self._places)
        self._sizes = self._sizes * larger[:, None]

    def add(self, stamp_ns: int, place: F64, size: F64) -> None:
        """The target was seen there, px in the newest picture, of this size (w, h) px."""
        kept = self._stamps_ns > stamp_ns - KEPT_NS
        self._stamps_ns = np.append(self._stamps_ns[kept], stamp_ns)
        self._places = np.vstack([self._places[kept], place])
        self._sizes = np.vstack([self._sizes[kept], size])

    @property
    def stopped(self) -> bool:
        """It was fast, and has been at rest on the background since a moment later: as what covers things is."""
        now_ns = int(self._stamps_ns[-1]) if len(self._stamps_ns) else 0
        late = self._stamps_ns > now_ns - STOPPED_NS
        if late.sum() < 4 or (~late).sum() < 4 or self._stamps_ns[0] > now_ns - STOPPED_NS - WHOLE_NS:
            return False
        t_s = (self._stamps_ns - now_ns).astype(np.float64) * 1e-9
        before, since = (_velocity(t_s[k], self._places[k]) for k in (~late, late))
        speed = float(np.linalg.norm(before))
        fast = speed > FAST * float(np.sqrt(np.median(self._sizes.prod(axis=1))))
        return fast and float(np.linalg.norm(since)) < RESTS * speed

    def before(self, lost_ns: int) -> Way | None:
        """The way of the target that was last seen at ``lost_ns``, before it was being covered; None where it was not
        known for so long."""
        end = int(np.searchsorted(self._stamps_ns, lost_ns - COVERING_NS, side="right"))
        if end < 3:
            return None
        grown = self._sizes[:end] / np.median(self._sizes[:max(2, end // 3)], axis=0)
        covered = grown.min(axis=1) < COVERED * grown.max(axis=1)  # one side shrinks, the other does not
        whole = np.flatnonzero(~covered & (self._stamps_ns[:end] - self._stamps_ns[0] > WHOLE_NS))
        end = 1 + int(whole[-1]) if len(whole) else end
        begin = int(np.searchsorted(self._stamps_ns[:end], self._stamps_ns[end - 1] - BASE_NS))
        t_s = (self._stamps_ns[begin:end] - self._stamps_ns[end - 1]) * 1e-9
        if t_s[0] > -0.1 or not np.isfinite(self._places[begin:end]).all():
            return None
        sides = grown[begin:end].max(axis=1) * np.sqrt(self._sizes[0].prod())
        place, velocity, recedes = _evenly(t_s, self._places[begin:end], sides)
        size = np.median(self._sizes[begin:end] * (1 + recedes * t_s)[:, None], axis=0)
        return Way(int(self._stamps_ns[end - 1]), place, size, velocity, recedes)


def _velocity(t_s: F64, places: F64) -> F64:
    """(2,) px/s through ``places`` (N, 2) at ``t_s`` (N,): least squares."""
    since = t_s - t_s.mean()
    return np.asarray(since @ places / (since @ since))


def _evenly(t_s: F64, places: F64, sides: F64) -> tuple[F64, F64, float]:
    """Place px and velocity px/s at time 0, and by how much it recedes 1/s, of what moves evenly through space and is
    seen at ``places`` (N, 2) px with ``sides`` (N,) px at ``t_s`` (N,) s up to 0; few wrong ones do not matter."""
    unit = float(np.median(sides))
    at, logs = (places - places[-1]) / unit, np.log(sides / unit)

    def residuals(x: F64) -> F64:
        nearness = 1 + x[4] * t_s
        off = x[:2] + (t_s / nearness)[:, None] * x[2:4] - at
        return np.concatenate([off.ravel() / PLACE_SIGMA, (x[5] - np.log(nearness) - logs) / SIZE_SIGMA,
                               x[4:5] / RECEDES_SIGMA])

    free = np.full(6, np.inf)
    free[4] = RECEDES_MAX
    start = np.array([0, 0, *(at[-1] - at[0]) / (t_s[-1] - t_s[0]), 0, 0])
    x = least_squares(residuals, start, loss="soft_l1", bounds=(-free, free)).x
    return places[-1] + unit * x[:2], unit * x[2:4], float(x[4])
