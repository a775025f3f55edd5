"""What is pasted: vehicles cut out of pictures, and invented things made of a few shaded, textured parts.

The invented ones are there so that the network learns to match and to delimit anything, not to know vehicles. Each is
kept in a few poses, between which its parts have moved a little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from training.detector.pictures import U8
from training.detector.sprites import Sprite

F32 = NDArray[np.float32]
CANVAS = 96  # side of a thing's picture, px
POSES = 3


@dataclass(frozen=True)
class Thing:
    """``poses`` (H, W, 4) BGR times alpha, and alpha 0..255; at least one."""

    poses: tuple[U8, ...]


def cut_out(sprite: Sprite) -> Thing:
    """A vehicle's cut-out, at most ``CANVAS`` px large."""
    low = np.floor(sprite.outline.min(0)).astype(int) - 1
    high = np.ceil(sprite.outline.max(0)).astype(int) + 1
    low = low.clip(0)
    bgra = np.dstack([sprite.bgr * sprite.alpha[..., None], sprite.alpha * 255])[low[1] : high[1], low[0] : high[0]]
    scale = CANVAS / max(bgra.shape[:2])
    if scale < 1:
        bgra = cv2.resize(bgra, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return Thing((np.asarray(bgra, np.uint8),))


def texture(pictures: Sequence[U8], rng: np.random.Generator) -> F32:
    """(CANVAS, CANVAS, 3) of a random place of a picture, its contrast and colour changed."""
    picture = pictures[rng.integers(len(pictures))]
    side = int(rng.uniform(16, min(200, *picture.shape[:2])))
    y, x = (int(rng.integers(0, n - side + 1)) for n in picture.shape[:2])
    patch = cv2.resize(picture[y : y + side, x : x + side], (CANVAS, CANVAS)).astype(np.float32)
    mean = patch.mean((0, 1))
    return np.asarray((patch - mean) * rng.uniform(0.1, 1.2) + mean * rng.uniform(0, 1) + rng.uniform(0, 140, 3)
                      * rng.choice([0.15, 1.0]), np.float32)


def invent(pictures: Sequence[U8], rng: np.random.Generator) -> Thing:
    """A thing of one to six parts: ellipses, boxes, limbs and polygons, each plain or textured, shaded as a whole."""
    upright = rng.random() < 0.45  # something like a person; else anything
    parts = []
    for i in range(int(rng.integers(1, 7))):
        centre = rng.normal(0, (0.10, 0.25) if upright else (0.2, 0.2)) if i else np.zeros(2)
        long = rng.uniform(0.1, 0.3) * (1.5 if i == 0 else 1.0)
        size = np.array([long * rng.uniform(0.2, 0.8), long])
        angle = rng.normal(np.pi / 2 if upright else rng.uniform(0, np.pi), 0.4)
        fill = texture(pictures, rng) if rng.random() < 0.5 else np.broadcast_to(
            (rng.uniform(0, 255) + rng.normal(0, 40, 3) * rng.choice([0.1, 1.0])).astype(np.float32),
            (CANVAS, CANVAS, 3))
        parts.append((rng.integers(4), centre, size, angle, fill, rng.normal(0, 1, (8, 2))))
    light = rng.normal(0, 0.25, 2)
    v, u = np.mgrid[-1 : 1 : CANVAS * 1j, -1 : 1 : CANVAS * 1j]
    shade = (1 + light[0] * u + light[1] * v)[..., None].astype(np.float32)
    looseness = rng.choice([0.0, 1.0])
    poses = []
    for _ in range(POSES):
        colour, alpha = np.zeros((CANVAS, CANVAS, 3), np.float32), np.zeros((CANVAS, CANVAS), np.uint8)
        for kind, centre, size, angle, fill, corners in parts:
            at = centre + looseness * rng.normal(0, 0.03, 2)
            mask = np.zeros((CANVAS, CANVAS), np.uint8)
            _draw(mask, kind, at, size, angle + looseness * rng.normal(0, 0.15), corners)
            np.copyto(colour, fill, where=mask[..., None] > 0)
            alpha |= mask
        poses.append(np.dstack([np.clip(colour * shade, 0, 255), alpha]).astype(np.uint8))
    return Thing(tuple(poses))


def _draw(mask: U8, kind: int, centre: NDArray[np.float64], size: NDArray[np.float64], angle: float,
          corners: NDArray[np.float64]) -> None:
    at, half = (centre + 0.5) * CANVAS, size * CANVAS / 2
    if kind == 0:
        cv2.ellipse(mask, (tuple(at), tuple(2 * half[::-1]), float(np.degrees(angle))), 255, -1)
        return
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    if kind == 1:
        turn = np.sort(np.arctan2(corners[:, 0], corners[:, 1]))
        points = at + (np.cos(turn)[:, None] * along * half[1] + np.sin(turn)[:, None] * across * half[0]) * 1.3
    else:
        points = np.array([at + s * along * half[1] + t * across * half[0]
                           for s, t in ((-1, -1), (1, -1), (1, 1), (-1, 1))])
    cv2.fillPoly(mask, [np.round(points).astype(np.int32)], 255)
    if kind == 3:  # a limb: round ends
        for s in (-1, 1):
            end = at + s * along * half[1]
            cv2.circle(mask, (round(end[0]), round(end[1])), max(1, round(half[0])), 255, -1)
