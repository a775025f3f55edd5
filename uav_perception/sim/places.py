"""The named places: each draws a new one of its kind from a seed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from . import ground as g
from .layout import Place, Plan, resample
from .scenery import bridge


def _plan(rng: np.random.Generator, base: tuple[int, ...], hills_m: float = 0.8) -> Plan:
    plan = Plan(rng, base=int(rng.choice(base)), hills_m=hills_m)
    plan.leafless = float(rng.choice([0.0, 0.0, 0.7]))
    plan.painter.patches(plan.base, int(rng.choice([g.DRY, g.DIRT, g.GRASS, g.GRAVEL])), rng.uniform(0.05, 0.4))
    return plan


def _fill(
    plan: Plan,
    buildings: int,
    trees: int,
    *,
    height: tuple[float, float] = (4, 22),
    size: tuple[float, float] = (12, 40),
    yaw: float | None = None,
    near_road: float = 0.5,
) -> None:
    plan.buildings(buildings, height, size, yaw)
    plan.trees(trees, near_road=near_road)
    plan.furnish(int(plan.rng.integers(5, 25)), int(plan.rng.integers(10, 60)), int(plan.rng.integers(0, 14)))


def street(rng: np.random.Generator) -> Place:
    """One road with parked cars, houses and trees along it."""
    plan = _plan(rng, (g.GRASS, g.DRY, g.PAVING, g.CONCRETE))
    yaw, r = rng.uniform(0, 2 * np.pi), np.linspace(-190, 190, 39)
    line = np.stack([r, rng.normal(0, 10) * np.sin(r / 70 + rng.uniform(0, 6))], 1)
    turn = np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])
    lanes = int(rng.choice([1, 1, 2, 3]))
    plan.road(
        line @ turn,
        lanes,
        int(rng.choice([lanes, lanes, 0])),
        rng.uniform(3.0, 3.7),
        rng.uniform(1.5, 5),
        bool(rng.random() < 0.6),
    )
    for _ in range(int(rng.integers(0, 3))):
        at = rng.uniform(25, 70, 2) * rng.choice([-1, 1], 2)
        if plan.free(at[0], at[1], 18):
            plan.parking(at, int(rng.integers(1, 3)), int(rng.integers(6, 12)), yaw)
    _fill(plan, int(rng.integers(6, 26)), int(rng.integers(20, 90)), yaw=yaw)
    return plan.finish()


def junction(rng: np.random.Generator) -> Place:
    """A crossing with traffic lights in a city."""
    plan = _plan(rng, (g.PAVING, g.CONCRETE, g.GRASS, g.DRY))
    yaw, lanes = rng.uniform(0, 2 * np.pi), int(rng.choice([1, 2, 3]))
    arms = [
        (
            yaw + k * np.pi / 2 + rng.normal(0, 0.12),
            max(1, lanes - k % 2 + int(rng.integers(0, 2))),
            max(1, lanes - k % 2),
        )
        for k in range(int(rng.choice([3, 4], p=[0.3, 0.7])))
    ]
    plan.junction(rng.normal(0, 6, 2), arms, rng.uniform(3.0, 3.6))
    if rng.random() < 0.5:
        at = 62 * np.array([np.cos(yaw + 0.78), np.sin(yaw + 0.78)])
        plan.parking(at, int(rng.integers(1, 4)), int(rng.integers(6, 14)), yaw)
    _fill(plan, int(rng.integers(8, 30)), int(rng.integers(10, 70)), height=(4, 40), yaw=yaw)
    return plan.finish()


def roundabout(rng: np.random.Generator) -> Place:
    """Roads meeting around an island."""
    plan = _plan(rng, (g.GRASS, g.DRY, g.PAVING, g.DIRT, g.GRAVEL))
    yaw, n = rng.uniform(0, 2 * np.pi), int(rng.choice([3, 4, 4, 5]))
    lanes = int(rng.choice([1, 1, 2]))
    arms = [(yaw + 2 * np.pi * k / n + rng.normal(0, 0.08), lanes, lanes) for k in range(n)]
    plan.junction(rng.normal(0, 4, 2), arms, rng.uniform(3.2, 3.8), rng.uniform(6, 20))
    for k in range(int(rng.integers(0, 3))):
        at = 66 * np.array([np.cos(yaw + np.pi * (2 * k + 1) / n), np.sin(yaw + np.pi * (2 * k + 1) / n)])
        plan.parking(at, int(rng.integers(1, 3)), int(rng.integers(6, 14)), yaw)
    _fill(plan, int(rng.integers(4, 18)), int(rng.integers(10, 70)), yaw=yaw)
    return plan.finish()


def parking(rng: np.random.Generator) -> Place:
    """A large car park beside a road."""
    plan = _plan(rng, (g.GRASS, g.DRY, g.CONCRETE, g.PAVING), 0.4)
    yaw = rng.uniform(0, 2 * np.pi)
    c, s = np.cos(yaw), np.sin(yaw)
    plan.parking(rng.normal(0, 8, 2), int(rng.integers(3, 7)), int(rng.integers(14, 30)), yaw)
    r = np.linspace(-190, 190, 20)
    plan.road(np.stack([r * c + 75 * s, r * s - 75 * c], 1), int(rng.integers(1, 3)), int(rng.integers(1, 3)))
    _fill(plan, int(rng.integers(3, 12)), int(rng.integers(10, 50)), yaw=yaw, size=(20, 60))
    return plan.finish()


def town(rng: np.random.Generator) -> Place:
    """Blocks of houses between crossing streets."""
    plan = _plan(rng, (g.GRASS, g.DRY, g.PAVING))
    pitch, yaw = rng.uniform(55, 85), rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])
    r = np.linspace(-190, 190, 20)
    for k in (-1, 0, 1):
        parked = bool(rng.random() < 0.6)
        plan.road(np.stack([r, np.full(20, k * pitch)], 1) @ turn, 1, 1, 3.0, 2.0, parked)
    for k in (-1, 0, 1):
        plan.road(np.stack([np.full(20, k * pitch), r], 1) @ turn, 1, 1, 3.0, 2.0, False, False)
    _fill(plan, int(rng.integers(25, 50)), int(rng.integers(40, 110)), height=(3, 9), size=(8, 18), yaw=yaw)
    return plan.finish()


def park(rng: np.random.Generator) -> Place:
    """Lawns, winding paths, a pond, many trees and people, a road at the edge."""
    plan = _plan(rng, (g.GRASS, g.GRASS, g.DRY), 1.5)
    if rng.random() < 0.6:
        plan.painter.disc(rng.uniform(-60, 60, 2), rng.uniform(10, 25), g.WATER)
    for _ in range(int(rng.integers(4, 9))):
        way = np.cumsum(np.concatenate([rng.uniform(-100, 100, (1, 2)), rng.normal(0, 22, (9, 2))]), 0)
        way = resample(_smooth(way))
        plan.painter.line(way, rng.uniform(1.6, 4), int(rng.choice([g.GRAVEL, g.PAVING, g.CONCRETE, g.ASPHALT])))
        plan.footpaths.append(way)
    r = np.linspace(-190, 190, 20)
    plan.road(np.stack([r, np.full(20, -80.0)], 1), 1, 1, curb_parking=bool(rng.random() < 0.5))
    _fill(plan, int(rng.integers(1, 5)), int(rng.integers(50, 120)), height=(3, 7), near_road=0.3)
    return plan.finish()


def plaza(rng: np.random.Generator) -> Place:
    """Paved squares and sports courts full of people and two-wheelers."""
    plan = _plan(rng, (g.PAVING, g.CONCRETE, g.ASPHALT), 0.2)
    p, yaw = plan.painter, rng.uniform(0, 2 * np.pi)
    for _ in range(int(rng.integers(2, 7))):
        at, size = rng.uniform(-80, 80, 2), (float(rng.uniform(22, 45)), float(rng.uniform(13, 25)))
        p.rectangle(at, (size[0] + 6, size[1] + 6), yaw, int(rng.choice([g.COURT_A, g.COURT_B, g.CONCRETE, g.GRASS])))
        p.rectangle(at, size, yaw, p.marking)
        p.rectangle(
            at, (size[0] - 0.3, size[1] - 0.3), yaw, int(rng.choice([g.COURT_A, g.COURT_B, g.GRASS, g.ASPHALT]))
        )
    for _ in range(26):
        p_center, k = rng.uniform(-90, 90, 2), np.linspace(0, 2 * np.pi, 40)
        wander = p_center + rng.uniform(4, 16) * np.stack([np.cos(k + 0.6 * np.sin(2 * k)), np.sin(k)], 1)
        plan.footpaths.append(resample(wander))
    for _ in range(int(rng.integers(2, 8))):
        at, turn = rng.uniform(-80, 80, 2), yaw + rng.integers(0, 2) * np.pi / 2
        for n in range(int(rng.integers(5, 25))):
            x, y = at + 0.65 * n * np.array([np.cos(turn), np.sin(turn)])
            plan.racks.append((x, y, turn + np.pi / 2 + rng.normal(0, 0.15)))
    if rng.random() < 0.6:
        plan.parking(np.array([rng.uniform(-20, 20), 75.0]), 1, int(rng.integers(8, 20)), 0.0)
    r = np.linspace(-190, 190, 20)
    plan.road(np.stack([r, np.full(20, -85.0)], 1), int(rng.integers(1, 3)), int(rng.integers(1, 3)))
    _fill(plan, int(rng.integers(2, 10)), int(rng.integers(10, 60)), yaw=yaw, near_road=0.1)
    return plan.finish()


def field(rng: np.random.Generator) -> Place:
    """Crops and a country road."""
    plan = _plan(rng, (g.CROP_A, g.DRY, g.GRASS), 2.5)
    p, yaw = plan.painter, rng.uniform(0, 2 * np.pi)
    for _ in range(12):
        p.rectangle(
            rng.uniform(-128, 128, 2),
            (rng.uniform(40, 110), rng.uniform(40, 110)),
            yaw,
            int(rng.choice([g.CROP_A, g.CROP_B, g.DIRT, g.GRASS, g.DRY])),
        )
    if rng.random() < 0.6:
        for x in np.arange(-120, 120, rng.uniform(1.2, 3.0)):  # rows of a crop
            p.line(np.array([[x, -60.0], [x, rng.uniform(20, 60)]]), 0.4, int(rng.choice([g.CROP_B, g.GRASS])))
    r = np.linspace(-190, 190, 39)
    line = np.stack([r, 14 * np.sin(r / 60 + rng.uniform(0, 6))], 1)
    turn = np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])
    plan.road(line @ turn, 1, 1, rng.uniform(2.8, 3.4), 0.0)
    track = resample(np.cumsum(np.concatenate([rng.uniform(-90, 90, (1, 2)), rng.normal(0, 30, (6, 2))]), 0))
    p.line(track, 2.6, g.DIRT)
    plan.footpaths.append(track)
    _fill(plan, int(rng.integers(0, 5)), int(rng.integers(20, 70)), height=(3, 8), near_road=0.2)
    return plan.finish()


def underpass(rng: np.random.Generator) -> Place:
    """A street below bridges: vehicles vanish for a second or more."""
    plan = _plan(rng, (g.GRASS, g.DRY, g.CONCRETE), 0.4)
    r = np.linspace(-190, 190, 39)
    plan.road(np.stack([r, np.zeros(39)], 1), 2, 2, 3.5, 3.0)
    for x in (-62.0, 2.0, 66.0):
        bridge(
            plan.static,
            rng,
            np.array([x, 0.0]),
            np.pi / 2 + rng.normal(0, 0.05),
            60.0,
            rng.uniform(9, 14),
            plan.z(x, 0.0),
        )
        plan.painter.rectangle((x, 40.0), (9, 52), 0.0, plan.painter.road)
        plan.painter.rectangle((x, -40.0), (9, 52), 0.0, plan.painter.road)
    _fill(plan, int(rng.integers(5, 15)), int(rng.integers(20, 60)), yaw=0.0, near_road=0.3)
    return plan.finish()


def avenue(rng: np.random.Generator) -> Place:
    """A street under dense crowns: targets show only in gaps."""
    plan = _plan(rng, (g.GRASS, g.DRY), 0.8)
    r = np.linspace(-190, 190, 39)
    plan.road(np.stack([r, 6 * np.sin(r / 80)], 1), 1, 1, 3.2, 2.5)
    plan.leafless = 0.0
    plan.trees(130, (3.0, 5.0), 1.0)
    _fill(plan, int(rng.integers(5, 15)), 20)
    return plan.finish()


def _smooth(points: np.ndarray) -> np.ndarray:
    for _ in range(3):  # Chaikin's corner cutting
        a, b = points[:-1], points[1:]
        points = np.stack([0.75 * a + 0.25 * b, 0.25 * a + 0.75 * b], 1).reshape(-1, 2)
    return points


PLACES: dict[str, Callable[[np.random.Generator], Place]] = {
    "street": street,
    "junction": junction,
    "roundabout": roundabout,
    "parking": parking,
    "town": town,
    "park": park,
    "plaza": plaza,
    "field": field,
    "underpass": underpass,
    "avenue": avenue,
}
