"""People: limbs posed by a walking phase, or seated on a two-wheeler. 1.5–1.9 m tall, facing x."""

from __future__ import annotations

import numpy as np

from .materials import BOTTOM, HAIR, SKIN, TOP
from .mesh import Mesh, ball, merge, tube


def person(rng: np.random.Generator, phase_rad: float, running: bool = False) -> Mesh:
    """A walker at ``phase_rad`` of the stride (0 and pi = feet together)."""
    h = rng.uniform(1.55, 1.88)
    bulk = rng.uniform(0.85, 1.2)
    swing = (0.75 if running else 0.45) * np.sin(phase_rad)
    hip, shoulder, head = 0.50 * h, 0.81 * h, 0.92 * h
    lean = 0.12 if running else 0.03
    parts = [
        tube([0, 0, hip - 0.03], [lean * 0.5, 0, shoulder], 0.155 * bulk, TOP, 8, 0.19 * bulk),
        tube([lean * 0.5, 0, shoulder], [lean * 0.6, 0, shoulder + 0.05], 0.19 * bulk, TOP, 8, 0.06),
        ball([lean * 0.6, 0, head], [0.10, 0.085, 0.125], SKIN),
        ball([lean * 0.6 - 0.02, 0, head + 0.03], [0.105, 0.092, 0.115], HAIR),
    ]
    for side in (-1.0, 1.0):
        a = side * swing
        knee = [np.sin(a) * 0.5 * hip, side * 0.09, hip - np.cos(a) * 0.5 * hip]
        foot = [np.sin(a) * hip * 0.95 - 0.1 * max(-a, 0), side * 0.09, 0.06 + 0.08 * max(-a, 0)]
        parts += [
            tube([0, side * 0.09, hip], knee, 0.085 * bulk, BOTTOM, 6),
            tube(knee, foot, 0.065 * bulk, BOTTOM, 6),
            tube(foot, [foot[0] + 0.16, foot[1], foot[2] - 0.02], 0.045, HAIR, 5),
        ]
        elbow = [lean - 0.22 * np.sin(a), side * 0.24 * bulk, shoulder - 0.27]
        hand = [lean - 0.42 * np.sin(a) + 0.08, side * 0.25 * bulk, shoulder - 0.50]
        sleeve = TOP if rng.random() < 0.6 else SKIN
        parts += [
            tube([lean * 0.5, side * 0.18 * bulk, shoulder], elbow, 0.055, TOP, 6),
            tube(elbow, hand, 0.042, sleeve, 6),
        ]
    if rng.random() < 0.2:
        parts.append(ball([-0.2, 0, 0.68 * h], [0.10, 0.15, 0.22], HAIR))  # backpack
    return merge(parts)


def rider(rng: np.random.Generator, seat_z: float, bar_x: float) -> Mesh:
    """Someone seated at x = -0.2, hands on a bar at ``bar_x``."""
    shoulder = [0.12 + rng.uniform(-0.1, 0.1), 0.0, seat_z + 0.52]
    parts = [
        tube([-0.22, 0, seat_z], shoulder, 0.16, TOP, 8, 0.19),
        ball([shoulder[0] + 0.08, 0, shoulder[2] + 0.22], [0.12, 0.11, 0.14], rng.choice([HAIR, SKIN])),
    ]
    for side in (-1.0, 1.0):
        knee = [0.18 + 0.08 * side, side * 0.14, seat_z - 0.28]
        parts += [
            tube([-0.2, side * 0.1, seat_z], knee, 0.08, BOTTOM, 6),
            tube(knee, [0.0 + 0.1 * side, side * 0.14, 0.35], 0.06, BOTTOM, 6),
            tube([shoulder[0], side * 0.19, shoulder[2]], [bar_x - 0.02, side * 0.28, 1.07], 0.05, TOP, 6),
        ]
    return merge(parts)
