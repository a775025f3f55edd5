"""Numbers as autopilots want them: the only place that knows NED, FRD and MAVLink's units.

Inside the package: body FLU, world ENU (or FLU at the start), quaternions wxyz, radians, metres. On the wire: body FRD,
world NED (or FRD at the start), centimetres and fractions of the image where MAVLink says so. Pure functions, no I/O.
Sources: REP-103, REP-147; MAVLink common.xml.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import ArrayLike

from ..errors import RecordError
from ..geometry import matrix_from_quaternion, quaternion_from_matrix
from ..records import F64, CameraModel, Obstacles

FRD_FROM_FLU: F64 = np.diag([1.0, -1.0, -1.0])  # its own inverse
NED_FROM_ENU: F64 = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])  # its own inverse
SECTORS = 72  # of OBSTACLE_DISTANCE
UNKNOWN_CM = 65535  # UINT16_MAX: this sector was not looked at


def swap_world(vector: ArrayLike, aligned_north: bool) -> F64:
    """(3,) world vector ENU <-> NED when the axes are aligned with north, else FLU <-> FRD of the start pose."""
    return np.asarray(_world(aligned_north) @ np.asarray(vector, dtype=np.float64))


def swap_body(vector: ArrayLike) -> F64:
    """(3,) body vector FLU <-> FRD."""
    return np.asarray(FRD_FROM_FLU @ np.asarray(vector, dtype=np.float64))


def swap_attitude(wxyz: ArrayLike, aligned_north: bool) -> F64:
    """Quaternion of the body in the world, (FLU in ENU or FLU) <-> (FRD in NED or FRD); w >= 0."""
    return quaternion_from_matrix(_world(aligned_north) @ matrix_from_quaternion(wxyz) @ FRD_FROM_FLU)


def swap_covariance(covariance: ArrayLike, aligned_north: bool) -> F64:
    """(6, 6) covariance of translation and rotation vector in world axes, ENU <-> NED or FLU <-> FRD."""
    turn = np.kron(np.eye(2), _world(aligned_north))
    return np.asarray(turn @ np.asarray(covariance, dtype=np.float64) @ turn.T)


def upper_triangle(covariance: F64 | None) -> list[float]:
    """The 21 numbers of MAVLink's covariance fields, row by row; NaN first means unknown."""
    if covariance is None:
        return [float("nan")] + [0.0] * 20
    return [float(v) for v in covariance[np.triu_indices(6)]]


def _world(aligned_north: bool) -> F64:
    return NED_FROM_ENU if aligned_north else FRD_FROM_FLU


def target_angles(xyxy_px: ArrayLike, camera: CameraModel) -> tuple[float, float, float, float]:
    """LANDING_TARGET's ``angle_x, angle_y, size_x, size_y`` in radians: offset of the box's centre from the optical
    axis (x right, y down in the image) and the angles its sides span, lens distortion taken out.
    """
    x1, y1, x2, y2 = (float(v) for v in np.asarray(xyxy_px))
    cx, cy = (x1 + x2) / 2, (y1 + y2) / 2
    points = np.array([[cx, cy], [x1, cy], [x2, cy], [cx, y1], [cx, y2]])
    rays = cv2.undistortPoints(points.reshape(-1, 1, 2), camera.K, camera.distortion).reshape(-1, 2)
    angle = np.arctan(rays)
    return (float(angle[0, 0]), float(angle[0, 1]), float(angle[2, 0] - angle[1, 0]), float(angle[4, 1] - angle[3, 1]))


def normalised_box(xyxy_px: ArrayLike, width_px: int, height_px: int) -> tuple[float, float, float, float]:
    """Box as fractions 0..1 of the image (left, top, right, bottom), clipped to it."""
    size = np.array([width_px, height_px, width_px, height_px], dtype=np.float64)
    left, top, right, bottom = np.clip(np.asarray(xyxy_px, dtype=np.float64) / size, 0.0, 1.0).tolist()
    return left, top, right, bottom


def pixel_box(fractions: ArrayLike, width_px: int, height_px: int) -> F64:
    """(4,) source pixels of a rectangle the operator drew, given as fractions; corners are put in order.

    Raises:
        RecordError: a fraction is not a number or outside 0..1.
    """
    f = np.asarray(fractions, dtype=np.float64).reshape(-1)
    if f.shape != (4,) or not (np.isfinite(f).all() and (f >= 0).all() and (f <= 1).all()):
        raise RecordError(f"rectangle {f.tolist()}", "four fractions of the image, 0..1", "draw it again")
    corners = np.sort(f.reshape(2, 2), axis=0)
    return np.asarray((corners * [width_px, height_px]).reshape(4))


def obstacles_cm(obstacles: Obstacles) -> list[int]:
    """OBSTACLE_DISTANCE's 72 distances in cm: ``max + 1`` = free, 65535 = not looked at (unknown, not free).

    Raises:
        RecordError: another number of sectors.
    """
    if len(obstacles.distance_m) != SECTORS:
        raise RecordError(f"{len(obstacles.distance_m)} obstacle sectors", f"{SECTORS}", "check who sent them")
    centimetres = np.clip(obstacles.distance_m * 100, 0, round(obstacles.max_m * 100) + 1)
    return [int(v) for v in np.where(np.isnan(centimetres), UNKNOWN_CM, np.rint(centimetres))]
