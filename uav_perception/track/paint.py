"""How bright and of which colour a thing is beside the ground around it: where this differs plainly, there are two.

A car that comes out from under a bridge is in another light, so is the road that it stands on, and their ratio stays
much the same: a dark car stays darker than the road.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ..records import F64, U8

INSIDE, AROUND = 0.6, (1.15, 1.8)  # of a box's sides: the thing alone, and the ring of ground
FLOOR = 10.0  # grey levels added to both: dark things differ by little
BRIGHT = 85  # percentile of a thing's grey levels: its roof, whatever its windows do
MEMORY = 0.1  # share of the newest look
LIGHT = 2.0  # in the sun a thing differs from its ground by so much more than in the shade, or less
# Log ratios by which others differ. By truth boxes on rendered flights (14 of them, 41 occlusions), 2 % of the sights
# of targets that came out again differ and 45 % of those of other things of their size; with LIGHT = 1, 11 and 65 %
COLOUR_OFF, BRIGHT_OFF = 0.6, 0.35
SIDE_PX = 48  # larger windows are looked at in steps


class Paint:
    """Remembers one target's."""

    def __init__(self) -> None:
        self._usual: F64 | None = None

    def remember(self, image: U8, box_xyxy_px: ArrayLike) -> None:
        """The target is in this box of an image (H, W, 3)."""
        seen = contrast(image, box_xyxy_px)
        if seen is not None:
            self._usual = seen if self._usual is None else self._usual + MEMORY * (seen - self._usual)

    def off(self, image: U8, box_xyxy_px: ArrayLike) -> float:
        """How far what is in this box is from the target's colours; 0: as they may be, 1: plainly another thing."""
        seen = contrast(image, box_xyxy_px)
        if seen is None or self._usual is None:
            return 0.0
        lit = np.stack([self._usual / LIGHT, self._usual * LIGHT])
        off = seen - np.clip(seen, lit.min(axis=0), lit.max(axis=0))
        return max(float(np.linalg.norm(off[:3])) / COLOUR_OFF, float(abs(off[3])) / BRIGHT_OFF)

    def differs(self, image: U8, box_xyxy_px: ArrayLike) -> bool:
        """Whether what is in this box is plainly of another colour than the target."""
        return self.off(image, box_xyxy_px) > 1


def contrast(image: U8, box_xyxy_px: ArrayLike) -> F64 | None:
    """(4,) log ratios of what is in a box to what is around it: blue, green and red, and the brighter parts; None where
    there is no inside or no ring in the image (H, W, 3)."""
    box = np.asarray(box_xyxy_px, np.float64)
    height, width = image.shape[:2]
    step = max(1, int((box[2:] - box[:2]).max()) // SIDE_PX)

    def window(share: float) -> tuple[int, int, int, int]:
        middle, half = (box[:2] + box[2:]) / 2, share * (box[2:] - box[:2]) / 2
        x1, y1 = np.maximum(np.floor(middle - half), 0).astype(int)
        x2, y2 = np.minimum(np.ceil(middle + half), [width, height]).astype(int)
        return y1, y2, x1, x2

    y1, y2, x1, x2 = window(INSIDE)
    inside = image[y1:y2:step, x1:x2:step].reshape(-1, 3)
    (top, bottom, left, right), (y1, y2, x1, x2) = window(AROUND[1]), window(AROUND[0])
    ring = np.ones((max(bottom - top, 0), max(right - left, 0)), bool)
    ring[max(y1 - top, 0):max(y2 - top, 0), max(x1 - left, 0):max(x2 - left, 0)] = False
    around = image[top:bottom:step, left:right:step][ring[::step, ::step]]
    if not len(inside) or not len(around):
        return None
    bright = np.percentile(inside.mean(axis=1), BRIGHT), np.median(around.mean(axis=1))
    levels = [np.append(np.median(inside, axis=0), bright[0]), np.append(np.median(around, axis=0), bright[1])]
    return np.asarray(np.log(levels[0] + FLOOR) - np.log(levels[1] + FLOOR))
