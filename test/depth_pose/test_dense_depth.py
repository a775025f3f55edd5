from __future__ import annotations

import numpy as np
from depth_scenes import CAMERA, Rendered

from uav_perception.depth_pose.dense import FLAT, fuse, planes, supported
from uav_perception.records import F32


def points_of(depth: F32, count: int, seed: int = 0, unit: float = 3.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    px = np.column_stack([rng.integers(0, CAMERA.width_px, count), rng.integers(0, CAMERA.height_px, count)])
    rho = unit / depth[px[:, 1], px[:, 0]].astype(np.float64) * np.exp(rng.normal(0, 0.02, count))
    return (px + 0.5) / [CAMERA.width_px, CAMERA.height_px], rho, 0.02 * rho


def error(disparity: F32, depth: F32, unit: float = 3.0) -> float:
    import cv2

    sized = cv2.resize(disparity, (CAMERA.width_px, CAMERA.height_px))
    return float(np.mean(np.abs(unit / sized - depth) / depth))


def test_points_alone_give_a_smooth_surface_in_their_unit(flight: Rendered) -> None:
    uv, rho, sigma = points_of(flight.depth[0], 200)
    assert error(fuse(FLAT, uv, rho, sigma), flight.depth[0]) < 0.05


def test_a_good_shape_is_kept_between_few_points() -> None:
    v, u = np.mgrid[:CAMERA.height_px, :CAMERA.width_px]
    hilly = (8 * np.exp(0.4 * np.sin(u / 17) * np.sin(v / 13))).astype(np.float32)
    uv, rho, sigma = points_of(hilly, 25)
    with_shape = error(fuse((0.7 / hilly).astype(np.float32), uv, rho, sigma), hilly)
    assert with_shape < 0.03 < 0.1 < error(fuse(FLAT, uv, rho, sigma), hilly)


def test_a_plane_goes_on_where_there_are_no_points(flight: Rendered) -> None:
    uv, rho, sigma = points_of(flight.depth[0], 200)
    left = uv[:, 0] < 0.5
    assert error(fuse(FLAT, uv[left], rho[left], sigma[left]), flight.depth[0]) < 0.05


def test_lone_points_off_the_ground_are_doubted_and_many_are_believed() -> None:
    ground = np.full((CAMERA.height_px, CAMERA.width_px), 10.0, np.float32)
    uv, rho, sigma = points_of(ground, 200)
    for count, believed in ((3, False), (30, True)):
        spot = np.random.default_rng(1).uniform(0.47, 0.53, (count, 2))
        nearer, sure = np.full(count, 3 / 6.0), np.full(count, 0.01)
        found = fuse(FLAT, np.vstack([uv, spot]), np.append(rho, nearer), np.append(sigma, sure))
        assert (3.0 / found[32, 104] < 8.0) == believed


def test_a_shape_that_is_wrong_does_little_harm(flight: Rendered) -> None:
    uv, rho, sigma = points_of(flight.depth[0], 200)
    wrong = np.exp(np.random.default_rng(2).normal(0, 0.7, (48, 64))).astype(np.float32)
    flat = error(fuse(FLAT, uv, rho, sigma), flight.depth[0])
    assert error(fuse(wrong, uv, rho, sigma), flight.depth[0]) < 1.5 * flat + 0.01


def test_support_ends_away_from_the_points() -> None:
    near = supported(np.array([[0.1, 0.5]]), 100, 80)
    assert near[40, 10] and not near[40, 80]


def test_network_input_is_rgb_planes() -> None:
    image = np.zeros((4, 6, 3), np.uint8)
    image[..., 0], image[..., 2] = 10, 200  # blue, red
    blob = planes(image, 6, 4)
    assert blob.shape == (1, 3, 4, 6) and blob.dtype == np.float32
    assert (blob[0, 0] == 200).all() and (blob[0, 2] == 10).all()
