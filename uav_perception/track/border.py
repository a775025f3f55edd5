"""What the picture's border does to boxes: a detector sees only the part inside.

Targets are kept whole, as far as that is known: an edge at the border tells only that the object goes on beyond it. So
what drives in or out keeps one size and one motion, while the box around its visible part grows, shrinks and stops.
A view is (4,) xyxy px: what can be seen.
"""

from __future__ import annotations

import numpy as np

from ..records import F64, Bool

EVERYWHERE = np.array([-np.inf, -np.inf, np.inf, np.inf])
AT_BORDER = 0.05  # shares of a box: an edge so near to the border is at the border
FROM_EDGES = np.array([[0.5, 0, 0.5, 0], [0, 0.5, 0, 0.5], [-1, 0, 1, 0], [0, -1, 0, 1]])  # cx, cy, w, h of xyxy


def view_of(size_px: tuple[int, int], detected_xyxy_px: F64) -> F64:
    """The image, and what boxes jut out of it: a detector that draws them is not stopped by the border."""
    return np.concatenate([detected_xyxy_px[:, :2].min(axis=0, initial=0.0),
                           np.maximum(detected_xyxy_px[:, 2:].max(axis=0, initial=0.0), size_px)])


def visible(xyxy_px: F64, view: F64) -> F64:
    """(N, 4) ``cx, cy, w, h`` of the part inside; sides are negative where nothing is."""
    near, far = np.maximum(xyxy_px[:, :2], view[:2]), np.minimum(xyxy_px[:, 2:], view[2:])
    return np.asarray(np.concatenate([near, far], axis=1) @ FROM_EDGES.T)


def cut(xyxy_px: F64, view: F64, share: float = AT_BORDER) -> Bool:
    """(N, 4) which edges lie at the border, give or take a share of the box, or beyond."""
    margin = share * (xyxy_px[:, 2:] - xyxy_px[:, :2])
    return np.concatenate([xyxy_px[:, :2] <= view[:2] + margin, xyxy_px[:, 2:] >= view[2:] - margin], axis=1)


def doubt(xyxy_px: F64, view: F64) -> F64:
    """(N, 4, 4) covariance of ``cx, cy, w, h`` that the cut edges bring: each may be off by the longer side."""
    longer = (xyxy_px[:, 2:] - xyxy_px[:, :2]).max(axis=1, keepdims=True)
    return np.asarray((FROM_EDGES * (cut(xyxy_px, view) * longer**2)[:, None]) @ FROM_EDGES.T)


def completed(xyxy_px: F64, view: F64) -> F64:
    """(N, 4) boxes that are cut, seen for the first time, with a guess at the rest: no side is shorter than the other.

    Sides that are not cut stay as they are.
    """
    sides = xyxy_px[:, 2:] - xyxy_px[:, :2]
    lacking = np.tile(sides.max(axis=1, keepdims=True) - sides, 2) * cut(xyxy_px, view)
    lacking[:, 2:] *= lacking[:, :2] == 0
    return np.asarray(xyxy_px + lacking * [-1, -1, 1, 1])
