"""COCO AP and AR from packed rows, frame by frame: the field's algorithm in memory that a long bag does not fill.

COCO's evaluator (Lin et al. 2014; rules as published with the COCO API) holds every box as a Python object. Here a box
is a few dozen bytes, so hours of video can be scored. ``score_files`` runs the reference library on the exported files;
``evaluate --verify`` and the tests compare both.
"""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import MissingDependency

F64 = NDArray[np.float64]
Bool = NDArray[np.bool_]
NAMES = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR1", "AR10", "AR100", "AR_small", "AR_medium",
         "AR_large")  # the order of COCO's summary
THRESHOLDS: F64 = np.linspace(0.5, 0.95, 10)
RECALLS: F64 = np.linspace(0.0, 1.0, 101)
AREAS = ((0.0, 1e10), (0.0, 32.0**2), (32.0**2, 96.0**2), (96.0**2, 1e10))  # all, small, medium, large; px^2
MAX_FOUND = (1, 10, 100)


def score_boxes(truth: F64, found: F64, names: list[str]) -> dict[str, Any]:
    """COCO scores (0..1; None where there is no truth of that size), per class AP, and PR curves at IoU 0.5.

    Args:
        truth: (N, >=7) rows image id, index into ``names``, x, y, w, h, ignore 0/1; ascending image ids.
        found: (M, 7) rows image id, index into ``names``, x, y, w, h, score; ascending image ids.
        names: the classes.

    Returns:
        The summary, and the same with all classes taken for one under ``any_class``.
    """
    objects = int((truth[:, 6] == 0).sum())
    scores: dict[str, Any] = {"objects": objects, "detections": len(found)}
    if not len(truth):
        return {**scores, "note": "no objects in the truth"}
    tables = [_accumulate(truth[truth[:, 1] == k], found[found[:, 1] == k]) for k in range(len(names))]
    scores.update(_summary(tables))
    scores["per_class"] = {n: _mean([t.precision[:, :, 0]]) for n, t in zip(names, tables, strict=True)}
    scores["pr_curve"] = {n: _curve(t) for n, t in zip(names, tables, strict=True) if t.objects[0]}
    together = _accumulate(*(t[np.lexsort((t[:, 1], t[:, 0]))] for t in (truth, found)))  # ties: in COCO's order
    scores["any_class"] = {**_summary([together]), "pr_curve": _curve(together)}
    return scores


@dataclass(frozen=True)
class _Accumulated:
    """Of one class: precision (thresholds, recalls, areas), recall (thresholds, areas, max found); -1 = no truth."""

    precision: F64
    recall: F64
    objects: tuple[int, ...]


def _accumulate(truth: F64, found: F64) -> _Accumulated:
    images = np.unique(np.concatenate([truth[:, 0], found[:, 0]]))
    rank = np.zeros(len(found), np.int16)
    keep = np.zeros(len(found), bool)
    matched = np.zeros((len(found), len(AREAS), len(THRESHOLDS)), bool)
    ignored = np.zeros_like(matched)
    truth_at, found_at = (np.searchsorted(t[:, 0], [images, images + 1]) for t in (truth, found))
    for i in range(len(images)):
        (a, b), (c, d) = truth_at[:, i], found_at[:, i]
        order = c + np.argsort(-found[c:d, 6], kind="stable")[:MAX_FOUND[-1]]
        keep[order], rank[order] = True, np.arange(len(order))
        matched[order], ignored[order] = _match(truth[a:b], found[order])
    order = np.argsort(-found[:, 6], kind="stable")
    order = order[keep[order]]
    matched, ignored, rank = matched[order], ignored[order], rank[order]
    precision = np.full((len(THRESHOLDS), len(RECALLS), len(AREAS)), -1.0)
    recall = np.full((len(THRESHOLDS), len(AREAS), len(MAX_FOUND)), -1.0)
    objects = tuple(int((~_outside(truth, area) & (truth[:, 6] == 0)).sum()) for area in AREAS)
    for k, count in enumerate(objects):
        for m, most in enumerate(MAX_FOUND):
            first = rank < most
            if count:
                hits = (matched & ~ignored)[first, k].cumsum(axis=0, dtype=np.float64)
                wrong = (~matched & ~ignored)[first, k].cumsum(axis=0, dtype=np.float64)
                recall[:, k, m] = hits[-1] / count if len(hits) else 0.0
                if most == MAX_FOUND[-1]:
                    precision[:, :, k] = _interpolate(hits, wrong, count)
    return _Accumulated(precision, recall, objects)


def _match(truth: F64, found: F64) -> tuple[Bool, Bool]:
    """(D, areas, thresholds) whether each box, best first, takes an object, and whether it is not to be counted."""
    outside = np.array([_outside(found, area) for area in AREAS]).T
    matched = np.zeros((len(found), len(AREAS), len(THRESHOLDS)), bool)
    ignored = np.repeat(outside[:, :, None], len(THRESHOLDS), axis=2)
    if not len(truth) or not len(found):
        return matched, ignored
    crowd = truth[:, 6] != 0
    iou = _overlap(found[:, 2:6], truth[:, 2:6], crowd)
    skip = np.array([_outside(truth, area) | crowd for area in AREAS])[:, None, :]  # (areas, 1, G)
    near = iou >= THRESHOLDS[0]
    alone = near & (near.sum(axis=1) == 1)[:, None] & (near.sum(axis=0) == 1)[None]  # pairs no other box contests
    rows, g = np.nonzero(alone)
    hit = iou[rows, g, None, None] >= np.minimum(THRESHOLDS, 1 - 1e-10)
    matched[rows], ignored[rows] = hit, np.where(hit, skip[:, 0, g].T[:, :, None], ignored[rows])
    taken = np.zeros((len(AREAS), len(THRESHOLDS), len(truth)), bool)
    area_index, threshold_index = np.indices(taken.shape[:2])
    for d in np.flatnonzero(near.any(axis=1) & ~alone.any(axis=1)):
        free = (iou[d] >= np.minimum(THRESHOLDS, 1 - 1e-10)[:, None]) & (crowd | ~taken)
        # objects that count come before those that do not; among equals the last wins, as in COCO's loop
        worth = np.where(free, iou[d] + np.where(skip, 0.0, 2.0), -1.0)[:, :, ::-1]
        best = len(truth) - 1 - worth.argmax(axis=2)
        hit = worth.max(axis=2) >= 0
        matched[d] = hit
        ignored[d] = np.where(hit, skip[area_index, 0, best], ignored[d])
        taken[area_index[hit], threshold_index[hit], best[hit]] = True
    return matched, ignored


def _overlap(a: F64, b: F64, crowd: Bool) -> F64:
    """IoU of (D, 4) and (G, 4) xywh boxes; over a crowd region, the share of the box inside it."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, :2] + a[:, None, 2:], b[None, :, :2] + b[None, :, 2:])
    inter = np.clip(high - low, 0, None).prod(axis=2)
    area_a, area_b = a[:, 2:].prod(axis=1)[:, None], b[:, 2:].prod(axis=1)[None]
    whole = np.where(crowd, area_a, area_a + area_b - inter)
    return np.asarray(inter / np.where(whole > 0, whole, 1))


def _outside(rows: F64, area: tuple[float, float]) -> Bool:
    size = np.round(rows[:, 4] * rows[:, 5], 6)
    return np.asarray((size < area[0]) | (size > area[1]))


def _interpolate(hits: F64, wrong: F64, count: int) -> F64:
    """(thresholds, 101) precision at the recalls, made non-increasing; 0 beyond the last recall."""
    out = np.zeros((len(THRESHOLDS), len(RECALLS)))
    for t in range(len(THRESHOLDS)):
        recall = hits[:, t] / count
        precision = hits[:, t] / (hits[:, t] + wrong[:, t] + np.spacing(1))
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        at = np.searchsorted(recall, RECALLS, side="left")
        known = at < len(recall)
        out[t, known] = precision[at[known]]
    return out


def _summary(tables: list[_Accumulated]) -> dict[str, float | None]:
    p, r = [t.precision for t in tables], [t.recall for t in tables]
    values = [_mean([x[:, :, 0] for x in p]), _mean([x[0, :, 0] for x in p]), _mean([x[5, :, 0] for x in p]),
              *(_mean([x[:, :, k] for x in p]) for k in (1, 2, 3)),
              *(_mean([x[:, 0, m] for x in r]) for m in range(3)), *(_mean([x[:, k, 2] for x in r]) for k in (1, 2, 3))]
    return dict(zip(NAMES, values, strict=True))


def _mean(tables: list[F64]) -> float | None:
    """Mean of what is known (not -1), None where nothing is."""
    values = np.concatenate([t.ravel() for t in tables]) if tables else np.zeros(0)
    known = values[values > -1]
    return float(known.mean()) if known.size else None


def _curve(table: _Accumulated) -> list[float]:
    """Precision at the 101 recalls 0, 0.01 ... 1, IoU 0.5."""
    return [round(float(p), 6) for p in np.maximum(table.precision[0, :, 0], 0)]


def score_files(annotations: Path, detections: Path) -> dict[str, Any]:
    """The same numbers (of NAMES, and per class AP) by the reference library, from exported files.

    Raises:
        MissingDependency: faster-coco-eval is not installed.
    """
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError as e:
        raise MissingDependency(f"verification of COCO scores ({e})", "the package faster-coco-eval",
                                "pip install faster-coco-eval") from e
    results = json.loads(detections.read_text())
    with contextlib.redirect_stdout(io.StringIO()):  # the library reports its progress there
        truth = COCO(str(annotations))
        if not truth.dataset["annotations"] or not results:
            return {}
        found = truth.loadRes(results)
        scores: dict[str, Any] = {}
        for name, use_categories in (("", 1), ("any_class", 0)):
            run = COCOeval_faster(truth, found, "bbox", print_function=lambda *_: None)
            run.params.useCats = use_categories
            run.evaluate()
            run.accumulate()
            run.summarize()
            values = {n: None if v < 0 else float(v) for n, v in zip(NAMES, run.stats[:12], strict=True)}
            scores.update({name: values} if name else values)
    return scores
