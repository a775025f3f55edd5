"""Frames and units against independent arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uav_perception.errors import RecordError
from uav_perception.flight import codec
from uav_perception.geometry import matrix_from_quaternion, quaternion_from_matrix, so3_exp
from uav_perception.records import CameraModel, Obstacles

number = st.floats(-1e3, 1e3, allow_nan=False)
vector = st.tuples(number, number, number).map(np.array)
rotation = st.tuples(*[st.floats(-1.8, 1.8)] * 3).map(lambda w: so3_exp(np.array(w)))
north = st.booleans()


@given(vector, north)
def test_world_axes_swap_twice_is_nothing(v, aligned):
    assert np.array_equal(codec.swap_world(codec.swap_world(v, aligned), aligned), v)


def test_world_axes_by_name():
    east, north_, up = np.eye(3)
    assert codec.swap_world(north_, True).tolist() == [1, 0, 0]
    assert codec.swap_world(east, True).tolist() == [0, 1, 0]
    assert codec.swap_world(up, True).tolist() == [0, 0, -1]
    forward, left, up = np.eye(3)
    assert codec.swap_world(forward, False).tolist() == [1, 0, 0]
    assert codec.swap_world(left, False).tolist() == [0, -1, 0]
    assert codec.swap_body(up).tolist() == [0, 0, -1]


@given(rotation, vector, north)
def test_attitude_turns_body_vectors_the_same_way(r, v, aligned):
    """R' (swap_body v) == swap_world (R v): the quaternion follows the axes."""
    wire = matrix_from_quaternion(codec.swap_attitude(quaternion_from_matrix(r), aligned))
    assert np.allclose(wire @ codec.swap_body(v), codec.swap_world(r @ v, aligned), atol=1e-8)


@given(rotation, north)
def test_attitude_swap_twice_is_nothing(r, aligned):
    q = quaternion_from_matrix(r)
    wire = codec.swap_attitude(q, aligned)
    back = quaternion_from_matrix(codec._world(aligned).T @ matrix_from_quaternion(wire) @ codec.FRD_FROM_FLU)
    assert np.allclose(matrix_from_quaternion(back), r, atol=1e-9)
    assert wire[0] >= 0


def test_heading_north_in_enu_is_no_yaw_in_ned():
    nose_north = quaternion_from_matrix(so3_exp([0, 0, math.pi / 2]))  # body x along ENU y
    assert np.allclose(codec.swap_attitude(nose_north, True), [1, 0, 0, 0], atol=1e-12)


@given(st.lists(number, min_size=36, max_size=36), north, vector, vector)
def test_covariance_follows_the_vectors(values, aligned, t, w):
    """The variance along any direction is the same before and after."""
    a = np.array(values).reshape(6, 6) / 1e3
    cov = a @ a.T
    direction = np.concatenate([t, w])
    moved = np.concatenate([codec.swap_world(t, aligned), codec.swap_world(w, aligned)])
    assert np.isclose(moved @ codec.swap_covariance(cov, aligned) @ moved, direction @ cov @ direction,
                      rtol=1e-9, atol=1e-6)


def test_upper_triangle_is_row_major_and_nan_first_when_unknown():
    cov = np.arange(36.0).reshape(6, 6)
    assert codec.upper_triangle(cov) == [float(cov[i, j]) for i in range(6) for j in range(i, 6)]
    unknown = codec.upper_triangle(None)
    assert len(unknown) == 21 and math.isnan(unknown[0]) and not any(unknown[1:])


K = np.array([[800.0, 0, 640], [0, 820, 360], [0, 0, 1]])


@given(st.floats(0, 1200), st.floats(0, 680), st.floats(2, 80), st.floats(2, 40))
def test_target_angles_without_distortion(x, y, w, h):
    camera = CameraModel(K, np.zeros(5), 1280, 720)
    ax, ay, sx, sy = codec.target_angles([x, y, x + w, y + h], camera)
    assert math.isclose(ax, math.atan2(x + w / 2 - 640, 800), abs_tol=1e-6)
    assert math.isclose(ay, math.atan2(y + h / 2 - 360, 820), abs_tol=1e-6)
    assert math.isclose(sx, math.atan2(x + w - 640, 800) - math.atan2(x - 640, 800), abs_tol=1e-6)
    assert math.isclose(sy, math.atan2(y + h - 360, 820) - math.atan2(y - 360, 820), abs_tol=1e-6)


def test_target_angles_take_distortion_out():
    import cv2

    camera = CameraModel(K, np.array([-0.2, 0.05, 0.001, -0.001, 0.0]), 1280, 720)
    ray = np.array([[0.35, -0.2, 1.0]])
    pixel = cv2.projectPoints(ray, np.zeros(3), np.zeros(3), camera.K, camera.distortion)[0].reshape(2)
    ax, ay, _, _ = codec.target_angles([*(pixel - 1), *(pixel + 1)], camera)
    assert ax == pytest.approx(math.atan(0.35), abs=1e-4)
    assert ay == pytest.approx(math.atan(-0.2), abs=1e-4)


fraction = st.floats(0, 1)


@given(st.tuples(fraction, fraction, fraction, fraction), st.integers(16, 4000), st.integers(16, 4000))
def test_rectangle_to_pixels_and_back(f, width, height):
    box = codec.pixel_box(f, width, height)
    assert box[0] <= box[2] and box[1] <= box[3]
    back = codec.normalised_box(box, width, height)
    assert np.allclose(back, [min(f[0], f[2]), min(f[1], f[3]), max(f[0], f[2]), max(f[1], f[3])], atol=1e-9)


@given(st.tuples(number, number, number, number))
def test_normalised_boxes_stay_in_the_image(box):
    assert all(0.0 <= v <= 1.0 for v in codec.normalised_box(box, 640, 480))


@pytest.mark.parametrize("bad", [[0.1, 0.2, 0.3], [0, 0, 1, float("nan")], [0, 0, 1.2, 1], [-0.1, 0, 1, 1]])
def test_impossible_rectangles_are_refused(bad):
    with pytest.raises(RecordError, match="fractions"):
        codec.pixel_box(bad, 640, 480)


def test_obstacles_are_centimetres_free_or_unknown():
    distance = np.full(72, np.nan, np.float32)
    distance[[0, 1, 71]] = 5.004, np.inf, 0.3
    said = codec.obstacles_cm(Obstacles(0, distance, 0.3, 20.0))
    assert [said[0], said[1], said[71]] == [500, 2001, 30]
    assert said[2:71] == [codec.UNKNOWN_CM] * 69


def test_another_number_of_sectors_is_refused():
    with pytest.raises(RecordError, match="36 obstacle sectors"):
        codec.obstacles_cm(Obstacles(0, np.ones(36, np.float32), 0.3, 20.0))
