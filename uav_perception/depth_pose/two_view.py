"""Motion between two views from point pairs: essential matrix, homography, pure rotation or standstill.

The model is chosen by what the pixels support: a translation is only reported when a rotation alone leaves residuals
that a rotation cannot explain (a simplified GRIC, Torr 1998).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import cv2
import numpy as np
from numpy.typing import NDArray

from ..geometry import nearest_rotation
from ..records import F64, CameraModel


class Motion(Enum):
    """What kind of motion explains the point pairs."""

    STILL = "standstill"
    ROTATION = "pure rotation"
    PLANE = "motion over a plane"
    GENERAL = "general motion"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class TwoView:
    """What two views alone allow.

    ``rotation`` (3, 3) explains the pairs best without any translation. ``candidates`` are motions, second camera from
    first, as rotation (3, 3) and unit direction (3,): one from the essential matrix, up to two more from a homography
    (two views of a plane cannot tell them apart; a third view can).
    """

    motion: Motion
    rotation: F64
    candidates: tuple[tuple[F64, F64], ...]
    parallax_px: float  # median image motion that the rotation does not explain


def middle(values: F64) -> float:
    """Upper median of (N,) values, N > 0; many times faster than numpy's on small arrays."""
    k = len(values) // 2
    return float(np.partition(values, k)[k])


def bearings(xy: F64) -> F64:
    """Unit rays (N, 3) of normalised image coordinates (N, 2)."""
    rays = np.column_stack([xy, np.ones(len(xy))])
    return np.asarray(rays / np.linalg.norm(rays, axis=1, keepdims=True))


def fit_rotation(xy0: F64, xy1: F64, rounds: int = 4) -> F64:
    """Rotation (3, 3) that best takes rays of the first view to the second (Wahba's problem, robustly reweighted)."""
    a, b = bearings(xy0), bearings(xy1)
    weight = np.ones(len(a))
    rotation = np.eye(3)
    for _ in range(rounds):
        rotation = nearest_rotation((b * weight[:, None]).T @ a)
        error = np.linalg.norm(b - a @ rotation.T, axis=1)
        scale = middle(error) + 1e-9
        weight = 1.0 / (1.0 + (error / scale) ** 2)
    return rotation


def rotate_xy(xy: F64, rotation: F64) -> F64:
    """Normalised coordinates after a rotation of the camera."""
    x = np.column_stack([xy, np.ones(len(xy))]) @ rotation.T
    return np.asarray(x[:, :2] / x[:, 2:])


def estimate_two_view(xy0: F64, xy1: F64, focal_px: float, still_px: float, parallax_min_px: float) -> TwoView:
    """What kind of motion pairs ``xy0 -> xy1`` (N, 2) in normalised coordinates show, and the motions they allow.

    Args:
        focal_px: pixels a unit of normalised coordinates.
        still_px: median image motion below which the camera stood still.
        parallax_min_px: median motion left over by the best rotation below which there is no measurable translation.
    """
    if len(xy0) < 8:
        return TwoView(Motion.UNKNOWN, np.eye(3), (), 0.0)
    if float(np.median(np.linalg.norm(xy1 - xy0, axis=1))) * focal_px < still_px:
        return TwoView(Motion.STILL, np.eye(3), (), 0.0)
    rotation = fit_rotation(xy0, xy1)
    parallax = float(np.median(np.linalg.norm(xy1 - rotate_xy(xy0, rotation), axis=1))) * focal_px
    if parallax < parallax_min_px:
        return TwoView(Motion.ROTATION, rotation, (), parallax)
    candidates: list[tuple[F64, F64]] = []
    essential, mask = cv2.findEssentialMat(xy0, xy1, np.eye(3), cv2.USAC_MAGSAC, 0.999, 0.7 / focal_px)
    agree = 0
    if essential is not None and mask is not None and len(essential) >= 3:
        agree = int((mask > 0).sum())
        _, r, t, _ = cv2.recoverPose(essential[:3], xy0, xy1, np.eye(3), mask=mask.copy())
        candidates.append((np.asarray(r, np.float64), np.asarray(t[:, 0], np.float64)))
    homography, plane = cv2.findHomography(xy0, xy1, cv2.USAC_MAGSAC, 1.5 / focal_px, confidence=0.999)
    on_plane = 0 if homography is None else int((plane > 0).sum())
    planar = on_plane > 0.7 * max(agree, 8)
    if on_plane > 0.3 * max(agree, 8):  # mostly plane already misleads the essential matrix: see what the plane allows
        candidates += _plane_motions(np.asarray(homography, np.float64), xy0[plane[:, 0] > 0])
    if not candidates:
        return TwoView(Motion.UNKNOWN, rotation, (), parallax)
    return TwoView(Motion.PLANE if planar else Motion.GENERAL, rotation, tuple(candidates), parallax)


def _plane_motions(homography: F64, xy0: F64) -> list[tuple[F64, F64]]:
    """The motions a homography allows (Malis and Vargas 2007) for which all points lie in front of the camera."""
    count, rotations, translations, normals = cv2.decomposeHomographyMat(homography, np.eye(3))
    rays = np.column_stack([xy0, np.ones(len(xy0))])
    found = []
    for k in range(count):
        length = float(np.linalg.norm(translations[k]))
        if length > 1e-9 and float(((rays @ normals[k][:, 0]) > 0).mean()) > 0.95:
            found.append((np.asarray(rotations[k], np.float64), np.asarray(translations[k][:, 0] / length, np.float64)))
    return found


def triangulate(xy0: F64, xy1: F64, rotation: F64, translation: F64) -> F64:
    """Inverse depth (N,) in the first view, least squares over the second view's two equations; <= 0 is nonsense."""
    a = np.column_stack([xy0, np.ones(len(xy0))]) @ rotation.T
    # u (c + rho t_z) = a + rho t_x   ->   rho (u t_z - t_x) = a - u c
    left = np.column_stack([xy1[:, 0] * translation[2] - translation[0], xy1[:, 1] * translation[2] - translation[1]])
    right = np.column_stack([a[:, 0] - xy1[:, 0] * a[:, 2], a[:, 1] - xy1[:, 1] * a[:, 2]])
    return np.asarray((left * right).sum(1) / np.maximum((left * left).sum(1), 1e-18))


def undistort(px: NDArray[np.float32], camera: CameraModel) -> F64:
    """Normalised coordinates (N, 2) of pixels (N, 2), lens distortion removed."""
    if not len(px):
        return np.zeros((0, 2))
    if not camera.distortion.any():
        k = camera.K
        return np.asarray((px.astype(np.float64) - [k[0, 2], k[1, 2]]) / [k[0, 0], k[1, 1]])
    points = px.reshape(-1, 1, 2).astype(np.float64)
    fisheye = camera.distortion_model in ("equidistant", "fisheye")
    how = cv2.fisheye.undistortPoints if fisheye else cv2.undistortPoints
    return np.array(how(points, camera.K, camera.distortion), np.float64).reshape(-1, 2)
