from __future__ import annotations

import cv2
import numpy as np
from depth_scenes import CAMERA, Rendered

from uav_perception.depth_pose.photometric import align, point_jacobian
from uav_perception.geometry import project, se3_exp, so3_log


def test_jacobian_matches_finite_differences() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform([-2, -1, 2], [2, 1, 9], (40, 3))
    analytic = point_jacobian(points, CAMERA.K)
    eps = 1e-6
    for k in range(6):
        twist = np.zeros(6)
        twist[k] = eps
        moved = points @ se3_exp(twist)[:3, :3].T + se3_exp(twist)[:3, 3]
        numeric = (project(moved, CAMERA.K) - project(points, CAMERA.K)) / eps
        np.testing.assert_allclose(numeric, analytic[:, :, k], atol=2e-3)


def grey(flight: Rendered, k: int) -> np.ndarray:
    return cv2.cvtColor(flight.frames[k].image, cv2.COLOR_BGR2GRAY)


def test_motion_over_known_depth_is_recovered_through_an_exposure_change(flight: Rendered) -> None:
    brighter = cv2.convertScaleAbs(grey(flight, 4), alpha=0.85, beta=12)
    found = align(grey(flight, 3), brighter, flight.depth[3], CAMERA.K, flight.motion(3))
    assert found is not None and found.agreement > 0.6
    error = found.cur_from_prev @ np.linalg.inv(flight.motion(4))
    assert np.degrees(np.linalg.norm(so3_log(error[:3, :3]))) < 0.25
    assert np.linalg.norm(error[:3, 3]) < 0.09  # of 0.4 m
    assert (np.linalg.eigvalsh(found.covariance) > 0).all()


def test_nothing_is_claimed_without_texture_or_depth(flight: Rendered) -> None:
    flat = np.full((192, 256), 90, np.uint8)
    assert align(flat, flat, flight.depth[0], CAMERA.K, np.eye(4)) is None
    unknown = np.full((192, 256), np.nan, np.float32)
    assert align(grey(flight, 0), grey(flight, 1), unknown, CAMERA.K, np.eye(4)) is None
