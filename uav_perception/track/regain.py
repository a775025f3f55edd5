"""Finding again a target that is out of sight: what is where it may be, what moves there, and is that the one?

The regression knows the target with its surroundings, from one side. Who comes out from behind something often has
turned, in front of another ground. Two witnesses are not concerned by that: the refinement, which knows the first
frame's object, and the object's look, remembered from all frames.
"""

from __future__ import annotations

import cv2
import numpy as np

from ..geometry import box_iou
from ..records import F32, F64, U8
from . import appearance
from .paint import Paint
from .pyramid import Pyramid
from .refine import BoxRefinement
from .sought import Found, Sought, log_odds

TARGET_PX = 12  # side of the target in the pictures that motion is looked for in
MOTION_MIN = 12.0  # grey levels
MEMORY = 0.1  # share of the newest look in what is remembered
# Log odds that it is the target. The weights of what it looks like lie between those of a fit to 364 boxes on rendered
# flights (.47, -1.87) and those of one to 872 places judged there during 61 occlusions, 234 of them the target (.2, 0);
# the other two were fitted to these (area under the curve .93)
PER_LOGIT, PER_DISTANCE, PER_OFF, AT_ZERO = 0.3, -1.0, -2.8, 2.0
SURE, MARGIN = 1.5, 0.7  # log odds at which one look is enough, and by which the next best must be less likely
LARGER = 1.5  # times as large as expected is something else; smaller is what has not come out yet
LOOKED_AT, JUDGED = 6, 3  # moving places that are looked at; the most alike of them that are judged
PATIENCE, LIKELY = 5, 0.0  # so many looks at the same thing are enough with this mean


class Regain:
    """Judges what is seen while a target is not. ``refinement`` is started with it."""

    def __init__(self, refinement: BoxRefinement) -> None:
        self._refinement = refinement
        self.paint = Paint()
        self._look: F32 | None = None
        self._suspect: Found | None = None  # the likeliest of the last looks, with the mean of its odds
        self._looks = 0  # at it

    def remember(self, picture: Pyramid, box: F64) -> None:
        """The target is in this box."""
        self.paint.remember(picture.image, box)
        look = appearance.describe(picture.image, box)
        self._look = look if self._look is None else (1 - MEMORY) * self._look + MEMORY * look
        self._suspect, self._looks = None, 0

    def strangeness(self, picture: Pyramid, box: F64) -> float:
        """How unlike the target what is in this box looks (``appearance.distance``)."""
        assert self._look is not None, "remember the target first"
        known = self._look / max(float(np.linalg.norm(self._look)), 1e-6)
        return float(appearance.distance(known, appearance.describe(picture.image, box))[0])

    def found(self, picture: Pyramid, sought: Sought, centre: F64, moving: list[F64], others_xyxy_px: F64
              ) -> Found | None:
        """The target near ``centre`` px, where it is predicted or followed to, or at ``moving`` places; None where
        nothing is plainly it. ``others_xyxy_px`` (N, 4) are known to be something else."""
        places = [Found(place, sought.size, 0.0) for place in moving]
        near = [p for p in places if not _is_one_of(p, others_xyxy_px)][:LOOKED_AT]
        near.sort(key=lambda place: self.strangeness(picture, place.box))  # a tenth of a judgement's cost
        seen = [self._judged(picture, sought, place) for place in (centre, *(p.centre for p in near[:JUDGED]))]
        likely = [f for f in seen if f is not None and not _is_one_of(f, others_xyxy_px)]
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

    def _judged(self, picture: Pyramid, sought: Sought, place: F64) -> Found | None:
        """What is near a place; None where nothing is that could be the target."""
        size = sought.size
        measured = self._refinement.measure(picture, place, size)
        if measured is not None and np.abs(measured.centre - place).max() > 0.15 * size.min():
            measured = self._refinement.measure(picture, measured.centre, size)  # with what is there in the middle
        if measured is None or measured.present < 0.5:
            return None
        seen = Found(measured.centre, measured.edges[2:] - measured.edges[:2], 0.0)
        if (sought.far(seen.centre) > 1 or seen.size.prod() > LARGER**2 * size.prod()
                or self.paint.differs(picture.image, seen.box)):
            return None
        odds = (PER_LOGIT * log_odds(measured.present) + PER_DISTANCE * self.strangeness(picture, seen.box) + AT_ZERO
                + PER_OFF * sought.off(seen.centre))
        return Found(seen.centre, seen.size, odds)


def _is_one_of(found: Found, others_xyxy_px: F64) -> bool:
    return bool((box_iou(found.box, others_xyxy_px) > 0.4).any())


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
