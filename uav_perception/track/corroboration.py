"""Whether the detector bears out what the target tracker says: a lock that nothing else sees is doubted in time."""

from __future__ import annotations

import numpy as np

from ..geometry import box_iou
from ..records import F64

REFUTED = 0.01  # odds of the looks so far, if the target were where its tracker says, below which it is not
UNLIKELY = 0.3  # ... and below which it may be on its way elsewhere since it was last confirmed
ELSEWHERE_ODDS = 0.1  # of one look in which the box lies on something known to be another thing
PRIOR_AWAKE = 0.3  # how far a detector is trusted that sees none of the other things it knew
FOUND_ODDS, FOUND_AWAKE = 0.1, 0.7  # the same two of a target that its tracker alone has just found again


class Corroboration:
    """The detector's looks at one locked target.

    What the detector mostly sees in the box (``rate``) and now does not see in one look after another, although it sees
    the rest of what it saw, is not in the box. What it never saw (a drawn box around anything) is not doubted.
    """

    def __init__(self, overlap_min: float) -> None:
        self._overlap_min = overlap_min
        self.start()

    def start(self) -> None:
        """Another target."""
        self._looks = self._hits = 0
        self._rate = 0.0
        self.unsure_since_ns: int | None = None  # when the target was lost that its tracker alone has found again
        self.restart()

    def restart(self) -> None:
        """The same target, shown to its tracker anew."""
        self.silent = 0  # looks in a row that did not confirm the box
        self._odds, self._awake = 1.0, PRIOR_AWAKE
        self.on_another = False
        self._confirmed_ns: int | None = None

    def found_again(self, lost_ns: int) -> None:
        """The target's tracker found by itself what was lost at ``lost_ns``, which errs more often than following."""
        self.restart()
        self._rate = self._hits / (self._looks + 2)  # those that missed it before it was lost count, too: it was there
        self.unsure_since_ns = lost_ns
        self._odds, self._awake = FOUND_ODDS, FOUND_AWAKE

    def look(self, stamp_ns: int, box_xyxy_px: F64, own: F64, others: F64, seen: F64) -> bool:
        """Whether the target is confirmed: (4,) box of its tracker, (0 or 1, 4) where its identity is predicted, (N, 4)
        where others are, (M, 4) detections."""
        claim, claim_own = _overlap(box_xyxy_px[None], others)[0], _overlap(box_xyxy_px[None], own)[0]
        self.on_another = claim > 0.5 and claim > claim_own
        confirmed = not self.on_another and _overlap(box_xyxy_px[None], seen)[0] > self._overlap_min
        self._looks += 1
        if confirmed:
            self._hits += 1
            self._confirmed_ns = stamp_ns
            self._rate = self._hits / (self._looks + 2)
            self.silent, self._odds, self._awake = 0, 1.0, PRIOR_AWAKE
            self.unsure_since_ns = None
        else:
            awake = (float((_overlap(others, seen) > self._overlap_min).sum()) + self._awake) / (len(others) + 1)
            self.silent += 1
            self._odds *= ELSEWHERE_ODDS if self.on_another else 1.0 - self._rate * awake
        return bool(confirmed)

    @property
    def believed_until_ns(self) -> int | None:
        """When the target was last confirmed, where since then it should have been and was not."""
        return self._confirmed_ns if self._odds < UNLIKELY else None

    @property
    def refuted(self) -> bool:
        return self._odds < REFUTED


def _overlap(boxes: F64, others: F64) -> F64:
    """(N,) largest overlap of each box with any other."""
    return np.asarray(box_iou(boxes, others).max(axis=1, initial=0.0))
