from __future__ import annotations

import cv2
import numpy as np
import pytest
from depth_scenes import CAMERA, Rendered

from uav_perception.depth_pose.products import (
    level_plane,
    obstacle_sectors,
    pixel_rays,
    point_cloud,
    rigid_flow,
    scaled_camera,
)
from uav_perception.errors import RecordError
from uav_perception.geometry import BODY_FROM_OPTICAL, backproject, project, se3, se3_inverse, so3_exp
from uav_perception.records import DepthMap, RelativeDepth


def test_rigid_flow_is_where_each_point_was(flight: Rendered) -> None:
    depth, motion = flight.depth[5], flight.motion(5)
    flow = rigid_flow(depth, CAMERA, motion)
    rng = np.random.default_rng(0)
    px = np.column_stack([rng.integers(5, 250, 40), rng.integers(5, 185, 40)])
    z = depth[px[:, 1], px[:, 0]]
    before = backproject(px, z, CAMERA.K) @ se3_inverse(motion)[:3, :3].T + se3_inverse(motion)[:3, 3]
    np.testing.assert_allclose(flow[px[:, 1], px[:, 0]], px - project(before, CAMERA.K), atol=2e-3)


def test_warping_by_rigid_flow_reproduces_the_picture(flight: Rendered) -> None:
    a, b = (cv2.cvtColor(flight.frames[k].image, cv2.COLOR_BGR2GRAY).astype(np.float32) for k in (4, 5))
    flow = rigid_flow(flight.depth[5], CAMERA, flight.motion(5))
    u, v = np.meshgrid(np.arange(256, dtype=np.float32), np.arange(192, dtype=np.float32))
    inner = (slice(30, -30), slice(30, -30))
    warped = cv2.remap(a, u - flow[..., 0], v - flow[..., 1], cv2.INTER_LINEAR)
    assert np.abs(warped - b)[inner].mean() < 0.4 * np.abs(a - b)[inner].mean()


def test_level_plane_is_the_depth_of_flat_ground() -> None:
    pose = se3(so3_exp([0, np.radians(50), 0]) @ BODY_FROM_OPTICAL, [0.0, 0, 7.0])
    rho = level_plane(CAMERA, pose[:3, :3].T @ np.array([0.0, 0, 1]))
    assert rho is not None
    points = (pixel_rays(CAMERA) * (7.0 / rho)[..., None]) @ pose[:3, :3].T + pose[:3, 3]
    np.testing.assert_allclose(points[..., 2], 0, atol=1e-4)
    assert level_plane(CAMERA, np.array([0.0, -1, 0])) is None  # looks at the horizon


def test_level_ground_ends_at_a_horizon_in_view() -> None:
    tilt = np.radians(15)
    rho = level_plane(CAMERA, np.array([0.0, -np.cos(tilt), -np.sin(tilt)]))
    assert rho is not None
    v = np.arange(CAMERA.height_px)
    below = (v - CAMERA.K[1, 2]) / CAMERA.K[1, 1] * np.cos(tilt) + np.sin(tilt)  # one unit down along the ray
    np.testing.assert_allclose(rho[:, 10], np.maximum(below, 0.02), atol=1e-5)
    assert rho[0, 0] == np.float32(0.02)


def box_depth(distance: float) -> DepthMap:
    """A wall ``distance`` ahead over the middle of the picture, open beyond 90 m elsewhere."""
    depth = np.full((192, 256), 90.0, np.float32)
    depth[:, 100:156] = distance
    return DepthMap(1, depth, np.ones(depth.shape, bool), CAMERA)


LIMITS = {"min_m": 0.3, "max_m": 60.0, "half_height_m": 1.0}


def test_obstacles_lie_in_the_sector_they_are_seen_in() -> None:
    sectors = obstacle_sectors(box_depth(5.0), se3(BODY_FROM_OPTICAL, np.zeros(3)), **LIMITS).distance_m
    assert sectors.shape == (72,)
    assert sectors[0] == pytest.approx(5.0, rel=0.02)
    assert np.isnan(sectors[36]) and np.isnan(sectors[18])  # behind and beside: not seen, so not said
    assert np.isinf(sectors[5])  # 25 degrees to the right: seen and free
    right = se3(so3_exp([0, 0, -np.pi / 2]) @ BODY_FROM_OPTICAL, np.zeros(3))
    turned = obstacle_sectors(box_depth(5.0), right, **LIMITS).distance_m
    assert turned[18] == pytest.approx(5.0, rel=0.02)  # a camera looking right fills sector 18 (90 degrees clockwise)


def test_an_obstacle_right_of_the_middle_is_clockwise() -> None:
    depth = np.full((192, 256), 90.0, np.float32)  # beyond reach: free
    depth[90:102, 190:206] = 4.0
    sectors = obstacle_sectors(DepthMap(1, depth, depth > 0, CAMERA), se3(BODY_FROM_OPTICAL, np.zeros(3)), **LIMITS)
    there = round(np.degrees(np.arctan2(198 - CAMERA.K[0, 2], CAMERA.K[0, 0])) / 5)
    assert there > 0 and 4.0 <= sectors.distance_m[there] <= 5.2
    assert np.isinf(sectors.distance_m[-there])  # the same angle to the left


def test_what_is_above_the_band_is_no_obstacle() -> None:
    up = so3_exp([0, -np.radians(60), 0]) @ BODY_FROM_OPTICAL
    sectors = obstacle_sectors(box_depth(5.0), se3(up, np.zeros(3)), min_m=0.3, max_m=60.0, half_height_m=0.5)
    assert not np.isfinite(sectors.distance_m).any()


def test_a_wall_is_farther_to_the_sides_and_what_is_not_valid_is_unknown() -> None:
    """A fronto-parallel wall at 5 m: 5 / cos(azimuth) in whole sectors of the field of view."""
    wall = DepthMap(1, np.full((192, 256), 5.0, np.float32), np.ones((192, 256), bool), CAMERA)
    sectors = obstacle_sectors(wall, se3(BODY_FROM_OPTICAL, np.zeros(3)), **LIMITS).distance_m
    half_view = np.degrees(np.arctan(128 / CAMERA.K[0, 0]))
    for k in range(-int(half_view / 5 - 0.5), int(half_view / 5 - 0.5) + 1):
        near_edge, far_edge = np.radians(max(abs(k) * 5 - 2.5, 0)), np.radians(abs(k) * 5 + 2.5)
        assert 5 / np.cos(near_edge) - 0.02 <= sectors[k] <= 5 / np.cos(far_edge) + 0.02
    nothing = DepthMap(1, wall.depth, np.zeros((192, 256), bool), CAMERA)
    assert np.isnan(obstacle_sectors(nothing, np.eye(4), **LIMITS).distance_m).all()


def test_depth_without_a_scale_gives_no_obstacles() -> None:
    relative = RelativeDepth(1, np.full((192, 256), 5.0, np.float32), np.ones((192, 256), bool), CAMERA)
    with pytest.raises(RecordError, match="RelativeDepth"):
        obstacle_sectors(relative, np.eye(4), **LIMITS)  # type: ignore[arg-type]


def test_cloud_is_organised_metric_and_coloured(flight: Rendered) -> None:
    depth = flight.depth[0].copy()
    valid = np.ones(depth.shape, bool)
    valid[:10] = False
    points, colour = point_cloud(DepthMap(1, depth, valid, CAMERA), flight.frames[0].image)
    assert points.shape == (192, 256, 3) and colour.shape == (192, 256, 3)
    assert np.isnan(points[:10]).all() and np.isfinite(points[10:]).all()
    np.testing.assert_allclose(points[90, 200], backproject([[200, 90]], depth[90, 200], CAMERA.K)[0], rtol=1e-4)
    np.testing.assert_array_equal(colour, flight.frames[0].image)


def test_camera_scales_about_pixel_edges() -> None:
    half = scaled_camera(CAMERA, 128, 96)
    point = np.array([[0.7, -0.4, 3.0]])
    full_px = project(point, CAMERA.K) + 0.5
    np.testing.assert_allclose((project(point, half.K) + 0.5) * 2, full_px, atol=1e-9)
