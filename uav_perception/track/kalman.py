"""Constant-velocity Kalman filters of many boxes at once, in source pixels and seconds.

State of one box: ``cx, cy, w, h, vx, vy`` (px, px/s; velocity relative to the background, because camera motion is
taken out by ``warp``). Boxes are whole; ``border`` tells what the edge of a view does to them. Noises are shares of the
box's size (beside the pixel's own), so that one set of numbers serves a car of 20 px at 10 Hz and a car of 200 px at
30 Hz. Arrays are (N, 6) means and (N, 6, 6) covariances; nothing is changed in place.
Equations: Bar-Shalom, Li, Kirubarajan, Estimation with Applications to Tracking, ch. 5 and 6.2 (white acceleration).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..records import F64
from . import border

MEASURED = 4  # the first four components are what a detector measures

@dataclass(frozen=True)
class BoxNoise:
    """Standard deviations as shares of the box: of its width and height where marked so, else of its size sqrt(w h)."""

    centre: float  # of a detection's centre, shares of width and height
    size: float  # of a detection's width and height, shares of themselves
    velocity_s: float  # prior of an unseen target's speed, sizes per second
    acceleration: float  # sizes / s^1.5: how fast velocity may wander
    growth: float  # sizes / s^0.5: how fast width and height may wander
    pixel_px: float = 0.0  # of a detection's edges besides, whatever the size


def box_to_centre(xyxy_px: ArrayLike) -> F64:
    """(N, 4) corners to (N, 4) ``cx, cy, w, h``; sides are kept at 1e-3 px or more."""
    b = np.asarray(xyxy_px, dtype=np.float64).reshape(-1, 4)
    sides = np.maximum(b[:, 2:] - b[:, :2], 1e-3)
    return np.concatenate([(b[:, :2] + b[:, 2:]) / 2, sides], axis=1)


def centre_to_box(centre: ArrayLike) -> F64:
    """(N, >=4) ``cx, cy, w, h, ...`` to (N, 4) corners."""
    c = np.asarray(centre, dtype=np.float64)
    half = np.maximum(c[:, 2:4], 1e-3) / 2
    return np.concatenate([c[:, :2] - half, c[:, :2] + half], axis=1)


def sizes(mean: F64) -> F64:
    """(N,) sqrt(w h) in px."""
    return np.asarray(np.sqrt(np.maximum(mean[:, 2], 1e-3) * np.maximum(mean[:, 3], 1e-3)))


def detection_variance(mean: F64, noise: BoxNoise) -> F64:
    """(N, 4) spread of what a detector says about these boxes: its components do not depend on each other."""
    sides = np.maximum(mean[:, [2, 3, 2, 3]], 1e-3)
    shares, pixels = np.array([noise.centre, noise.size]), np.array([0.5, 2.0])  # middle and length of two edges
    return np.asarray((sides * shares.repeat(2)) ** 2 + pixels.repeat(2) * noise.pixel_px**2)


def initiate(xyxy_px: ArrayLike, noise: BoxNoise, view: F64 = border.EVERYWHERE) -> tuple[F64, F64]:
    """States of boxes seen for the first time: velocity zero with the prior's spread."""
    boxes = border.completed(np.asarray(xyxy_px, dtype=np.float64).reshape(-1, 4), view)
    measured = box_to_centre(boxes)
    mean = np.concatenate([measured, np.zeros((len(measured), 2))], axis=1)
    velocity = np.tile((sizes(mean)[:, None] * noise.velocity_s) ** 2, 2)
    cov = np.concatenate([detection_variance(mean, noise), velocity], axis=1)[:, :, None] * np.eye(6)
    cov[:, :MEASURED, :MEASURED] += border.doubt(boxes, view)
    return mean, cov


def predict(mean: F64, cov: F64, dt_s: float, noise: BoxNoise) -> tuple[F64, F64]:
    """Move the states ``dt_s >= 0`` seconds on."""
    F = np.eye(6)
    F[0, 4] = F[1, 5] = dt_s
    unit = np.zeros((6, 6))
    a, g = noise.acceleration**2, noise.growth**2
    unit[[0, 1], [0, 1]] = a * dt_s**3 / 3
    unit[[4, 5], [4, 5]] = a * dt_s
    unit[[0, 1, 4, 5], [4, 5, 0, 1]] = a * dt_s**2 / 2
    unit[[2, 3], [2, 3]] = g * dt_s
    return mean @ F.T, F @ cov @ F.T + sizes(mean)[:, None, None] ** 2 * unit


def warp(mean: F64, cov: F64, to_from: F64, dt_s: float = 0.0) -> tuple[F64, F64]:
    """Carry the states through an image homography (3, 3) of the ground, linearised at each centre.

    Sides and speed scale with the ground, by sqrt|det|, as far as a target goes the way the ground goes in the picture:
    what drives ahead of the camera for ``dt_s``, and so stays where it is in the picture, keeps its size there.
    """
    points = np.concatenate([mean[:, :2], np.ones((len(mean), 1))], axis=1) @ to_from.T
    w = points[:, 2:]
    w = np.where(np.abs(w) < 1e-9, 1e-9, w)
    centre = points[:, :2] / w
    jacobian = (to_from[None, :2, :2] - centre[:, :, None] * to_from[None, 2:, :2]) / w[:, :, None]
    scale = np.sqrt(np.abs(np.linalg.det(jacobian)))
    flow, own = centre - mean[:, :2], dt_s * np.einsum("nij,nj->ni", jacobian, mean[:, 4:])
    share = np.clip(1 + (own * flow).sum(axis=1) / np.maximum((flow**2).sum(axis=1), 1e-12), 0, 1)
    grown = scale**share
    F = np.zeros((len(mean), 6, 6))
    F[:, :2, :2], F[:, 4:, 4:] = jacobian, jacobian * (grown / np.maximum(scale, 1e-12))[:, None, None]
    F[:, 2, 2] = F[:, 3, 3] = grown
    moved = np.einsum("nij,nj->ni", F, mean)
    moved[:, :2] = centre
    return moved, F @ cov @ F.transpose(0, 2, 1)


def update(mean: F64, cov: F64, xyxy_px: ArrayLike, noise: BoxNoise, view: F64 = border.EVERYWHERE
           ) -> tuple[F64, F64]:
    """States after each was seen at the box of the same row (Joseph form: the covariance stays positive).

    What surprises more than noise would (something turns, stops, or is covered bit by bit) fades the memory of before
    in proportion: the squared Mahalanobis distance is expected to be the number of components (Bar-Shalom ch. 11).
    Velocity is never less known than of something new.
    """
    boxes, seen = centre_to_box(mean), np.asarray(xyxy_px, dtype=np.float64).reshape(-1, 4)
    residual = border.visible(seen, view) - border.visible(boxes, view)
    R = detection_variance(mean, noise)[:, :, None] * np.eye(MEASURED) + border.doubt(boxes, view)
    S = cov[:, :MEASURED, :MEASURED] + R
    surprise = np.einsum("ni,ni->n", residual, np.linalg.solve(S, residual[:, :, None])[:, :, 0])
    fade = np.sqrt(np.repeat(np.maximum(1.0, surprise / MEASURED)[:, None], 6, axis=1))
    known = np.sqrt(np.maximum(np.diagonal(cov, axis1=1, axis2=2)[:, MEASURED:], 1e-12))
    newborn = sizes(mean)[:, None] * noise.velocity_s
    fade[:, MEASURED:] = np.minimum(fade[:, MEASURED:], np.maximum(1.0, newborn / known))
    cov = cov * fade[:, :, None] * fade[:, None]
    gain = np.linalg.solve(cov[:, :MEASURED, :MEASURED] + R, cov[:, :MEASURED, :]).transpose(0, 2, 1)
    keep = np.eye(6) - gain @ np.eye(MEASURED, 6)
    after = mean + np.einsum("nij,nj->ni", gain, residual)
    after[:, 2:4] = np.maximum(after[:, 2:4], 1e-3)
    return after, keep @ cov @ keep.transpose(0, 2, 1) + gain @ R @ gain.transpose(0, 2, 1)
