"""Does the target's tracker hold the whole target? The detector tells, where that is in question.

A target that is locked while it comes into the picture, or found again while it comes out from behind something,
is known by the part that showed. Its tracker follows that part well. A box that an operator drew around a part is left
as it is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ..geometry import box_iou
from ..records import F64
from . import border

FITS = 0.6  # overlap with a detection from which a box is as good as that
NEAR = 0.3  # sides of a box: it is so near to the border that more may come in


class Fit:
    """``of_part``: the box is that of a part, perhaps."""

    def __init__(self, overlap_min: float, looks: int) -> None:
        """``overlap_min``: with a detection of the same thing; ``looks`` in a row decide, for more of it may
        still come out."""
        self._overlap_min, self._looks = overlap_min, looks
        self.begin(False)

    def begin(self, of_part: bool) -> None:
        """The tracker was shown another box, or found one by itself."""
        self.of_part, self._fits, self._misfits = of_part, 0, 0

    def larger(self, box_xyxy_px: ArrayLike, seen_xyxy_px: ArrayLike, size_px: tuple[int, int]) -> F64 | None:
        """(4,) which of the detections (N, 4) in an image of ``size_px`` is the whole of what is in the box, if the box
        is but of a part of it."""
        box, seen = (np.asarray(b, np.float64).reshape(-1, 4) for b in (box_xyxy_px, seen_xyxy_px))
        overlaps = box_iou(box, seen)[0]
        if not self.of_part or overlaps.max(initial=0.0) <= self._overlap_min:
            return None
        whole = seen[overlaps.argmax()]
        if overlaps.max() >= FITS:
            self._fits, self._misfits = self._fits + 1, 0
            if self._fits >= self._looks:
                self.begin(near_border(whole, size_px))
            return None
        if np.prod(whole[2:] - whole[:2]) < np.prod(box[0, 2:] - box[0, :2]):  # the detector sees the part
            return None
        self._fits, self._misfits = 0, self._misfits + 1
        return whole if self._misfits >= self._looks else None


def near_border(box_xyxy_px: ArrayLike, size_px: tuple[int, int]) -> bool:
    """Whether a box (4,) ends so near to the border that what is in it may go on beyond."""
    box = np.asarray(box_xyxy_px, np.float64)
    return bool(border.cut(box[None], np.array([0.0, 0.0, *size_px]), NEAR).any())
