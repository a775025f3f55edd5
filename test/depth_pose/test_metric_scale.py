from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uav_perception.depth_pose.scale import MetricScale, Plane, fit_ground
from uav_perception.geometry import so3_exp
from uav_perception.records import CameraModel, Scale

UP = np.array([0.0, -1.0, 0.0])  # optical axes: y down


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.floats(0.5, 80.0), st.floats(-0.25, 0.25), st.floats(-0.25, 0.25))
def test_ground_is_found_among_outliers(seed: int, height: float, roll: float, pitch: float) -> None:
    rng = np.random.default_rng(seed)
    tilt = so3_exp([pitch, 0, roll])
    flat = np.column_stack([rng.uniform(-2, 2, 150), np.ones(150), rng.uniform(1, 5, 150)]) * height
    points = (flat + rng.normal(0, 0.005 * height, flat.shape)) @ tilt.T
    clutter = rng.uniform([-2, -1, 1], [2, 0.7, 5], (60, 3)) * height @ tilt.T
    plane = fit_ground(np.vstack([points, clutter]), UP, tilt_max_rad=0.5)
    assert plane is not None
    assert abs(plane.height / height - 1) < 0.02
    assert plane.normal @ (tilt @ UP) > np.cos(0.02)


def test_walls_and_ceilings_are_not_ground() -> None:
    rng = np.random.default_rng(1)
    wall = np.column_stack([rng.uniform(-2, 2, 100), rng.uniform(-2, 2, 100), np.full(100, 4.0)])
    ceiling = np.column_stack([rng.uniform(-2, 2, 100), np.full(100, -1.5), rng.uniform(1, 5, 100)])
    assert fit_ground(wall, UP, tilt_max_rad=0.4) is None
    assert fit_ground(ceiling, UP, tilt_max_rad=0.4) is None
    assert fit_ground(wall[:5], UP, tilt_max_rad=0.4) is None


@pytest.mark.parametrize(("leaning", "level"), [(75, True), (300, False)])
def test_of_planes_that_hold_about_as_much_the_one_as_mounted_is_ground(leaning: int, level: bool) -> None:
    """A bank beside the road holds some more points than the road; but where nearly all lean, it is the aircraft."""
    rng = np.random.default_rng(4)

    def plane(count: int, height: float) -> np.ndarray:
        z = rng.uniform(12, 40, count)
        return np.column_stack([rng.uniform(-0.5, 0.5, count) * z, height + rng.normal(0, 0.05, count), z])

    lean = so3_exp([0.0, 0.0, np.radians(12)])
    found = fit_ground(np.vstack([plane(60, 10.0), plane(leaning, 7.0) @ lean.T]), UP, tilt_max_rad=0.4)
    assert found is not None
    assert found.height == pytest.approx(10.0 if level else 7.0, abs=0.3)
    assert found.normal @ (UP if level else lean @ UP) > np.cos(0.02)


def feed(scale: MetricScale, height_m: float | None, units: float, start_ns: int, count: int) -> list[bool]:
    jumps = []
    for k in range(count):
        stamp = start_ns + k * 10**8
        scale.add_height(stamp, height_m, units)
        jumps.append(scale.settle(stamp))
    return jumps


def test_height_gives_metres_after_three_samples_and_says_so_once() -> None:
    scale = MetricScale()
    assert feed(scale, 20.0, 0.5, 0, 6) == [False, False, True, False, False, False]
    assert scale.state is Scale.METRIC and scale.metres_per_unit == pytest.approx(40.0)
    assert scale.relative_sigma < 0.05


def test_a_young_run_that_changes_its_mind_gives_no_metres_yet() -> None:
    """The first samples of an orbit, logarithms of the true factor: three that agree by chance do not count."""
    scale, off = MetricScale(), [18, 14, 15, 24, 45, 41, 12, 27, 7, 5, 3, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]
    errors = []
    for k, percent in enumerate(off):
        scale.add_height(k * 50_000_000, 20.0, 20.0 / float(np.exp(percent / 100)))
        scale.settle(k * 50_000_000)
        if scale.metres_per_unit is not None:
            errors.append(abs(np.log(scale.metres_per_unit)))
    assert errors and max(errors) < 0.1 and errors[-1] < 0.02


def test_metres_are_held_through_a_short_dropout_and_withdrawn_after_a_long_one() -> None:
    scale = MetricScale(hold_s=2.0)
    feed(scale, 20.0, 0.5, 0, 6)
    assert not scale.settle(15 * 10**8) and scale.state is Scale.METRIC
    assert scale.settle(40 * 10**8) and scale.state is Scale.UNIT and scale.metres_per_unit is None
    jumps = feed(scale, 20.0, 0.5, 50 * 10**8, 4)
    assert jumps[2] and scale.state is Scale.METRIC


@pytest.mark.parametrize("height", [None, float("nan"), -3.0, 0.0, float("inf")])
def test_impossible_heights_give_no_metres(height: float | None) -> None:
    scale = MetricScale()
    feed(scale, height, 0.5, 0, 10)
    assert scale.state is Scale.UNIT


def test_a_changed_scale_is_a_jump_and_disagreement_is_no_scale() -> None:
    scale = MetricScale()
    feed(scale, 20.0, 0.5, 0, 15)
    assert any(feed(scale, 20.0, 0.25, 15 * 10**8, 15))
    assert scale.metres_per_unit == pytest.approx(80.0)
    noisy = MetricScale()
    for k in range(12):
        noisy.add_height(k * 10**8, 20.0, 0.5 if k % 2 else 1.0)
        noisy.settle(k * 10**8)
    assert noisy.state is Scale.UNIT


def test_navigation_needs_real_motion() -> None:
    scale = MetricScale(nav_motion_min_m=1.0)
    for k in range(20):
        scale.add_navigation(k * 10**8, [0.01 * k, 0, 0], np.array([0.1 * k, 0, 0]))
        scale.settle(k * 10**8)
    assert scale.state is Scale.UNIT
    for k in range(20, 100):
        scale.add_navigation(k * 10**8, [0.5 * k, 0, 0], np.array([0.1 * k, 0, 0]))
        scale.settle(k * 10**8)
    assert scale.metres_per_unit == pytest.approx(5.0, rel=0.05)


def test_the_ground_is_linear_in_the_image_of_its_inverse_depth():
    camera = CameraModel(np.array([[400.0, 0, 310], [0, 420, 250], [0, 0, 1]]), np.zeros(5), 640, 480)
    tilted = Plane(np.array([0.1, -0.9, -0.42]) / np.linalg.norm([0.1, -0.9, -0.42]), 7.0, 0, 0.0)
    px = np.array([[5.0, 470], [320, 400], [600, 300]])
    rays = np.column_stack([(px - [310, 250]) / [400, 420], np.ones(3)])
    depth = -tilted.height / (rays @ tilted.normal)
    uv = (px + 0.5) / [640, 480]
    np.testing.assert_allclose(np.column_stack([uv, np.ones(3)]) @ tilted.inverse_depth(camera), 1 / depth)
