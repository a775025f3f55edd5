"""Rows on disk, walked through frame by frame, and what a longer recording costs in memory: next to nothing."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from uav_perception.config import EvaluateConfig, FlightConfig
from uav_perception.offline import exports, rows
from uav_perception.offline.metrics import detection, tracking
from uav_perception.offline.metrics.detection import score_boxes
from uav_perception.offline.rows import BLOCK, Changed, Table, by_frame, frames_of_both
from uav_perception.offline.scoring import Scorer
from uav_perception.offline.stages import Followed
from uav_perception.offline.truth import BoxTruth, NoTruth
from uav_perception.pipeline import FrameResult
from uav_perception.records import Detections, Frame, TargetStatus, Track, TrackState

NAMES = ("car", "bus", "person")


def frame_rows(frames: int, most: int, seed: int = 0) -> np.ndarray:
    """Rows of frames 1, 2, ... with up to ``most`` rows each (some with none), numbered in the second column."""
    counts = np.random.default_rng(seed).integers(0, most + 1, frames)
    number = np.repeat(np.arange(1.0, frames + 1), counts)
    return np.column_stack([number, np.arange(len(number))])


def table_of(numbers: np.ndarray, folder: Path) -> Table:
    table = Table(folder, numbers.shape[1])
    for part in np.array_split(numbers, 50):
        table.append(part)
    return table


def test_rows_come_back_in_order_and_in_pieces(tmp_path: Path) -> None:
    numbers = frame_rows(500, 40)
    table = table_of(numbers, tmp_path)
    assert len(table) == len(numbers) > BLOCK and np.array_equal(table.rows(), numbers)
    assert max(map(len, table)) == BLOCK and len(list(table)) == -(-len(numbers) // BLOCK)
    table.add(501, 7)
    assert np.array_equal(table.rows()[-1], [501, 7])
    assert np.array_equal(np.concatenate(list(Changed(table, lambda r: r[r[:, 0] < 9]))), numbers[numbers[:, 0] < 9])
    with pytest.raises(ValueError, match="shape"):
        table.add(1, 2, 3)


def test_frames_are_whole_however_the_pieces_fall(tmp_path: Path) -> None:
    numbers = frame_rows(900, 12)
    walked = list(by_frame(table_of(numbers, tmp_path)))
    assert [n for n, _ in walked] == np.unique(numbers[:, 0]).tolist()
    assert all(np.array_equal(part, numbers[numbers[:, 0] == n]) for n, part in walked)


def test_two_tables_are_walked_through_together(tmp_path: Path) -> None:
    a, b = frame_rows(60, 2, 1), frame_rows(80, 2, 2)
    seen = list(frames_of_both(table_of(a, tmp_path), b[::-1]))  # arrays need no order
    assert [n for n, _, _ in seen] == np.union1d(a[:, 0], b[:, 0]).tolist()
    assert all(len(x) == (a[:, 0] == n).sum() and len(y) == (b[:, 0] == n).sum() for n, x, y in seen)
    assert [x.shape[1] for _, _, x in frames_of_both(a, np.zeros((0, 7)))] == [8] * len(np.unique(a[:, 0]))


def test_a_sort_that_does_not_fit_in_memory_gives_the_same_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    n = 4000
    found = np.column_stack([rng.integers(1, 300, n), rng.integers(0, 3, n), rng.uniform(0, 300, (n, 2)),
                             rng.uniform(5, 90, (n, 2)), np.where(rng.random(n) < 0.4, 0.5, rng.random(n).round(3))])
    truth = np.column_stack([found[::3, :6] + rng.normal(0, 1, (len(found[::3]), 6)) * [0, 0, 1, 1, 1, 1],
                             np.zeros(len(found[::3]))])
    whole = score_boxes(truth, found, list(NAMES))
    monkeypatch.setattr(detection, "_SORTED", 100)
    monkeypatch.setattr(detection, "_STEP", 37)
    assert score_boxes(truth, found, list(NAMES)) == whole and 0.1 < whole["AP"] < 0.9


def follow(i: int) -> Followed:
    """A frame of a crowd: 8 objects in slow motion, all detected and tracked, and 40 false detections."""
    stamp_ns = 10**18 + i * 33_333_333
    corner = np.stack([np.arange(8) * 60.0, np.full(8, 50.0)], axis=1) + i % 10
    boxes = np.hstack([corner, corner + 40])
    false = np.random.default_rng(i).uniform(400, 900, (40, 2))
    found = np.vstack([boxes + 1, np.hstack([false, false + 30])]).astype(np.float32)
    kinds = (np.arange(48) % 3).astype(np.int32)
    detections = Detections(stamp_ns, found, np.linspace(0.9, 0.01, 48, dtype=np.float32), kinds)
    tracks = Track.many(stamp_ns, np.arange(8), [TrackState.TRACKED] * 8, boxes, np.zeros((8, 2)), np.ones(8),
                        kinds[:8], np.full(8, stamp_ns), "camera")
    truth = BoxTruth(boxes, [str(k) for k in range(8)], [NAMES[k % 3] for k in range(8)], np.ones(8))
    frame = Frame(i, stamp_ns, np.zeros((64, 64, 3), np.uint8))
    result = FrameResult(frame, detections, tracks, TargetStatus(stamp_ns, "NONE", None, 0.0, 0, ""), None, {})
    return Followed(result, detections, truth, NAMES, None, False)


def test_a_longer_recording_needs_no_more_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((rows, "BLOCK"), (exports, "BLOCK"), (detection, "_SORTED"), (detection, "_STEP"),
                         (tracking, "_FOLD")):
        monkeypatch.setattr(module, name, 50)  # so that a few frames are more than is held at once

    def peak(frames: int) -> int:
        out = tmp_path / str(frames)
        (out / "scratch").mkdir(parents=True)
        tracemalloc.start()
        try:
            scorer = Scorer(out, out / "scratch", FlightConfig(), EvaluateConfig(worst_frames=0), (), True)
            for i in range(frames):
                scorer.add(follow(i), None)
            scores = scorer.finish(NoTruth(), None)["scores"]
            assert scores["detection"]["AR100"] > 0.5 and scores["tracking"]["HOTA"] > 0.9
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(96) < peak(32) + 40_000  # bytes: a tenth of the rows of 64 frames
