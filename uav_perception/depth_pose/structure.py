"""What odometry tells of a frame, and the points that it keeps."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from ..records import F64, CameraModel
from .features import I64, lookup
from .two_view import Motion


@dataclass(frozen=True)
class Step:
    """What one frame brought.

    Attributes:
        cur_from_prev: (4, 4) in run units, None when nothing could be said.
        world_from_cur: (4, 4) in run units; world is the first frame after a reset.
        covariance: (6, 6) of ``cur_from_prev``, translation then rotation vector.
        prev_xy, cur_xy: (N, 2) normalised coordinates of inlier tracks.
        rho, rho_sigma: (N,) their inverse depths in the current frame (0 = unknown) and standard deviations.
        residual_px: median disagreement of tracks and points.
        message: why something is missing, empty when nothing is.
        revision: (4, 4) old from corrected pose of the previous frame, run units, when the past was reinterpreted.
    """

    motion: Motion
    cur_from_prev: F64 | None
    world_from_cur: F64
    covariance: F64
    inliers: int
    prev_xy: F64
    cur_xy: F64
    rho: F64
    rho_sigma: F64
    ids: I64
    residual_px: float
    message: str = ""
    revision: F64 | None = None

    def plane_homography(self, camera: CameraModel) -> F64 | None:
        """(3, 3) previous pixels to current pixels when one plane explains most tracks, else None."""
        if len(self.cur_xy) < 12:
            return None
        found, mask = cv2.findHomography(self.prev_xy, self.cur_xy, cv2.RANSAC, 1.5 / float(camera.K[0, 0]),
                                         maxIters=200, confidence=0.99)
        if found is None or float(mask.mean()) < 0.5:
            return None
        return np.asarray(camera.K @ found @ np.linalg.inv(camera.K))


@dataclass
class Points:
    """Points of the window: rising ``ids`` (N,), ``abr`` (N, 3) in the reference frame, ``sigma`` (N,) of rho."""

    ids: I64 = field(default_factory=lambda: np.zeros(0, np.int64))
    abr: F64 = field(default_factory=lambda: np.zeros((0, 3)))
    sigma: F64 = field(default_factory=lambda: np.zeros(0))

    def merged(self, ids: I64, abr: F64, sigma: F64, gone: I64) -> Points:
        """These points new or changed, those in ``gone`` (rising) left out; how sure others are is forgotten."""
        stay = ~(lookup(ids, self.ids)[1] | lookup(gone, self.ids)[1])
        every = np.concatenate([self.ids[stay], ids])
        order = np.argsort(every)
        unsure = np.full(int(stay.sum()), np.inf)
        return Points(every[order], np.concatenate([self.abr[stay], abr])[order],
                      np.concatenate([unsure, sigma])[order])


def measured_points(xy: F64, rho: F64, sigma: F64, camera: CameraModel) -> tuple[F64, F64, F64]:
    """Of points at normalised ``xy`` (N, 2) those with a depth of their own: place (M, 2) in 0..1 of the ideal image,
    inverse depth (M,) and its standard deviation (M,)."""
    ok = (rho > 1e-6) & (sigma < 0.5 * rho)
    uv = (xy[ok] * [camera.K[0, 0], camera.K[1, 1]] + camera.K[:2, 2] + 0.5) / [camera.width_px, camera.height_px]
    return uv, rho[ok], sigma[ok]
