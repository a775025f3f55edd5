"""A place in a frame that looks like the target, and two witnesses of it that know no surroundings."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from ..geometry import box_iou
from ..records import F64
from .pyramid import Pyramid
from .refine import BoxRefinement
from .regain import Regain
from .search import Peak

LEAP, STRANGE = 0.75, 0.5  # target sizes, and distance of looks, up to which the refinement alone is believed


@dataclass(frozen=True)
class Sight:
    """A place in this frame that looks like the target; ``quality`` 0..1; ``vouched`` for by the refinement alone;
    ``shown`` (w, h) px: so much of it the refinement sees, where it was asked."""

    centre: F64
    size: F64
    peak: Peak
    quality: float
    vouched: bool = False
    shown: F64 | None = None


class Witness:
    """The refinement and the target's remembered look; ``plain``: probability from which the refinement is believed."""

    def __init__(self, refinement: BoxRefinement, regain: Regain, plain: float) -> None:
        self._refinement, self._regain, self._plain = refinement, regain, plain

    def vouched(self, picture: Pyramid, sight: Sight, last: F64, quality: float, others: ArrayLike | None
                ) -> Sight | None:
        """``sight`` with this ``quality``, where the refinement holds what is there to be the target, which looks like
        itself and has not leapt from its ``last`` place: its surroundings may have changed."""
        measured = self._refinement.measure(picture, sight.centre, sight.size)
        if measured is None or measured.present < self._plain:
            return None
        leap = float(np.linalg.norm(measured.centre - last) / np.sqrt(sight.size.prod()))
        if leap > LEAP or self._regain.strangeness(picture, measured.edges) > STRANGE:
            return None
        if others is not None and (box_iou(measured.edges, np.asarray(others)) > 0.4).any():
            return None
        return replace(sight, centre=measured.centre, quality=quality, vouched=True)

    def present(self, picture: Pyramid, sight: Sight) -> Sight | None:
        """``sight``, where the refinement, too, sees the target there, which tells background from things better than
        peaks do, and it is not plainly of another colour."""
        measured = self._refinement.measure(picture, sight.centre, sight.size)
        if (measured is None or measured.present < self._plain
                or self._regain.paint.differs(picture.image, measured.edges)):
            return None
        return replace(sight, shown=measured.edges[2:] - measured.edges[:2])
