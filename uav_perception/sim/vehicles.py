"""Vehicles: cars, vans, trucks, buses and two-wheelers, each a loft over cross-sections with wheels and details.

Proportions are those of road vehicles in production (lengths 3.5–18 m); every call draws a new one from ``rng``.
"""

from __future__ import annotations

import numpy as np

from .materials import GLASS, HEADLIGHT, HOOD, METAL, PAINT, PAINT2, RUBBER, TAILLIGHT, TRIM
from .mesh import Mesh, box, loft, merge, tube
from .people import rider


def _ring(
    x: float, half_width: float, floor: float, belt: float, top: float, roof_half_width: float
) -> list[list[float]]:
    """Ten points over the body at ``x``, right to left: sill, flank, belt, roof edge, crown and their mirrors."""
    mid = floor + 0.45 * (belt - floor)
    right = [
        [x, -0.93 * half_width, floor],
        [x, -half_width, mid],
        [x, -0.96 * half_width, belt],
        [x, -roof_half_width, top - 0.04],
        [x, -0.5 * roof_half_width, top],
    ]
    return right + [[x, -y, z] for _, y, z in reversed(right)]


def _body(stations: list[tuple[float, float, float, float, float]], floor: float, material: np.ndarray) -> Mesh:
    """Loft of stations (x, half width, belt, top, roof half width), front to back."""
    rings = [_ring(x, w, floor, belt, top, roof) for x, w, belt, top, roof in stations]
    return loft(rings, material, TRIM)


def _wheels(axles: list[float], half_width: float, radius: float, width: float = 0.24) -> list[Mesh]:
    out = []
    for x in axles:
        for side in (-1.0, 1.0):
            y = side * half_width
            out.append(tube([x, y, radius], [x, y - side * width, radius], radius, RUBBER, 10))
            out.append(tube([x, y + side * 0.01, radius], [x, y - side * 0.02, radius], 0.6 * radius, METAL, 8))
    return out


def _lights(front_x: float, rear_x: float, half_width: float, z_front: float, z_rear: float) -> list[Mesh]:
    out = []
    for side in (-1.0, 1.0):
        y = side * 0.74 * half_width
        out.append(box([0.16, 0.30, 0.14], [front_x - 0.10, y, z_front], HEADLIGHT))
        out.append(box([0.10, 0.26, 0.18], [rear_x + 0.06, y, z_rear], TAILLIGHT))
    return out


def car(rng: np.random.Generator) -> Mesh:
    """Sedan, hatchback, estate, SUV or pickup; 3.5–5.2 m."""
    style = rng.choice(["sedan", "hatch", "estate", "suv", "pickup"], p=[0.34, 0.22, 0.12, 0.24, 0.08])
    length = {"sedan": 4.6, "hatch": 4.0, "estate": 4.7, "suv": 4.6, "pickup": 5.2}[style] * rng.uniform(0.92, 1.06)
    height = {"sedan": 1.44, "hatch": 1.50, "estate": 1.50, "suv": 1.72, "pickup": 1.80}[style] * rng.uniform(
        0.96, 1.05
    )
    w = 0.5 * {"suv": 1.88, "pickup": 1.92}.get(style, 1.78) * rng.uniform(0.95, 1.05)
    belt, deck = 0.62 * height, 0.66 * height
    hood = rng.uniform(0.23, 0.29)  # share of the length before the windscreen
    slope, roof = rng.uniform(0.10, 0.15), w * rng.uniform(0.70, 0.80)
    tail = {
        "sedan": (-0.22, -0.36),
        "hatch": (-0.34, -0.45),
        "estate": (-0.40, -0.47),
        "suv": (-0.39, -0.47),
        "pickup": (-0.06, -0.11),
    }[style]
    cowl = 0.5 - hood
    nose = rng.uniform(0.76, 0.90)
    rear_deck = {"sedan": deck, "pickup": 0.60 * height}.get(style, 0.68 * height)
    stations = [
        (0.500, nose * w, 0.46 * height, 0.48 * height, nose * 0.80 * w),
        (0.475, 0.93 * w, 0.52 * height, 0.55 * height, 0.78 * w),
        (0.400, w, 0.56 * height, 0.60 * height, 0.82 * w),
        (cowl, w, belt, deck, 0.84 * w),
        (cowl - slope, w, belt, 0.975 * height, roof),
        (0.5 * (cowl - slope + tail[0]), w, belt, height, roof),
        (tail[0], w, belt, 0.97 * height, roof * 0.98),
        (tail[1], w, belt, rear_deck, 0.80 * w),
        (-0.470, 0.95 * w, 0.60 * height, rear_deck - 0.03, 0.78 * w),
        (-0.500, 0.84 * w, 0.50 * height, 0.54 * height, 0.68 * w),
    ]
    m = np.full((len(stations) - 1, 9), PAINT)
    m[:3, 2:7] = HOOD
    m[3, 2:7] = GLASS
    m[4:6, [2, 6]] = GLASS
    m[6, 2:7] = GLASS
    if rng.random() < 0.15:
        m[4, 3:6] = GLASS  # panoramic roof
    if rng.random() < 0.08:
        m[4:6, 3:6] = TRIM  # black or canvas roof
    if style == "pickup":
        m[6, [2, 6]] = PAINT
        m[7, 3:6] = TRIM  # bed
    scaled = [(x * length, a, b, c, d) for x, a, b, c, d in stations]
    parts = [_body(scaled, 0.20, m)]
    parts += _wheels([0.31 * length, -0.29 * length], w * 0.99, rng.uniform(0.30, 0.36))
    parts += _lights(0.485 * length, -0.495 * length, w, 0.50 * height, 0.54 * height)
    for side in (-1.0, 1.0):
        parts.append(box([0.14, 0.22, 0.12], [(cowl - 0.03) * length, side * (w + 0.08), belt + 0.04], PAINT))
    if style in ("suv", "estate") and rng.random() < 0.5:
        for side in (-1.0, 1.0):
            parts.append(box([0.34 * length, 0.05, 0.05], [-0.14 * length, side * roof * 0.9, height + 0.02], METAL))
    if rng.random() < 0.05:
        parts.append(box([1.3, 0.7, 0.3], [-0.12 * length, 0, height + 0.2], TRIM, taper=0.85))
    if rng.random() < 0.05:
        parts.append(box([0.2, 0.5, 0.14], [-0.06 * length, 0, height + 0.06], HEADLIGHT))  # taxi sign
    return merge(parts)


def van(rng: np.random.Generator) -> Mesh:
    """Delivery van or minibus; 4.8–6.5 m, short bonnet, high roof."""
    length, height, w = rng.uniform(4.8, 6.5), rng.uniform(1.9, 2.6), rng.uniform(0.95, 1.05)
    belt, roof = 0.56 * height, 0.86 * w
    stations = [
        (0.500, 0.84 * w, 0.36 * height, 0.38 * height, 0.70 * w),
        (0.475, 0.95 * w, 0.42 * height, 0.46 * height, 0.80 * w),
        (0.385, w, belt, 0.57 * height, 0.84 * w),
        (0.270, w, belt, 0.97 * height, roof),
        (0.120, w, belt, height, roof),
        (-0.300, w, belt, height, roof),
        (-0.480, w, belt, 0.98 * height, roof),
        (-0.500, 0.96 * w, belt, 0.93 * height, roof),
    ]
    m = np.full((len(stations) - 1, 9), PAINT)
    m[:2, 2:7] = HOOD
    m[2, 2:7] = GLASS
    m[3, [2, 6]] = GLASS
    if rng.random() < 0.5:
        m[4:6, [2, 6]] = GLASS  # minibus
    scaled = [(x * length, a, b, c, d) for x, a, b, c, d in stations]
    parts = [
        _body(scaled, 0.24, m),
        *_wheels([0.33 * length, -0.30 * length], w, 0.35),
        *_lights(0.48 * length, -0.5 * length, w, 0.38 * height, 0.5 * height),
    ]
    for side in (-1.0, 1.0):
        parts.append(box([0.14, 0.26, 0.28], [0.33 * length, side * (w + 0.12), belt + 0.1], TRIM))
    if rng.random() < 0.3:
        parts.append(box([0.9, 0.8, 0.15], [-0.1 * length, 0, height + 0.06], METAL))
    return merge(parts)


def _cab(front_x: float, length: float, w: float, height: float) -> Mesh:
    stations = [
        (front_x, 0.92 * w, 0.45 * height, 0.50 * height, 0.84 * w),
        (front_x - 0.12, w, 0.52 * height, 0.56 * height, 0.88 * w),
        (front_x - 0.40, w, 0.55 * height, 0.97 * height, 0.86 * w),
        (front_x - 0.45 * length, w, 0.55 * height, height, 0.86 * w),
        (front_x - length, w, 0.55 * height, height, 0.86 * w),
    ]
    m = np.full((4, 9), PAINT)
    m[1, 2:7] = GLASS
    m[2, [2, 6]] = GLASS
    m[0] = HOOD
    return _body(stations, 0.45, m)


def truck(rng: np.random.Generator) -> Mesh:
    """Box, tipper, flat-bed or tank lorry, or tractor with semi-trailer; 6–16.5 m."""
    semi = rng.random() < 0.35
    length = rng.uniform(13.5, 16.5) if semi else rng.uniform(6.0, 10.5)
    w, cab_height, cab_length = rng.uniform(1.10, 1.27), rng.uniform(2.4, 3.1), rng.uniform(1.8, 2.4)
    front = length / 2
    load_front, load_rear = front - cab_length - rng.uniform(0.2, 0.9), -front
    load, mid = load_front - load_rear, 0.5 * (load_front + load_rear)
    parts = [_cab(front, cab_length, w, cab_height), box([length - 0.6, 0.9 * w, 0.3], [-0.2, 0, 0.85], TRIM)]
    kind = rng.choice(["box", "curtain", "tipper", "flat", "tank"], p=[0.40, 0.2, 0.16, 0.14, 0.10])
    top = rng.uniform(2.6, 3.8)
    if kind in ("box", "curtain"):
        parts.append(box([load, 2 * w, top - 1.0], [mid, 0, 0.5 * (top + 1.0)], PAINT2, PAINT2))
        for x in np.arange(load_rear + 0.8, load_front, 1.2):
            parts.append(box([0.05, 2 * w * 1.005, 0.03], [x, 0, top], METAL))
    elif kind == "tank":
        parts.append(tube([load_front, 0, 1.0 + w], [load_rear, 0, 1.0 + w], w * 0.95, PAINT2, 14))
        parts.append(box([0.7 * load, 0.5, 0.12], [mid, 0, 1.0 + 1.96 * w], METAL))
    else:
        side = 0.9 if kind == "tipper" else 0.25
        parts.append(box([load, 2 * w, 0.15], [mid, 0, 1.1], TRIM if kind == "tipper" else METAL))
        for y in (-w, w):
            parts.append(box([load, 0.1, side], [mid, y, 1.1 + side / 2], PAINT2))
        for x in (load_front, load_rear):
            parts.append(box([0.1, 2 * w, side], [x, 0, 1.1 + side / 2], PAINT2))
        fill = rng.random()
        if fill < 0.5:
            parts.append(
                box(
                    [0.9 * load, 1.7 * w, 0.7 * side + 0.3],
                    [mid, 0, 1.3 + 0.3 * side],
                    rng.choice([TRIM, METAL, PAINT]),
                    taper=0.75,
                )
            )
    axles = [front - 0.6 * cab_length, load_rear + 0.18 * load, load_rear + 0.18 * load + 1.3]
    if semi:
        axles.append(front - cab_length - 1.6)
    parts += _wheels(axles, w * 0.98, 0.50, 0.34)
    parts += _lights(front + 0.04, load_rear, w, 0.9, 1.0)
    for side in (-1.0, 1.0):
        parts.append(box([0.15, 0.25, 0.5], [front - 0.35, side * (w + 0.14), 0.68 * cab_height], TRIM))
    return merge(parts)


def bus(rng: np.random.Generator) -> Mesh:
    """City bus or coach; 9–18 m."""
    length = rng.choice([rng.uniform(9, 13), rng.uniform(16.5, 18)], p=[0.8, 0.2])
    w, height = rng.uniform(1.22, 1.28), rng.uniform(2.9, 3.5)
    belt, f = 0.52 * height, length / 2
    stations = [
        (f, 0.90 * w, 0.42 * height, 0.45 * height, 0.85 * w),
        (f - 0.1, w, 0.45 * height, 0.5 * height, 0.92 * w),
        (f - 0.35, w, belt, 0.90 * height, 0.95 * w),
        (f - 0.7, w, belt, height, 0.94 * w),
    ]
    stations += [(x, w, belt, height, 0.94 * w) for x in np.linspace(f - 1.8, -f + 0.4, 6)]
    stations += [(-f, 0.95 * w, belt, 0.95 * height, 0.9 * w)]
    m = np.full((len(stations) - 1, 9), PAINT)
    m[1:3, 2:7] = GLASS
    m[2:-1, [2, 6]] = GLASS
    m[3:, 3:6] = rng.choice([PAINT, PAINT2])
    m[-1, 2:7] = HOOD
    parts = [
        _body(stations, 0.30, m),
        *_wheels([f - 2.6, -f + 3.0], w * 0.99, 0.48, 0.3),
        *_lights(f + 0.02, -f, w, 0.8, 1.0),
    ]
    for _ in range(rng.integers(1, 4)):
        size = [rng.uniform(0.8, 2.6), rng.uniform(0.8, 1.7), rng.uniform(0.1, 0.3)]
        parts.append(
            box(
                size,
                [rng.uniform(-0.4, 0.35) * length, 0, height + size[2] / 2 - 0.02],
                rng.choice([PAINT2, METAL, TRIM]),
                taper=0.9,
            )
        )
    for side in (-1.0, 1.0):
        parts.append(box([0.2, 0.2, 0.4], [f + 0.05, side * (w + 0.1), 0.75 * height], TRIM))
    return merge(parts)


def two_wheeler(rng: np.random.Generator, ridden: bool = True) -> Mesh:
    """Bicycle, scooter or motorcycle; 1.7–2.2 m."""
    motor = rng.random() < 0.4
    length, r = rng.uniform(1.75, 2.15), 0.30 if motor else 0.34
    x_front, x_rear = length / 2 - r, -length / 2 + r
    thick = 0.12 if motor else 0.045
    parts = [tube([x, -thick / 2, r], [x, thick / 2, r], r, RUBBER, 12) for x in (x_front, x_rear)]
    head = [x_front - 0.22, 0, 1.0]
    parts += [
        tube([x_front, 0, r], head, 0.035, METAL, 5),
        tube([head[0], -0.32, 1.05], [head[0], 0.32, 1.05], 0.025, TRIM, 5),
    ]
    if motor:
        parts += [
            box([0.75, 0.30, 0.38], [0.05, 0, 0.62], HOOD, taper=0.8),
            box([0.62, 0.28, 0.16], [-0.38, 0, 0.82], TRIM),
            box([0.25, 0.40, 0.45], [head[0] + 0.1, 0, 0.75], PAINT, taper=0.7),
        ]
        if rng.random() < 0.4:
            parts.append(box([0.42, 0.45, 0.42], [x_rear - 0.05, 0, 1.05], PAINT2))
    else:
        seat = [-0.22, 0, 0.90]
        for a, b in (
            (head, [0, 0, 0.32]),
            ([0, 0, 0.32], seat),
            (seat, head),
            (seat, [x_rear, 0, r]),
            ([0, 0, 0.32], [x_rear, 0, r]),
        ):
            parts.append(tube(a, b, 0.025, PAINT, 5))
        parts.append(box([0.26, 0.16, 0.06], [seat[0], 0, 0.96], TRIM))
    if ridden:
        parts.append(rider(rng, seat_z=0.95, bar_x=head[0]))
    return merge(parts)
