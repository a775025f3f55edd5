"""HOTA, MOTA and IDF1 of boxes in MOTChallenge order (class-agnostic), walked through frame by frame.

HOTA: Luiten et al., IJCV 2020; CLEAR MOT: Bernardin and Stiefelhagen, 2008; IDF1: Ristani et al., 2016; conventions of
trackeval, which holds every frame's boxes and a table of every pair of identities. Here only pairs that ever meet are
kept, so hours of video can be scored. ``evaluate --verify`` and the tests compare both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from ...geometry import box_iou
from ..rows import Blocks, frames_of_both, pieces

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
ALPHAS: F64 = np.arange(0.05, 0.99, 0.05)  # HOTA's thresholds of overlap
MATCH = 0.5  # threshold of MOTA and IDF1
EPSILON = float(np.finfo(np.float64).eps)
SHOWN = ("HOTA", "DetA", "AssA", "LocA", "MOTA", "MOTP", "IDSW", "MT", "ML", "Frag", "CLR_FP", "CLR_FN", "IDF1", "IDP",
         "IDR")
_FOLD = 1 << 16  # sums of pairs are folded together when so many wait


def read_mot(path: Path) -> F64:
    """Rows of a MOTChallenge file: frame, id, x, y, w, h, confidence ... (comma separated)."""
    rows = [[float(v) for v in line.split(",")[:9]] for line in path.read_text().splitlines() if line.strip()]
    return np.array([r + [1.0] * (9 - len(r)) for r in rows]).reshape(-1, 9)


def score_tracks(truth: Blocks, tracks: Blocks) -> dict[str, Any]:
    """Counts of one sequence (``summary`` and ``combine`` make scores of them): numbers, and lists over ``ALPHAS``.

    Args:
        truth: (N, >=7) rows frame, id, x, y, w, h, confidence (0 = not to be scored).
        tracks: (M, >=6) rows of the same order.
    """
    frames = _Frames(truth, tracks)
    clear, identity, aligned = _Clear(len(frames.objects)), _PairSums(), _PairSums()
    for a, b, overlap in frames:
        clear.frame(a, b, overlap)
        near = overlap >= MATCH
        identity.add(frames.pairs(a, b)[near], np.ones(np.count_nonzero(near)))
        near = overlap > 0
        either = overlap.sum(axis=1)[:, None] + overlap.sum(axis=0) - overlap
        aligned.add(frames.pairs(a, b)[near], overlap[near] / either[near])
    return {**_hota(frames, aligned), **clear.counts(frames.seen[0]), **_identity(frames, identity)}


def combine(results: Mapping[Any, Mapping[str, Any]]) -> dict[str, Any]:
    """The counts of many sequences, summed, as the metrics' authors do."""
    first, *others = results.values()
    return {k: np.sum([np.asarray(r[k]) for r in (first, *others)], axis=0).tolist() for k in first}


def summary(counts: Mapping[str, Any]) -> dict[str, float]:
    """The numbers people quote, 0..1 and counts; HOTA averaged over its thresholds."""
    c = {k: np.asarray(v, np.float64) for k, v in counts.items()}
    right = c["CLR_TP"] - c["CLR_FP"] - c["IDSW"]
    values = {**c, **curves(counts), "MOTA": right / np.maximum(1, c["CLR_TP"] + c["CLR_FN"]),
              "MOTP": c["MOTP_sum"] / np.maximum(1, c["CLR_TP"]),
              "IDF1": c["IDTP"] / np.maximum(1, c["IDTP"] + 0.5 * (c["IDFP"] + c["IDFN"])),
              "IDP": c["IDTP"] / np.maximum(1, c["IDTP"] + c["IDFP"]),
              "IDR": c["IDTP"] / np.maximum(1, c["IDTP"] + c["IDFN"])}
    return {k: float(np.mean(values[k])) for k in SHOWN}


def curves(counts: Mapping[str, Any]) -> dict[str, F64]:
    """HOTA and its parts at every threshold of ``ALPHAS``."""
    c = {k: np.asarray(v, np.float64) for k, v in counts.items()}
    hits = c["HOTA_TP"]
    detection = hits / np.maximum(1, hits + c["HOTA_FN"] + c["HOTA_FP"])
    association = c["AssA_sum"] / np.maximum(1, hits)
    place = np.maximum(1e-10, c["LocA_sum"]) / np.maximum(1e-10, hits)
    return {"HOTA": np.sqrt(detection * association), "DetA": detection, "AssA": association, "LocA": place}


class _Frames:
    """Walks through the frames that have boxes: places in ``objects`` and ``tracks`` (ids), and overlaps (A, B)."""

    def __init__(self, truth: Blocks, tracks: Blocks) -> None:
        self._truth, self._tracks = truth, tracks
        self.objects, objects_seen = _distinct(truth, scored=True)
        self.tracks, tracks_seen = _distinct(tracks, scored=False)
        self.seen = objects_seen, tracks_seen  # frames of every identity

    def __iter__(self) -> Iterator[tuple[I64, I64, F64]]:
        for _, truth, tracks in frames_of_both(self._truth, self._tracks):
            truth = truth[truth[:, 6] != 0]
            a, b = np.searchsorted(self.objects, truth[:, 1]), np.searchsorted(self.tracks, tracks[:, 1])
            yield a, b, box_iou(_corners(truth), _corners(tracks))

    def pairs(self, a: I64, b: I64) -> I64:
        """(A, B) numbers of pairs of identities."""
        return np.asarray(a[:, None] * len(self.tracks) + b)


def _corners(rows: F64) -> F64:
    return np.hstack([rows[:, 2:4], rows[:, 2:4] + rows[:, 4:6]])


def _distinct(rows: Blocks, scored: bool) -> tuple[F64, I64]:
    """The identities, ascending, and how many boxes each has."""
    sums = _PairSums()
    names: F64 = np.zeros(0)
    for piece in pieces(rows):
        names = np.union1d(names, piece[piece[:, 6] != 0, 1] if scored else piece[:, 1])
    for piece in pieces(rows):
        kept = piece[piece[:, 6] != 0, 1] if scored else piece[:, 1]
        sums.add(np.searchsorted(names, kept), np.ones(len(kept)))
    return names, sums.fold()[1].astype(np.int64)


class _PairSums:
    """A sum for every number that was ever added to, in the order of adding."""

    def __init__(self) -> None:
        self._keys: list[I64] = [np.zeros(0, np.int64)]
        self._values: list[F64] = [np.zeros(0)]
        self._waiting = 0

    def add(self, keys: NDArray[Any], values: F64) -> None:
        self._keys.append(keys)
        self._values.append(values)
        self._waiting += len(keys)
        if self._waiting > _FOLD:
            self.fold()

    def fold(self) -> tuple[I64, F64]:
        """The numbers, ascending, and their sums."""
        keys, place = np.unique(np.concatenate(self._keys), return_inverse=True)
        sums = np.bincount(place, np.concatenate(self._values), len(keys)).astype(np.float64)
        self._keys, self._values, self._waiting = [keys], [sums], 0
        return keys, sums


@dataclass
class _Clear:
    """CLEAR MOT: who is matched keeps its track while the two overlap; counted frame by frame."""

    objects: int
    hits: int = 0
    misses: int = 0
    false: int = 0
    switches: int = 0
    overlap: float = 0.0
    _last: I64 = field(init=False)  # track each object was last matched with, -1 = never
    _now: I64 = field(init=False)  # the same in the last frame with boxes of both kinds
    _matched: I64 = field(init=False)  # frames each object was matched in
    _runs: I64 = field(init=False)  # and how often that began

    def __post_init__(self) -> None:
        self._last, self._now = np.full(self.objects, -1), np.full(self.objects, -1)
        self._matched, self._runs = np.zeros(self.objects, np.int64), np.zeros(self.objects, np.int64)

    def frame(self, a: I64, b: I64, overlap: F64) -> None:
        """One frame of objects ``a`` and tracks ``b``."""
        hits = 0
        if len(a) and len(b):
            worth = np.where(overlap >= MATCH - EPSILON, overlap + 1000.0 * (self._now[a][:, None] == b), 0.0)
            rows, columns = linear_sum_assignment(-worth)
            good = worth[rows, columns] > EPSILON
            rows, columns = rows[good], columns[good]
            who, track, hits = a[rows], b[columns], len(rows)
            self.switches += int(((self._last[who] >= 0) & (self._last[who] != track)).sum())
            self._matched[who] += 1
            self._runs[who] += self._now[who] < 0
            self._now[:] = -1
            self._last[who] = self._now[who] = track
            self.overlap += float(overlap[rows, columns].sum())
        self.hits += hits
        self.misses += len(a) - hits
        self.false += len(b) - hits

    def counts(self, frames: I64) -> dict[str, float]:
        """Sums, given in how many frames each object was."""
        share = self._matched / np.maximum(1, frames)
        most, few = int((share > 0.8).sum()), int((share < 0.2).sum())
        return {"CLR_TP": self.hits, "CLR_FN": self.misses, "CLR_FP": self.false, "IDSW": self.switches, "MT": most,
                "ML": few, "Frag": int((self._runs - 1).clip(0).sum()), "MOTP_sum": self.overlap}


def _identity(frames: _Frames, together: _PairSums) -> dict[str, int]:
    """The one-to-one pairing of whole identities under which most boxes are right."""
    keys, boxes = together.fold()
    objects, columns = len(frames.objects), len(frames.tracks)
    right = 0
    if len(keys):  # every object may also stay alone; a weight of one more for all, since zeros are no pairs
        alone = np.arange(objects)
        rows = np.concatenate([keys // columns, alone])
        to = np.concatenate([keys % columns, columns + alone])
        weight = np.concatenate([boxes + 1, np.ones(objects)])
        table = coo_array((weight, (rows, to)), shape=(objects, columns + objects)).tocsr()
        right = round(float(table[min_weight_full_bipartite_matching(table, maximize=True)].sum())) - objects
    truth, found = (int(seen.sum()) for seen in frames.seen)
    return {"IDTP": right, "IDFN": truth - right, "IDFP": found - right}


def _hota(frames: _Frames, aligned: _PairSums) -> dict[str, list[float]]:
    """Boxes are matched where whole identities agree; every threshold takes those matches that overlap as much."""
    pairs, jaccard = aligned.fold()
    columns, levels = max(1, len(frames.tracks)), len(ALPHAS) + 1
    seen = frames.seen[0][pairs // columns] + frames.seen[1][pairs % columns]
    jaccard = jaccard / (seen - jaccard)
    matched, place = _PairSums(), np.zeros(levels)
    for a, b, overlap in frames:
        at = np.nonzero(overlap > 0)
        worth = np.zeros(overlap.shape)
        worth[at] = jaccard[np.searchsorted(pairs, frames.pairs(a, b)[at])] * overlap[at]
        rows, to = linear_sum_assignment(-worth)
        level = np.searchsorted(ALPHAS - EPSILON, overlap[rows, to], side="right")  # thresholds this match reaches
        matched.add(((a[rows] * columns + b[to]) * levels + level)[level > 0], np.ones(np.count_nonzero(level)))
        place += np.bincount(level, overlap[rows, to], levels)
    keys, boxes = matched.fold()
    pair, first = np.unique(keys // levels, return_inverse=True)
    table = np.zeros((len(pair), levels))
    table[first, keys % levels] = boxes
    table = np.cumsum(table[:, ::-1], axis=1)[:, ::-1][:, 1:]  # (pairs, alphas) boxes matched
    either = (frames.seen[0][pair // columns] + frames.seen[1][pair % columns])[:, None] - table
    hits = table.sum(axis=0)
    truth, found = (int(seen.sum()) for seen in frames.seen)
    return {"HOTA_TP": hits.tolist(), "HOTA_FN": (truth - hits).tolist(), "HOTA_FP": (found - hits).tolist(),
            "LocA_sum": np.cumsum(place[::-1])[::-1][1:].tolist(),
            "AssA_sum": (table * table / np.maximum(1, either)).sum(axis=0).tolist()}
