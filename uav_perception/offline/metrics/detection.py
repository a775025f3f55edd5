"""COCO AP and AR from packed rows, frame by frame: the field's algorithm in memory that a long bag does not fill.

COCO's evaluator (Lin et al. 2014; rules as published with the COCO API) holds every box as a Python object. Here frames
stream past; of every box a record of two dozen bytes goes to disk, to be walked through by falling score in the end.
``evaluate --verify`` and the tests compare with the reference library on the exported files.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..rows import Blocks, Table, frames_of_both

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bool = NDArray[np.bool_]
NAMES = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR1", "AR10", "AR100", "AR_small", "AR_medium",
         "AR_large")  # the order of COCO's summary
THRESHOLDS: F64 = np.linspace(0.5, 0.95, 10)
RECALLS: F64 = np.linspace(0.0, 1.0, 101)
AREAS = ((0.0, 1e10), (0.0, 32.0**2), (32.0**2, 96.0**2), (96.0**2, 1e10))  # all, small, medium, large; px^2
MAX_FOUND = (1, 10, 100)
_BITS = len(AREAS) * len(THRESHOLDS)
_RECORD = np.dtype([("score", "f8"), ("rank", "u1"), ("matched", "u1", _BITS // 8), ("ignored", "u1", _BITS // 8)])
_SORTED = 1 << 16  # records sorted at once
_STEP = 2048  # records counted at once


def score_boxes(truth: Blocks, found: Blocks, names: list[str], folder: Path | None = None) -> dict[str, Any]:
    """COCO scores (0..1; None where there is no truth of that size), per class AP, and PR curves at IoU 0.5.

    Args:
        truth: (N, >=7) rows image id, index into ``names``, x, y, w, h, ignore 0/1.
        found: (M, 7) rows image id, index into ``names``, x, y, w, h, score.
        names: the classes.
        folder: where records are kept meanwhile; default: the system's temporary folder.

    Returns:
        The summary, and the same with all classes taken for one under ``any_class``.
    """
    with tempfile.TemporaryDirectory(prefix=".records", dir=folder) as scratch:
        tallies = [_Tally(Path(scratch)) for _ in names]
        together = _Tally(Path(scratch))
        objects = boxes = crowds = 0
        for _, true, seen in frames_of_both(truth, found):
            boxes += len(seen)
            crowds += int((true[:, 6] != 0).sum())
            objects += int((true[:, 6] == 0).sum())
            _add_frame(true, seen, tallies, together)
        scores: dict[str, Any] = {"objects": objects, "detections": boxes}
        if not objects + crowds:
            return {**scores, "note": "no objects in the truth"}
        tables = [t.finish() for t in tallies]
        scores.update(_summary(tables))
        scores["per_class"] = {n: _mean([t.precision[:, :, 0]]) for n, t in zip(names, tables, strict=True)}
        scores["pr_curve"] = {n: _curve(t) for n, t in zip(names, tables, strict=True) if t.objects[0]}
        whole = together.finish()
        scores["any_class"] = {**_summary([whole]), "pr_curve": _curve(whole)}
    return scores


def _add_frame(truth: F64, found: F64, tallies: list[_Tally], together: _Tally) -> None:
    """Match one frame's boxes, within their classes and all for one; ties are taken in COCO's order, class by class."""
    truth, found = (rows[np.argsort(rows[:, 1], kind="stable")] for rows in (truth, found))
    found = found[np.argsort(-found[:, 6], kind="stable")]
    crowd = truth[:, 6] != 0
    overlap = _overlap(found[:, 2:6], truth[:, 2:6], crowd)
    out_true, out_found = _outside(truth), _outside(found)
    most = MAX_FOUND[-1]
    skip = out_true | crowd[:, None]
    together.add(skip, found[:most, 6], *_match(crowd, skip, out_found[:most], overlap[:most]))
    kinds, counts = np.unique(np.concatenate([found[:, 1], truth[:, 1]]), return_counts=True)
    keep = np.ones(len(found), bool)
    for kind in kinds[counts > most]:
        keep[np.flatnonzero(found[:, 1] == kind)[most:]] = False
    found = found[keep]
    same = found[:, 1:2] == truth[None, :, 1]
    matched, ignored = _match(crowd, skip, out_found[keep], np.where(same, overlap[keep], 0.0))
    for kind in kinds.astype(int):
        mine = found[:, 1] == kind
        tallies[kind].add(skip[truth[:, 1] == kind], found[mine, 6], matched[mine], ignored[mine])


@dataclass(frozen=True)
class _Accumulated:
    """Of one class: precision (thresholds, recalls, areas), recall (thresholds, areas, max found); -1 = no truth."""

    precision: F64
    recall: F64
    objects: tuple[int, ...]


class _Tally:
    """What became of every box of one class."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._records = Table(folder, _RECORD)
        self._objects = np.zeros(len(AREAS), np.int64)

    def add(self, skip: Bool, score: F64, matched: Bool, ignored: Bool) -> None:
        """One frame: (G, areas) which objects do not count; of its boxes, best first, the score, and (D, areas,
        thresholds) whether each is right and whether it is not to count."""
        self._objects += (~skip).sum(axis=0)
        records = np.zeros(len(score), _RECORD)
        records["score"], records["rank"] = score, np.arange(len(score))
        records["matched"] = np.packbits(matched.reshape(-1, _BITS), axis=1)
        records["ignored"] = np.packbits(ignored.reshape(-1, _BITS), axis=1)
        self._records.append(records)

    def finish(self) -> _Accumulated:
        """Precision and recall as the score falls; precision at a recall is the best from there on."""
        shape = len(AREAS), len(THRESHOLDS)
        hits, wrong = np.zeros(shape), np.zeros(shape)
        first_hits = np.zeros((len(MAX_FOUND), *shape))
        best = np.zeros((*shape, len(RECALLS)))
        counted = [k for k, n in enumerate(self._objects) if n]
        for piece in _descending(self._records, self._folder):
            for part in np.split(piece, range(_STEP, len(piece), _STEP)):
                matched, ignored = (np.unpackbits(part[name], axis=1).reshape(-1, *shape).astype(bool)
                                    for name in ("matched", "ignored"))
                right, false = matched & ~ignored, ~matched & ~ignored
                for m, most in enumerate(MAX_FOUND):
                    first_hits[m] += right[part["rank"] < most].sum(axis=0)
                for k in counted:
                    up, down = hits[k] + np.cumsum(right[:, k], axis=0), wrong[k] + np.cumsum(false[:, k], axis=0)
                    best[k] = np.maximum(best[k], _precision_from(up / self._objects[k],
                                                                  up / (up + down + np.spacing(1))))
                    hits[k], wrong[k] = up[-1], down[-1]
        precision = np.full((len(THRESHOLDS), len(RECALLS), len(AREAS)), -1.0)
        recall = np.full((len(THRESHOLDS), len(AREAS), len(MAX_FOUND)), -1.0)
        for k in counted:
            precision[:, :, k] = best[k]
            recall[:, k] = first_hits[:, k].T / self._objects[k]
        return _Accumulated(precision, recall, tuple(self._objects.tolist()))


def _precision_from(recall: F64, precision: F64) -> F64:
    """(thresholds, 101) best precision of the (N, thresholds) given whose recall is at least ``RECALLS``, else 0."""
    out = np.zeros((len(THRESHOLDS), len(RECALLS)))
    best = np.maximum.accumulate(precision[::-1])[::-1]
    for t in range(len(THRESHOLDS)):
        at = np.searchsorted(recall[:, t], RECALLS, side="left")
        known = at < len(recall)
        out[t, known] = best[at[known], t]
    return out


def _descending(records: Table, folder: Path) -> Iterator[NDArray[Any]]:
    """Records by falling score, equal ones as they came, in pieces: a bucket sort on disk."""
    if not len(records):
        return
    if len(records) <= _SORTED:
        rows = records.rows()
        yield rows[np.argsort(-rows["score"], kind="stable")]
        return
    sample = np.concatenate([piece["score"][::64].copy() for piece in records])
    edges = np.unique(np.quantile(sample, np.linspace(0, 1, 9), method="nearest"))
    buckets = [Table(folder, _RECORD) for _ in range(2 * len(edges) + 1)]  # even: between two edges, odd: on an edge
    for piece in records:
        place = sum(np.searchsorted(edges, piece["score"], side=side) for side in ("left", "right"))
        for k in np.unique(place):
            buckets[k].append(piece[place == k])
    for bucket in buckets:
        bucket.flush()
    for k in reversed(range(len(buckets))):
        yield from buckets[k] if k % 2 else _descending(buckets[k], folder)
        buckets[k].close()


def _match(crowd: Bool, skip: Bool, outside: Bool, overlap: F64) -> tuple[Bool, Bool]:
    """(D, areas, thresholds) whether each box, best first, takes an object, and whether it is not to be counted.

    ``crowd`` (G,) objects that any number of boxes may take, ``skip`` (G, areas) those that do not count, ``outside``
    (D, areas) boxes of another size, ``overlap`` (D, G).
    """
    matched = np.zeros((*outside.shape, len(THRESHOLDS)), bool)
    ignored = np.repeat(outside[:, :, None], len(THRESHOLDS), axis=2)
    if not overlap.size:
        return matched, ignored
    near = overlap >= THRESHOLDS[0]
    alone = near & (near.sum(axis=1) == 1)[:, None] & (near.sum(axis=0) == 1)[None]  # pairs no other box contests
    rows, g = np.nonzero(alone)
    hit = overlap[rows, g, None, None] >= np.minimum(THRESHOLDS, 1 - 1e-10)
    matched[rows], ignored[rows] = hit, np.where(hit, skip[g][:, :, None], ignored[rows])
    skip = skip.T[:, None, :]  # (areas, 1, G)
    taken = np.zeros((len(AREAS), len(THRESHOLDS), len(crowd)), bool)
    area_index, threshold_index = np.indices(taken.shape[:2])
    for d in np.flatnonzero(near.any(axis=1) & ~alone.any(axis=1)):
        g = np.flatnonzero(near[d])[::-1]  # candidates, the last first: of equals it wins, as in COCO's loop
        share = overlap[d, g]
        free = (share >= np.minimum(THRESHOLDS, 1 - 1e-10)[:, None]) & (crowd[g] | ~taken[:, :, g])
        worth = np.where(free, share + np.where(skip[:, :, g], 0.0, 2.0), -1.0)  # those that count come first
        best = g[worth.argmax(axis=2)]
        hit = worth.max(axis=2) >= 0
        matched[d] = hit
        ignored[d] = np.where(hit, skip[area_index, 0, best], ignored[d])
        taken[area_index[hit], threshold_index[hit], best[hit]] = True
    return matched, ignored


def _overlap(a: F64, b: F64, crowd: Bool) -> F64:
    """IoU of (D, 4) and (G, 4) xywh boxes; over a crowd region, the share of the box inside it."""
    sides = [np.minimum((a[:, i] + a[:, i + 2])[:, None], b[:, i] + b[:, i + 2]) - np.maximum(a[:, i, None], b[:, i])
             for i in (0, 1)]
    inter = np.clip(sides[0], 0, None) * np.clip(sides[1], 0, None)
    area_a, area_b = a[:, 2:].prod(axis=1)[:, None], b[:, 2:].prod(axis=1)[None]
    whole = np.where(crowd, area_a, area_a + area_b - inter)
    return np.asarray(inter / np.where(whole > 0, whole, 1))


def _outside(rows: F64) -> Bool:
    """(N, areas) boxes of another size."""
    size = np.round(rows[:, 4:5] * rows[:, 5:6], 6)
    low, high = np.array(AREAS).T
    return np.asarray((size < low) | (size > high))


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
