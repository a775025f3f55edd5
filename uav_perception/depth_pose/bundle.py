"""Windowed bundle adjustment: poses and points that explain all tracks of a window at once, in the least-squares sense.

A point is ``(a, b, rho)`` in the optical frame of the window's first camera: bearing ``(a, b, 1)`` and inverse depth
``rho``, so that far points stay well-behaved (Civera et al. 2008). In camera j, ``X_j = R_j (a, b, 1) + rho t_j`` and
the measurement is ``X_j / Z_j`` in normalised image coordinates. The points are eliminated by the Schur complement
(Triggs et al. 2000, section 6); Levenberg-Marquardt with Cauchy weights. The overall size of the window is free: the
caller fixes it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..geometry import so3_exp
from ..records import F64

I64 = NDArray[np.int64]


@dataclass
class Window:
    """What is optimised and what is measured.

    Attributes:
        rotation: (J, 3, 3), translation: (J, 3): camera j from the first camera; j = 0 stays where it is.
        points: (P, 3) of ``(a, b, rho)``.
        camera: (M,), point: (M,) indices and ``xy``: (M, 2) normalised coordinates of each measurement.
        sigma: (M,) standard deviation of each measurement in normalised coordinates (pixels / focal length).
        rho_prior: how far a step may lead inverse depth away from where it starts, as a share of it (standard
            deviation of a Gaussian prior); it only matters for points whose parallax says nothing yet.
    """

    rotation: F64
    translation: F64
    points: F64
    camera: I64
    point: I64
    xy: F64
    sigma: F64
    rho_prior: float = 0.5


@dataclass(frozen=True)
class Solution:
    """What came of it.

    Attributes:
        cost: robust cost afterwards.
        residual: (M,) lengths in units of sigma.
        covariance: (6, 6) of the last camera given the others, translation then rotation.
        rho_sigma: (P,) standard deviation of the points' inverse depth as far as the measurements tell.
    """

    cost: float
    residual: F64
    covariance: F64
    rho_sigma: F64


def transform_points(points: F64, rotation: F64, translation: F64) -> F64:
    """(P, 3) points ``(a, b, rho)`` of one camera as seen from another: same triple in the other's frame."""
    x = np.column_stack([points[:, :2], np.ones(len(points))]) @ rotation.T + points[:, 2:] * translation
    z = np.where(np.abs(x[:, 2:]) < 1e-9, 1e-9, x[:, 2:])
    return np.column_stack([x[:, :2] / z, points[:, 2:] / z])


def residuals(w: Window) -> F64:
    """(M, 2) prediction minus measurement, normalised coordinates; 1.0 where a point is behind the camera."""
    x = _in_camera(w)[0]
    front = x[:, 2] > 1e-3
    return np.where(front[:, None], x[:, :2] / np.where(front, x[:, 2], 1.0)[:, None] - w.xy, 1.0)


def _in_camera(w: Window) -> tuple[F64, F64]:
    p = np.column_stack([w.points[:, :2], np.ones(len(w.points))])
    everywhere = (p @ w.rotation.transpose(2, 0, 1).reshape(3, -1)).reshape(len(p), -1, 3)  # in every camera
    rotated = everywhere[w.point, w.camera]
    return rotated + w.points[w.point, 2:] * w.translation[w.camera], rotated


def jacobians(w: Window, points: bool = True) -> tuple[F64, F64, F64]:
    """Residuals (M, 2), d residual / d pose (M, 2, 6) and d residual / d point (M, 2, 3), empty unless ``points``.

    A pose step ``(v, o)`` means ``t + v`` and ``exp(o) R``.
    """
    x, rotated = _in_camera(w)
    front = x[:, 2] > 1e-3
    iz = np.where(front, 1.0 / np.where(front, x[:, 2], 1.0), 0.0)
    u, v = x[:, 0] * iz, x[:, 1] * iz
    r = np.where(front[:, None], np.column_stack([u, v]) - w.xy, 1.0)
    rho = w.points[w.point, 2]
    pose = np.empty((len(x), 2, 6))
    pose[:, 0, 0], pose[:, 0, 1], pose[:, 0, 2] = rho * iz, 0.0, -rho * u * iz
    pose[:, 1, 0], pose[:, 1, 1], pose[:, 1, 2] = 0.0, rho * iz, -rho * v * iz
    a, b, c = rotated.T  # d X / d o = -hat(R f)
    pose[:, 0, 3], pose[:, 0, 4], pose[:, 0, 5] = -u * b * iz, (c + u * a) * iz, -b * iz
    pose[:, 1, 3], pose[:, 1, 4], pose[:, 1, 5] = -(c + v * b) * iz, v * a * iz, a * iz
    if not points:
        return r, pose, np.empty((0, 2, 3))
    columns = np.stack([w.rotation[:, :, 0], w.rotation[:, :, 1], w.translation], axis=2)[w.camera]
    point = np.empty((len(x), 2, 3))
    point[:, 0] = (columns[:, 0] - u[:, None] * columns[:, 2]) * iz[:, None]
    point[:, 1] = (columns[:, 1] - v[:, None] * columns[:, 2]) * iz[:, None]
    return r, pose, point


def _weights(r: F64, sigma: F64, cauchy: float) -> tuple[F64, float]:
    """Weights (M,) of residuals (M, 2) whose cost grows with the logarithm beyond ``cauchy`` standard deviations: what
    moves by itself or slides along an edge must not pull for ever."""
    square = (r * r).sum(1) / (cauchy * sigma) ** 2
    return 1.0 / ((1.0 + square) * sigma**2), 0.5 * cauchy**2 * float(np.log1p(square).sum())


def _inverse_3x3(m: F64) -> F64:
    """Inverses of (P, 3, 3) symmetric positive matrices by cofactors (np.linalg.inv is slow for many small ones)."""
    a, b, c, d, e, f = m[:, 0, 0], m[:, 0, 1], m[:, 0, 2], m[:, 1, 1], m[:, 1, 2], m[:, 2, 2]
    A, B, C = d * f - e * e, c * e - b * f, b * e - c * d
    det = a * A + b * B + c * C
    out = np.empty_like(m)
    out[:, 0, 0], out[:, 1, 1], out[:, 2, 2] = A, a * f - c * c, a * d - b * b
    out[:, 0, 1] = out[:, 1, 0] = B
    out[:, 0, 2] = out[:, 2, 0] = C
    out[:, 1, 2] = out[:, 2, 1] = b * c - a * e
    return out / det[:, None, None]


def solve(w: Window, iterations: int, cauchy: float = 2.0, free_from: int = 1) -> Solution:
    """Improve ``w`` in place; cameras before ``free_from`` stay fixed (at least the first)."""
    J, P, M = len(w.rotation), len(w.points), len(w.xy)
    order = np.argsort(w.camera, kind="stable")
    w.camera, w.point, w.xy, w.sigma = w.camera[order], w.point[order], w.xy[order], w.sigma[order]
    starts = np.searchsorted(w.camera, np.arange(J + 1))
    n = 6 * (J - free_from)
    damping, covariance = 1e-4, np.eye(6)
    V = np.zeros((P, 3, 3))
    floor = 1e-9 / float(np.median(w.sigma)) ** 2 if M else 1.0
    start = w.points[:, 2].copy()
    prior = 1.0 / (w.rho_prior * np.maximum(np.abs(start), 1e-6)) ** 2
    weight, cost = _weights(residuals(w), w.sigma, cauchy)
    for _ in range(iterations):
        r, jp, jl = jacobians(w)
        weight, cost = _weights(r, w.sigma, cauchy)
        cost += 0.5 * float((prior * (w.points[:, 2] - start) ** 2).sum())
        wj = jl * weight[:, None, None]
        square = wj.transpose(0, 2, 1) @ np.concatenate([jl, r[:, :, None]], axis=2)  # (M, 3, 4)
        for i in range(3):
            for k in range(i, 3):
                V[:, i, k] = V[:, k, i] = np.bincount(w.point, square[:, i, k], P)
        g_point = np.stack([np.bincount(w.point, square[:, i, 3], P) for i in range(3)], axis=1)
        g_point[:, 2] += prior * (w.points[:, 2] - start)
        W = np.zeros((J, P, 6, 3))
        W[w.camera, w.point] = jp.transpose(0, 2, 1) @ wj
        H, g = np.zeros((n, n)), np.zeros(n)
        for j in range(free_from, J):
            s, k = slice(starts[j], starts[j + 1]), 6 * (j - free_from)
            rows = (jp[s] * np.sqrt(weight[s])[:, None, None]).reshape(-1, 6)
            H[k:k + 6, k:k + 6] = rows.T @ rows
            g[k:k + 6] = rows.T @ (r[s] * np.sqrt(weight[s])[:, None]).reshape(-1)
        Wd = W[free_from:].transpose(0, 2, 1, 3).reshape(n, 3 * P)
        improved = False
        for _attempt in range(4):
            diagonal = np.einsum("pii->pi", V)
            damped = V + np.einsum("pi,ij->pij", damping * diagonal + floor, np.eye(3))
            damped[:, 2, 2] += prior
            Vi = _inverse_3x3(damped)
            WV = (Wd.reshape(n, P, 3).transpose(1, 0, 2) @ Vi).transpose(1, 0, 2).reshape(n, 3 * P)
            S = H + np.diag(damping * np.diag(H) + 1e-9) - WV @ Wd.T
            try:
                step = np.linalg.solve(S, -(g - WV @ g_point.reshape(-1)))
            except np.linalg.LinAlgError:
                damping *= 10
                continue
            point_step = -np.einsum("pij,pj->pi", Vi, g_point + (Wd.T @ step).reshape(P, 3))
            trial = Window(w.rotation.copy(), w.translation.copy(), w.points + point_step, w.camera, w.point, w.xy,
                           w.sigma)
            for j in range(free_from, J):
                k = 6 * (j - free_from)
                trial.translation[j] += step[k:k + 3]
                trial.rotation[j] = so3_exp(step[k + 3:k + 6]) @ w.rotation[j]
            new_cost = _weights(residuals(trial), w.sigma, cauchy)[1]
            new_cost += 0.5 * float((prior * (trial.points[:, 2] - start) ** 2).sum())
            if new_cost <= cost:
                improved = True
                break
            damping *= 10
        if not improved:
            break
        gain = (cost - new_cost) / max(cost, 1e-12)
        w.rotation, w.translation, w.points = trial.rotation, trial.translation, trial.points
        cost, damping = new_cost, max(damping * 0.1, 1e-7)
        covariance = np.linalg.pinv(S[-6:, -6:]) if n else covariance
        if gain < 1e-3:
            break
    rho_sigma = np.sqrt(np.abs(_inverse_3x3(V + floor * np.eye(3))[:, 2, 2])) if M else np.zeros(P)
    out = np.empty(M)
    out[order] = np.linalg.norm(residuals(w), axis=1) / w.sigma
    inverse = np.argsort(order)
    w.camera, w.point, w.xy, w.sigma = w.camera[inverse], w.point[inverse], w.xy[inverse], w.sigma[inverse]
    return Solution(cost, out, covariance, rho_sigma)
