"""The first depths of a run: which of the motions that two views allow do the views in between confirm?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..geometry import se3, so3_exp, so3_log
from ..records import F64
from .bundle import Window, jacobians, residuals, solve
from .features import I64, lookup
from .two_view import Motion, estimate_two_view, fit_rotation, middle, triangulate

PLANE_PARALLAX = 2.5  # times the parallax that other scenes need
MISFIT = 0.5  # median residual, in standard deviations of a corner, that the first structure may leave
AMPLE = 5.0  # times the parallax needed, from where on as much more misfit matters no more: survey flights over trees
LEVEL_RAD = 0.6  # a plane tilted less against the expected vertical counts as ground
# Times the least misfit that a motion over level ground may leave, and one that turns by a third of the best or less:
# vehicles that drive ahead fit ground on edge, for they move along the way
LEVEL_MISFIT, LEVEL_AND_STEADY_MISFIT = 1.3, 2.0


@dataclass
class View:
    """One camera of the window: pose from the window's first camera and the tracks it saw."""

    rotation: F64
    translation: F64
    ids: I64
    xy: F64
    sigma_px: float = 0.35  # how well this view's measurements agree with the others (blur, rolling shutter)


def first_structure(first: View, waiting: list[View], current: View, focal_px: float, sigma_px: float, start_px: float,
                    up: F64 | None) -> tuple[I64, F64] | None:
    """Ids (N,) and points (N, 3) of ``(a, b, rho)`` in ``first``, in any unit, or None while that cannot be told.

    Two views of a plane allow two motions, and on a straight way even more views do not tell them apart. So every
    candidate is adjusted together with the views in between, and of those that fit about equally well the one is taken
    whose plane lies level (``up`` (3,): expected vertical in the camera, None = unknown), even if it fits worse, and
    still worse if it hardly turns; else whose turn is smaller.
    """
    pair = shared(first, current)
    if pair is None:
        return None
    a, b, ids = pair
    found = estimate_two_view(a, b, focal_px, 1.0, start_px)
    if not found.candidates:
        return None
    early = found.motion is Motion.PLANE and (not waiting or found.parallax_px < PLANE_PARALLAX * start_px)
    if early and (up is None or not waiting):
        return None  # a plane takes more to tell its two motions apart, unless one leaves it level
    adjusted: list[tuple[float, Window, F64]] = []
    for rotation, direction in found.candidates:
        window = _hypothesis(waiting, current, rotation, direction, a, b, ids, sigma_px / focal_px)
        if window is not None:
            solution = solve(window, 8)
            adjusted.append((float(np.median(solution.residual)), window, solution.rho_sigma))
    # what moves by itself spoils a sum of squares, not a median; who waits long must content himself with less
    ample = max(1.0, found.parallax_px / (AMPLE * start_px))
    rivals = [w for w in adjusted if w[0] < MISFIT * ample + 0.15 * len(waiting)]
    if not rivals:
        return None
    least = min(misfit for misfit, _, _ in rivals)
    close = [w for w in rivals if w[0] < 1.15 * least + 0.02]
    if up is not None:  # where down is known, ground that lies level may fit a little worse than ground on edge
        steady = min(_turn(window) for _, window, _ in close) / 3
        level = []
        for misfit, window, rho_sigma in rivals:
            times = LEVEL_AND_STEADY_MISFIT if _turn(window) < steady else LEVEL_MISFIT
            if misfit < times * least + 0.02 and _tilt(window.points, up) < LEVEL_RAD:
                level.append((misfit, window, rho_sigma))
        if early and not level:
            return None
        close = level or close
    _, window, rho_sigma = min(close, key=lambda w: _turn(w[1]))
    good = window.points[:, 2] > 0
    if good.sum() < 15 or good.mean() < 0.7 or float(np.median(rho_sigma[good] / window.points[good, 2])) > 0.25:
        return None
    return ids[good], window.points[good]


def _turn(window: Window) -> float:
    """Angle of the last camera against the first, rad."""
    return float(np.linalg.norm(so3_log(window.rotation[-1])))


def _tilt(points: F64, up: F64) -> float:
    """Angle between ``up`` and the normal of the plane through points ``(a, b, rho)``: rho is linear in (a, b)."""
    rays = np.column_stack([points[:, :2], np.ones(len(points))])
    weight = np.ones(len(points))
    normal: F64 = np.zeros(3)
    for _ in range(5):
        normal = np.asarray(np.linalg.lstsq(rays * weight[:, None], points[:, 2] * weight, rcond=None)[0], np.float64)
        error = np.abs(rays @ normal - points[:, 2])
        weight = 1.0 / (1.0 + (error / (float(np.median(error)) + 1e-12)) ** 2)
    return float(np.arccos(np.clip(-normal @ up / max(float(np.linalg.norm(normal)), 1e-12), -1, 1)))


def shared(a: View, b: View) -> tuple[F64, F64, I64] | None:
    """Coordinates (N, 2) in both views and ids (N,) of the tracks both saw; None when they are fewer than 15."""
    at, there = lookup(a.ids, b.ids)
    return (a.xy[at[there]], b.xy[there], b.ids[there]) if there.sum() >= 15 else None


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
        at, there = lookup(ids, view.ids)
        i, j = at[there], np.flatnonzero(there)
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
    """Camera 1 of ``w`` against fixed points, in place: Gauss-Newton with Cauchy weights; median residual."""
    for _ in range(8):
        r, jp, _ = jacobians(w, points=False)
        e = np.sqrt((r * r).sum(1))
        scale = max(middle(e) * 1.5, 0.5 * float(w.sigma[0]))
        weight = 1.0 / (1.0 + (e / scale) ** 2)
        rows = jp.reshape(-1, 6)
        weighted = (rows * np.repeat(weight, 2)[:, None]).T
        step = np.linalg.lstsq(weighted @ rows, -weighted @ r.reshape(-1), rcond=1e-10)[0]
        w.translation[1] += step[:3]
        w.rotation[1] = so3_exp(step[3:]) @ w.rotation[1]
        if np.abs(step).max() < 1e-5:
            break
    return middle(np.linalg.norm(residuals(w), axis=1))
