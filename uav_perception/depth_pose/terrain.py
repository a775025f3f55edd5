"""Height above the ground straight below, in run units, from the ground that was seen so far.

A height sensor looks down, the camera ahead: where the ground falls or rises between, the plane that is seen does not
lie below the vehicle as the sensor's ground does, and metres would be wrong by as much. But what is below now was in
view a while ago, and what lies before it tells how the ground leans here.
"""

from __future__ import annotations

import numpy as np

from ..geometry import backproject
from ..records import F64
from .features import I64
from .scale import NEAR, Plane

KEPT = 3000  # points, the newest
SURE = 0.1  # relative standard deviation of a point's inverse depth up to which it is kept
FAR = 4.0  # heights away, beyond which height is not known well
AROUND = 1.0  # heights around the place below: one standard deviation of how far points count
AGREE = 0.15  # of the height, by which ground may lie off the plane in view
ROUGH = 0.015  # of the height, residuals that are usual
STAYS, LEANS = 0.3, 1.0  # points' worth of belief in the plane in view: in where it lies, and how


class Terrain:
    """Points on the ground in the frame of the run; ``reset`` when that is left."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._ids, self._points = np.zeros(0, np.int64), np.zeros((0, 3))

    def add(self, ids: I64, xy: F64, rho: F64, sigma: F64, plane: Plane, world_from_cur: F64) -> None:
        """Keep which points lie on ``plane``: ``ids`` (N,), ``xy`` (N, 2) normalised, inverse depth ``rho`` (N,) and
        its standard deviation ``sigma`` (N,); a point seen again replaces itself."""
        known = (rho > 0) & (sigma < SURE * rho)
        points = backproject(xy[known], 1 / rho[known], np.eye(3))
        above = points @ plane.normal + plane.height
        away = np.linalg.norm(points + plane.height * plane.normal, axis=1)
        lies = (np.abs(above) < NEAR * plane.height) & (away < FAR * plane.height)
        ids, points = ids[known][lies], points[lies] @ world_from_cur[:3, :3].T + world_from_cur[:3, 3]
        others = ~np.isin(self._ids, ids)
        self._ids = np.concatenate([self._ids[others], ids])[-KEPT:]
        self._points = np.concatenate([self._points[others], points])[-KEPT:]

    def height(self, plane: Plane, world_from_cur: F64) -> float:
        """Of the camera above what lies below it, by the ground around as far as it has been seen; for want of that
        above ``plane``, which is in view. Locally weighted regression (Cleveland 1979), in heights."""
        up = world_from_cur[:3, :3] @ plane.normal
        away = (self._points - world_from_cur[:3, 3]) / plane.height
        lower = -(away @ up) - 1
        aside = away + (lower[:, None] + 1) * up
        distance = np.linalg.norm(aside, axis=1)
        near = (distance < 3 * AROUND) & (np.abs(lower) < AGREE)
        lower, nearness = lower[near], np.exp(-0.5 * (distance[near] / AROUND) ** 2)
        level = np.linalg.svd(up[None])[2][1:]  # (2, 3) two directions along the plane
        a = np.column_stack([np.ones(len(lower)), aside[near] @ level.T])
        weight, found = nearness, np.zeros(3)
        for _ in range(4):
            normal = (a * weight[:, None]).T @ a + np.diag([STAYS, LEANS, LEANS])
            found = np.linalg.solve(normal, a.T @ (weight * lower))
            weight = nearness / (1 + ((lower - a @ found) / ROUGH) ** 2)
        return float(plane.height * (1 + found[0]))
