"""The frames shown first: the worst ones, each from another moment."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np

from uav_perception.config import EvaluateConfig
from uav_perception.offline.worst import WorstFrames
from uav_perception.pipeline import FrameResult
from uav_perception.records import Frame, TargetStatus


def result(seq: int, stamp_s: float) -> FrameResult:
    frame = Frame(seq, round(stamp_s * 1e9), np.zeros((48, 64, 3), np.uint8))
    return FrameResult(frame, None, (), TargetStatus(frame.stamp_ns, "NONE", None, 0.0, 0), None, {})


def test_the_worst_frames_are_shown_each_of_another_second(tmp_path: Path) -> None:
    worst = WorstFrames(EvaluateConfig(worst_frames=3))
    for seq in range(120):  # 10 Hz; every 30th frame is bad, its neighbours a little less
        badness = 10.0 * (seq // 30) + 5.0 - abs(seq % 30 - 15) / 10
        worst.offer("detection", badness, "", result(seq, seq / 10), None)
    worst.offer("depth", 0.0, "", result(0, 0.0), None)  # nothing wrong
    listed = worst.write(tmp_path / "worst")
    seqs = [w["seq"] for w in listed]
    assert len(seqs) == 3 and seqs[0] == 105  # the worst of all
    assert all(abs(a - b) >= 10 for a, b in combinations(seqs, 2))
    assert all((tmp_path / w["file"]).is_file() for w in listed)
