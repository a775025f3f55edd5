"""Multi-view stereo over a posed sequence: what a network may learn from when nobody has measured depth.

Plane sweep (Collins 1996) with zero-mean normalised cross-correlation, best half of the views (Kang et al. 2001), and
a check that other frames' depths agree. Everything is in the unit of the given motions.
"""

from __future__ import annotations

import cv2
import numpy as np

from uav_perception.geometry import se3_inverse
from uav_perception.records import F32, F64, U8, Bool

RADIUS = 3  # correlation window is 7 x 7


def choose_sources(target: int, world_from_camera: list[F64 | None], depth: float, focal_px: float,
                   wanted_px: tuple[float, ...] = (6.0, 12.0, 24.0, 40.0)) -> list[int]:
    """Frames whose parallax to ``target`` at ``depth`` comes nearest to each of ``wanted_px``; fewer when none fits."""
    base = world_from_camera[target]
    if base is None:
        return []
    parallax = np.full(len(world_from_camera), np.nan)
    for k, pose in enumerate(world_from_camera):
        if pose is not None and k != target:
            turn = np.arccos(np.clip((np.trace(base[:3, :3].T @ pose[:3, :3]) - 1) / 2, -1, 1))
            parallax[k] = np.nan if turn > 0.5 else focal_px * np.linalg.norm(pose[:3, 3] - base[:3, 3]) / depth
    chosen: list[int] = []
    for wanted in wanted_px:
        error = np.abs(np.log(np.maximum(parallax, 1e-3) / wanted))
        error[chosen] = np.nan
        if np.isfinite(error).any() and np.nanmin(error) < 0.6:
            chosen.append(int(np.nanargmin(error)))
    return chosen


def plane_sweep(target: U8, sources: list[tuple[U8, F64]], K: F64, rho_min: float, rho_max: float, planes: int = 48
                ) -> tuple[F32, F32]:
    """Inverse depth (H, W) of ``target`` and how good the match is (H, W), -1..1.

    Args:
        target: grey image; sources: grey image and (4, 4) ``source_from_target`` of each.
        rho_min, rho_max: range of inverse depth swept, in equal steps.
    """
    h, w = target.shape
    box = (2 * RADIUS + 1, 2 * RADIUS + 1)
    a = target.astype(np.float32) / 255
    mean_a = cv2.boxFilter(a, -1, box)
    var_a = cv2.boxFilter(a * a, -1, box) - mean_a * mean_a
    rhos = np.linspace(rho_min, rho_max, planes)
    score = np.empty((planes, h, w), np.float32)
    inverse_K = np.linalg.inv(K)
    normal = np.array([0.0, 0.0, 1.0])
    keep = max(1, (len(sources) + 1) // 2)
    for i, rho in enumerate(rhos):
        each = np.empty((len(sources), h, w), np.float32)
        for j, (image, m) in enumerate(sources):
            homography = K @ (m[:3, :3] + rho * np.outer(m[:3, 3], normal)) @ inverse_K
            b = cv2.warpPerspective(image, homography, (w, h), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                                    borderMode=cv2.BORDER_CONSTANT, borderValue=0).astype(np.float32) / 255
            mean_b = cv2.boxFilter(b, -1, box)
            var_b = cv2.boxFilter(b * b, -1, box) - mean_b * mean_b
            cov = cv2.boxFilter(a * b, -1, box) - mean_a * mean_b
            each[j] = cov / np.sqrt(np.maximum(var_a, 2e-5) * np.maximum(var_b, 2e-5))
        score[i] = np.sort(each, 0)[-keep:].mean(0)
    for i in range(planes):  # a little support from neighbours, a little from the planes beside
        score[i] = 0.6 * score[i] + 0.4 * cv2.GaussianBlur(score[i], (0, 0), 2.0)
    best = score.argmax(0)
    peak = np.take_along_axis(score, best[None], 0)[0]
    inner = np.clip(best, 1, planes - 2)
    before, at, after = (np.take_along_axis(score, (inner + k)[None], 0)[0] for k in (-1, 0, 1))
    curve = before - 2 * at + after
    bent = np.abs(curve) > 1e-6
    shift = np.where(bent, np.clip(0.5 * (before - after) / np.where(bent, curve, 1), -0.5, 0.5), 0)
    rho = rhos[inner] + shift * (rhos[1] - rhos[0])
    edge = (best == 0) | (best == planes - 1) | (var_a < 2e-4)
    return rho.astype(np.float32), np.where(edge, -1.0, peak).astype(np.float32)


def consistent(rho: F32, other_rho: F32, other_from_this: F64, K: F64, tolerance: float = 0.05) -> Bool:
    """(H, W) True where another frame's inverse depth says the same of the point, within a relative ``tolerance``."""
    h, w = rho.shape
    u, v = np.meshgrid(np.arange(w), np.arange(h))
    rays = np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.ones((h, w))], -1)
    x = rays @ other_from_this[:3, :3].T + rho[..., None] * other_from_this[:3, 3]  # homogeneous, scaled by rho
    z = np.maximum(x[..., 2], 1e-6)
    pu, pv = (x[..., 0] / z * K[0, 0] + K[0, 2]), (x[..., 1] / z * K[1, 1] + K[1, 2])
    there = cv2.remap(other_rho, pu.astype(np.float32), pv.astype(np.float32), cv2.INTER_NEAREST, borderValue=0)
    expected = rho / z
    return np.asarray((there > 0) & (np.abs(there - expected) < tolerance * expected))


def depth_labels(grays: list[U8], world_from_camera: list[F64 | None], K: F64, priors: list[F32 | None], every: int = 1,
                 planes: int = 48, match_min: float = 0.55) -> list[tuple[F32, F32] | None]:
    """For each frame inverse depth (H, W) and its weight 0..1, or None where there is nothing to learn from.

    ``priors`` are rough inverse depths (H, W): they set the range swept and fill, weakly, what stereo cannot see.
    """
    swept: dict[int, tuple[F32, F32]] = {}
    for k in range(0, len(grays), every):
        prior, pose = priors[k], world_from_camera[k]
        if prior is None or pose is None:
            continue
        low, middle, high = np.nanpercentile(prior, [2, 50, 98])
        chosen = choose_sources(k, world_from_camera, 1.0 / float(middle), float(K[0, 0]))
        if len(chosen) < 2:
            continue
        sources = [(grays[j], se3_inverse(world_from_camera[j]) @ pose) for j in chosen]  # type: ignore[arg-type]
        swept[k] = plane_sweep(grays[k], sources, K, float(low) * 0.6, float(high) * 1.4, planes)
    labels: list[tuple[F32, F32] | None] = [None] * len(grays)
    frames = sorted(swept)
    for k in frames:
        rho, match = swept[k]
        pose = world_from_camera[k]
        assert pose is not None
        at = frames.index(k)
        votes = np.zeros(rho.shape, int)
        for j in {*frames[max(0, at - 4):at + 5:2]} - {k}:
            votes += consistent(rho, swept[j][0], se3_inverse(world_from_camera[j]) @ pose, K)
        weight = ((match > match_min) & (votes >= 2)).astype(np.float32)
        rho = np.where(weight > 0, cv2.medianBlur(rho, 5), rho)
        prior = priors[k]
        if prior is not None:
            rough = (weight == 0) & np.isfinite(prior)
            rho = np.where(rough, prior, rho).astype(np.float32)
            weight = np.where(rough, 0.15, weight).astype(np.float32)
        labels[k] = (rho.astype(np.float32), weight)
    return labels
