"""Motion from brightness alone: direct alignment of two images over a known depth.

Inverse-compositional Gauss-Newton (Baker and Matthews 2004) from coarse to fine with Huber weights; gain and offset
of the exposure are estimated along. It needs no corners, so it carries the motion through blur and weak texture.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ..geometry import se3_exp, se3_inverse
from ..records import F32, F64, U8


@dataclass(frozen=True)
class Alignment:
    """``cur_from_prev`` (4, 4), covariance (6, 6), share of pixels that agree, residual in grey levels."""

    cur_from_prev: F64
    covariance: F64
    agreement: float
    residual: float


def point_jacobian(points: F64, K: F64) -> F64:
    """(N, 2, 6): d pixel / d (v, o) for points (N, 3) moved by ``exp((v, o))``, at zero."""
    x, y, z = points.T
    out = np.zeros((len(points), 2, 6))
    out[:, 0, 0], out[:, 0, 2] = K[0, 0] / z, -K[0, 0] * x / z**2
    out[:, 1, 1], out[:, 1, 2] = K[1, 1] / z, -K[1, 1] * y / z**2
    out[:, 0, 3], out[:, 0, 4], out[:, 0, 5] = -K[0, 0] * x * y / z**2, K[0, 0] * (1 + x**2 / z**2), -K[0, 0] * y / z
    out[:, 1, 3], out[:, 1, 4], out[:, 1, 5] = -K[1, 1] * (1 + y**2 / z**2), K[1, 1] * x * y / z**2, K[1, 1] * x / z
    return out


def align(previous: U8, current: U8, depth: F32, K: F64, guess: F64, *, levels: int = 3, iterations: int = 10,
          pixels: int = 3000, huber: float = 8.0) -> Alignment | None:
    """Motion between two grey images (H, W) given the depth (H, W) of the previous one, or None when it cannot be told.

    Args:
        K: (3, 3) of these pictures, no distortion; guess: (4, 4) where to start.
        pixels: at most so many of the steepest pixels a level are used; huber: grey levels.
    """
    motion = guess.copy()
    result: Alignment | None = None
    for level in reversed(range(levels)):
        scale = 0.5**level
        size = (round(previous.shape[1] * scale), round(previous.shape[0] * scale))
        if min(size) < 24:
            continue
        a = np.asarray(cv2.resize(previous, size, interpolation=cv2.INTER_AREA), np.float32)
        b = np.asarray(cv2.resize(current, size, interpolation=cv2.INTER_AREA), np.float32)
        d = np.asarray(cv2.resize(depth, size, interpolation=cv2.INTER_NEAREST), np.float64)
        k = K.copy()
        k[:2] *= scale
        k[:2, 2] += 0.5 * scale - 0.5
        result = _align_level(a, b, d, k, motion, iterations, pixels, huber)
        if result is None:
            return None
        motion = result.cur_from_prev
    return result


def _align_level(a: F32, b: F32, depth: F64, K: F64, motion: F64, iterations: int, pixels: int, huber: float
                 ) -> Alignment | None:
    gx, gy = cv2.Sobel(a, cv2.CV_32F, 1, 0, scale=0.125), cv2.Sobel(a, cv2.CV_32F, 0, 1, scale=0.125)
    steep = np.hypot(gx, gy)
    steep[:2] = steep[-2:] = 0
    steep[:, :2] = steep[:, -2:] = 0
    usable = (steep > 2.0) & np.isfinite(depth) & (depth > 0)
    index = np.flatnonzero(usable)
    if len(index) < 100:
        return None
    if len(index) > pixels:
        index = index[np.argpartition(-steep.ravel()[index], pixels)[:pixels]]
    v, u = np.divmod(index, a.shape[1])
    z = depth.ravel()[index]
    points = np.column_stack([(u - K[0, 2]) / K[0, 0] * z, (v - K[1, 2]) / K[1, 1] * z, z])
    gradient = np.column_stack([gx.ravel()[index], gy.ravel()[index]]).astype(np.float64)
    template = a.ravel()[index].astype(np.float64)
    motion_part = np.einsum("ni,nij->nj", gradient, point_jacobian(points, K))
    jacobian = np.column_stack([motion_part, template, np.ones(len(z))])
    gain = float(np.clip(b.std() / max(float(a.std()), 1e-3), 0.2, 5.0))
    offset = float(b.mean()) - gain * float(a.mean())
    residual = np.zeros(len(z))
    for _ in range(iterations):
        x = points @ motion[:3, :3].T + motion[:3, 3]
        front = x[:, 2] > 1e-6
        depth_there = np.where(front, x[:, 2], 1.0)
        pu = (x[:, 0] / depth_there * K[0, 0] + K[0, 2]).astype(np.float32)
        pv = (x[:, 1] / depth_there * K[1, 1] + K[1, 2]).astype(np.float32)
        seen = front & (pu >= 1) & (pv >= 1) & (pu < b.shape[1] - 2) & (pv < b.shape[0] - 2)
        if seen.sum() < 100:
            return None
        there = cv2.remap(b, pu[:, None], pv[:, None], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[:, 0]
        residual = (np.asarray(there, np.float64) - offset) / gain - template
        size = np.abs(residual)
        weight = np.where(seen, np.minimum(1.0, huber / np.maximum(size, 1e-9)), 0.0)
        H = jacobian.T @ (jacobian * weight[:, None])
        step = np.linalg.solve(H + 1e-6 * np.diag(np.diag(H)) + 1e-9 * np.eye(8), jacobian.T @ (weight * residual))
        motion = motion @ se3_inverse(se3_exp(step[:6]))
        offset += gain * step[7]
        gain = float(np.clip(gain * (1 + step[6]), 0.2, 5.0))
        if np.abs(step[:6]).max() < 1e-5:
            break
    sigma = 1.48 * float(np.median(size[seen])) + 0.5
    covariance = sigma**2 * np.linalg.inv(H[:6, :6] + 1e-9 * np.eye(6))
    return Alignment(motion, covariance, float((size[seen] < huber).mean() * seen.mean()), sigma)
