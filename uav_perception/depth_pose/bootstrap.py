"""The first depths of a run: which of the motions that two views allow do the views in between confirm?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..geometry import se3, so3_exp
from ..records import F64
from .bundle import Window, jacobians, residuals, solve
from .features import I64
from .two_view import Motion, estimate_two_view, fit_rotation, triangulate


@dataclass
class View:
    """One camera of the window: pose from the window's first camera and the tracks it saw."""

    rotation: F64
    translation: F64
    ids: I64
    xy: F64
    sigma_px: float = 0.35  # how well this view's measurements agree with the others (blur, rolling shutter)


def first_structure(first: View, waiting: list[View], current: View, focal_px: float, sigma_px: float, start_px: float
                    ) -> tuple[I64, F64] | None:
    """Ids (N,) and points (N, 3) of ``(a, b, rho)`` in ``first``, in any unit, or None while that cannot be told.

    Two views of a plane allow two motions that only a third view tells apart, so there every candidate is adjusted
    together with the views in between, and the cheapest is taken.
    """
    pair = shared(first, current)
    if pair is None:
        return None
    a, b, ids = pair
    found = estimate_two_view(a, b, focal_px, 1.0, start_px)
    if not found.candidates or (found.motion is Motion.PLANE and not waiting):
        return None
    best: tuple[float, Window, F64] | None = None
    for rotation, direction in found.candidates:
        window = _hypothesis(waiting, current, rotation, direction, a, b, ids, sigma_px / focal_px)
        if window is None:
            continue
        solution = solve(window, 8)
        if best is None or solution.cost < best[0]:
            best = (solution.cost, window, solution.rho_sigma)
    if best is None:
        return None
    points = best[1].points
    good = points[:, 2] > 0
    if good.sum() < 15 or good.mean() < 0.7 or float(np.median(best[2][good] / points[good, 2])) > 0.25:
        return None
    return ids[good], points[good]


def shared(a: View, b: View) -> tuple[F64, F64, I64] | None:
    """Coordinates (N, 2) in both views and ids (N,) of the tracks both saw; None when they are fewer than 15."""
    ids, i, j = np.intersect1d(a.ids, b.ids, assume_unique=True, return_indices=True)
    return (a.xy[i], b.xy[j], ids) if len(ids) >= 15 else None


def _hypothesis(waiting: list[View], current: View, rotation: F64, direction: F64, a: F64, b: F64, ids: I64,
                sigma: float) -> Window | None:
    """A small window: the first view, those since, the current one, under the assumption of one motion."""
    rho = triangulate(a, b, rotation, direction)
    if (rho > 0).mean() < 0.7:
        return None
    points = np.column_stack([a, np.clip(rho, 0.05 * np.median(rho[rho > 0]), None)])
    poses, xy = [np.eye(4)], [a]
    cameras, members = [np.zeros(len(ids), np.int64)], [np.arange(len(ids))]
    for view in [*waiting[-4:], current]:
        _, i, j = np.intersect1d(ids, view.ids, assume_unique=True, return_indices=True)
        w = Window(np.stack([np.eye(3), rotation]), np.stack([np.zeros(3), direction]), points[i],
                   np.ones(len(i), np.int64), np.arange(len(i)), view.xy[j], np.full(len(i), sigma))
        if view is not current and len(i) >= 15:
            w.rotation[1], w.translation[1] = fit_rotation(a[i], view.xy[j]), 0.5 * direction
            locate(w)
        elif view is not current:
            continue
        cameras.append(np.full(len(i), len(poses)))
        poses.append(se3(w.rotation[1], w.translation[1]))
        members.append(i)
        xy.append(view.xy[j])
    count = sum(map(len, xy))
    return Window(np.stack([p[:3, :3] for p in poses]), np.stack([p[:3, 3] for p in poses]), points,
                  np.concatenate(cameras), np.concatenate(members), np.concatenate(xy),
                  np.full(count, sigma))


def locate(w: Window) -> float:
    """Camera 1 of ``w`` against fixed points, in place: Gauss-Newton with Cauchy weights."""
    for _ in range(8):
        r, jp, _ = jacobians(w)
        e = np.linalg.norm(r, axis=1)
        scale = max(float(np.median(e)) * 1.5, 0.5 * float(w.sigma[0]))
        weight = 1.0 / (1.0 + (e / scale) ** 2)
        a = (jp * weight[:, None, None]).reshape(-1, 6)
        step = np.linalg.lstsq(a.T @ jp.reshape(-1, 6), -a.T @ r.reshape(-1), rcond=1e-10)[0]
        w.translation[1] += step[:3]
        w.rotation[1] = so3_exp(step[3:]) @ w.rotation[1]
        if np.abs(step).max() < 1e-7:
            break
    return float(np.median(np.linalg.norm(residuals(w), axis=1)))
