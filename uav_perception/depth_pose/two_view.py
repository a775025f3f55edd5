"""Motion between two views from point pairs: essential matrix, homography, pure rotation or standstill.

The model is chosen by what the pixels support: a translation is only reported when a rotation alone leaves residuals
that a rotation cannot explain (a simplified GRIC, Torr 1998).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import cv2
import numpy as np

from ..geometry import nearest_rotation
from ..records import F64, Bool


class Motion(Enum):
    """What kind of motion explains the point pairs."""

    STILL = "standstill"
    ROTATION = "pure rotation"
    PLANE = "motion over a plane"
    GENERAL = "general motion"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class TwoView:
    """Second camera from first: ``rotation`` (3, 3), unit or zero ``direction`` (3,), ``inlier`` (N,)."""

    motion: Motion
    rotation: F64
    direction: F64
    inlier: Bool
    homography: F64 | None  # (3, 3) normalised coordinates, when a plane (or a rotation) explains the pairs
    parallax_px: float  # median image motion that the rotation does not explain


def bearings(xy: F64) -> F64:
    """Unit rays (N, 3) of normalised image coordinates (N, 2)."""
    rays = np.column_stack([xy, np.ones(len(xy))])
    return np.asarray(rays / np.linalg.norm(rays, axis=1, keepdims=True))


def fit_rotation(xy0: F64, xy1: F64, rounds: int = 6) -> F64:
    """Rotation (3, 3) that best takes rays of the first view to the second (Wahba's problem, robustly reweighted)."""
    a, b = bearings(xy0), bearings(xy1)
    weight = np.ones(len(a))
    rotation = np.eye(3)
    for _ in range(rounds):
        rotation = nearest_rotation((b * weight[:, None]).T @ a)
        error = np.linalg.norm(b - a @ rotation.T, axis=1)
        scale = float(np.median(error)) + 1e-9
        weight = 1.0 / (1.0 + (error / scale) ** 2)
    return rotation


def rotate_xy(xy: F64, rotation: F64) -> F64:
    """Normalised coordinates after a rotation of the camera."""
    x = np.column_stack([xy, np.ones(len(xy))]) @ rotation.T
    return np.asarray(x[:, :2] / x[:, 2:])


def estimate_two_view(xy0: F64, xy1: F64, focal_px: float, still_px: float, parallax_min_px: float) -> TwoView:
    """Choose and fit the motion of pairs ``xy0 -> xy1`` (N, 2), normalised coordinates.

    Args:
        focal_px: pixels a unit of normalised coordinates.
        still_px: median image motion below which the camera stood still.
        parallax_min_px: median motion left over by the best rotation below which there is no measurable translation.
    """
    n = len(xy0)
    everything, nothing = np.ones(n, bool), np.zeros(n, bool)
    if n < 8:
        return TwoView(Motion.UNKNOWN, np.eye(3), np.zeros(3), nothing, None, 0.0)
    if float(np.median(np.linalg.norm(xy1 - xy0, axis=1))) * focal_px < still_px:
        return TwoView(Motion.STILL, np.eye(3), np.zeros(3), everything, np.eye(3), 0.0)
    rotation = fit_rotation(xy0, xy1)
    left_px = np.linalg.norm(xy1 - rotate_xy(xy0, rotation), axis=1) * focal_px
    parallax = float(np.median(left_px))
    if parallax < parallax_min_px:
        return TwoView(Motion.ROTATION, rotation, np.zeros(3), left_px < 4 * parallax_min_px, rotation, parallax)
    essential, mask = cv2.findEssentialMat(xy0, xy1, np.eye(3), cv2.USAC_MAGSAC, 0.999, 0.7 / focal_px)
    homography, plane = cv2.findHomography(xy0, xy1, cv2.USAC_MAGSAC, 1.5 / focal_px, confidence=0.999)
    if essential is None or essential.shape[0] < 3 or mask is None:
        return TwoView(Motion.UNKNOWN, rotation, np.zeros(3), nothing, None, parallax)
    on_plane = 0 if plane is None else int((plane[:, 0] > 0).sum())
    if homography is not None and on_plane > 0.85 * max(int((mask > 0).sum()), 1):
        best = _plane_motion(homography, xy0, xy1, plane[:, 0] > 0)
        if best is not None:
            r, t = best
            return TwoView(Motion.PLANE, r, t, plane[:, 0] > 0, homography, parallax)
    _, r, t, mask = cv2.recoverPose(essential[:3], xy0, xy1, np.eye(3), mask=mask)
    inlier = mask[:, 0] > 0
    kind = Motion.GENERAL if inlier.sum() >= 8 else Motion.UNKNOWN
    return TwoView(kind, r, t[:, 0], inlier, homography if on_plane > 0.5 * n else None, parallax)


def _plane_motion(homography: F64, xy0: F64, xy1: F64, inlier: Bool) -> tuple[F64, F64] | None:
    """Of the (up to four) motions a homography allows, the one with all points in front and the plane most face-on."""
    count, rotations, translations, normals = cv2.decomposeHomographyMat(homography, np.eye(3))
    a = np.column_stack([xy0, np.ones(len(xy0))])[inlier]
    best: tuple[float, F64, F64] | None = None
    for k in range(count):
        r, t, normal = rotations[k], translations[k][:, 0], normals[k][:, 0]
        in_front = float(((a @ normal) > 0).mean())
        if in_front > 0.95 and (best is None or normal[2] > best[0]):
            best = (float(normal[2]), r, t / max(float(np.linalg.norm(t)), 1e-12))
    return None if best is None else (best[1], best[2])


def triangulate(xy0: F64, xy1: F64, rotation: F64, translation: F64) -> F64:
    """Inverse depth (N,) in the first view, least squares over the second view's two equations; <= 0 is nonsense."""
    a = np.column_stack([xy0, np.ones(len(xy0))]) @ rotation.T
    # u (c + rho t_z) = a + rho t_x   ->   rho (u t_z - t_x) = a - u c
    left = np.column_stack([xy1[:, 0] * translation[2] - translation[0], xy1[:, 1] * translation[2] - translation[1]])
    right = np.column_stack([a[:, 0] - xy1[:, 0] * a[:, 2], a[:, 1] - xy1[:, 1] * a[:, 2]])
    return np.asarray((left * right).sum(1) / np.maximum((left * left).sum(1), 1e-18))
