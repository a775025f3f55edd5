"""The same picture turned and mirrored: from above there is no upright, so every view is as good a look as the first.

A false alarm seldom survives a turn, a vehicle does, and the mean of several boxes lies closer than one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..geometry import box_iou
from ..records import F32, I32, U8
from .nms import suppress

Found = tuple[F32, F32, I32]  # boxes (N, 4) xyxy, scores (N,), classes (N,)
VIEWS = 4  # as it is, mirrored at the main diagonal, turned by half, mirrored at the other diagonal


def view_of(image: U8, view: int) -> U8:
    """The picture (H, W, 3) as view number ``view`` shows it, contiguous."""
    turned = image[::-1, ::-1]
    shown = (image, image.transpose(1, 0, 2), turned, turned.transpose(1, 0, 2))[view]
    return np.ascontiguousarray(shown)


def from_view(xyxy_px: F32, view: int, width_px: int, height_px: int) -> F32:
    """Boxes (N, 4) found in a view, in pixels of the picture of ``width_px`` x ``height_px``."""
    x1, y1, x2, y2 = xyxy_px.T
    w, h = width_px, height_px
    return np.stack(((x1, y1, x2, y2), (y1, x1, y2, x2), (w - x2, h - y2, w - x1, h - y1),
                     (w - y2, h - x2, w - y1, h - x1))[view], 1).astype(np.float32)


def fuse(views: Sequence[Found], group: I32, iou: float, limit: int) -> Found:
    """One box an object from those of all views, best score first.

    Weighted box fusion (Solovyev, Wang and Gabruseva 2021): boxes of a group overlapping the best one by more than
    ``iou``, one a view, become their mean weighted by score; its score is the sum over the number of views, so that
    what only one view saw counts little. The class is the best box's.

    Args:
        views: what each view found, suppressed, in pixels of the same picture.
        group: (classes,) suppression group of each class.
        limit: at most this many are returned.
    """
    xyxy, score, class_id = (np.concatenate(p) for p in zip(*views, strict=True))
    view = np.repeat(np.arange(len(views)), [len(v[1]) for v in views])
    heads = suppress(xyxy, score, group[class_id], iou, 2 * limit)
    overlap = box_iou(xyxy[heads], xyxy) * (group[class_id[heads]][:, None] == group[class_id])
    overlap[np.arange(len(heads)), heads] = 1 + iou  # boxes without area too
    near = np.flatnonzero(overlap.max(0, initial=0.0) > iou)
    near = near[np.argsort(-score[near], kind="stable")]
    owner = (overlap[:, near] > iou).argmax(0) if len(near) else near  # the best-scored one, as in suppression
    _, first = np.unique(owner * len(views) + view[near], return_index=True)  # the best of each object and view
    owner, members = owner[first], near[first]
    weight = score[members].astype(np.float64)
    total = np.bincount(owner, weight, len(heads))
    summed = np.stack([np.bincount(owner, weight * xyxy[members, k], len(heads)) for k in range(4)], 1)
    mean = summed / np.maximum(total, 1e-12)[:, None]
    ranked = np.argsort(-total, kind="stable")[:limit]
    return (mean[ranked].astype(np.float32), (total[ranked] / len(views)).astype(np.float32),
            class_id[heads[ranked]])
