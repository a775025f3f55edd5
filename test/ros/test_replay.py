"""A bag played into the graph: its camera comes out under the graph's names, at its own stamps, with /clock."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uav_perception.errors import InputError
from uav_perception.offline import messages as msg
from uav_perception.offline.bags import BagWriter
from uav_perception.records import CameraModel

rclpy = pytest.importorskip("rclpy")

START_NS, PERIOD_NS, FRAMES = 1_700_000_000_000_000_000, 33_333_333, 24


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("replay") / "flight"
    camera = CameraModel(np.diag([60.0, 60.0, 1.0]), np.zeros(5), 64, 48)
    with BagWriter(path) as writer:
        for i in range(FRAMES):
            ns = START_NS + i * PERIOD_NS
            writer.write("/nose/image_raw", msg.raw_image(np.full((48, 64, 3), i, np.uint8), "bgr8", ns, "nose"), ns)
            writer.write("/nose/camera_info", msg.camera_info(camera, ns), ns)
            writer.write("/detections", msg.boxes(np.zeros((0, 4)), [], [], [], ns, "nose"), ns)
    return path


class Listener:
    """What another process hears."""

    def __init__(self, domain: int) -> None:
        from rclpy.qos import QoSProfile, ReliabilityPolicy
        from rosgraph_msgs.msg import Clock
        from sensor_msgs.msg import CameraInfo, Image
        from vision_msgs.msg import Detection2DArray

        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node("listener", context=self.context)
        self.heard: dict[str, list[int]] = {"image": [], "camera_info": [], "detections": [], "clock": []}
        deep = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
        for name, kind in (("image", Image), ("camera_info", CameraInfo), ("detections", Detection2DArray)):
            self.node.create_subscription(kind, name, lambda m, n=name: self.heard[n].append(
                m.header.stamp.sec * 10**9 + m.header.stamp.nanosec), deep)
        self.node.create_subscription(Clock, "/clock", lambda m: self.heard["clock"].append(
            m.clock.sec * 10**9 + m.clock.nanosec), deep)
        self.executor = rclpy.executors.SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)


def play(bag: Path, domain: int, *words: str) -> tuple[Listener, dict[str, Any]]:
    listener = Listener(domain)
    command = [sys.executable, "-m", "uav_perception.cli.main", "replay", str(bag), "--json", "--wait", "30", *words]
    there = {**os.environ, "ROS_DOMAIN_ID": str(domain)}
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=there)
    try:
        deadline = time.monotonic() + 60
        while child.poll() is None and time.monotonic() < deadline:
            listener.executor.spin_once(timeout_sec=0.05)
        for _ in range(20):
            listener.executor.spin_once(timeout_sec=0.01)
    finally:
        child.kill() if child.poll() is None else None
        out, _ = child.communicate()
        listener.close()
    assert child.returncode == 0
    return listener, json.loads(out.splitlines()[-1])


def test_camera_and_clock_come_out(bag: Path) -> None:
    listener, said = play(bag, 71, "--rate", "0.5")
    stamps = [START_NS + i * PERIOD_NS for i in range(FRAMES)]
    dropped = said["dropped"].get("/nose/image_raw", 0)
    assert said["published"]["/nose/image_raw"] == FRAMES - dropped == len(listener.heard["image"])
    assert set(listener.heard["image"]) <= set(stamps) and listener.heard["image"] == sorted(listener.heard["image"])
    assert listener.heard["camera_info"][-1] == stamps[-1]
    assert listener.heard["detections"] == [] and "/detections" not in said["published"]  # the graph makes its own
    clock = listener.heard["clock"]
    assert clock == sorted(clock) and clock[0] <= stamps[1] and clock[-1] == stamps[-1]


def test_start_and_chosen_topics(bag: Path) -> None:
    listener, said = play(bag, 72, "--start", "0.5", "--rate", "2", "--topics", "/detections")
    first = START_NS + 16 * PERIOD_NS  # frame 15 is 5 ns too early
    assert min(listener.heard["image"] + listener.heard["detections"]) == first
    assert said["published"]["/detections"] == FRAMES - 16


def test_remappings_for_the_distros_player(bag: Path) -> None:
    from uav_perception.ros.replay import remappings

    assert remappings(bag) == ["/nose/image_raw:=image", "/nose/camera_info:=camera_info"]


def test_qos_overrides(tmp_path: Path) -> None:
    from uav_perception.ros.replay import _qos_overrides

    file = tmp_path / "qos.yaml"
    file.write_text("/a:\n  reliability: best_effort\n  depth: 3\n")
    profile = _qos_overrides(file)["/a"]
    assert profile.depth == 3 and profile.reliability.name == "BEST_EFFORT"
    for text in ("/a: 7\n", "/a: {reliability: perfect}\n", "[1"):
        file.write_text(text)
        with pytest.raises(InputError, match="QoS overrides"):
            _qos_overrides(file)
