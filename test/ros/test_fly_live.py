"""`fly` as a person runs it: report, bag and film; a killed process comes back; bad input is one line and exit 2."""

from __future__ import annotations

import json
import os
import signal
import time

import cv2
import pytest

from uav_perception.ros import graph


@pytest.fixture(scope="module")
def params(tmp_path_factory, model, calibration):
    file = tmp_path_factory.mktemp("params") / "flight.yaml"
    return graph.write_overrides({
        "camera": {"fps": 15.0, "calibration": str(calibration)},
        "detector": {"model": str(model), "family": "end2end", "classes": ["car", "person"]}}, file)


def fly(processes, out, *words):
    return processes.start("cli.main", "fly", "--out", str(out), *map(str, words))


@pytest.fixture(scope="module")
def flown(processes, pictures, params, tmp_path_factory):
    out = tmp_path_factory.mktemp("flown")
    process = fly(processes, out, "--source", pictures, "--params", params, "--json")
    assert process.wait(90) == 0, process.log.read_text()
    return out, process.log.read_text()


def test_report_counts_everything(flown):
    out, text = flown
    report = json.loads((out / "report.json").read_text())
    assert json.loads(text.splitlines()[-1]) == report
    assert report["ended"] == "source ended"
    counts = report["counts"]
    assert set(counts) == {"frames", "detections", "tracks", "odometry", "mavlink"}
    assert all(n > 0 for n in counts.values())
    assert counts["frames"] <= 60 and counts["detections"] <= 2 * counts["frames"] and counts["tracks"] >= 2
    assert {"p50", "p95", "p99"} == set(report["latency_ms"]["detector"])
    assert set(report["dropped"]) >= {"camera", "detector", "tracker", "depth_pose", "flight_link"}
    assert {"name", "backend", "precision", "why"} == set(report["engines"]["detector"])
    assert report["mavlink"]["heard_on_loopback"] == counts["mavlink"]
    assert set(report["exit_codes"].values()) == {0} and not any(report["restarts"].values())
    page = (out / "report.html").read_text()
    assert "<img src=\"data:image/jpeg" in page and str(counts["frames"]) in page


def test_bag_is_read_by_others(flown):
    from pathlib import Path

    from rosbags.highlevel import AnyReader

    out, _ = flown
    for path in (out / "flight.mcap", out):  # the file alone, and the folder with its metadata
        with AnyReader([Path(path)]) as bag:
            kinds = {c.topic: c.msgtype for c in bag.connections if c.msgcount}
            assert kinds["/detections"] == "vision_msgs/msg/Detection2DArray"
            assert {"/image/compressed", "/camera_info", "/tracks", "/target/status", "/odometry"} <= set(kinds)
            images, boxes = set(), []
            for connection, _, data in bag.messages():
                if connection.topic in ("/image/compressed", "/detections"):
                    message = bag.deserialize(data, connection.msgtype)
                    stamp = (message.header.stamp.sec, message.header.stamp.nanosec)
                    if connection.topic == "/detections":
                        boxes.append((stamp, len(message.detections)))
                    else:
                        images.add(stamp)
            assert len(boxes) > 10 and all(n == 2 for _, n in boxes)
            assert sum(stamp in images for stamp, _ in boxes) >= 0.9 * len(boxes)


def test_film_shows_the_flight(flown):
    film = cv2.VideoCapture(str(flown[0] / "overlay.mp4"))
    good, picture = film.read()
    assert good and picture.shape == (240, 320, 3) and picture.std() > 10
    assert film.get(cv2.CAP_PROP_FRAME_COUNT) >= 10


def test_killed_perception_is_started_again_and_counts_go_on(processes, pictures, params, tmp_path):
    looped = tmp_path / "looped.yaml"
    looped.write_text(params.read_text().replace("fps: 15.0", "fps: 15.0\n    loop: true"))
    process = fly(processes, tmp_path, "--source", pictures, "--params", looped, "--no-record", "--json")

    def children():
        found = {}
        for entry in os.listdir("/proc"):
            try:
                with open(f"/proc/{entry}/stat") as f:
                    parent = int(f.read().rsplit(")", 1)[1].split()[1])
                if parent == process.pid:
                    with open(f"/proc/{entry}/cmdline") as f:
                        found[f.read().split("\0")[2].rsplit(".", 1)[-1]] = int(entry)
            except (OSError, ValueError, IndexError):
                continue
        return found

    def until(done, seconds=40):
        end = time.monotonic() + seconds
        while not done() and time.monotonic() < end:
            time.sleep(0.2)
        return done()

    assert until(lambda: "camera " in process.log.read_text()), process.log.read_text()
    os.kill(children()["container"], signal.SIGKILL)
    assert until(lambda: "perception: started again (restart 1)" in process.log.read_text())
    again = process.log.read_text().index("started again")
    assert until(lambda: "camera " in process.log.read_text()[again:])
    time.sleep(1.0)
    code, text = processes.end(process, signal.SIGINT, 4.0)
    assert code == 0 and "Traceback" not in text, text
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["restarts"]["perception"] == 1
    assert any("SIGKILL" in e and "freed" in e for e in report["events"]), report["events"]  # its shared memory too
    assert report["ended"] == "interrupted" and report["counts"]["frames"] > 0
    assert not children()


@pytest.mark.parametrize("words,said", [
    (["--detector", "/no/such/model.onnx"], "model.onnx"), (["--source", "/no/such/video.mp4"], "video.mp4"),
    (["--duration", "-1"], "--duration"), (["--params", "/no/such.yaml"], "such.yaml"),
    (["--fc", "nonsense"], "nonsense"),
    (["--out", "/proc/nowhere"], "/proc/nowhere")])
def test_bad_input_is_one_line(processes, pictures, tmp_path, words, said):
    given = words if "--source" in words else [*words, "--source", str(pictures)]
    process = fly(processes, tmp_path, *given) if "--out" not in words else processes.start("cli.main", "fly", *given)
    assert process.wait(40) == 2, process.log.read_text()
    lines = process.log.read_text().strip().splitlines()
    assert len(lines) == 1 and said in lines[0] and "expected" in lines[0]
