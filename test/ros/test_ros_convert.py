"""Records to messages and back, through the wire format."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uav_perception.errors import RecordError, SourceError
from uav_perception.records import (
    CameraModel,
    DepthMap,
    Detections,
    Frame,
    Obstacles,
    Pose,
    Scale,
    TargetStatus,
    Track,
    TrackState,
)
from uav_perception.ros import convert, convert_motion

STAMP = 1_700_000_000_123_456_789
rng = np.random.default_rng(3)


def wire(message):
    from rclpy.serialization import deserialize_message, serialize_message

    return deserialize_message(serialize_message(message), type(message))


@given(st.integers(0, 2**31 * 10**9 - 1))
def test_stamps_are_exact(stamp_ns):
    assert convert.to_ns(convert.to_time(stamp_ns)) == stamp_ns


boxes = st.lists(st.tuples(*[st.floats(-100, 5000, width=32)] * 2, *[st.floats(0, 800, width=32)] * 2,
                           st.floats(0, 1, width=32), st.integers(0, 2)), max_size=5)


@settings(max_examples=50)
@given(boxes)
def test_detections_round_trip(rows):
    table = np.array(rows, np.float64).reshape(-1, 6)
    xyxy = np.column_stack([table[:, :2], table[:, :2] + table[:, 2:4]])
    names = convert.ClassNames(["car", "person", "boat"])
    before = Detections(STAMP, xyxy, table[:, 4], table[:, 5].astype(np.int32), "cam")
    after = convert.detections_from_message(wire(convert.detections_message(before, names)), names)
    assert (after.stamp_ns, after.frame_id, len(after)) == (STAMP, "cam", len(rows))
    np.testing.assert_allclose(after.xyxy_px, before.xyxy_px, atol=1e-3)
    np.testing.assert_array_equal(after.score, before.score)
    np.testing.assert_array_equal(after.class_id, before.class_id)


def test_class_names_of_another_process_get_numbers_in_order_of_appearance():
    here, there = convert.ClassNames(["car", "person"]), convert.ClassNames()
    sent = Detections(STAMP, np.tile([1, 2, 3, 4], (3, 1)), [0.5] * 3, [1, 0, 1])
    got = convert.detections_from_message(convert.detections_message(sent, here), there)
    assert [there.name(int(c)) for c in got.class_id] == ["person", "car", "person"]


def test_class_unknown_stays_unknown():
    names = convert.ClassNames()
    assert names.name(-1) == "" and names.number("") == -1 and names.names == []


def test_box_message_with_nan_is_refused():
    from vision_msgs.msg import BoundingBox2D

    box = BoundingBox2D(size_x=1.0, size_y=1.0)
    box.center.position.x = float("nan")
    with pytest.raises(RecordError, match="finite"):
        convert.box_corners(box)


def camera():
    return CameraModel(np.array([[300.0, 0, 31.5], [0, 310.0, 23.5], [0, 0, 1]]), np.zeros(5), 64, 48, "cam")


@pytest.mark.parametrize("calibrated", [True, False])
def test_camera_info_round_trip(calibrated):
    frame = Frame(0, STAMP, np.zeros((48, 64, 3), np.uint8), camera() if calibrated else None, "cam")
    message = wire(convert.camera_info_message(frame))
    assert (message.width, message.height, message.header.frame_id) == (64, 48, "cam")
    after = convert.camera_from_message(message)
    if calibrated:
        np.testing.assert_array_equal(after.K, frame.camera.K)
        np.testing.assert_array_equal(np.array(message.p).reshape(3, 4)[:, :3], frame.camera.K)
    else:
        assert after is None


def test_camera_info_with_nan_is_refused():
    message = convert.camera_info_message(Frame(0, STAMP, np.zeros((48, 64, 3), np.uint8), camera()))
    message.k[0] = float("nan")
    with pytest.raises(SourceError, match="NaN"):
        convert.camera_from_message(message)


def test_image_round_trip():
    pixels = rng.integers(0, 255, (48, 64, 3), np.uint8)
    message = wire(convert.image_message(pixels, "bgr8", STAMP, "cam"))
    assert (message.step, message.header.frame_id, convert.to_ns(message.header.stamp)) == (192, "cam", STAMP)
    np.testing.assert_array_equal(convert.frame_pixels(message), pixels)


def test_jpeg_is_near():
    y, x = np.mgrid[:48, :64]
    pixels = np.stack([2 * x, 3 * y, x + y], axis=2).astype(np.uint8)
    after = convert.jpeg_pixels(wire(convert.jpeg_message(pixels, 95, STAMP, "cam")))
    assert np.abs(after.astype(int) - pixels).mean() < 3


@pytest.mark.parametrize("state,track_state", [("LOCKED", TrackState.TRACKED), ("OCCLUDED", TrackState.OCCLUDED),
                                               ("LOST", TrackState.LOST)])
def test_target_round_trip(state, track_state):
    names = convert.ClassNames(["car"])
    track = Track(STAMP, 7, track_state, np.array([1, 2, 31, 42], np.float32), np.array([3, -4], np.float32), 0.75, 0,
                  STAMP - 5, "cam")
    before = TargetStatus(STAMP, state, track, 0.75, 5, "hidden by a tree")
    after = convert.target_from_messages(wire(convert.target_status_message(before)),
                                         wire(convert.track_message(track, names)), names)
    assert (after.stamp_ns, after.state, after.quality, after.age_ns, after.message) == (STAMP, state, 0.75, 5,
                                                                                         "hidden by a tree")
    assert (after.track.id, after.track.state, after.track.last_seen_ns) == (7, track_state, STAMP - 5)
    np.testing.assert_allclose(after.track.xyxy_px, track.xyxy_px)
    np.testing.assert_allclose(after.track.velocity_px_s, track.velocity_px_s)


def test_no_target_needs_no_box():
    before = TargetStatus(STAMP, "NONE", None, 0.0, 0)
    after = convert.target_from_messages(wire(convert.target_status_message(before)), None, convert.ClassNames())
    assert after.track is None and after.state == "NONE"


@pytest.mark.parametrize("scale", list(Scale))
@pytest.mark.parametrize("known", [True, False])
def test_odometry_round_trip(scale, known):
    covariance = np.diag([0.1, 0.2, 0.3, 0.01, 0.02, 0.03]) if known else None
    before = Pose(STAMP, "odom", "base_link", [1.0, -2.0, 3.0], np.array([0.5, 0.5, -0.5, 0.5]), covariance, 3, scale)
    odometry = wire(convert_motion.odometry_message(before))
    status = wire(convert_motion.odometry_status_message(before))
    o = odometry.pose.pose.orientation
    assert (o.x, o.y, o.z, o.w) == (0.5, -0.5, 0.5, 0.5)  # xyzw on the wire
    variance = np.array(odometry.pose.covariance).reshape(6, 6).diagonal()
    if scale is Scale.UNIT or not known:
        assert (variance[:3] == convert_motion.UNKNOWN_VARIANCE).all()
    else:
        np.testing.assert_allclose(variance, covariance.diagonal())
    after = convert_motion.pose_from_messages(odometry, status)
    assert (after.scale, after.reset_counter, after.parent, after.child) == (scale, 3, "odom", "base_link")
    np.testing.assert_array_equal(after.position_m, before.position_m)
    np.testing.assert_array_equal(after.quaternion_wxyz, before.quaternion_wxyz)
    assert (after.covariance is None) == (not known)


def test_transform_is_at_the_image_stamp():
    pose = Pose(STAMP, "odom", "base_link", np.array([1.0, 2, 3]), np.array([1.0, 0, 0, 0]), None, 0, Scale.METRIC)
    transform = wire(convert_motion.transform_message(pose)).transforms[0]
    assert convert.to_ns(transform.header.stamp) == STAMP
    assert (transform.header.frame_id, transform.child_frame_id) == ("odom", "base_link")
    assert (transform.transform.translation.y, transform.transform.rotation.w) == (2.0, 1.0)


def test_points_project_back_to_their_pixels():
    depth = rng.uniform(2, 50, (48, 64)).astype(np.float32)
    valid = rng.random((48, 64)) > 0.3
    cloud = wire(convert_motion.points_message(DepthMap(STAMP, depth, valid, camera())))
    xyz = np.frombuffer(cloud.data, np.float32).reshape(48, 64, 4)[..., :3]
    assert np.isnan(xyz[~valid]).all() and cloud.point_step * cloud.width == cloud.row_step
    uvw = xyz[valid] @ camera().K.T
    v, u = np.nonzero(valid)
    np.testing.assert_allclose(uvw[:, 0] / uvw[:, 2], u, atol=1e-3)
    np.testing.assert_allclose(uvw[:, 1] / uvw[:, 2], v, atol=1e-3)
    np.testing.assert_allclose(xyz[valid][:, 2], depth[valid])


def test_unknown_depth_is_nan_on_the_wire():
    depth = DepthMap(STAMP, np.full((4, 4), 7, np.float32), np.eye(4, dtype=bool), camera())
    image = wire(convert_motion.depth_message(depth))
    values = np.frombuffer(image.data, np.float32).reshape(4, 4)
    assert image.encoding == "32FC1" and (values[np.eye(4, dtype=bool)] == 7).all() and np.isnan(values[0, 1])


def test_obstacles_survive_as_a_scan_that_others_can_read():
    distance = np.full(72, np.nan, np.float32)
    distance[[0, 18, 71]] = 5.0, np.inf, 3.0  # ahead; 90 degrees to the right: free; a little to the left
    message = wire(convert_motion.obstacles_message(Obstacles(STAMP, distance, 0.3, 30.0), "base_link"))
    angle = message.angle_min + message.angle_increment * np.arange(72)  # counter-clockwise, as REP 103 has it
    assert message.ranges[int(np.argmin(np.abs(angle)))] == 5.0
    assert message.ranges[int(np.argmin(np.abs(angle - np.radians(5))))] == 3.0
    assert np.isinf(message.ranges[int(np.argmin(np.abs(angle + np.pi / 2)))])
    back = convert_motion.obstacles_from_message(message)
    np.testing.assert_array_equal(back.distance_m, distance)
    assert back.stamp_ns == STAMP and back.max_m == pytest.approx(30.0)
    message.angle_min = 0.0
    with pytest.raises(RecordError, match="whole turn"):
        convert_motion.obstacles_from_message(message)
