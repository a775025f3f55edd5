"""Trajectory errors: ATE after alignment (Umeyama 1991), RPE of consecutive pairs, KITTI-style drift over segments."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...geometry import matrix_from_quaternion, se3, se3_inverse, so3_log

F64 = NDArray[np.float64]
SEGMENTS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)  # of the path length; KITTI's 100..800 m for any length


def umeyama(source: F64, target: F64, with_scale: bool) -> tuple[float, F64, F64]:
    """Scale s, rotation R and translation t that minimise sum |target - (s R source + t)|^2 over (N, 3) points."""
    mean_a, mean_b = source.mean(axis=0), target.mean(axis=0)
    a, b = source - mean_a, target - mean_b
    u, d, vt = np.linalg.svd(b.T @ a / len(a))
    sign = np.ones(3)
    if np.linalg.det(u) * np.linalg.det(vt) < 0:
        sign[2] = -1
    rotation = u @ np.diag(sign) @ vt
    variance = (a**2).sum() / len(a)
    scale = float((d * sign).sum() / variance) if with_scale and variance > 0 else 1.0
    return scale, rotation, mean_b - scale * rotation @ mean_a


def score_trajectory(stamps_ns: NDArray[np.int64], found: F64, truth: F64, metric: bool) -> dict[str, Any]:
    """Errors of (N, 4, 4) ``world_from_camera`` poses against the truth's at the same stamps.

    ATE: root mean square of the position error after a similarity (monocular) or, when ``metric``, a rigid alignment.
    RPE: translation (in truth metres after the same scale) and rotation of the error between consecutive poses.
    ``direction_deg``: angle between true and found translation directions where the camera moved.
    ``drift_percent``: mean end-point error of segments of 10..80 % of the path, in % of their length.
    """
    n = len(found)
    if n < 3:
        return {"poses": n}
    p, q = found[:, :3, 3], truth[:, :3, 3]
    path_m = float(np.linalg.norm(np.diff(q, axis=0), axis=1).sum())
    scale, rotation, translation = umeyama(p, q, with_scale=not metric)
    error = np.linalg.norm(q - (scale * p @ rotation.T + translation), axis=1)
    scaled = found.copy()
    scaled[:, :3, 3] *= scale
    moves, true_moves = _steps(scaled, 1), _steps(truth, 1)
    apart = np.array([se3_inverse(b) @ a for a, b in zip(moves, true_moves, strict=True)])
    shift = np.linalg.norm(apart[:, :3, 3], axis=1)
    turn = np.degrees([np.linalg.norm(so3_log(m[:3, :3])) for m in apart])
    drift = _drift(scaled, truth)
    return {"poses": n, "path_m": path_m, "seconds": float((stamps_ns[-1] - stamps_ns[0]) * 1e-9),
            "alignment": "SE3" if metric else "Sim3", "scale": scale,
            "ate_rmse_m": float(np.sqrt(np.mean(error**2))), "ate_median_m": float(np.median(error)),
            "ate_max_m": float(error.max()), "rpe_trans_rmse_m": float(np.sqrt(np.mean(shift**2))),
            "rpe_rot_mean_deg": float(turn.mean()), "rpe_rot_median_deg": float(np.median(turn)),
            "direction_median_deg": _direction(moves, true_moves),
            "drift_percent": drift[0], "drift_deg_per_m": drift[1]}


def aligned_positions(found: F64, truth: F64, metric: bool) -> F64:
    """(N, 3) found positions in the truth's frame, for drawing."""
    if len(found) < 3:
        return np.zeros((0, 3))
    scale, rotation, translation = umeyama(found[:, :3, 3], truth[:, :3, 3], with_scale=not metric)
    return np.asarray(scale * found[:, :3, 3] @ rotation.T + translation)


def _steps(poses: F64, stride: int) -> F64:
    return np.array([se3_inverse(a) @ b for a, b in zip(poses[:-stride], poses[stride:], strict=True)])


def _direction(moves: F64, true_moves: F64) -> float | None:
    a, b = moves[:, :3, 3], true_moves[:, :3, 3]
    length_a, length_b = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    moved = (length_b > 0.2 * np.median(length_b)) & (length_b > 1e-6) & (length_a > 0)
    if not moved.any():
        return None
    cosine = (a[moved] * b[moved]).sum(axis=1) / (length_a[moved] * length_b[moved])
    return float(np.median(np.degrees(np.arccos(np.clip(cosine, -1, 1)))))


def _drift(found: F64, truth: F64) -> tuple[float | None, float | None]:
    """Mean of end-point error / length (in %) and of turn error / length (degrees a metre) over segments."""
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(truth[:, :3, 3], axis=0), axis=1))])
    shifts, turns = [], []
    for share in SEGMENTS:
        length = share * along[-1]
        if length <= 1e-6:
            return None, None
        for i in range(0, len(truth), max(1, len(truth) // 100)):
            j = int(np.searchsorted(along, along[i] + length))
            if j >= len(truth):
                break
            step = se3_inverse(se3_inverse(truth[i]) @ truth[j]) @ (se3_inverse(found[i]) @ found[j])
            shifts.append(np.linalg.norm(step[:3, 3]) / length * 100)
            turns.append(np.degrees(np.linalg.norm(so3_log(step[:3, :3]))) / length)
    return (float(np.mean(shifts)), float(np.mean(turns))) if shifts else (None, None)


def pose_matrices(positions: F64, quaternions_wxyz: F64) -> F64:
    """(N, 4, 4) from (N, 3) and (N, 4)."""
    return np.array([se3(matrix_from_quaternion(q), p) for p, q in zip(positions, quaternions_wxyz, strict=True)]
                    ).reshape(-1, 4, 4)


def interpolate_poses(stamps_ns: NDArray[np.int64], known_ns: NDArray[np.int64], positions: F64, quaternions: F64,
                      gap_ns: int) -> tuple[NDArray[np.bool_], F64]:
    """Poses at ``stamps_ns`` between known ones no more than ``gap_ns`` apart: which exist (N,), and (N, 4, 4)."""
    right = np.clip(np.searchsorted(known_ns, stamps_ns), 1, max(len(known_ns) - 1, 1))
    left = right - 1
    exists = np.zeros(len(stamps_ns), bool)
    poses = np.tile(np.eye(4), (len(stamps_ns), 1, 1))
    for i, stamp in enumerate(stamps_ns):
        a, b = int(left[i]), min(int(right[i]), len(known_ns) - 1)
        span = int(known_ns[b] - known_ns[a])
        inside = known_ns[a] <= stamp <= known_ns[b]
        exact = stamp in (known_ns[a], known_ns[b])
        if not inside or (span > gap_ns and not exact):
            continue
        share = (int(stamp) - int(known_ns[a])) / span if span else 0.0
        q0, q1 = quaternions[a], quaternions[b] * (1 if quaternions[a] @ quaternions[b] >= 0 else -1)
        angle = float(np.arccos(np.clip(q0 @ q1, -1, 1)))
        q = (q0 if angle < 1e-9 else (np.sin((1 - share) * angle) * q0 + np.sin(share * angle) * q1) / np.sin(angle))
        exists[i] = True
        poses[i] = se3(matrix_from_quaternion(q), (1 - share) * positions[a] + share * positions[b])
    return exists, poses
