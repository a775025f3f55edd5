"""Metres for a run that knows none: from height above ground or from navigation displacement, or not at all.

Every source yields samples of ``metres per unit``; the published factor is their running median. Without fresh samples
the factor is held for a while (odometry keeps its unit) and then withdrawn: the run is UNIT again.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..records import F64, CameraModel, Scale


@dataclass(frozen=True)
class Plane:
    """Points X of the camera frame with ``normal . X + height = 0``; ``normal`` points up, ``height`` > 0."""

    normal: F64
    height: float
    inliers: int
    spread: float  # robust standard deviation of the inliers' distances, same unit as height

    def inverse_depth(self, camera: CameraModel) -> F64:
        """(3,): it is linear in the image, that times (u, v, 1) at places in 0..1 of the ideal picture's size."""
        k, (a, b, c) = camera.K, -self.normal / self.height
        across, down = a / k[0, 0], b / k[1, 1]  # a pixel
        middle = c - across * (k[0, 2] + 0.5) - down * (k[1, 2] + 0.5)
        return np.array([across * camera.width_px, down * camera.height_px, middle])


NEAR = 0.04  # of the camera's height: distance from the plane at which a point no longer belongs
AS_MOUNTED_RAD = 0.07  # tilt against the mounting that needs no explanation
TILTED_WORTH = 0.3  # support of a plane tilted by much more, for the same points: an aircraft does lean
MOUNTING = 3.0  # how firmly the mounting holds a plane that lies about so, the firmer the rougher the ground


def fit_ground(points: F64, up: F64, *, tilt_max_rad: float, rounds: int = 200, seed: int = 0) -> Plane | None:
    """The plane below the camera that holds most of ``points`` (N, 3), or None.

    MSAC (Torr and Zisserman 2000: points count the more the nearer they are) over planes whose normal is within
    ``tilt_max_rad`` of ``up`` (3,), then reweighted least squares. Of planes that hold about as much, the one that lies
    as the mounting has it is taken: three chance points on kerbs, hedges and cars make many that lean a little.
    """
    n = len(points)
    if n < 12:
        return None
    rng = np.random.default_rng(seed)
    pick = rng.integers(0, n, (rounds, 3))
    a, b, c = points[pick[:, 0]], points[pick[:, 1]], points[pick[:, 2]]
    normals = np.cross(b - a, c - a)
    length = np.linalg.norm(normals, axis=1)
    normals = normals / np.maximum(length, 1e-12)[:, None]
    normals *= np.sign(normals @ up)[:, None]
    height = -(normals * a).sum(1)
    legal = (length > 1e-9) & (normals @ up > np.cos(tilt_max_rad)) & (height > 1e-6)
    if not legal.any():
        return None
    normals, height = normals[legal], height[legal]
    worth = TILTED_WORTH + (1 - TILTED_WORTH) * _as_mounted(normals @ up)
    best = int((worth * _belonging(normals @ points.T + height[:, None], height[:, None]).sum(1)).argmax())
    normal, level = normals[best], float(height[best])
    for _ in range(4):
        weight = _belonging(points @ normal + level, level)
        if (weight > 0).sum() < 12:
            return None
        middle = weight @ points / weight.sum()
        spread = points - middle
        rough = float(weight @ (points @ normal + level) ** 2 / weight.sum()) / (NEAR * level) ** 2
        held = MOUNTING * rough * weight.sum() * level**2 * _as_mounted(normal @ up)
        scatter = (spread * weight[:, None]).T @ spread + held * (np.eye(3) - np.outer(up, up))
        fitted = np.linalg.eigh(scatter)[1][:, 0]
        fitted = fitted * np.sign(fitted @ up)
        if fitted @ up < np.cos(tilt_max_rad) or -(fitted @ middle) <= 0:
            return None
        normal, level = fitted, float(-(fitted @ middle))
    distance = np.abs(points @ normal + level)
    inlier = distance < NEAR * level
    if not inlier.any():
        return None
    return Plane(normal, level, int(inlier.sum()), float(1.48 * np.median(distance[inlier])))


def _as_mounted(cosine: F64 | float) -> F64:
    """0..1: how far planes with this cosine of the tilt against the mounting lie as it has them."""
    return np.asarray(np.exp(-0.5 * (np.arccos(np.clip(cosine, -1, 1)) / AS_MOUNTED_RAD) ** 2))


def _belonging(distance: F64, height: F64 | float) -> F64:
    """0..1: how much points at ``distance`` from a plane that lies ``height`` below belong to it."""
    return np.asarray(np.maximum(1.0 - (distance / (NEAR * height)) ** 2, 0.0))


BEGINS_NS = 200_000_000  # for so long samples must have come before they are believed: a young run changes its mind
SURE = 0.025  # relative standard error of their median at which they are


class MetricScale:
    """Running estimate of metres per unit. ``reset`` when the run's unit changes."""

    def __init__(self, *, samples: int = 15, hold_s: float = 2.0, agree: float = 0.15, nav_motion_min_m: float = 1.0,
                 nav_window_s: float = 3.0) -> None:
        self._hold_ns = int(hold_s * 1e9)
        self._agree = agree
        self._nav_motion_min_m, self._nav_window_ns = nav_motion_min_m, int(nav_window_s * 1e9)
        self._samples: deque[tuple[int, float]] = deque(maxlen=samples)
        self._nav: deque[tuple[int, F64, F64]] = deque(maxlen=200)
        self.metres_per_unit: float | None = None
        self.relative_sigma = 1.0

    def reset(self) -> None:
        self._samples.clear()
        self._nav.clear()
        self.metres_per_unit, self.relative_sigma = None, 1.0

    @property
    def state(self) -> Scale:
        return Scale.UNIT if self.metres_per_unit is None else Scale.METRIC

    def add_height(self, stamp_ns: int, height_agl_m: float | None, height: float | None) -> None:
        """A height above ground in metres, and in run units: s = h_agl / h."""
        if height_agl_m is not None and np.isfinite(height_agl_m) and height_agl_m > 0 and height is not None:
            self._samples.append((stamp_ns, height_agl_m / height))

    def add_navigation(self, stamp_ns: int, nav_position_m: ArrayLike | None, run_position: F64) -> None:
        """Position by navigation (3,) m and by this run (3,) units: s = |dp_nav| / |dp_run| over real motion."""
        if nav_position_m is None:
            return
        position = np.asarray(nav_position_m, dtype=np.float64)
        if position.shape != (3,) or not np.isfinite(position).all():
            return
        while self._nav and stamp_ns - self._nav[0][0] > self._nav_window_ns:
            self._nav.popleft()
        self._nav.append((stamp_ns, position, run_position.copy()))
        _, nav0, run0 = self._nav[0]
        moved, own = float(np.linalg.norm(position - nav0)), float(np.linalg.norm(run_position - run0))
        if moved >= self._nav_motion_min_m and own > 1e-9:
            self._samples.append((stamp_ns, moved / own))

    def settle(self, stamp_ns: int) -> bool:
        """Publish what the samples agree on; True when the scale appeared, vanished, or changed beyond ``agree``."""
        while self._samples and stamp_ns - self._samples[0][0] > 2 * self._hold_ns:
            self._samples.popleft()
        before = self.metres_per_unit
        if not self._samples or stamp_ns - self._samples[-1][0] > self._hold_ns:
            self.metres_per_unit, self.relative_sigma = None, 1.0
            return before is not None
        logs = np.log([s for _, s in self._samples])
        middle = float(np.median(logs))
        spread = 1.25 * float(np.mean(np.abs(logs - middle)))
        span_ns = self._samples[-1][0] - self._samples[0][0]
        settled = len(logs) >= 3 and span_ns >= BEGINS_NS and spread <= SURE * np.sqrt(len(logs))
        if before is None and not settled:
            return False
        if spread > self._agree:
            self.relative_sigma = max(self.relative_sigma, spread)
            return False
        self.metres_per_unit = float(np.exp(middle))
        self.relative_sigma = spread / np.sqrt(len(logs)) + 0.01
        return before is None or abs(np.log(self.metres_per_unit / before)) > self._agree
