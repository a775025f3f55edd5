from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from uav_perception.depth_pose.bundle import Window, jacobians, residuals, solve, transform_points
from uav_perception.geometry import se3, se3_inverse, so3_exp, so3_log


def scene(seed: int, cameras: int = 5, points: int = 60, noise: float = 0.0) -> tuple[Window, np.ndarray]:
    """A window at its truth (up to ``noise`` in the measurements) and the true points."""
    rng = np.random.default_rng(seed)
    true = rng.uniform([-0.6, -0.4, 0.1], [0.6, 0.4, 0.5], (points, 3))
    rotation = np.stack([so3_exp(rng.normal(0, 0.02, 3) * j) for j in range(cameras)])
    translation = np.stack([np.array([0.15, 0.03, 0.1]) * j + rng.normal(0, 0.01, 3) * (j > 0) for j in range(cameras)])
    camera, point = (v.ravel() for v in np.meshgrid(np.arange(cameras), np.arange(points), indexing="ij"))
    count = len(camera)
    w = Window(rotation, translation, true.copy(), camera, point, np.zeros((count, 2)), np.full(count, 1e-3))
    w.xy = residuals(w) + rng.normal(0, noise, (len(camera), 2)) if noise else residuals(w)
    return w, true


def test_jacobians_match_finite_differences() -> None:
    w, _ = scene(1)
    r, pose, point = jacobians(w)
    eps = 1e-6
    for k in range(6):
        step = np.zeros(6)
        step[k] = eps
        turned = np.stack([so3_exp(step[3:]) @ m for m in w.rotation])
        moved = Window(turned, w.translation + step[:3], w.points, w.camera, w.point, w.xy, w.sigma)
        np.testing.assert_allclose((residuals(moved) - r) / eps, pose[:, :, k], atol=1e-4)
    for k in range(3):
        shifted = w.points.copy()
        shifted[:, k] += eps
        moved = Window(w.rotation, w.translation, shifted, w.camera, w.point, w.xy, w.sigma)
        np.testing.assert_allclose((residuals(moved) - r) / eps, point[:, :, k], atol=1e-4)


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_points_seen_from_elsewhere_come_back(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = np.column_stack([rng.uniform(-0.5, 0.5, (30, 2)), rng.uniform(0.05, 1.0, 30)])
    pose = se3(so3_exp(rng.normal(0, 0.2, 3)), rng.normal(0, 0.3, 3))
    there = transform_points(points, pose[:3, :3], pose[:3, 3])
    back = se3_inverse(pose)
    np.testing.assert_allclose(transform_points(there, back[:3, :3], back[:3, 3]), points, atol=1e-7)


def test_disturbed_window_returns_to_truth_up_to_size() -> None:
    w, true = scene(2)
    rotation, translation = w.rotation.copy(), w.translation.copy()
    rng = np.random.default_rng(3)
    w.rotation[1:] = np.stack([so3_exp(rng.normal(0, 0.01, 3)) @ m for m in w.rotation[1:]])
    w.translation[1:] += rng.normal(0, 0.03, w.translation[1:].shape)
    w.points[:, 2] *= np.exp(rng.normal(0, 0.2, len(w.points)))
    w.rho_prior = 1e3
    solve(w, 60)
    size = np.median(w.points[:, 2] / true[:, 2])
    np.testing.assert_allclose(w.translation * size, translation, atol=2e-3)
    assert max(np.linalg.norm(so3_log(a.T @ b)) for a, b in zip(w.rotation, rotation, strict=True)) < 5e-4


def test_size_of_the_window_is_free() -> None:
    w, _ = scene(4)
    scaled = Window(w.rotation, w.translation * 3.0, w.points * [1, 1, 1 / 3.0], w.camera, w.point, w.xy, w.sigma)
    np.testing.assert_allclose(residuals(scaled), residuals(w), atol=1e-12)


def test_fixed_cameras_stay_and_outliers_do_not_pull() -> None:
    w, _ = scene(5, noise=2e-4)
    fixed = w.translation[:3].copy()
    last = w.translation[-1].copy()
    w.xy[::17] += 0.2
    solve(w, 20, free_from=3)
    np.testing.assert_array_equal(w.translation[:3], fixed)
    assert np.linalg.norm(w.translation[-1] - last) < 0.02


def test_measurements_keep_their_order_and_residuals_belong_to_them() -> None:
    w, _ = scene(6, noise=1e-4)
    shuffle = np.random.default_rng(0).permutation(len(w.xy))
    w.camera, w.point, w.xy = w.camera[shuffle], w.point[shuffle], w.xy[shuffle]
    w.xy[7] += 0.1
    before = w.xy.copy()
    solution = solve(w, 5)
    np.testing.assert_array_equal(w.xy, before)
    assert solution.residual.argmax() == 7


def test_a_far_point_is_known_less_well_than_a_near_one() -> None:
    w, _ = scene(7)
    w.points[0, 2], w.points[1, 2] = 1e-3, 0.5
    w.xy = np.zeros_like(w.xy)
    w.xy = residuals(w)
    sigma = solve(w, 3).rho_sigma / w.points[:, 2]
    assert sigma[0] > 20 * sigma[1]
