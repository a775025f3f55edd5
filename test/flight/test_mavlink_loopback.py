"""The link against a real pymavlink peer over loopback UDP (and a pseudo-terminal for serial)."""

from __future__ import annotations

import dataclasses
import math
import os
import pty
import socket
import time

import numpy as np
import pytest
from pymavlink import mavutil
from pymavlink.dialects.v20 import common as mav

from uav_perception.config import FlightLinkConfig
from uav_perception.errors import LinkError
from uav_perception.flight import FlightLink
from uav_perception.flight.mavlink import make_link
from uav_perception.geometry import quaternion_from_matrix, so3_exp
from uav_perception.records import (
    CameraModel,
    Obstacles,
    Pose,
    Scale,
    TargetStatus,
    Track,
    TrackState,
)

MS, S = 1_000_000, 1_000_000_000
NOW = 1_000 * S
CAMERA = CameraModel(np.array([[800.0, 0, 640], [0, 800, 360], [0, 0, 1]]), np.zeros(5), 1280, 720)
os.environ["MAVLINK20"] = "1"


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class Peer:
    """An autopilot (system 1) or ground station on the other end."""

    def __init__(self, url: str, system: int = 1, component: int = 1) -> None:
        self.link = mavutil.mavlink_connection(url, source_system=system, source_component=component, dialect="common")

    def messages(self, want: str, n: int = 1, timeout_s: float = 2.0) -> list:
        got, end = [], time.monotonic() + timeout_s
        while len(got) < n and time.monotonic() < end:
            m = self.link.recv_match(type=want, blocking=True, timeout=0.05)
            if m is not None:
                got.append(m)
        return got

    def one(self, want: str):
        got = self.messages(want)
        assert got, f"no {want} came"
        return got[0]

    def all(self, seconds: float = 0.1) -> list:
        got, end = [], time.monotonic() + seconds
        while time.monotonic() < end:
            m = self.link.recv_match(blocking=False)
            if m is None:
                time.sleep(0.005)
            else:
                got.append(m)
        return got

    def heartbeat(self) -> None:
        self.link.mav.heartbeat_send(mav.MAV_TYPE_QUADROTOR, mav.MAV_AUTOPILOT_PX4, 0, 0, mav.MAV_STATE_ACTIVE)

    def command(self, command: int, *params: float, component: int = 100) -> None:
        self.link.mav.command_long_send(1, component, command, 0, *params, *[0.0] * (7 - len(params)))


@pytest.fixture
def pair():
    port = free_port()
    peer = Peer(f"udpin:127.0.0.1:{port}")
    link = make_link(FlightLinkConfig(url=f"udpout:127.0.0.1:{port}"))
    link.send_heartbeat(NOW)
    peer.one("HEARTBEAT")
    peer.all()
    yield link, peer
    link.close()
    peer.link.close()


def wait_for_commands(link) -> list:
    end = time.monotonic() + 2.0
    while time.monotonic() < end:
        commands = link.poll()
        if commands:
            return commands
        time.sleep(0.005)
    return []


def status(state: str, stamp: int = NOW, seen: int | None = None, box=(600.0, 300.0, 680.0, 380.0)) -> TargetStatus:
    states = {"LOCKED": TrackState.TRACKED, "OCCLUDED": TrackState.OCCLUDED}
    track = None
    if state in states:
        track = Track(stamp, 300, states[state], box, (0, 0), 0.8, 0, stamp if seen is None else seen)
    return TargetStatus(stamp, state, track, 0.8 if track else 0.0, 0, "")


def pose(scale: Scale = Scale.METRIC, stamp: int = NOW, parent: str = "odom", child: str = "base_link", **more) -> Pose:
    q = more.pop("q", quaternion_from_matrix(so3_exp([0.1, -0.2, 0.3])))
    covariance = np.diag([1, 2, 3, 4, 5, 6]) * 1e-2
    values = {"position_m": [1.0, 2.0, 3.0], "covariance": covariance, "reset_counter": 7, **more}
    return Pose(stamp, parent, child, quaternion_wxyz=q, scale=scale, **values)


def test_is_a_flight_link(pair):
    assert isinstance(pair[0], FlightLink)


def test_heartbeats_as_onboard_computer_and_camera(pair):
    link, peer = pair
    link.send_heartbeat(NOW + 1)
    beats = {m.get_srcComponent(): m for m in peer.messages("HEARTBEAT", 2)}
    assert beats[191].type == mav.MAV_TYPE_ONBOARD_CONTROLLER and beats[191].get_srcSystem() == 1
    assert beats[100].type == mav.MAV_TYPE_CAMERA
    assert beats[191].system_status == mav.MAV_STATE_BOOT
    assert beats[191].get_msgbuf()[0] == 0xFD  # MAVLink 2


def test_heartbeat_tells_silence(pair):
    link, peer = pair
    link.send_target(status("NONE"), CAMERA, NOW)
    for now, expected, severity in ((NOW + S // 4, mav.MAV_STATE_ACTIVE, None), (NOW + S, mav.MAV_STATE_CRITICAL, 2),
                                    (NOW + 20 * S, mav.MAV_STATE_EMERGENCY, 0)):
        peer.all(0.05)
        link.send_heartbeat(now)
        got = peer.all()
        beat = next(m for m in got if m.get_type() == "HEARTBEAT" and m.get_srcComponent() == 191)
        assert beat.system_status == expected
        said = [m for m in got if m.get_type() == "STATUSTEXT"]
        assert severity is None or said[0].severity == severity
    assert link.health().state == "EMERGENCY"


def test_locked_target(pair):
    link, peer = pair
    link.send_target(status("LOCKED", NOW - 50 * MS), CAMERA, NOW)
    image = peer.one("CAMERA_TRACKING_IMAGE_STATUS")
    assert image.tracking_status == mav.CAMERA_TRACKING_STATUS_FLAGS_ACTIVE
    assert image.tracking_mode == mav.CAMERA_TRACKING_MODE_RECTANGLE
    assert (image.rec_top_x, image.rec_top_y, image.rec_bottom_x, image.rec_bottom_y) == pytest.approx(
        (600 / 1280, 300 / 720, 680 / 1280, 380 / 720))
    assert (image.point_x, image.point_y) == pytest.approx((0.5, 340 / 720))
    assert math.isnan(image.radius)


def test_landing_target_angles_and_capture_time(pair):
    link, peer = pair
    link.send_target(status("LOCKED", NOW - 50 * MS), CAMERA, NOW)
    m = peer.one("LANDING_TARGET")
    assert m.frame == mav.MAV_FRAME_BODY_FRD and m.position_valid == 0 and m.distance == 0
    assert m.angle_x == pytest.approx(0.0, abs=1e-6)
    assert m.angle_y == pytest.approx(math.atan(-20 / 800), abs=1e-6)
    assert m.size_x == pytest.approx(2 * math.atan(40 / 800), abs=1e-6)
    assert m.time_usec == (NOW - 50 * MS) // 1000
    assert m.target_num == 300 % 256


def test_no_target_stale_and_failed_are_three_things(pair):
    link, peer = pair
    link.send_target(status("NONE"), CAMERA, NOW)
    assert peer.one("CAMERA_TRACKING_IMAGE_STATUS").tracking_status == mav.CAMERA_TRACKING_STATUS_FLAGS_IDLE
    link.send_target(status("FAILED"), CAMERA, NOW)
    assert peer.one("CAMERA_TRACKING_IMAGE_STATUS").tracking_status == mav.CAMERA_TRACKING_STATUS_FLAGS_ERROR
    peer.all()
    link.send_target(status("LOCKED", NOW - 201 * MS), CAMERA, NOW)
    assert peer.all() == []
    assert link.health().withheld == {"no_target": 1, "target_failed": 1, "stale": 1}


@pytest.mark.parametrize(("state", "seen_ago", "box"), [("OCCLUDED", 100 * MS, True), ("OCCLUDED", 300 * MS, False),
                                                       ("LOST", 0, False)])
def test_unseen_targets_get_no_landing_target_and_no_old_box(pair, state, seen_ago, box):
    link, peer = pair
    link.send_target(status(state, NOW, NOW - seen_ago), CAMERA, NOW)
    got = peer.all()
    assert not [m for m in got if m.get_type() == "LANDING_TARGET"]
    image = next(m for m in got if m.get_type() == "CAMERA_TRACKING_IMAGE_STATUS")
    assert image.tracking_status == mav.CAMERA_TRACKING_STATUS_FLAGS_ACTIVE | 8
    assert math.isnan(image.rec_top_x) != box
    assert link.health().withheld == {"target_unseen": 1}


def test_future_stamps_are_rejected(pair):
    link, peer = pair
    link.send_target(status("LOCKED", NOW + S), CAMERA, NOW)
    link.send_odometry(pose(stamp=NOW + S), NOW)
    assert peer.all() == []
    assert link.health().withheld == {"future": 2}


def test_without_intrinsics_the_box_still_reaches_the_ground_station(pair):
    link, peer = pair
    link.send_target(status("LOCKED"), None, NOW)
    assert link.health().withheld == {"no_image_size": 1, "no_intrinsics": 1}
    link.send_target(status("LOCKED"), None, NOW, image_size_px=(1280, 720))
    assert peer.one("CAMERA_TRACKING_IMAGE_STATUS").rec_bottom_x == pytest.approx(680 / 1280)
    assert "LANDING_TARGET" not in link.health().sent


def test_odometry_frames_covariance_and_reset(pair):
    link, peer = pair
    link.send_odometry(pose(), NOW)
    m = peer.one("ODOMETRY")
    assert (m.frame_id, m.child_frame_id) == (mav.MAV_FRAME_LOCAL_FRD, mav.MAV_FRAME_BODY_FRD)
    assert (m.x, m.y, m.z) == pytest.approx((1, -2, -3))
    w, x, y, z = pose().quaternion_wxyz
    assert m.q == pytest.approx([w, x, -y, -z], abs=1e-6)
    assert m.pose_covariance[0] == pytest.approx(0.01) and m.pose_covariance[20] == pytest.approx(0.06)
    assert m.reset_counter == 7 and m.estimator_type == mav.MAV_ESTIMATOR_TYPE_VISION
    assert math.isnan(m.vx) and math.isnan(m.yawspeed) and math.isnan(m.velocity_covariance[0])


def test_odometry_twist_comes_from_poses_of_the_same_run(pair):
    link, peer = pair
    level = [1.0, 0, 0, 0]
    link.send_odometry(pose(q=level, stamp=NOW - 100 * MS), NOW)
    link.send_odometry(pose(q=quaternion_from_matrix(so3_exp([0, 0, 0.05])), position_m=[1.2, 2, 3]), NOW)
    link.send_odometry(pose(q=level, stamp=NOW + 100 * MS, reset_counter=8), NOW + 100 * MS)
    _, second, third = peer.messages("ODOMETRY", 3)
    assert second.vx == pytest.approx(2 * math.cos(0.05), abs=1e-5)
    assert second.vy == pytest.approx(2 * math.sin(0.05), abs=1e-5)  # right of the nose
    assert second.yawspeed == pytest.approx(-0.5, abs=1e-5)  # left turn is negative in FRD
    assert math.isnan(third.vx)


def test_odometry_of_map_is_ned(pair):
    link, peer = pair
    link.send_odometry(pose(parent="uav1/map", covariance=None), NOW)
    m = peer.one("ODOMETRY")
    assert m.frame_id == mav.MAV_FRAME_LOCAL_NED
    assert (m.x, m.y, m.z) == pytest.approx((2, 1, -3))
    assert math.isnan(m.pose_covariance[0])


def test_scale_guard(pair):
    link, peer = pair
    link.send_odometry(pose(Scale.UNIT), NOW)
    link.send_odometry(pose(child="camera_optical"), NOW)
    assert peer.all() == []
    assert link.health().withheld == {"unscaled": 1, "wrong_frame": 1}


def test_obstacles_are_of_the_body_and_fresh(pair):
    link, peer = pair
    distance = np.full(72, np.nan, np.float32)
    distance[:2] = 5.0, np.inf
    link.send_obstacles(Obstacles(NOW, distance, 0.3, 30.0), NOW + 300_000_000)
    assert peer.all() == [] and link.health().withheld == {"stale": 1}
    link.send_obstacles(Obstacles(NOW, distance, 0.3, 30.0), NOW)
    m = peer.one("OBSTACLE_DISTANCE")
    assert m.frame == mav.MAV_FRAME_BODY_FRD and len(m.distances) == 72 and m.increment == 5
    assert list(m.distances[:3]) == [500, 3001, 65535] and (m.min_distance, m.max_distance) == (30, 3000)


def test_operator_commands_are_acknowledged(pair):
    link, peer = pair
    asked = [(mav.MAV_CMD_CAMERA_TRACK_POINT, (0.25, 0.5, 0.05)),
             (mav.MAV_CMD_CAMERA_TRACK_RECTANGLE, (0.1, 0.2, 0.3, 0.5)),
             (mav.MAV_CMD_CAMERA_STOP_TRACKING, ())]
    expected = [("track_point", (0.25, 0.5)), ("track_rectangle", (0.1, 0.2, 0.3, 0.5)), ("track_stop", ())]
    for (command, params), (kind, values) in zip(asked, expected, strict=True):
        peer.command(command, *params)
        got, = wait_for_commands(link)
        assert got.kind == kind and got.values == pytest.approx(values)
        ack = peer.one("COMMAND_ACK")
        assert (ack.command, ack.result, ack.get_srcComponent()) == (command, mav.MAV_RESULT_ACCEPTED, 100)


@pytest.mark.parametrize("params", [(float("nan"), 0.5), (1.5, 0.5), (-0.1, 0.2)])
def test_impossible_points_are_denied(pair, params):
    link, peer = pair
    peer.command(mav.MAV_CMD_CAMERA_TRACK_POINT, *params)
    time.sleep(0.05)
    assert link.poll() == []
    assert peer.one("COMMAND_ACK").result == mav.MAV_RESULT_DENIED


def test_camera_information_on_request(pair):
    link, peer = pair
    link.send_target(status("NONE"), CAMERA, NOW)
    peer.command(mav.MAV_CMD_REQUEST_MESSAGE, mav.MAVLINK_MSG_ID_CAMERA_INFORMATION)
    time.sleep(0.05)
    link.poll()
    m = peer.one("CAMERA_INFORMATION")
    assert (m.resolution_h, m.resolution_v) == (1280, 720)
    assert m.flags & mav.CAMERA_CAP_FLAGS_HAS_TRACKING_POINT and m.flags & mav.CAMERA_CAP_FLAGS_HAS_TRACKING_RECTANGLE


def test_commands_for_others_are_left_alone_and_unknown_ones_refused(pair):
    link, peer = pair
    peer.link.mav.command_long_send(9, 100, mav.MAV_CMD_CAMERA_TRACK_POINT, 0, 0.5, 0.5, 0, 0, 0, 0, 0)
    peer.command(mav.MAV_CMD_NAV_LAND, component=0)
    time.sleep(0.05)
    assert link.poll() == []
    assert peer.messages("COMMAND_ACK", timeout_s=0.1) == []
    peer.command(mav.MAV_CMD_NAV_LAND, component=191)
    time.sleep(0.05)
    link.poll()
    assert peer.one("COMMAND_ACK").result == mav.MAV_RESULT_UNSUPPORTED


def test_noise_on_the_line_is_survived(pair):
    link, peer = pair
    link._transport._socket.sendto(b"", link._transport._peer)
    port = link._transport._socket.getsockname()[1]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        for junk in (b"\xfd" * 300, os.urandom(500), b"\xfe\x09\x00"):
            s.sendto(junk, ("127.0.0.1", port))
    time.sleep(0.05)
    link.poll()
    kinds: list[str] = []
    for _ in range(60):  # the parser may still wait for the end of false frames: each swallows up to 280 bytes
        peer.command(mav.MAV_CMD_CAMERA_STOP_TRACKING)
        peer.heartbeat()
        time.sleep(0.01)
        kinds += [c.kind for c in link.poll()]
        if kinds:
            break
    assert kinds and set(kinds) == {"track_stop"}


def test_timesync_maps_stamps_to_the_autopilots_clock(pair):
    link, peer = pair
    link.send_heartbeat(NOW)
    ask = next(m for m in peer.messages("TIMESYNC", 1) if m.tc1 == 0)
    autopilot_ns = 77 * S
    peer.link.mav.timesync_send(autopilot_ns, ask.ts1)
    time.sleep(0.02)
    link.poll()
    sent_mono = time.monotonic_ns()
    link.send_target(status("LOCKED", NOW - 50 * MS), CAMERA, NOW)
    m = peer.one("LANDING_TARGET")
    expected = autopilot_ns + (sent_mono - ask.ts1) - 50 * MS
    assert abs(m.time_usec * 1000 - expected) < 100 * MS
    peer.link.mav.timesync_send(0, 4242)  # and we answer theirs
    time.sleep(0.02)
    link.poll()
    assert any(m.ts1 == 4242 and m.tc1 > 0 for m in peer.messages("TIMESYNC", 3, timeout_s=0.5))


def test_autopilot_heartbeat_loss_and_return():
    port, clock = free_port(), [10 * S]
    from uav_perception.flight.mavlink import MavlinkLink
    from uav_perception.flight.transport import open_transport

    config = FlightLinkConfig(url=f"udpin:127.0.0.1:{port}")
    link = MavlinkLink(config, open_transport(config.url, config.baud), clock_ns=lambda: clock[0])
    peer = Peer(f"udpout:127.0.0.1:{port}")
    try:
        link.send_heartbeat(NOW)
        assert link.health().withheld == {"link_down": 3}  # nobody to talk to yet
        assert not link.health().connected and link.health().last_heartbeat_age_s is None
        for lost_for, connected in ((0, True), (3, False)):
            peer.heartbeat()
            time.sleep(0.05)
            link.poll()
            clock[0] += lost_for * S
            assert link.health().connected is connected
        assert "3.0 s" in link.health().message
        peer.heartbeat()
        time.sleep(0.05)
        link.poll()
        assert link.health().connected
        link.send_heartbeat(NOW)
        assert peer.one("HEARTBEAT").type == mav.MAV_TYPE_ONBOARD_CONTROLLER
    finally:
        link.close()
        peer.link.close()


def test_ground_station_heartbeat_is_no_autopilot(pair):
    link, peer = pair
    peer.link.mav.heartbeat_send(mav.MAV_TYPE_GCS, mav.MAV_AUTOPILOT_INVALID, 0, 0, 0)
    time.sleep(0.05)
    link.poll()
    assert not link.health().connected


def test_serial_line():
    master, slave = pty.openpty()
    link = make_link(FlightLinkConfig(url=f"{os.ttyname(slave)}:921600"))
    os.close(slave)
    link.send_heartbeat(NOW)
    time.sleep(0.05)
    parser = mav.MAVLink(None)
    assert "HEARTBEAT" in [m.get_type() for m in parser.parse_buffer(os.read(master, 4096))]
    beat = parser.heartbeat_encode(mav.MAV_TYPE_QUADROTOR, mav.MAV_AUTOPILOT_ARDUPILOTMEGA, 0, 0, 4)
    os.write(master, beat.pack(parser))
    time.sleep(0.05)
    link.poll()
    assert link.health().connected
    os.close(master)  # the cable is pulled: no exception, and it is counted
    for _ in range(2):
        link.poll()
        link.send_heartbeat(NOW)
    assert link.health().withheld["link_down"] >= 3
    link.close()


@pytest.mark.parametrize("url", ["", "udpout:localhost", "udpin:127.0.0.1:0", "udpout:127.0.0.1:99999",
                                 "carrier:pigeon",
                                 "/dev/ttyNOSUCH:57600", "serial:/dev/ttyNOSUCH", "/dev/null:57600", "/dev/ttyS0:12345",
                                 "udpout:no-such-host.invalid:14550"])
def test_bad_addresses_are_one_clear_error(url):
    with pytest.raises(LinkError) as e:
        make_link(FlightLinkConfig(url=url))
    assert e.value.exit_code == 2 and "\n" not in str(e.value)


def test_occupied_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("127.0.0.1", 0))
        with pytest.raises(LinkError, match="free port"):
            make_link(FlightLinkConfig(url=f"udpin:127.0.0.1:{s.getsockname()[1]}"))


def test_counts_are_what_the_peer_received(pair):
    link, peer = pair
    before = dict(link.health().sent)
    for k in range(20):
        link.send_target(dataclasses.replace(status("LOCKED", NOW + k), stamp_ns=NOW + k), CAMERA, NOW + k)
    got = [m.get_type() for m in peer.all(0.3)]
    for name in ("CAMERA_TRACKING_IMAGE_STATUS", "LANDING_TARGET"):
        assert link.health().sent[name] - before.get(name, 0) == got.count(name) == 20
