"""The composed graph over real DDS, seen by somebody else's client: topics, stamps, services, MAVLink, Ctrl-C."""

from __future__ import annotations

import socket
import threading
import time

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.srv import ChangeState, GetState
from nav_msgs.msg import Odometry
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import DescribeParameters, SetParameters
from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, LaserScan
from std_srvs.srv import SetBool
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import BoundingBox2D, Detection2D, Detection2DArray

from uav_perception.records import Obstacles
from uav_perception.ros import convert, convert_motion, topics

NS = "/uav1"
TYPES = {"image": Image, "image/compressed": CompressedImage, "camera_info": CameraInfo, "detections": Detection2DArray,
         "tracks": Detection2DArray, "target": Detection2D, "target/status": DiagnosticStatus, "odometry": Odometry,
         "odometry/status": DiagnosticStatus, "overlay/compressed": CompressedImage}


class Autopilot:
    """Decodes what arrives at a UDP port."""

    def __init__(self):
        from pymavlink.dialects.v20 import common

        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(0.2)
        self.url = f"udpout:127.0.0.1:{self.socket.getsockname()[1]}"
        self.heard, self._mav, self._stop = [], common.MAVLink(None), False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._stop:
            try:
                data, self.peer = self.socket.recvfrom(4096)
            except TimeoutError:
                continue
            self.heard += [(m.get_type(), m) for m in self._mav.parse_buffer(data) or []]

    def last(self, kind):
        return next((m for k, m in reversed(self.heard) if k == kind), None)

    def close(self):
        self._stop = True
        self._thread.join(1)
        self.socket.close()


@pytest.fixture(scope="module")
def autopilot():
    link = Autopilot()
    yield link
    link.close()


@pytest.fixture(scope="module")
def graph(processes, client, autopilot, pictures, calibration, model):
    for name, kind in TYPES.items():
        best_effort = name in ("image", "image/compressed", "overlay/compressed")
        client.listen(f"{NS}/{name}", kind, qos_profile_sensor_data if best_effort else QoSProfile(depth=200))
    client.listen("/tf", TFMessage, 100)
    link = processes.node("flight_link", {"flight_link": {"url": autopilot.url, "obstacles": True}}, NS)
    every_info = {"publisher": {"reliability": "reliable", "depth": 200}}  # so that the client knows every stamp
    perception = processes.node("container", {
        "camera": {"source": str(pictures), "fps": 15, "loop": True, "calibration": str(calibration),
                   "qos_overrides": {f"{NS}/camera_info": every_info}},
        "detector": {"model": str(model), "family": "end2end", "classes": ["car", "person"]}}, NS)
    arrived = client.until(lambda: len(client.heard[f"{NS}/tracks"]) > 20 and len(client.heard[f"{NS}/odometry"]) > 15
                           and len(client.diagnostics("uav1/detector")) > 2, 60)
    assert arrived, perception.log.read_text() + link.log.read_text()
    yield {"perception": perception, "link": link}


def stamps(messages):
    return [convert.to_ns(m.header.stamp) for m in messages]


def test_results_have_the_stamp_and_frame_of_their_image(graph, client):
    results = {t: stamps(list(client.heard[f"{NS}/{t}"])) for t in ("detections", "tracks", "odometry")}
    first = min(stamps(list(client.heard[f"{NS}/camera_info"])))  # before it the client was not yet heard of
    for topic, said in results.items():
        said = {ns for ns in said if ns > first}
        assert len(said) > 5
        assert client.until(lambda said=said: said <= set(stamps(list(client.heard[f"{NS}/camera_info"])))), topic
    frames = {"detections": "camera_optical", "tracks": "camera_optical", "odometry": "odom", "image": "camera_optical"}
    for topic, frame_id in frames.items():
        assert {m.header.frame_id for m in list(client.heard[f"{NS}/{topic}"])} == {frame_id}
    assert {m.child_frame_id for m in list(client.heard[f"{NS}/odometry"])} == {"base_link"}


def test_boxes_are_in_source_pixels_with_names_and_ids(graph, client):
    # the model sees (10, 20, 30, 40) of 64 x 64 letterboxed from 320 x 240: scale 5, 40 px of padding above
    seen = client.heard[f"{NS}/detections"][-1].detections
    boxes = {d.results[0].hypothesis.class_id: convert.box_corners(d.bbox) for d in seen}
    assert set(boxes) == {"car", "person"}
    np.testing.assert_allclose(boxes["car"], (50, 60, 150, 160), atol=1)
    tracks = client.heard[f"{NS}/tracks"][-1].detections
    assert {t.results[0].hypothesis.class_id for t in tracks} == {"car", "person"}
    assert all(int(t.id) >= 0 for t in tracks) and len({t.id for t in tracks}) == 2


def test_types_and_quality_of_service(graph, client):
    published = (topics.IMAGE, topics.CAMERA_INFO, topics.DETECTIONS, topics.TRACKS, topics.TARGET,
                 topics.TARGET_STATUS, topics.ODOMETRY, topics.OVERLAY, topics.DEPTH, topics.POINTS,
                 topics.MOTION_MASK, topics.FLOW)
    for topic in published:
        (info,) = client.node.get_publishers_info_by_topic(f"{NS}/{topic.name}")
        package, name = topic.type.split("/")
        assert info.topic_type == f"{package}/msg/{name}"
        wanted = ReliabilityPolicy.RELIABLE if topic is topics.CAMERA_INFO else topic.qos.reliability
        assert info.qos_profile.reliability == wanted, topic.name
    sensor = client.node.get_publishers_info_by_topic(f"{NS}/image")[0].qos_profile
    assert sensor.reliability == ReliabilityPolicy.BEST_EFFORT


def test_image_is_the_picture_and_overlay_is_drawn(graph, client):
    assert client.until(lambda: client.heard[f"{NS}/image"] and client.heard[f"{NS}/overlay/compressed"])
    pixels = convert.frame_pixels(client.heard[f"{NS}/image"][-1])
    drawn = convert.jpeg_pixels(client.heard[f"{NS}/overlay/compressed"][-1])
    assert pixels.shape == drawn.shape == (240, 320, 3) and pixels.std() > 20


def test_odometry_without_a_scale_says_so(graph, client):
    status = convert.status_values(client.heard[f"{NS}/odometry/status"][-1])
    assert status["scale"] == "UNIT"
    assert client.heard[f"{NS}/odometry"][-1].pose.covariance[0] == convert_motion.UNKNOWN_VARIANCE
    transforms = [t for m in list(client.heard["/tf"]) for t in m.transforms]
    assert transforms and {(t.header.frame_id, t.child_frame_id) for t in transforms} == {("odom", "base_link")}


def test_diagnostics_have_rate_age_drops_and_the_engine(graph, client):
    last = client.last_diagnostics("uav1/detector")
    values = convert.status_values(last)
    assert last.level == b"\0" and values["backend"] == "onnxruntime" and values["why"]
    assert {"rate_hz", "age_p50_ms", "age_p95_ms", "age_p99_ms", "work_p50_ms", "dropped",
            "deadline_misses"} <= set(values)
    assert 1 < values["rate_hz"] <= 20


def test_operator_locks_and_releases(graph, client):
    released = client.call(SetBool, f"{NS}/target/select", SetBool.Request(data=False))
    assert released.success
    box = BoundingBox2D(size_x=100.0, size_y=100.0)
    box.center.position.x, box.center.position.y = 100.0, 110.0
    publisher = client.node.create_publisher(BoundingBox2D, f"{NS}/target/select", 10)
    assert client.until(lambda: publisher.get_subscription_count() > 0)
    client.heard[f"{NS}/target/status"].clear()
    publisher.publish(box)
    assert client.until(lambda: any(convert.status_values(m)["state"] == "LOCKED"
                                    for m in list(client.heard[f"{NS}/target/status"])))
    assert client.until(lambda: client.heard[f"{NS}/target"])
    target = client.heard[f"{NS}/target"][-1]
    assert abs(target.bbox.center.position.x - 100) < 60
    client.call(SetBool, f"{NS}/target/select", SetBool.Request(data=False))
    assert client.until(lambda: convert.status_values(client.heard[f"{NS}/target/status"][-1])["state"] == "NONE")
    locked = client.call(SetBool, f"{NS}/target/select", SetBool.Request(data=True))
    assert locked.success and "locked track" in locked.message


def test_nonsense_selection_changes_nothing_but_is_said(graph, client):
    publisher = client.node.create_publisher(BoundingBox2D, f"{NS}/target/select", 10)
    assert client.until(lambda: publisher.get_subscription_count() > 0)
    publisher.publish(BoundingBox2D(size_x=-1.0))
    assert client.until(
        lambda: int(convert.status_values(client.last_diagnostics("uav1/tracker")).get("failed", 0)) > 0)
    assert graph["perception"].poll() is None


def test_autopilot_hears_heartbeats_and_the_tracked_target(graph, client, autopilot):
    client.call(SetBool, f"{NS}/target/select", SetBool.Request(data=True))
    assert client.until(lambda: autopilot.last("CAMERA_TRACKING_IMAGE_STATUS") and autopilot.last("HEARTBEAT"))
    heartbeat = autopilot.last("HEARTBEAT")
    assert heartbeat.get_srcComponent() in (100, 191)
    assert autopilot.last("ODOMETRY") is None  # no scale, no odometry

    def withheld():
        return convert.status_values(client.last_diagnostics("uav1/flight_link")).get("withheld", {})

    assert client.until(lambda: withheld().get("unscaled", 0) > 0)


def test_autopilot_hears_of_obstacles(graph, client, autopilot):
    distance = np.full(72, np.nan, np.float32)
    distance[0] = 4.0
    publisher = client.node.create_publisher(LaserScan, f"{NS}/obstacles", 1)

    def heard():
        now_ns = client.node.get_clock().now().nanoseconds
        publisher.publish(convert_motion.obstacles_message(Obstacles(now_ns, distance, 0.3, 30.0), "base_link"))
        return autopilot.last("OBSTACLE_DISTANCE")

    assert client.until(heard)
    assert list(autopilot.last("OBSTACLE_DISTANCE").distances[:2]) == [400, 65535]
    client.destroy(publisher)


def test_ground_station_selects_and_stops_over_the_link(graph, client, autopilot):
    from pymavlink.dialects.v20 import common as mav

    ground = mav.MAVLink(None, srcSystem=255, srcComponent=190)

    def command(number, *values):
        message = ground.command_long_encode(1, 100, number, 0, *values, *[0.0] * (7 - len(values)))
        autopilot.socket.sendto(message.pack(ground), autopilot.peer)

    def state():
        return convert.status_values(client.heard[f"{NS}/target/status"][-1])["state"]

    client.call(SetBool, f"{NS}/target/select", SetBool.Request(data=False))
    assert client.until(lambda: state() == "NONE")
    command(mav.MAV_CMD_CAMERA_TRACK_RECTANGLE, 50 / 320, 60 / 240, 150 / 320, 160 / 240)
    assert client.until(lambda: state() == "LOCKED")
    command(mav.MAV_CMD_CAMERA_STOP_TRACKING)
    assert client.until(lambda: state() == "NONE")
    command(mav.MAV_CMD_CAMERA_TRACK_POINT, 100 / 320, 110 / 240)
    assert client.until(lambda: state() == "LOCKED")
    assert autopilot.last("COMMAND_ACK").result == mav.MAV_RESULT_ACCEPTED


def test_parameters_have_ranges_and_bad_values_are_refused(graph, client):
    described = client.call(DescribeParameters, f"{NS}/detector/describe_parameters",
                            DescribeParameters.Request(names=["score_min"]))
    (descriptor,) = described.descriptors
    assert descriptor.description and descriptor.floating_point_range[0].to_value == 1.0
    value = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value="no-such-family")
    answer = client.call(SetParameters, f"{NS}/detector/set_parameters",
                         SetParameters.Request(parameters=[Parameter(name="family", value=value)]))
    assert not answer.results[0].successful and "one of" in answer.results[0].reason


def test_lifecycle_from_outside(graph, client):
    state = client.call(GetState, f"{NS}/detector/get_state", GetState.Request()).current_state
    assert state.label == "active"
    request = ChangeState.Request()
    request.transition.label = "deactivate"
    assert client.call(ChangeState, f"{NS}/detector/change_state", request).success
    time.sleep(0.5)
    before = len(client.heard[f"{NS}/detections"])
    tracks = len(client.heard[f"{NS}/tracks"])
    assert client.until(lambda: len(client.heard[f"{NS}/tracks"]) > tracks + 3)  # the others go on
    assert len(client.heard[f"{NS}/detections"]) == before
    request.transition.label = "activate"
    assert client.call(ChangeState, f"{NS}/detector/change_state", request).success
    assert client.until(lambda: len(client.heard[f"{NS}/detections"]) > before)


def test_stopped_perception_makes_the_link_critical_and_everything_ends_at_once(graph, processes, client, autopilot):
    """Last: a dead perception process is an unhealthy heartbeat, not stale data; Ctrl-C leaves no traceback."""
    begun = time.monotonic()
    code, text = processes.end(graph["perception"])
    assert (code, time.monotonic() - begun < 3.0) == (0, True), text
    assert "Traceback" not in text
    mav_state_critical = 5
    assert client.until(lambda: autopilot.last("HEARTBEAT").system_status == mav_state_critical)
    count = sum(k == "CAMERA_TRACKING_IMAGE_STATUS" for k, _ in list(autopilot.heard))
    time.sleep(0.7)
    assert sum(k == "CAMERA_TRACKING_IMAGE_STATUS" for k, _ in list(autopilot.heard)) == count
    code, text = processes.end(graph["link"])
    assert code == 0 and "Traceback" not in text, text
