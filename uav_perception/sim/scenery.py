"""Things that stand still: buildings with roofs and clutter on them, trees, street furniture, containers, bridges."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np

from ..records import F32, F64
from .materials import hsv, linear
from .mesh import Mesh, ball, box, cards, fan, merge, tube
from .world import LEAF, PLAIN, ROOF, WALL, StaticBuilder


def _tint(
    rng: np.random.Generator, hue: tuple[float, float], saturation: tuple[float, float], value: tuple[float, float]
) -> F32:
    return linear(hsv(rng.uniform(*hue) % 1.0, rng.uniform(*saturation), rng.uniform(*value)))


def building(
    out: StaticBuilder,
    rng: np.random.Generator,
    center: F64,
    size: tuple[float, float],
    yaw: float,
    height: float,
    ground_z: float,
) -> None:
    """A block of ``size`` (along, across) with a flat roof full of clutter, or a gabled or hipped roof when low."""
    length, width = size
    tag = int(rng.integers(0, 1000))
    wall = _tint(rng, (0.0, 0.15), (0.0, 0.45), (0.35, 0.9))
    roof = (
        _tint(rng, (0.98, 1.12), (0.0, 0.6), (0.15, 0.75))
        if rng.random() < 0.6
        else _tint(rng, (0.0, 1.0), (0.0, 0.12), (0.2, 0.85))
    )
    warmth = rng.normal(-0.35, 0.35)
    at = [float(center[0]), float(center[1]), ground_z]

    def put(mesh: Mesh, kind: int, color: F32, warm: float = 0.0) -> None:
        out.add(mesh.moved(at, yaw), kind, color, warm, tag)

    put(box([length, width, height + 4], [0, 0, height / 2 - 2], 0), WALL, wall, rng.normal(0.05, 0.1))
    if height < 11 and rng.random() < 0.65:
        rise, eave = 0.5 * width * rng.uniform(0.35, 0.8), 0.5
        hip = rng.choice([0.0, 0.35]) * length
        x, y, ridge = length / 2 + eave, width / 2 + eave, length / 2 + eave - hip
        low, top = height - 0.1, height + rise
        sides = [
            [[-x, -y, low], [x, -y, low], [ridge, 0, top], [-ridge, 0, top]],
            [[x, y, low], [-x, y, low], [-ridge, 0, top], [ridge, 0, top]],
        ]
        ends = [[[x, -y, low], [x, y, low], [ridge, 0, top]], [[-x, y, low], [-x, -y, low], [-ridge, 0, top]]]
        put(merge([fan(p, 0) for p in sides]), ROOF, roof, warmth)
        put(merge([fan(p, 0) for p in ends]), ROOF if hip else PLAIN, roof if hip else wall, warmth)
        for _ in range(rng.integers(0, 3)):
            put(
                box([0.7, 0.7, 1.6], [rng.uniform(-0.3, 0.3) * length, rng.uniform(-0.2, 0.2) * width, top - 0.3], 0),
                PLAIN,
                _tint(rng, (0.0, 0.06), (0.2, 0.6), (0.2, 0.5)),
            )
        return
    put(box([length - 0.4, width - 0.4, 0.1], [0, 0, height + 0.05], 0), ROOF, roof, warmth)
    edge = _tint(rng, (0, 1), (0, 0.1), (0.3, 0.85))
    for s in (-1, 1):
        put(box([length, 0.35, 0.8], [0, s * (width / 2 - 0.17), height + 0.3], 0), PLAIN, edge, warmth)
        put(box([0.35, width, 0.8], [s * (length / 2 - 0.17), 0, height + 0.3], 0), PLAIN, edge, warmth)
    for _ in range(int(rng.poisson(length * width / 60))):
        crate = rng.uniform([0.5, 0.5, 0.2], [4.5, 2.4, 1.5])
        place = rng.uniform(-0.42, 0.42, 2) * [length, width]
        color = _tint(rng, (0, 1), (0, 0.15), (0.1, 0.9))
        put(box(crate, [*place, height + crate[2] / 2], 0), PLAIN, color, warmth + rng.normal(0, 0.4))
    if rng.random() < 0.15:  # solar panels
        for row in np.arange(-0.35, 0.36, 0.14) * width:
            put(
                box([0.7 * length, 1.0, 0.1], [0, row, height + 0.5], 0),
                PLAIN,
                linear(hsv(0.62, 0.5, 0.2)),
                warmth - 0.4,
            )


@lru_cache(maxsize=32)
def _crown(variant: int, bare: bool) -> tuple[Mesh, F32]:
    """A crown of radius 1 around the origin, with a brightness for every face: leaf cards in lobes, or branches."""
    rng = np.random.default_rng([variant, int(bare), 9])
    if bare:
        twigs = []
        for _ in range(30):
            d = rng.normal(size=3) * [1, 1, 0.6] + [0, 0, 0.8]
            d *= rng.uniform(0.7, 1.1) / np.linalg.norm(d)
            start = np.array([0, 0, rng.uniform(-0.7, 0.0)])
            twigs.append(tube(start, start + d, 0.014, 0, 3, 0.006))
            for _ in range(2):
                a = start + d * rng.uniform(0.4, 0.8)
                twigs.append(tube(a, a + rng.normal(size=3) * 0.35, 0.009, 0, 3, 0.004))
        mesh = merge(twigs)
        return mesh, np.ones(len(mesh.faces), np.float32)
    parts, shades = [], []
    for _ in range(int(rng.integers(3, 7))):
        middle = rng.normal(size=3) * [0.42, 0.42, 0.25]
        r, count = rng.uniform(0.45, 0.7), 90
        n = rng.normal(size=(count, 3))
        n /= np.linalg.norm(n, axis=1, keepdims=True)
        parts.append(
            cards(middle + n * r * rng.uniform(0.75, 1.0, (count, 1)), n, r * rng.uniform(0.08, 0.20, count), 0, rng)
        )
        shades.append(np.repeat(rng.uniform(0.6, 1.35, count) * (0.75 + 0.25 * n[:, 2]), 2))
        parts.append(ball(middle, [0.7 * r] * 3, 0, 6))
        shades.append(np.full(len(parts[-1].faces), 0.5))
    return merge(parts), np.concatenate(shades).astype(np.float32)


def tree(
    out: StaticBuilder, rng: np.random.Generator, x: float, y: float, z: float, radius: float, bare: bool = False
) -> None:
    """A crown of leaf cards (branches when ``bare``) over a trunk: one of a few shapes, turned, scaled, tinted."""
    height = radius * rng.uniform(1.6, 2.8)
    middle = max(height - radius, 0.45 * height)
    bark = _tint(rng, (0.05, 0.1), (0.15, 0.4), (0.2, 0.4))
    out.add(tube([x, y, z - 0.5], [x, y, z + middle], 0.06 * radius + 0.05, 0, 6), PLAIN, bark, -0.1)
    crown, shade = _crown(int(rng.integers(10)), bare)
    placed = crown.moved(
        [x, y, z + middle], rng.uniform(0, 2 * np.pi), radius * rng.uniform([0.85, 0.85, 0.75], [1.1, 1.1, 1.15])
    )
    if bare:
        out.add(placed, PLAIN, bark, -0.1)
    else:
        leaf = _tint(rng, (0.15, 0.32), (0.25, 0.65), (0.18, 0.45))
        out.add(placed, LEAF, leaf * shade[:, None], -0.25 + 0.3 * (shade - 1) * rng.random())


def hedge(out: StaticBuilder, rng: np.random.Generator, points: F64, z: float) -> None:
    """A clipped hedge along a polyline."""
    color = _tint(rng, (0.2, 0.32), (0.3, 0.6), (0.15, 0.35))
    for a, b in pairwise(points):
        d = b - a
        piece = box([np.linalg.norm(d) + 0.3, rng.uniform(0.7, 1.1), 1.1], [0, 0, 0.5], 0)
        out.add(piece.moved([*((a + b) / 2), z], float(np.arctan2(d[1], d[0]))), LEAF, color, -0.2)


def lamp(out: StaticBuilder, rng: np.random.Generator, x: float, y: float, z: float, toward: float) -> None:
    """A street lamp, or a traffic light's mast."""
    color, h = _tint(rng, (0, 1), (0, 0.1), (0.2, 0.7)), rng.uniform(5, 9)
    arm = np.array([np.cos(toward), np.sin(toward)]) * rng.uniform(1.0, 3.0)
    parts = [
        tube([0, 0, 0], [0, 0, h], 0.08, 0, 5),
        tube([0, 0, h], [*arm, h + 0.2], 0.05, 0, 5),
        box([0.6, 0.25, 0.12], [*arm, h + 0.2], 0),
    ]
    out.add(merge(parts).moved([x, y, z]), PLAIN, color, 0.0)


def clutter(out: StaticBuilder, rng: np.random.Generator, x: float, y: float, z: float, yaw: float) -> None:
    """What detectors take for vehicles: containers, sheds, skips, tables, kiosks, pallets, tarpaulins, rocks."""
    kind = rng.integers(0, 7)
    color = _tint(rng, (0, 1), (0, 0.8 * rng.random() ** 2), (0.15, 0.9))
    warm = rng.normal(-0.1, 0.3)
    if kind == 0:
        size = [rng.choice([6.1, 12.2]), 2.44, 2.6]
        ribs = [box([0.08, 2.5, 0.05], [k, 0, 2.62], 0) for k in np.arange(-size[0] / 2 + 0.3, size[0] / 2, 0.6)]
        mesh = merge([box(size, [0, 0, 1.3], 0), *ribs])
    elif kind == 1:
        mesh = box(rng.uniform([1.5, 1.2, 1.8], [4.5, 3.5, 2.8]), [0, 0, 1.0], 0)
    elif kind == 2:
        mesh = merge([box([s, 0.9, 1.2], [o, 0, 0.6], 0, taper=1.1) for s, o in ((1.3, 0), (1.3, 1.6))])
    elif kind == 3:
        mesh = merge(
            [
                box([1.8, 0.8, 0.08], [0, 0, 0.75], 0),
                box([1.8, 0.35, 0.06], [0, 0.75, 0.45], 0),
                box([1.8, 0.35, 0.06], [0, -0.75, 0.45], 0),
            ]
        )
    elif kind == 4:
        mesh = merge([tube([0, 0, 0], [0, 0, 2.4], 0.04, 0, 5), tube([0, 0, 2.2], [0, 0, 2.7], 1.5, 0, 8, 0.1)])
    elif kind == 5:
        mesh = merge([ball([*rng.normal(0, 0.8, 2), 0.2], rng.uniform(0.3, 0.9, 3), 0, 6) for _ in range(4)])
    else:
        mesh = merge(
            [box(rng.uniform([0.5, 0.5, 0.2], [1.6, 1.4, 1.2]), [*rng.normal(0, 1.2, 2), 0.4], 0) for _ in range(5)]
        )
    out.add(mesh.moved([x, y, z], yaw), PLAIN, color, warm)


def bridge(
    out: StaticBuilder,
    rng: np.random.Generator,
    center: F64,
    yaw: float,
    length: float,
    width: float,
    z: float,
    height: float = 5.6,
) -> None:
    """A straight overpass with parapets on piers; traffic passes below along its y axis."""
    deck = _tint(rng, (0, 0.15), (0, 0.08), (0.3, 0.6))
    at = [*center, z]
    out.add(box([length, width, 0.9], [0, 0, height], 0).moved(at, yaw), ROOF, deck, 0.1)
    for s in (-1, 1):
        out.add(
            box([length, 0.3, 1.0], [0, s * (width / 2 - 0.15), height + 0.9], 0).moved(at, yaw), PLAIN, deck * 1.3, 0.0
        )
        for k in (-0.25, 0.25):
            out.add(
                box([1.0, 1.0, height + 1], [k * length, s * 0.3 * width, height / 2 - 0.8], 0).moved(at, yaw),
                PLAIN,
                deck,
                0.0,
            )
