from __future__ import annotations

import cv2
import numpy as np
import pytest
from depth_scenes import CAMERA, Rendered

from uav_perception.depth_pose import fusion
from uav_perception.depth_pose.fusion import fuse, laid_on_level
from uav_perception.depth_pose.products import FARTHEST, level_plane
from uav_perception.records import F32


def drawn(shape: F32 | None, uv: np.ndarray, rho: np.ndarray, sigma: np.ndarray, ground: tuple[float, ...] | None = None
          ) -> F32:
    return fuse(shape, uv, rho, sigma, shape=(117, 156), ground=None if ground is None else np.array(ground))


def points_of(depth: F32, count: int, seed: int = 0, unit: float = 3.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    px = np.column_stack([rng.integers(0, CAMERA.width_px, count), rng.integers(0, CAMERA.height_px, count)])
    rho = unit / depth[px[:, 1], px[:, 0]].astype(np.float64) * np.exp(rng.normal(0, 0.02, count))
    return (px + 0.5) / [CAMERA.width_px, CAMERA.height_px], rho, 0.02 * rho


def error(disparity: F32, depth: F32, unit: float = 3.0) -> float:
    sized = cv2.resize(disparity, (CAMERA.width_px, CAMERA.height_px))
    return float(np.mean(np.abs(unit / sized - depth) / depth))


def test_points_alone_give_a_smooth_surface_in_their_unit(flight: Rendered) -> None:
    uv, rho, sigma = points_of(flight.depth[0], 200)
    assert error(drawn(None, uv, rho, sigma), flight.depth[0]) < 0.05


def test_a_good_shape_is_kept_between_few_points() -> None:
    v, u = np.mgrid[:CAMERA.height_px, :CAMERA.width_px]
    hilly = (8 * np.exp(0.4 * np.sin(u / 17) * np.sin(v / 13))).astype(np.float32)
    uv, rho, sigma = points_of(hilly, 25)
    with_shape = error(drawn((0.7 / hilly).astype(np.float32), uv, rho, sigma), hilly)
    assert with_shape < 0.05 < 0.1 < error(drawn(None, uv, rho, sigma), hilly)


def test_a_plane_goes_on_where_there_are_no_points(flight: Rendered) -> None:
    uv, rho, sigma = points_of(flight.depth[0], 200)
    left = uv[:, 0] < 0.5
    assert error(drawn(None, uv[left], rho[left], sigma[left]), flight.depth[0]) < 0.05


def test_lone_points_off_the_ground_are_doubted_and_many_are_believed() -> None:
    ground = np.full((CAMERA.height_px, CAMERA.width_px), 10.0, np.float32)
    uv, rho, sigma = points_of(ground, 200)
    for count, believed in ((3, False), (30, True)):
        spot = np.random.default_rng(1).uniform(0.47, 0.53, (count, 2))
        nearer, sure = np.full(count, 3 / 6.0), np.full(count, 0.01)
        found = drawn(None, np.vstack([uv, spot]), np.append(rho, nearer), np.append(sigma, sure))
        assert (3.0 / found[58, 78] < 8.0) == believed


def test_points_that_contradict_the_network_are_doubted_unless_they_are_many() -> None:
    """Those of a car that comes towards the camera, and those of a house that the network has overlooked."""
    hilly = np.exp(0.4 * np.sin(np.mgrid[:CAMERA.height_px, :CAMERA.width_px][1] / 17)).astype(np.float32)
    uv, rho, sigma = points_of(10 * hilly, 200)
    for count, believed in ((4, False), (60, True)):
        spot = np.random.default_rng(1).uniform(0.47, 0.53, (count, 2))
        there = 10 * hilly[0, (spot[:, 0] * CAMERA.width_px).astype(int)]
        nearer, sure = 3 / (0.55 * there.astype(np.float64)), np.full(count, 0.01)
        found = drawn(1 / hilly, np.vstack([uv, spot]), np.append(rho, nearer), np.append(sigma, sure))
        ratio = 3.0 / found[58, 78] / (10 * hilly[0, CAMERA.width_px // 2])
        assert ratio < 0.75 if believed else ratio > 0.9


@pytest.mark.parametrize("count, believed", [(4, False), (80, True)])
def test_a_house_overlooked_on_level_ground_is_drawn_by_its_many_points(count: int, believed: bool) -> None:
    seen = np.full((48, 64), 1 / 10.0, np.float32)  # the network says level ground
    uv, rho, sigma = points_of(np.full((CAMERA.height_px, CAMERA.width_px), 10.0, np.float32), 200)
    spot = np.random.default_rng(1).uniform(0.42, 0.58, (count, 2))
    apart = (np.abs(uv - 0.5) > 0.09).any(1)
    nearer, sure = np.full(count, 3 / 6.0), np.full(count, 0.01)
    found = drawn(seen, np.vstack([uv[apart], spot]), np.append(rho[apart], nearer), np.append(sigma[apart], sure),
                  (0.0, 0.0, 0.3))
    assert (3.0 / found[58, 78] < 7.0) == believed
    assert np.abs(3.0 / found[:30] - 10).max() < 0.5  # ground away from it stays


def test_a_tree_does_not_pull_the_ground_beside_it_near() -> None:
    """Its leaves are nearer than drawn; the ground around, without points of its own, is as the plane has it."""
    v, u = np.mgrid[:CAMERA.height_px, :CAMERA.width_px]
    row = (v + 0.5) / CAMERA.height_px
    tree = (np.abs(u - 128) < 28) & (np.abs(v - 71) < 28)
    inverse = np.where(tree, 1.1, 0.1 + row)
    shape = np.where(tree, 0.9, 0.1 + row).astype(np.float32)  # by the network the tree is farther than it is
    rng = np.random.default_rng(0)
    leaves = np.array([0.5, 0.37]) + rng.uniform(-0.1, 0.1, (25, 2))
    uv = np.vstack([rng.random((300, 2)) * [1, 0.4] + [0, 0.6], leaves])
    px = (uv * [CAMERA.width_px, CAMERA.height_px]).astype(int)
    rho = inverse[px[:, 1], px[:, 0]] * np.exp(rng.normal(0, 0.01, len(px)))
    found = cv2.resize(drawn(shape, uv, rho, 0.02 * rho, (0.0, 1.0, 0.1)), (CAMERA.width_px, CAMERA.height_px))
    beside = (np.abs(u - 128) < 45) & (np.abs(u - 128) > 33) & (np.abs(v - 71) < 25)
    assert np.abs(found / inverse - 1)[beside].mean() < 0.02
    assert np.abs(found / inverse - 1)[tree].mean() < 0.1


def test_what_moves_is_not_laid_on_the_ground_it_drives_over() -> None:
    v, u = np.mgrid[:CAMERA.height_px, :CAMERA.width_px]
    ground = 0.1 + (v + 0.5) / CAMERA.height_px
    car = (np.abs(u - 128) < 20) & (np.abs(v - 110) < 15)
    inverse = np.where(car, 1.12 * ground, ground).astype(np.float32)
    uv, rho, sigma = points_of(1 / inverse, 300, unit=1.0)
    on_car = car[(uv[:, 1] * CAMERA.height_px).astype(int), (uv[:, 0] * CAMERA.width_px).astype(int)]
    for moving, low, high in ((None, 1.0, 1.05), (car, 1.08, 1.16)):
        found = fuse(inverse, uv[~on_car], rho[~on_car], sigma[~on_car], shape=(117, 156),
                     ground=np.array([0.0, 1.0, 0.1]), moving=moving)
        inside = (np.abs(u - 128) < 15) & (np.abs(v - 110) < 10)
        assert low < np.mean(cv2.resize(found, car.shape[::-1])[inside] / ground[inside]) < high


def test_a_shape_that_is_wrong_does_little_harm(flight: Rendered) -> None:
    uv, rho, sigma = points_of(flight.depth[0], 200)
    wrong = np.exp(np.random.default_rng(2).normal(0, 0.7, (48, 64))).astype(np.float32)
    flat = error(drawn(None, uv, rho, sigma), flight.depth[0])
    assert error(drawn(wrong, uv, rho, sigma), flight.depth[0]) < 1.5 * flat + 0.01


@pytest.mark.parametrize("seed", range(3))
def test_ground_goes_on_to_its_horizon_behind_a_house_that_rises_over_it(seed: int) -> None:
    v, u = np.mgrid[:CAMERA.height_px, :CAMERA.width_px]
    horizon = 0.25 * CAMERA.height_px
    inverse = np.maximum((v - horizon) / CAMERA.height_px, 1e-6)
    house = (np.abs(u - 60) < 30) & (v > 0.1 * CAMERA.height_px) & (v < 0.55 * CAMERA.height_px)
    scene = np.where(house, 0.3, inverse)
    rng = np.random.default_rng(seed)
    px = np.column_stack([rng.integers(0, CAMERA.width_px, 400), rng.integers(0, CAMERA.height_px, 400)])
    rho = scene[px[:, 1], px[:, 0]] * np.exp(rng.normal(0, 0.01, 400))
    px, rho = px[rho > 0.03], rho[rho > 0.03]  # what is farther has no parallax, nor has the sky
    found = drawn(None, (px + 0.5) / [CAMERA.width_px, CAMERA.height_px], rho, 0.02 * rho)
    sized = cv2.resize(found, (CAMERA.width_px, CAMERA.height_px))
    wrong = np.abs(sized / scene - 1)
    assert np.median(wrong[house]) < 0.2
    far = (inverse > 0.01) & (inverse < 0.03) & (u > 130)  # farther than any point
    assert np.median(wrong[far]) < 0.3


@pytest.mark.parametrize("down_deg", [90, 25])
def test_before_there_are_points_the_network_stands_on_level_ground(down_deg: float) -> None:
    """It gives what stands on the ground; where it is about level, the ground itself is exact."""
    tilt = np.radians(down_deg)
    level = level_plane(CAMERA, np.array([0.0, -np.cos(tilt), -np.sin(tilt)]))
    assert level is not None
    house = (slice(60, 100), slice(90, 130))
    scene = level.copy()
    scene[house] = 2.5 * level[house].max()
    bumpy = scene * np.exp(0.04 * np.sin(np.arange(CAMERA.width_px) / 7)).astype(np.float32)
    found = laid_on_level(0.3 * bumpy**0.8, level)
    ground = (level > 2 * FARTHEST) & (scene == level)
    assert np.abs(found / scene - 1)[ground].mean() < 0.01
    assert np.abs(found[house] / scene[house] - 1).mean() < 0.25  # straight down nothing tells of its contrast


@pytest.mark.parametrize("share", [0.42, 0.25])
def test_ground_that_is_told_is_believed_where_many_points_lie_on_it(share: float) -> None:
    """Most of the points lie on hedges and cars, on a plane of their own that is better populated."""
    rng, ground, roofs = np.random.default_rng(3), np.array([0.0, 1.2, 0.1]), np.array([0.0, 1.5, 0.2])
    uv = rng.random((200, 2)) * [1.0, 0.8] + [0.0, 0.2]
    a = np.column_stack([uv, np.ones(len(uv))])
    on_ground = rng.random(len(uv)) < share
    rho = np.where(on_ground, a @ ground, a @ roofs) * np.exp(rng.normal(0, 0.01, len(uv)))
    row = (np.array([[0.5, 0.97, 1.0], [0.1, 0.9, 1.0]]) @ ground)
    for told, right in ((ground, True), (np.array([0.0, 3.0, 0.5]), False), (None, False)):
        plane = fusion._ground(uv, rho, np.ones(len(uv)), 120, 160, told)
        seen = np.exp(plane.log[[116, 107], [80, 16]])
        assert bool(np.abs(seen / row - 1).max() < 0.02) is right
        assert not right or plane.trust == 1
