from __future__ import annotations

import numpy as np
import pytest

from uav_perception.depth_pose.scale import Plane
from uav_perception.depth_pose.terrain import KEPT, Terrain
from uav_perception.geometry import BODY_FROM_OPTICAL, se3, se3_inverse, so3_exp
from uav_perception.records import F64

PITCH = np.radians(20)
HEIGHT = 9.0


def camera(x: float) -> F64:
    """world_from_camera, 9 above the origin's ground, looking along x and 20 degrees down."""
    return se3(so3_exp([0, PITCH, 0]) @ BODY_FROM_OPTICAL, np.array([x, 0.0, HEIGHT]))


def ground(x: F64) -> F64:
    """Level up to 4 ahead of the origin; from there it falls by 4 %."""
    return -0.04 * np.maximum(x - 4, 0)


def seen(at: F64, rng: np.random.Generator, count: int = 60) -> tuple[F64, F64, F64]:
    """Normalised places, inverse depths, sigmas of chance points on the ground, 10 to 30 ahead of the camera."""
    x = at[0, 3] + rng.uniform(10, 30, count)
    world = np.column_stack([x, rng.uniform(-6, 6, count), ground(x) + rng.normal(0, 0.03, count)])
    back = se3_inverse(at)
    points = world @ back[:3, :3].T + back[:3, 3]
    rho = 1 / points[:, 2]
    return points[:, :2] * rho[:, None], rho, 0.01 * rho


def plane(at: F64, lower: float) -> Plane:
    """Level ground ``lower`` than below the origin, as it is in view."""
    return Plane(at[:3, :3].T @ np.array([0.0, 0, 1]), HEIGHT + lower, 50, 0.05)


def test_ground_that_falls_ahead_is_not_what_lies_below() -> None:
    rng, terrain = np.random.default_rng(0), Terrain()
    for k in range(40):
        at = camera(0.5 * k)
        view = plane(at, -float(ground(np.array([at[0, 3] + 18]))[0]))
        terrain.add(np.arange(60 * k, 60 * k + 60), *seen(at, rng), view, at)
        found = terrain.height(view, at)
        true = HEIGHT - float(ground(at[0, 3:4])[0])
        assert abs(found / true - 1) < abs(view.height / true - 1) - 0.01
        if k > 25:  # what is below has been seen from all sides
            assert found == pytest.approx(true, rel=0.01)


def test_where_nothing_was_seen_it_is_the_plane_in_view() -> None:
    terrain, at = Terrain(), camera(0.0)
    view = plane(at, 0.4)
    assert terrain.height(view, at) == pytest.approx(view.height, abs=1e-12)
    rng = np.random.default_rng(1)
    terrain.add(np.arange(60), *seen(at, rng), view, at)
    assert terrain.height(view, at) != pytest.approx(view.height, abs=1e-3)
    far = camera(100.0)
    assert terrain.height(plane(far, 0.4), far) == pytest.approx(view.height, abs=1e-9)
    terrain.reset()
    assert terrain.height(view, at) == pytest.approx(view.height, abs=1e-12)


def test_roofs_and_unsure_points_are_no_ground_and_a_point_is_kept_once() -> None:
    terrain, at, rng = Terrain(), camera(0.0), np.random.default_rng(2)
    view = plane(at, 0.0)
    xy, rho, sigma = seen(at, rng)
    terrain.add(np.arange(60), xy, 1.3 * rho, sigma, view, at)  # nearer: a third of the height above the ground
    terrain.add(np.arange(60), xy, rho, 0.2 * rho, view, at)
    assert terrain.height(view, at) == pytest.approx(view.height, abs=1e-12)
    for _ in range(3):
        terrain.add(np.arange(60), xy, rho, sigma, view, at)
    assert 0 < len(terrain._ids) == len(np.unique(terrain._ids)) == len(terrain._points) <= 60
    for k in range(800):
        terrain.add(1000 + np.arange(60 * k, 60 * k + 60), xy, rho, sigma, view, at)
    assert len(terrain._ids) == KEPT and terrain._ids[-1] >= 1000 + 60 * 799
