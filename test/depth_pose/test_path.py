from __future__ import annotations

import numpy as np

from uav_perception.depth_pose.path import Path
from uav_perception.depth_pose.scale import MetricScale
from uav_perception.depth_pose.structure import Step
from uav_perception.depth_pose.two_view import Motion
from uav_perception.geometry import BODY_FROM_OPTICAL, matrix_from_quaternion, se3, se3_exp, se3_inverse, so3_exp
from uav_perception.records import F64, Scale

MOUNT = se3(so3_exp([0.0, 0.5, 0.0]) @ BODY_FROM_OPTICAL, np.array([0.2, 0.0, -0.1]))


def step(cur_from_prev: F64 | None, revision: F64 | None = None) -> Step:
    none = np.zeros((0, 2))
    return Step(Motion.GENERAL, cur_from_prev, np.eye(4), 1e-4 * np.eye(6), 20, none, none, np.zeros(0), np.zeros(0),
                np.zeros(0, np.int64), 0.1, revision=revision)


def metric(metres_per_unit: float) -> MetricScale:
    scale = MetricScale()
    for k in range(5):
        scale.add_height(k * 10**8, metres_per_unit, 1.0)
        scale.settle(k * 10**8)
    assert scale.state is Scale.METRIC
    return scale


def test_metric_motions_of_the_camera_move_the_body_it_is_mounted_on() -> None:
    rng, path, scale = np.random.default_rng(0), Path(MOUNT), metric(3.0)
    world = np.eye(4)  # of the first camera, from the newest
    for k in range(6):
        motion = se3_exp(rng.normal(0, 0.2, 6))
        ego = path.follow(step(motion), k, k + 1, scale)
        metres = se3(motion[:3, :3], 3.0 * motion[:3, 3])
        assert ego is not None and ego.scale is Scale.METRIC
        np.testing.assert_allclose(ego.to_from, metres)
        world = world @ se3_inverse(metres)
    pose = path.pose(9, Scale.METRIC)
    wanted = MOUNT @ world @ se3_inverse(MOUNT)
    np.testing.assert_allclose(se3(matrix_from_quaternion(pose.quaternion_wxyz), pose.position_m), wanted, atol=1e-9)
    assert path.follow(step(None), 9, 10, scale) is None and path.follow(step(np.eye(4)), None, 10, scale) is None
    np.testing.assert_array_equal(path.pose(10, Scale.METRIC).position_m, pose.position_m)


def test_what_is_unsure_grows_and_is_told_by_the_counter() -> None:
    path, unknown = Path(MOUNT), MetricScale()
    moved = se3(np.eye(3), np.array([0.0, 0, -2.0]))
    spreads = [0.0]
    for change in (lambda: path.follow(step(moved), 0, 1, unknown), path.lost, path.jumped):
        change()
        pose = path.pose(1, Scale.UNIT)
        assert pose.covariance is not None
        spreads.append(float(np.trace(pose.covariance)))
    assert spreads == sorted(set(spreads)) and path.resets == 2
    before = path.pose(1, Scale.UNIT).position_m
    path.change_unit(5.0)
    np.testing.assert_allclose(path.pose(1, Scale.UNIT).position_m, 5 * before)
    path.follow(step(np.eye(4), revision=moved), 1, 2, unknown)
    np.testing.assert_allclose(path.pose(2, Scale.UNIT).position_m, 4 * before, atol=1e-12)  # it had moved back
    assert path.resets == 3
