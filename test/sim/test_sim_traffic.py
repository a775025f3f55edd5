"""Vehicles keep to the law of the road, shapes are closed and of real size; no renderer needed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from uav_perception.sim import materials
from uav_perception.sim.actors import CLASS_OF, LIGHT_S, Crowd, Density, model
from uav_perception.sim.layout import Place, Route, resample
from uav_perception.sim.mesh import box, transform
from uav_perception.sim.trajectories import Pilot, look_at


def _road(stop_m: float | None) -> Place:
    way = resample(np.array([[0.0, 0.0], [400.0, 0.0]]))
    route = Route(way, 12.0, stop_m, group=1)  # group 1 sees red first
    world: Any = None
    return Place(world, (route,), (), np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(2))


def _bumper_gaps(crowd: Crowd) -> np.ndarray:
    drivers = sorted((a for a in crowd.actors if a.route is not None), key=lambda a: a.along_m)
    front = np.array([a.along_m + a.length_m / 2 for a in drivers])
    rear = np.array([a.along_m - a.length_m / 2 for a in drivers])
    return rear[1:] - front[:-1]


@pytest.mark.parametrize("seed", range(3))
def test_followers_never_touch_and_wait_at_red(seed: int) -> None:
    crowd = Crowd(_road(300.0), np.random.default_rng(seed), Density(traffic_per_km=60, queue=0.0))
    start = [a for a in crowd.actors if a.along_m < 240]
    assert len(start) > 5
    passed_on_red = 0
    for _ in range(int(LIGHT_S / 0.05) - 2):
        crowd.step(0.05)
        passed_on_red += sum(a.along_m - a.length_m / 2 > 301 for a in start)
        assert _bumper_gaps(crowd).min() > 0
    assert passed_on_red == 0
    leader = max((a for a in crowd.actors if a.along_m < 300), key=lambda a: a.along_m)  # waits at the line
    assert leader.speed_m_s < 3.0
    held = leader.along_m
    for _ in range(int(0.9 * LIGHT_S / 0.05)):
        crowd.step(0.05)
    assert leader.along_m > held + 10 or leader.along_m < held  # green: it drives on (and enters again at the start)
    assert all(a.speed_m_s <= 1.05 * a.wish_m_s + 1e-6 for a in crowd.actors)


def test_who_stays_halts_at_the_end_of_the_road_and_others_behind_it() -> None:
    crowd = Crowd(_road(None), np.random.default_rng(3), Density(traffic_per_km=60))
    first = max((a for a in crowd.actors if a.along_m < 300), key=lambda a: a.along_m)
    first.stays = True
    before, speed_m_s = first.along_m, first.speed_m_s
    for _ in range(800):
        crowd.step(0.05)
        assert 0 <= first.along_m - before <= 0.05 * 20  # it is put nowhere else
        assert first.speed_m_s - speed_m_s > -0.05 * 7.1  # and brakes as a car can
        before, speed_m_s = first.along_m, first.speed_m_s
    assert first.speed_m_s < 0.1 and 390 < before + first.length_m / 2 < 399
    assert _bumper_gaps(crowd).min() > 0


@pytest.mark.parametrize("kind", sorted(set(CLASS_OF) - {"person"}))
def test_vehicles_have_the_size_of_their_kind(kind: str) -> None:
    length = {"car": (3.2, 6.0), "van": (4.5, 7.0), "truck": (5.5, 17.5), "bus": (8.5, 18.6)}.get(kind, (1.6, 2.4))
    for variant in range(6):
        size = model(kind, variant).corners[7] - model(kind, variant).corners[0]
        assert length[0] < size[0] < length[1]
        assert size[1] < 3.1 and 0.8 < size[2] < 4.6
        assert model(kind, variant).corners[0][2] == pytest.approx(0, abs=0.35)


def test_people_walk_by_moving_their_legs() -> None:
    still, step = model("person", 0, 0).mesh.vertices, model("person", 0, 2).mesh.vertices
    assert still.shape == step.shape and np.abs(still - step)[:, 0].max() > 0.2
    assert 1.5 < still[:, 2].max() < 2.1


def test_normals_point_outwards() -> None:
    mesh = box([2, 4, 6], [1, 2, 3], 0)
    centres = mesh.vertices[mesh.faces].mean(1)
    assert (np.einsum("ni,ni->n", mesh.normals(), centres - [1, 2, 3]) > 0).all()


def test_transform_is_the_matrix_product() -> None:
    rng = np.random.default_rng(1)
    points, m = rng.normal(size=(50, 3)).astype(np.float32), rng.normal(size=(4, 4))
    np.testing.assert_allclose(transform(points, m), points @ m[:3, :3].T + m[:3, 3], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(transform(points, m[:3, :3]), points @ m[:3, :3].T, rtol=1e-4, atol=1e-5)


def test_look_at_aims_the_optical_axis() -> None:
    m = look_at(np.array([1.0, 2.0, 30.0]), np.radians(90), np.radians(30))
    np.testing.assert_allclose(m[:3, 2], [0, np.cos(np.radians(30)), -0.5], atol=1e-12)  # north, 30 degrees down
    np.testing.assert_allclose(m[:3, 0], [1, 0, 0], atol=1e-12)  # image right is east
    assert np.linalg.det(m[:3, :3]) == pytest.approx(1)


@pytest.mark.parametrize("kind", Pilot.KINDS)
def test_pilots_fly_smoothly_and_keep_height(kind: str) -> None:
    pilot = Pilot(kind, np.zeros(2), 40.0, np.radians(50), 5.0, 0.3, lambda x, y: 2.0, np.random.default_rng(2))
    poses = [pilot.pose(0.05 * k, 0.05 if k else 0.0, np.array([0.4 * k, 0.0])) for k in range(100)]
    steps = np.linalg.norm(np.diff([p[:3, 3] for p in poses], axis=0), axis=1) / 0.05
    assert steps.max() < 14.0
    assert all(abs(p[2, 3] - 42.0) < 1.0 for p in poses)
    if kind != "hover":
        assert np.linalg.norm(poses[-1][:3, 3] - poses[0][:3, 3]) > 8.0


def test_palettes_are_albedo_and_people_are_warm() -> None:
    rng = np.random.default_rng(0)
    for kind in CLASS_OF:
        p = materials.palette(rng, kind)
        assert p.shape == (materials.COUNT, 3) and p.min() >= 0 and p.max() <= 1
    skins = [materials.temperature(rng, "person", True)[materials.SKIN] for _ in range(50)]
    paints = [materials.temperature(rng, "car", True)[materials.PAINT] for _ in range(50)]
    assert min(skins) > 0.4 and np.mean(paints) < np.mean(skins) - 0.5
