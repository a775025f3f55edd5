from __future__ import annotations

import numpy as np
import pytest

from uav_perception.depth_pose.two_view import Motion, estimate_two_view, fit_rotation, rotate_xy, triangulate
from uav_perception.geometry import so3_exp, so3_log

FOCAL = 500.0


def pairs(seed: int, rotation: np.ndarray, translation: np.ndarray, plane: bool = False, noise_px: float = 0.1
          ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    xy0 = rng.uniform([-0.6, -0.4], [0.6, 0.4], (200, 2))
    rho = 0.2 + 0.1 * xy0[:, 1] - 0.05 * xy0[:, 0] if plane else rng.uniform(0.1, 0.5, 200)
    x = np.column_stack([xy0, np.ones(200)]) @ rotation.T + rho[:, None] * translation
    return xy0, x[:, :2] / x[:, 2:] + rng.normal(0, noise_px / FOCAL, (200, 2)), rho


def test_standstill_and_pure_rotation_report_no_translation() -> None:
    still = estimate_two_view(*pairs(0, np.eye(3), np.zeros(3), noise_px=0.02)[:2], FOCAL, 0.15, 1.0)
    assert still.motion is Motion.STILL and not still.candidates
    turn = so3_exp([0.01, 0.03, -0.02])
    turned = estimate_two_view(*pairs(1, turn, np.zeros(3))[:2], FOCAL, 0.15, 1.0)
    assert turned.motion is Motion.ROTATION and not turned.candidates
    assert np.linalg.norm(so3_log(turned.rotation.T @ turn)) < 2e-4


@pytest.mark.parametrize("plane", [False, True])
def test_one_candidate_is_the_true_motion(plane: bool) -> None:
    rotation, translation = so3_exp([0.01, -0.02, 0.005]), np.array([0.3, -0.05, 0.2])
    xy0, xy1, _ = pairs(2, rotation, translation, plane)
    found = estimate_two_view(xy0, xy1, FOCAL, 0.15, 1.0)
    assert found.motion is (Motion.PLANE if plane else Motion.GENERAL)
    unit = translation / np.linalg.norm(translation)
    errors = [max(np.linalg.norm(so3_log(r.T @ rotation)), 0.2 * np.linalg.norm(t - unit)) for r, t in found.candidates]
    assert min(errors) < 0.01


def test_rotation_fit_shrugs_off_outliers() -> None:
    turn = so3_exp([0.02, 0.05, -0.01])
    xy0, xy1, _ = pairs(3, turn, np.zeros(3))
    xy1[::5] += 0.1
    assert np.linalg.norm(so3_log(fit_rotation(xy0, xy1).T @ turn)) < 2e-3
    np.testing.assert_allclose(rotate_xy(rotate_xy(xy0, turn), turn.T), xy0, atol=1e-12)


def test_triangulation_is_exact_without_noise() -> None:
    rotation, translation = so3_exp([0.0, 0.03, 0.01]), np.array([0.2, 0.1, -0.3])
    xy0, xy1, rho = pairs(4, rotation, translation, noise_px=0.0)
    np.testing.assert_allclose(triangulate(xy0, xy1, rotation, translation), rho, rtol=1e-9)


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_what_a_plane_allows_is_offered_even_if_much_stands_on_it(seed: int) -> None:
    rotation, translation = so3_exp([0.01, -0.02, 0.005]), np.array([0.15, -0.025, 0.1])
    rng = np.random.default_rng(seed)
    xy0 = rng.uniform([-0.6, -0.4], [0.6, 0.4], (200, 2))
    rho = 0.2 + 0.1 * xy0[:, 1] - 0.05 * xy0[:, 0] + np.where(rng.random(200) < 0.45, rng.uniform(0.02, 0.08, 200), 0)
    x = np.column_stack([xy0, np.ones(200)]) @ rotation.T + rho[:, None] * translation
    xy1 = x[:, :2] / x[:, 2:] + rng.normal(0, 0.1 / FOCAL, (200, 2))
    found = estimate_two_view(xy0, xy1, FOCAL, 0.15, 1.0)
    unit = translation / np.linalg.norm(translation)
    off = [np.linalg.norm(so3_log(r.T @ rotation)) + np.linalg.norm(t - unit) for r, t in found.candidates]
    assert found.motion is Motion.GENERAL
    assert off[0] < 0.05 and min(off[1:]) < 0.3  # the essential matrix's, and one of the plane's about as good
