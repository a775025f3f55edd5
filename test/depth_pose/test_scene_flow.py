from __future__ import annotations

import numpy as np
import pytest

from uav_perception.depth_pose.scene_flow import SMOOTHED_S, SceneFlow, object_velocity
from uav_perception.geometry import project, se3, so3_exp
from uav_perception.records import CameraModel, DepthMap, EgoMotion, Scale, Track, TrackState


@pytest.mark.parametrize("own", [0.0, 4.0])
def test_velocity_of_a_tracked_object_over_a_moving_camera(own: float) -> None:
    camera = CameraModel(np.array([[500.0, 0, 320], [0, 500.0, 240], [0, 0, 1]]), np.zeros(5), 640, 480)
    dt, motion = 0.1, se3(so3_exp([0, 0.01, 0.0]), [-0.5, 0.1, 0.0])
    before = np.array([[2.0, 1.0, 30.0]])
    after = (before + np.array([own * dt, 0, 0])) @ motion[:3, :3].T + motion[:3, 3]
    p0, p1 = project(before, camera.K)[0], project(after, camera.K)[0]
    velocity = object_velocity(p1, (p1 - p0) / dt, float(after[0, 2]), camera, motion, dt)
    np.testing.assert_allclose(velocity, [own, 0, 0], atol=0.06)


def test_a_velocity_is_smoothed_and_forgotten_with_its_track() -> None:
    """A camera at rest 20 m over ground; the object begins to go at 5 m/s, is lost, and comes back."""
    camera = CameraModel(np.array([[500.0, 0, 320], [0, 500.0, 240], [0, 0, 1]]), np.zeros(5), 640, 480)
    depth = DepthMap(2 * 10**8, np.full((240, 320), 20.0, np.float32), np.ones((240, 320), bool), camera)
    ego = EgoMotion(10**8, 2 * 10**8, np.eye(4), None, Scale.METRIC, 100)
    flow = SceneFlow()

    def seen(speed_m_s: float) -> dict[int, np.ndarray]:
        box, velocity = np.array([300.0, 200, 340, 240]), np.array([speed_m_s * 500 / 20, 0.0])
        return flow(depth, ego, camera, [Track(2 * 10**8, 7, TrackState.TRACKED, box, velocity, 1.0, 0, 2 * 10**8)])

    np.testing.assert_allclose(seen(0.0)[7], 0, atol=1e-9)
    np.testing.assert_allclose(seen(5.0)[7], [5.0 * 0.1 / SMOOTHED_S, 0, 0], atol=1e-9)
    assert flow(depth, ego, camera, []) == {}
    np.testing.assert_allclose(seen(5.0)[7], [5.0, 0, 0], atol=1e-9)
