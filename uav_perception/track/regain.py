"""Finding again a target that is out of sight: what is where it may be, what moves there, and is that the one?

The regression knows the target with its surroundings, from one side. Who comes out from behind something often has
turned, in front of another ground. Two witnesses are not concerned by that: the refinement, which knows the first
frame's object, and the object's look, remembered from all frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike

from ..geometry import box_iou
from ..records import F32, F64, U8, Detections
from . import appearance
from .pyramid import Pyramid
from .refine import BoxRefinement
from .search import REACH, near_detections

TARGET_PX = 12  # side of the target in the pictures that motion is looked for in
MOTION_MIN = 12.0  # grey levels
MEMORY = 0.1  # share of the newest look in what is remembered
# Log odds that it is the target, fitted to 92 boxes of targets that came out from behind something on rendered flights
# and to 272 boxes of other vehicles and people of like size near them (area under the curve .91)
PER_LOGIT, PER_DISTANCE, AT_ZERO = 0.47, -1.87, -1.74
PER_REACH = -1.5  # ... and at the end of its reach
SURE, MARGIN = 1.5, 0.7  # log odds at which one look is enough, and by which the next best must be less likely
LARGER = 1.5  # times as large as expected is something else; smaller is what has not come out yet
LOOKED_AT, JUDGED = 6, 3  # moving places, and detections, that are looked at; the most alike of all that are judged
PATIENCE, LIKELY = 5, -0.7  # so many looks at the same thing are enough with this mean


@dataclass(frozen=True)
class Sought:
    """The target is predicted at ``centre`` px, of ``size`` (w, h) px, after ``unseen_s`` s with ``velocity`` px/s."""

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


@dataclass(frozen=True)
class Found:
    """What is at ``centre``, of ``size`` (w, h) px, is the target with these log odds."""

    centre: F64
    size: F64
    odds: float

    @property
    def box(self) -> F64:
        return _box(self.centre, self.size)


def _box(centre: F64, size: F64) -> F64:
    return np.concatenate([centre - size / 2, centre + size / 2])


class Regain:
    """Judges what is seen while a target is not. ``refinement`` is started with it."""

    def __init__(self, refinement: BoxRefinement) -> None:
        self._refinement = refinement
        self._look: F32 | None = None
        self._suspect: Found | None = None  # the likeliest of the last looks, with the mean of its odds
        self._looks = 0  # at it

    def remember(self, picture: Pyramid, box: F64) -> None:
        """The target is in this box."""
        look = appearance.describe(picture.image, box)
        self._look = look if self._look is None else (1 - MEMORY) * self._look + MEMORY * look
        self._suspect, self._looks = None, 0

    def strangeness(self, picture: Pyramid, box: F64) -> float:
        """How unlike the target what is in this box looks (``appearance.distance``)."""
        assert self._look is not None, "remember the target first"
        known = self._look / max(float(np.linalg.norm(self._look)), 1e-6)
        return float(appearance.distance(known, appearance.describe(picture.image, box))[0])

    def found(self, picture: Pyramid, sought: Sought, moving: list[F64], detections: Detections | None,
              others_xyxy_px: ArrayLike | None) -> Found | None:
        """The target at its predicted place, at ``moving`` places or at detections of its size; None where nothing is
        plainly it. ``others_xyxy_px`` (N, 4) are known to be something else."""
        near = [*((place, sought.size) for place in moving[:LOOKED_AT]),
                *near_detections(sought.centre, sought.size, sought.reach, detections)[:LOOKED_AT]]
        near.sort(key=lambda place: self.strangeness(picture, _box(*place)))  # a look costs a tenth of a judgement
        places = [(sought.centre, sought.size), *near[:JUDGED]]
        likely = [f for f in (self._judged(picture, sought, *place) for place in places) if f is not None]
        if others_xyxy_px is not None:
            likely = [f for f in likely if not (box_iou(f.box, np.asarray(others_xyxy_px)) > 0.4).any()]
        best = max(likely, key=lambda f: f.odds, default=None)
        if best is None or any(f.odds > best.odds - MARGIN and box_iou(f.box, best.box)[0, 0] < 0.3 for f in likely):
            return None
        mean = self._followed(best, sought.side_px)
        return best if best.odds >= SURE or (self._looks >= PATIENCE and mean >= LIKELY) else None

    def _followed(self, best: Found, side_px: float) -> float:
        """Mean log odds of this and the last looks at the same thing."""
        last, self._looks = self._suspect, self._looks + 1
        if last is None or np.linalg.norm(best.centre - last.centre) > 0.7 * side_px:
            last, self._looks = best, 1
        mean = last.odds + (best.odds - last.odds) / self._looks
        self._suspect = Found(best.centre, best.size, mean)
        return mean

    def _judged(self, picture: Pyramid, sought: Sought, centre: F64, size: F64) -> Found | None:
        """What is near a place; None where nothing is that could be the target."""
        measured = self._refinement.measure(picture, centre, size)
        if measured is not None and np.abs(measured.centre - centre).max() > 0.15 * size.min():
            measured = self._refinement.measure(picture, measured.centre, size)  # with what is there in the middle
        if measured is None or measured.present < 0.5:
            return None
        seen = Found(measured.centre, measured.edges[2:] - measured.edges[:2], 0.0)
        far = float(np.linalg.norm(seen.centre - sought.centre)) / (sought.reach * sought.side_px)
        if far > 1 or seen.size.prod() > LARGER**2 * size.prod():
            return None
        present = min(max(measured.present, 1e-4), 1 - 1e-4)
        odds = (PER_LOGIT * float(np.log(present / (1 - present))) + PER_DISTANCE * self.strangeness(picture, seen.box)
                + AT_ZERO)
        return Found(seen.centre, seen.size, odds + PER_REACH * far**2)


def moving_places(before: U8, image: U8, cur_from_prev: F64, sought: Sought) -> list[F64]:
    """Middles, px in ``image``, of what moved within reach since ``before`` and is about as large as the target, the
    likeliest first. ``cur_from_prev`` (3, 3) takes the background along."""
    scale = min(1.0, TARGET_PX / sought.side_px)
    reach_px = sought.reach * sought.side_px
    n = int(np.clip(2 * (reach_px + sought.side_px) * scale, 8, 400))
    shift = n / 2 - scale * sought.centre
    to_small = np.array([[scale, 0, shift[0]], [0, scale, shift[1]], [0, 0, 1.0]])
    now = cv2.warpAffine(image, to_small[:2], (n, n), flags=cv2.INTER_AREA)
    then = cv2.warpPerspective(before, to_small @ cur_from_prev, (n, n), flags=cv2.INTER_AREA)
    known = cv2.warpPerspective(np.full(before.shape[:2], 255, np.uint8), to_small @ cur_from_prev, (n, n))
    change = np.asarray(cv2.GaussianBlur(cv2.absdiff(now, then).max(axis=2), (3, 3), 0))
    change[np.asarray(known) < 255] = 0
    limit = max(MOTION_MIN, 3.0 * float(np.percentile(change, 75)))
    moved = cv2.morphologyEx((change > limit).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    _, _, stats, middles = cv2.connectedComponentsWithStats(moved)
    area = stats[1:, cv2.CC_STAT_AREA] / (sought.side_px * scale) ** 2
    places = (middles[1:] - n / 2) / scale + sought.centre
    far = np.linalg.norm(places - sought.centre, axis=1) / reach_px
    usable = np.flatnonzero((area > 0.08) & (area < 4) & (far <= 1))
    return [places[k] for k in usable[np.argsort(np.abs(np.log(area[usable])) + far[usable], kind="stable")]]
