"""Keep the best of overlapping boxes."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..records import F32, I32

MAX_CANDIDATES = 2000  # overlap tests grow with the square; what scores below the best two thousand never survives


def suppress(xyxy: F32, score: F32, group: I32, iou: float, limit: int) -> NDArray[np.int64]:
    """Indices of boxes kept, best score first: a box overlapping a better one of its group by more than ``iou`` goes.

    Args:
        xyxy: (N, 4). score: (N,). group: (N,) boxes of different groups never suppress each other.
        limit: at most this many are kept.
    """
    order = np.arange(len(score))
    if len(order) > MAX_CANDIDATES:
        order = np.argpartition(-score, MAX_CANDIDATES)[:MAX_CANDIDATES]
    if not len(order):
        return order
    b = xyxy[order]
    xywh = np.concatenate([b[:, :2], b[:, 2:] - b[:, :2]], 1).astype(np.float64)
    kept = cv2.dnn.NMSBoxesBatched(xywh, score[order].astype(np.float32),  # type: ignore[arg-type]
                                   group[order].astype(np.int32), 0.0, iou)  # type: ignore[arg-type]
    found = order[np.asarray(kept, np.int64).ravel()]
    return np.asarray(found[np.argsort(-score[found], kind="stable")][:limit], np.int64)
