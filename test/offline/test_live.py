"""A flight beside the offline evaluation of its bag: stamps are matched, and what is missing is counted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest_scene import PERIOD_NS, START_NS, scene

from uav_perception.config import EvaluateConfig, FlightConfig
from uav_perception.errors import BagError, InputError
from uav_perception.offline import messages as msg
from uav_perception.offline.bags import BagWriter
from uav_perception.offline.evaluate import Options, evaluate_recording
from uav_perception.offline.live import compare_live

SHIFT_NS = 987_654_321_012


@pytest.fixture(scope="module")
def evaluated(scene_bag: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("offline")
    evaluate_recording(scene_bag, out, FlightConfig(), EvaluateConfig(), Options(stages=("tracker",), target="none"))
    return out


def flight(path: Path, shift_ns: int, every: int = 1) -> Path:
    with BagWriter(path) as bag:
        for i in range(0, 16, every):
            ns = START_NS + i * PERIOD_NS + shift_ns
            boxes = scene(i)[1]
            bag.write("/detections", msg.boxes(boxes, ["", ""], ["car", "bus"], [0.9, 0.9], ns, "c"), ns + 10**7)
            bag.write("/tracks", msg.boxes(boxes, ["1", "2"], ["car", "bus"], [0.9, 0.9], ns, "c"), ns + 10**7)
    return path


@pytest.mark.parametrize("shift_ns", [0, SHIFT_NS, -SHIFT_NS])
def test_frames_are_matched_whatever_the_clock(evaluated: Path, tmp_path: Path, shift_ns: int) -> None:
    said = compare_live(evaluated, flight(tmp_path / "f", shift_ns, every=2), np.eye(4))
    rows = {r["what"]: (r["offline"], r["live"]) for r in said["rows"]}
    assert said["shift_ns"] == shift_ns and rows["frames with detections"] == (16, 8)
    assert rows["frames with tracks published"] == (16, 8)
    assert rows["HOTA"][1] == pytest.approx(0.5, abs=0.2) and rows["IDSW"][1] == 0
    assert rows["live track boxes that offline has too (IoU 0.5)"][1] > 0.8


def test_reports_of_the_flight_are_taken_in(evaluated: Path, tmp_path: Path) -> None:
    report = {"latency_ms": {"tracker": {"p95": 12.5}}, "dropped": {"tracker": 3}}
    (tmp_path / "report.json").write_text(json.dumps(report))
    rows = {r["what"]: r["live"] for r in compare_live(evaluated, flight(tmp_path / "f.mcap", 0), np.eye(4))["rows"]}
    assert rows["tracker p95, ms (offline: work, live: age)"] == 12.5 and rows["tracker: frames dropped"] == 3


def test_another_flight_is_refused(evaluated: Path, tmp_path: Path, scene_bag: Path) -> None:
    with BagWriter(tmp_path / "f") as bag:
        for i in range(16):
            ns = START_NS + i * 41_000_000
            bag.write("/tracks", msg.boxes(np.zeros((0, 4)), [], [], [], ns, "c"), ns)
    with pytest.raises(InputError, match="flight of the same bag"):
        compare_live(evaluated, tmp_path / "f", np.eye(4))
    with BagWriter(tmp_path / "g") as bag:
        bag.write("/truth/pose", msg.pose_stamped(np.zeros(3), np.array([1.0, 0, 0, 0]), 5), 5)
    with pytest.raises(BagError, match="record it with `fly`"):
        compare_live(evaluated, tmp_path / "g", np.eye(4))
