"""Bad input to real processes: one clear line and exit 2 at the start, a diagnostics ERROR in a graph that goes on."""

from __future__ import annotations

import socket
import time

import cv2
import numpy as np
import pytest
from rclpy.qos import qos_profile_sensor_data
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image
from vision_msgs.msg import Detection2DArray

from uav_perception.ros import convert


@pytest.fixture(scope="module")
def broken(tmp_path_factory, model):
    """Files that are not what they should be."""
    folder = tmp_path_factory.mktemp("broken")
    (folder / "broken.onnx").write_bytes(b"this is no model" * 100)
    (folder / "broken.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(1000))
    (folder / "nan.yaml").write_text("image_width: 320\nimage_height: 240\n"
                                     "camera_matrix: {data: [.nan, 0, 160, 0, 300, 120, 0, 0, 1]}\n"
                                     "distortion_model: plumb_bob\ndistortion_coefficients: {data: [0, 0, 0, 0, 0]}\n")
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import Stores, get_typestore

    types = get_typestore(Stores.LATEST)
    with Writer(folder / "no_images", version=9, storage_plugin=StoragePlugin.MCAP) as bag:
        connection = bag.add_connection("/chatter", "std_msgs/msg/String", typestore=types)
        hello = types.types["std_msgs/msg/String"]("hello")
        bag.write(connection, 1, types.serialize_cdr(hello, "std_msgs/msg/String"))
    return folder


CASES = {
    "missing model": ("detector", {"detector": {"model": "{}/nothing.onnx"}}, "nothing.onnx"),
    "broken model": ("detector", {"detector": {"model": "{}/broken.onnx"}}, "broken.onnx"),
    "wrong tensor layout": ("detector", {"detector": {"model": "MODEL", "family": "yolox"}}, "yolox"),
    "unreadable video": ("camera", {"camera": {"source": "{}/broken.mp4"}}, "broken.mp4"),
    "missing source": ("camera", {"camera": {"source": "{}/nothing.mp4"}}, "nothing.mp4"),
    "bag without images": ("camera", {"camera": {"source": "bag:{}/no_images"}}, "topic"),
    "NaN intrinsics": ("camera", {"camera": {"source": "PICTURES", "calibration": "{}/nan.yaml"}}, "NaN"),
    "unknown parameter": ("camera", {"camera": {"sourc": "demo"}}, "camera.sourc"),
    "wrong type": ("tracker", {"tracker": {"coast_s": "long"}}, "tracker.coast_s"),
    "out of range": ("detector", {"detector": {"score_min": 1.5}}, "score_min"),
    "occupied port": ("flight_link", {"flight_link": {"url": "udpin:127.0.0.1:PORT"}}, "PORT"),
    "malformed link": ("flight_link", {"flight_link": {"url": "carrier pigeon"}}, "carrier pigeon"),
}


@pytest.fixture(scope="module")
def outcomes(processes, broken, model, pictures):
    """Exit code and output of every case; all processes run side by side."""
    taken = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    taken.bind(("127.0.0.1", 0))
    port = str(taken.getsockname()[1])

    def fill(value):
        if not isinstance(value, str):
            return value
        return {"MODEL": str(model), "PICTURES": str(pictures)}.get(value, value.replace("{}", str(broken))
                                                                    .replace("PORT", port))

    started = {name: processes.node(module, {n: {k: fill(v) for k, v in values.items()} for n, values in given.items()})
               for name, (module, given, _) in CASES.items()}
    yield {name: (p.wait(60), p.log.read_text()) for name, p in started.items()}, port
    taken.close()


@pytest.mark.parametrize("name", CASES)
def test_one_clear_line_and_exit_2(outcomes, name):
    results, port = outcomes
    code, text = results[name]
    assert code == 2, text
    assert "Traceback" not in text
    lines = [line for line in text.splitlines() if line.strip()]
    assert len(lines) == 1, text
    assert CASES[name][2].replace("PORT", port) in lines[0] and "expected" in lines[0]


def image(stamp_ns, width=320, height=240, encoding="bgr8"):
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([x % 256, y % 256, (x + y) % 256], axis=2).astype(np.uint8)
    message = convert.image_message(cv2.GaussianBlur(pixels, (3, 3), 0), "bgr8", stamp_ns, "cam")
    message.encoding = encoding
    return message


@pytest.fixture(scope="module")
def stages(processes, client, model):
    """A detector and a depth_pose of their own, fed by somebody else's camera on the clock of a simulator."""
    client.images = client.node.create_publisher(Image, "/image", qos_profile_sensor_data)
    client.infos = client.node.create_publisher(CameraInfo, "/camera_info", qos_profile_sensor_data)
    client.clock = client.node.create_publisher(Clock, "/clock", 10)
    client.listen("/detections", Detection2DArray, 100)
    clock = ("-p", "use_sim_time:=true")
    yield (processes.node("detector", {"detector": {"model": str(model), "family": "end2end",
                                                    "classes": ["car", "person"]}}, "", *clock),
           processes.node("depth_pose", {}, "", *clock))


class Camera:
    """Sends pictures 0.1 s apart on a clock that started at 1000 s; they are 40 ms old when they are sent."""

    def __init__(self, client):
        self.client, self.now_ns = client, 1000 * 10**9

    def send(self, **changes):
        self.now_ns += 10**8
        self.client.clock.publish(Clock(clock=convert.to_time(self.now_ns)))
        time.sleep(0.05)
        self.client.images.publish(image(self.now_ns - 40_000_000, **changes))
        time.sleep(0.05)
        return self.now_ns - 40_000_000

    def until(self, done, seconds=30.0, **changes):
        end = time.monotonic() + seconds
        while not done():
            if time.monotonic() > end:
                return False
            self.send(**changes)
        return True


def test_stage_goes_on_after_bad_messages_and_follows_the_simulators_clock(stages, client):
    camera = Camera(client)
    heard = client.heard["/detections"]
    assert camera.until(lambda: len(heard) > 3), stages[0].log.read_text()
    assert camera.until(lambda: convert.status_values(client.last_diagnostics("detector")).get("age_p50_ms"))
    ages = convert.status_values(client.last_diagnostics("detector"))
    assert 30 < ages["age_p50_ms"] < 200  # of the simulated clock; on the wall clock it would be decades

    def says(node, text, level):
        return any(text in s.message and s.level == level for s in client.diagnostics(node)[-3:])

    assert camera.until(lambda: says("detector", "no-such-encoding", b"\2"), encoding="no-such-encoding")
    count = len(heard)
    assert camera.until(lambda: len(heard) > count + 2 and client.last_diagnostics("detector").level == b"\0")
    # another size mid-stream: boxes in the pixels of the new image
    assert camera.until(lambda: convert.box_corners(heard[-1].detections[0].bbox)[3] <= 100, width=200, height=100)
    assert stages[0].poll() is None


def test_impossible_intrinsics_are_an_error_and_no_odometry(stages, client):
    camera = Camera(client)
    info = CameraInfo(width=320, height=240, distortion_model="plumb_bob", d=[0.0] * 5)
    info.k = [float("nan"), 0.0, 160.0, 0.0, 300.0, 120.0, 0.0, 0.0, 1.0]

    def sent(done):
        def step():
            client.infos.publish(info)
            return done()

        return camera.until(step)

    def last():
        return client.last_diagnostics("depth_pose")

    assert sent(lambda: "NaN" in last().message and last().level == b"\2")
    info.k[0] = 300.0
    assert sent(lambda: last().level == b"\0" and "running" in last().message)
    assert stages[1].poll() is None


def test_another_quality_of_service_is_said_with_its_remedy(processes, client, model):
    overrides = {"/image": {"subscription": {"reliability": "reliable"}}}
    process = processes.node("detector", {"detector": {
        "model": str(model), "family": "end2end", "classes": ["car", "person"], "qos_overrides": overrides}}, "/strict",
        "-r", "/strict/image:=/image")
    images = client.node.create_publisher(Image, "/image", qos_profile_sensor_data)

    def said():
        return any("qos_overrides./" in s.message and s.level == b"\1" for s in client.diagnostics("strict/detector"))

    assert client.until(said, 30), process.log.read_text()
    client.destroy(images)
    assert processes.end(process)[0] == 0


def test_sigterm_ends_a_stage_cleanly(stages, processes):
    import signal

    for process in stages:
        code, text = processes.end(process, signal.SIGTERM)
        assert code == 0 and "Traceback" not in text, text
