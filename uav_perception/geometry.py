"""Boxes, pinhole camera, SE(3), quaternions; numpy only. Quaternions are wxyz."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

F64 = NDArray[np.float64]

# REP-103: rotation that takes optical axes (x right, y down, z forward) to body axes (x forward, y left, z up).
BODY_FROM_OPTICAL: F64 = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


def box_area(xyxy: ArrayLike) -> F64:
    """Areas of (N, 4) boxes in px^2."""
    b = np.asarray(xyxy, dtype=np.float64).reshape(-1, 4)
    return np.asarray(np.clip(b[:, 2] - b[:, 0], 0, None) * np.clip(b[:, 3] - b[:, 1], 0, None))


def box_iou(a: ArrayLike, b: ArrayLike) -> F64:
    """Intersection over union of (N, 4) and (M, 4) xyxy boxes, as (N, M)."""
    p = np.asarray(a, dtype=np.float64).reshape(-1, 4)
    q = np.asarray(b, dtype=np.float64).reshape(-1, 4)
    width, height = (np.minimum.outer(p[:, k + 2], q[:, k + 2]) - np.maximum.outer(p[:, k], q[:, k]) for k in (0, 1))
    inter = width.clip(0) * height.clip(0)
    union = box_area(p)[:, None] + box_area(q)[None] - inter
    return np.asarray(inter / np.maximum(union, 1e-12))


def clip_boxes(xyxy: ArrayLike, width_px: int, height_px: int) -> F64:
    """(N, 4) boxes clipped to the image."""
    return np.asarray(np.clip(np.asarray(xyxy, dtype=np.float64), 0, [width_px, height_px, width_px, height_px]))


def project(points_cam: ArrayLike, K: ArrayLike) -> F64:
    """Pixels (N, 2) of points (N, 3) in the optical frame; points behind the camera give NaN."""
    p = np.asarray(points_cam, dtype=np.float64).reshape(-1, 3)
    z = np.where(p[:, 2:] > 0, p[:, 2:], np.nan)
    return np.asarray((p / z) @ np.asarray(K, dtype=np.float64).T)[:, :2]


def backproject(pixels: ArrayLike, depth_m: ArrayLike, K: ArrayLike) -> F64:
    """Points (N, 3) in the optical frame from pixels (N, 2) and depth along the optical axis (N,)."""
    px = np.asarray(pixels, dtype=np.float64).reshape(-1, 2)
    rays = np.column_stack([px, np.ones(len(px))]) @ np.linalg.inv(np.asarray(K, dtype=np.float64)).T
    return np.asarray(rays * np.asarray(depth_m, dtype=np.float64).reshape(-1, 1))


def se3(rotation: ArrayLike, translation: ArrayLike) -> F64:
    """(4, 4) rigid motion from (3, 3) rotation and (3,) translation."""
    m = np.eye(4)
    m[:3, :3], m[:3, 3] = rotation, translation
    return m


def se3_inverse(m: ArrayLike) -> F64:
    """Inverse of a rigid (4, 4) motion, exact in the rotation."""
    a = np.asarray(m, dtype=np.float64)
    return se3(a[:3, :3].T, -a[:3, :3].T @ a[:3, 3])


def hat(w: ArrayLike) -> F64:
    """(3, 3) skew matrix: ``hat(w) @ v == cross(w, v)``."""
    x, y, z = np.asarray(w, dtype=np.float64)
    return np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])


def so3_exp(rotvec: ArrayLike) -> F64:
    """Rotation matrix of a rotation vector in radians (Rodrigues)."""
    w = np.asarray(rotvec, dtype=np.float64)
    angle = float(np.linalg.norm(w))
    k = hat(w)
    if angle < 1e-8:
        return np.asarray(np.eye(3) + k + 0.5 * k @ k)
    return np.asarray(np.eye(3) + np.sin(angle) / angle * k + (1 - np.cos(angle)) / angle**2 * k @ k)


def so3_log(rotation: ArrayLike) -> F64:
    """Rotation vector in radians, |.| <= pi, of a rotation matrix (through the quaternion: stable near pi)."""
    w, *v = quaternion_from_matrix(rotation)
    norm = float(np.linalg.norm(v))
    if norm < 1e-12:
        return np.asarray(2.0 * np.asarray(v))
    return np.asarray(np.asarray(v) * (2.0 * np.arctan2(norm, w) / norm))


def se3_exp(twist: ArrayLike) -> F64:
    """(4, 4) motion of a twist ``(v, w)``, translation part first (Barfoot, State Estimation, eq. 7.86)."""
    t = np.asarray(twist, dtype=np.float64)
    v, w = t[:3], t[3:]
    angle = float(np.linalg.norm(w))
    k = hat(w)
    if angle < 1e-6:
        left = np.eye(3) + 0.5 * k + k @ k / 6.0
    else:
        left = np.eye(3) + (1 - np.cos(angle)) / angle**2 * k + (angle - np.sin(angle)) / angle**3 * k @ k
    return se3(so3_exp(w), left @ v)


def quaternion_from_matrix(rotation: ArrayLike) -> F64:
    """Unit quaternion wxyz with w >= 0 of a rotation matrix (largest-component method, Shepperd 1978)."""
    r = np.asarray(rotation, dtype=np.float64)
    trace = np.trace(r)
    q = np.empty(4)
    i = int(np.argmax([trace, r[0, 0], r[1, 1], r[2, 2]]))
    if i == 0:
        q[:] = 1 + trace, r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]
    elif i == 1:
        q[:] = r[2, 1] - r[1, 2], 1 + 2 * r[0, 0] - trace, r[0, 1] + r[1, 0], r[0, 2] + r[2, 0]
    elif i == 2:
        q[:] = r[0, 2] - r[2, 0], r[0, 1] + r[1, 0], 1 + 2 * r[1, 1] - trace, r[1, 2] + r[2, 1]
    else:
        q[:] = r[1, 0] - r[0, 1], r[0, 2] + r[2, 0], r[1, 2] + r[2, 1], 1 + 2 * r[2, 2] - trace
    q /= np.linalg.norm(q)
    return np.asarray(-q if q[0] < 0 else q)


def matrix_from_quaternion(wxyz: ArrayLike) -> F64:
    """Rotation matrix of a quaternion wxyz (normalised here)."""
    w, x, y, z = np.asarray(wxyz, dtype=np.float64) / np.linalg.norm(np.asarray(wxyz, dtype=np.float64))
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def nearest_rotation(matrix: ArrayLike) -> F64:
    """The rotation nearest to a (3, 3) matrix in the Frobenius norm (orthogonal Procrustes)."""
    u, _, vt = np.linalg.svd(np.asarray(matrix, dtype=np.float64))
    return np.asarray(u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt)
