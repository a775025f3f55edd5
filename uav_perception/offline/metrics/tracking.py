"""HOTA, MOTA and IDF1 by trackeval, from boxes in MOTChallenge order (class-agnostic)."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import MissingDependency
from ...geometry import box_iou

F64 = NDArray[np.float64]
SHOWN = {"HOTA": ("HOTA", "DetA", "AssA", "LocA"),
         "CLEAR": ("MOTA", "MOTP", "IDSW", "MT", "ML", "Frag", "CLR_FP", "CLR_FN"),
         "Identity": ("IDF1", "IDP", "IDR")}


def _metrics() -> dict[str, Any]:
    try:
        from trackeval.metrics import CLEAR, HOTA, Identity
    except ImportError as e:
        raise MissingDependency(f"tracking scores ({e})", "the package trackeval",
                                "pip install 'uav-perception[evaluate]'") from e
    quiet = {"PRINT_CONFIG": False}
    return {"HOTA": HOTA(), "CLEAR": CLEAR(quiet), "Identity": Identity(quiet)}


def read_mot(path: Path) -> F64:
    """Rows of a MOTChallenge file: frame, id, x, y, w, h, confidence ... (comma separated)."""
    rows = [[float(v) for v in line.split(",")[:9]] for line in path.read_text().splitlines() if line.strip()]
    return np.array([r + [1.0] * (9 - len(r)) for r in rows]).reshape(-1, 9)


def score_tracks(truth: F64, tracks: F64, frames: int) -> dict[str, Any]:
    """Raw results of every metric for one sequence (``summary`` and ``combine`` make numbers of them).

    Args:
        truth: (N, >=7) rows frame (from 1), id, x, y, w, h, confidence (0 = not to be scored).
        tracks: (M, >=6) rows of the same order.
        frames: length of the sequence.
    """
    data = _sequence(truth[truth[:, 6] != 0], tracks, frames)
    with contextlib.redirect_stdout(io.StringIO()):
        return {name: metric.eval_sequence(data) for name, metric in _metrics().items()}


def combine(results: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """One result of many sequences (counts are summed, as the metrics' authors do)."""
    return {name: metric.combine_sequences({seq: r[name] for seq, r in results.items()})
            for name, metric in _metrics().items()}


def summary(result: Mapping[str, Any]) -> dict[str, float]:
    """The numbers people quote, 0..1 and counts; HOTA averaged over its thresholds."""
    return {key: float(np.mean(result[name][key])) for name, keys in SHOWN.items() for key in keys}


def to_json(result: Mapping[str, Any]) -> dict[str, Any]:
    """Raw results as plain lists and numbers."""
    return {name: {k: np.asarray(v).tolist() for k, v in fields.items()} for name, fields in result.items()}


def from_json(result: Mapping[str, Any]) -> dict[str, Any]:
    """Raw results as ``combine`` takes them."""
    return {name: {k: np.asarray(v) if isinstance(v, list) else v for k, v in fields.items()}
            for name, fields in result.items()}


def _sequence(truth: F64, tracks: F64, frames: int) -> dict[str, Any]:
    """The dictionary trackeval's metrics take: ids renumbered from 0, similarity of every frame."""
    gt_ids, tracker_ids = np.unique(truth[:, 1]), np.unique(tracks[:, 1])
    by_frame = [_per_frame(rows, ids, frames) for rows, ids in ((truth, gt_ids), (tracks, tracker_ids))]
    similarity = [box_iou(a[1], b[1]) for a, b in zip(*by_frame, strict=True)]
    return {"num_timesteps": frames, "num_gt_ids": len(gt_ids), "num_tracker_ids": len(tracker_ids),
            "num_gt_dets": len(truth), "num_tracker_dets": len(tracks),
            "gt_ids": [a[0] for a in by_frame[0]], "tracker_ids": [b[0] for b in by_frame[1]],
            "similarity_scores": similarity}


def _per_frame(rows: F64, ids: F64, frames: int) -> Sequence[tuple[NDArray[np.int64], F64]]:
    order = np.argsort(rows[:, 0], kind="stable")
    rows = rows[order]
    ends = np.searchsorted(rows[:, 0], np.arange(1, frames + 2))
    number = np.searchsorted(ids, rows[:, 1]).astype(np.int64)
    corners = np.hstack([rows[:, 2:4], rows[:, 2:4] + rows[:, 4:6]])
    return [(number[a:b], corners[a:b]) for a, b in pairwise(ends)]
