"""Single-target scores by OTB's one-pass rules (Wu, Lim, Yang, PAMI 2015): success and precision."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
OVERLAPS: F64 = np.arange(0, 1.05, 0.05)  # 21 thresholds, compared with strict >
DISTANCES_PX: F64 = np.arange(0, 51, 1.0)
PRECISION_AT_PX = 20.0


def score_target(truth_xywh: F64, found_xywh: F64) -> dict[str, Any]:
    """Success AUC, precision at 20 px, mean overlap and both curves; the first frame counts.

    Frames whose truth is NaN or has no area are left out; a frame without a result (NaN) counts as a miss.
    """
    known = np.isfinite(truth_xywh).all(axis=1) & (truth_xywh[:, 2] > 0) & (truth_xywh[:, 3] > 0)
    truth, found = truth_xywh[known], found_xywh[known]
    if not len(truth):
        return {"frames": 0}
    overlap = overlaps(truth, found)
    distance = np.linalg.norm(truth[:, :2] + truth[:, 2:] / 2 - found[:, :2] - found[:, 2:] / 2, axis=1)
    distance = np.where(np.isnan(distance), np.inf, distance)
    success = [(overlap > t).mean() for t in OVERLAPS]
    precision = [(distance <= t).mean() for t in DISTANCES_PX]
    return {"frames": len(truth), "success_auc": float(np.mean(success)), "mean_iou": float(overlap.mean()),
            "precision_20px": float((distance <= PRECISION_AT_PX).mean()),
            "success_curve": [round(float(s), 6) for s in success],
            "precision_curve": [round(float(p), 6) for p in precision]}


def overlaps(truth_xywh: F64, found_xywh: F64) -> F64:
    """(N,) intersection over union of pairs; 0 where there is no result."""
    a, b = (np.stack([x[:, :2], x[:, :2] + x[:, 2:]]) for x in (truth_xywh, np.nan_to_num(found_xywh)))
    inter = np.clip(np.minimum(a[1], b[1]) - np.maximum(a[0], b[0]), 0, None).prod(axis=1)
    union = (a[1] - a[0]).prod(axis=1) + (b[1] - b[0]).prod(axis=1) - inter
    return np.asarray(inter / np.maximum(union, 1e-12))
