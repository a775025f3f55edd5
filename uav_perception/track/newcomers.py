"""Is one of the things that came into sight since the target was lost the target?

Who comes out from behind something has often turned, and looks unlike itself. But things do not leap: the way from
where the target vanished to where a newcomer is seen takes about the mean of the two velocities times the time between.
And what comes in at the border of the picture was not behind anything.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..records import F32, F64, Track
from .kalman import box_to_centre
from .paint import Paint
from .pyramid import Pyramid
from .refine import BoxRefinement
from .sought import Sought, log_odds

# Log odds that a newcomer is the target, fitted to the first looks at 73 targets that came out from behind something on
# rendered flights and at 150 other newcomers of like size near them (area under the curve, by other flights: .98)
AT_ZERO, PER_LOGIT, PER_REACH, AT_BORDER, PER_ASTRAY = 0.9, 0.53, -0.73, -2.87, -2.77
ANOTHER_COLOUR = -3.0  # as many as tell things that are plainly from those that may be
LIKELY, UNLIKELY = 0.0, -2.5  # mean log odds that are enough, and with which it is something else
MARGIN = 0.7  # log odds by which the next best must be less likely
LOOKS, LOOKED_AT_S = 3, 0.25  # that many and that long: before, its velocity is not known
MEMORY = 6  # looks that count
SIZE_RATIO = 2.0  # what is so many times larger or smaller is something else
BORDER = 0.3  # target sizes
THINNEST_PX = 3.0  # side of a box that a tracker can begin with
AT_ONCE = 4  # newcomers that are looked at in one frame


class Newcomers:
    """Judges newcomers by all looks at each. ``refinement`` and ``paint`` know the target."""

    def __init__(self, refinement: BoxRefinement, paint: Paint) -> None:
        self._refinement, self._paint = refinement, paint
        self._looks: dict[int, tuple[float, int, float]] = {}  # by id: mean log odds, looks, when unseen since

    def forget(self) -> None:
        """The target is in sight."""
        self._looks.clear()

    def found(self, picture: Pyramid, sought: Sought, newcomers: Sequence[Track]) -> Track | None:
        """The target among ``newcomers``: boxes in this frame, velocities against the background; None where none is
        plainly it."""
        near = sorted((t for t in newcomers if self._possible(sought, t)), key=lambda t: strays(sought, t))[:AT_ONCE]
        for t in near:
            self._looks[t.id] = self._look(picture, sought, t)
        if not near:
            return None
        best = max(near, key=lambda t: self._looks[t.id][0])
        odds, looks, since_s = self._looks[best.id]
        rival = max((self._looks[t.id][0] for t in near if t is not best), default=-np.inf)
        if odds < LIKELY or rival > odds - MARGIN or looks < LOOKS or sought.unseen_s - since_s < LOOKED_AT_S:
            return None
        return best

    def dismissed(self, newcomers: Sequence[Track]) -> list[F32]:
        """Boxes of those that are plainly something else."""
        return [t.xyxy_px for t in newcomers if self.unlikely(t, LOOKS)]

    def unlikely(self, newcomer: Track, least: int = 1) -> bool:
        """Whether at least so many looks at it say that it is something else."""
        odds, looks, _ = self._looks.get(newcomer.id, (0.0, 0, 0.0))
        return looks >= least and odds < UNLIKELY

    def _possible(self, sought: Sought, newcomer: Track) -> bool:
        """Whether it is within reach and of about the target's size."""
        middle, size = _middle_and_size(newcomer)
        ratio = float(np.sqrt(size.prod())) / sought.side_px
        return sought.far(middle) <= 1 and 1 / SIZE_RATIO < ratio < SIZE_RATIO and float(size.min()) >= THINNEST_PX

    def _look(self, picture: Pyramid, sought: Sought, newcomer: Track) -> tuple[float, int, float]:
        middle, size = _middle_and_size(newcomer)
        measured = self._refinement.measure(picture, middle, size)
        height, width = picture.image.shape[:2]
        x1, y1, x2, y2 = newcomer.xyxy_px
        at_border = min(x1, y1, width - x2, height - y2) < BORDER * sought.side_px
        odds = (AT_ZERO + PER_LOGIT * log_odds(0.0 if measured is None else measured.present)
                + PER_REACH * sought.far(middle)**2 + AT_BORDER * at_border + PER_ASTRAY * strays(sought, newcomer)
                + ANOTHER_COLOUR * self._paint.differs(picture.image, newcomer.xyxy_px))
        mean, looks, since_s = self._looks.get(newcomer.id, (0.0, 0, sought.unseen_s))
        return mean + (odds - mean) / min(looks + 1, MEMORY), looks + 1, since_s


def strays(sought: Sought, track: Track) -> float:
    """``sought.astray`` of a track."""
    middle, size = _middle_and_size(track)
    return sought.astray(middle, track.velocity_px_s, float(np.sqrt(size.prod())))


def _middle_and_size(track: Track) -> tuple[F64, F64]:
    centre = box_to_centre(track.xyxy_px)[0]
    return centre[:2], centre[2:]
