"""What others make use of: point cloud, obstacle sectors, rigid flow."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import RecordError
from ..geometry import se3_inverse
from ..records import F32, F64, U8, CameraModel, DepthMap, Obstacles

SECTORS = 72
FARTHEST = 0.02  # inverse depth of level ground, in heights above it, beyond which it is not told from the horizon


def scaled_camera(camera: CameraModel, width_px: int, height_px: int) -> CameraModel:
    """The same camera for a picture resized to ``width_px`` x ``height_px`` (pixel centres at integers)."""
    sx, sy = width_px / camera.width_px, height_px / camera.height_px
    K = camera.K.copy()
    K[0] *= sx
    K[1] *= sy
    K[0, 2] += 0.5 * sx - 0.5
    K[1, 2] += 0.5 * sy - 0.5
    return CameraModel(K, camera.distortion, width_px, height_px, camera.frame_id, camera.distortion_model)


def at_most(camera: CameraModel, width_px: int) -> CameraModel:
    """The same camera for its picture shrunk to ``width_px``, or itself where that is no less."""
    if width_px >= camera.width_px:
        return camera
    return scaled_camera(camera, width_px, max(1, round(camera.height_px * width_px / camera.width_px)))


def pixel_rays(camera: CameraModel) -> F32:
    """(H, W, 3) rays with unit depth through the pixels of an ideal pinhole."""
    k = camera.K
    u = ((np.arange(camera.width_px) - k[0, 2]) / k[0, 0]).astype(np.float32)
    v = ((np.arange(camera.height_px) - k[1, 2]) / k[1, 1]).astype(np.float32)
    rays = np.ones((camera.height_px, camera.width_px, 3), np.float32)
    rays[..., 0], rays[..., 1] = u[None, :], v[:, None]
    return rays


def point_cloud(depth: DepthMap, image: U8) -> tuple[F32, NDArray[np.uint8]]:
    """Organised cloud: points (H, W, 3) m in the optical frame (NaN where unknown) and colours (H, W, 3) BGR."""
    h, w = depth.depth.shape
    points = pixel_rays(depth.camera) * np.where(depth.valid, depth.depth, np.nan)[..., None].astype(np.float32)
    colour = image if image.shape[:2] == (h, w) else cv2.resize(image, (w, h), interpolation=cv2.INTER_AREA)
    return points, np.asarray(colour, np.uint8)


def obstacle_sectors(depth: DepthMap, base_from_optical: F64, *, min_m: float, max_m: float, half_height_m: float
                     ) -> Obstacles:
    """Nearest obstacles in 72 sectors of 5 degrees (MAVLink's OBSTACLE_DISTANCE in the body frame has as many).

    A sector is what some valid pixel looks at. Only points within ``half_height_m`` above or below the vehicle and
    between ``min_m`` and ``max_m`` count, and the 5th nearest of them, so that a single wrong pixel is no wall.

    Args:
        depth: metric depth.
        base_from_optical: (4, 4) mounting of the camera.

    Raises:
        RecordError: depth without a scale.
    """
    if not isinstance(depth, DepthMap):
        raise RecordError(f"obstacles from a {type(depth).__name__}", "a DepthMap, in metres", "wait for a scale")
    step = max(1, depth.depth.shape[1] // 160)
    z, ok = depth.depth[::step, ::step], depth.valid[::step, ::step]
    rays = pixel_rays(depth.camera)[::step, ::step]
    points = (rays[ok] * z[ok][:, None]) @ base_from_optical[:3, :3].T + base_from_optical[:3, 3]
    sector = np.rint(np.arctan2(-points[:, 1], points[:, 0]) / (2 * np.pi / SECTORS)).astype(int) % SECTORS
    distance = np.hypot(points[:, 0], points[:, 1])
    near = (np.abs(points[:, 2]) <= half_height_m) & (distance >= min_m) & (distance <= max_m)
    out = np.full(SECTORS, np.nan, np.float32)
    for s in np.unique(sector).tolist():
        here = distance[near & (sector == s)]
        out[s] = np.partition(here, 4)[4] if len(here) >= 5 else np.inf
    return Obstacles(depth.stamp_ns, out, min_m, max_m)


def source_pixels(rho: F32, camera: CameraModel, source_from_camera: F64) -> tuple[F32, F32]:
    """Where another view saw what is at each pixel: u, v (H, W) px for inverse depths ``rho`` (H, W).

    The translation of ``source_from_camera`` (4, 4) is in the unit of depth. p' ~ K R K^-1 p + rho K t.
    """
    h, w = rho.shape
    turn = camera.K @ source_from_camera[:3, :3] @ np.linalg.inv(camera.K)
    shift = camera.K @ source_from_camera[:3, 3]
    across = (turn[:, :1] * np.arange(w)).astype(np.float32)
    down = (turn[:, 1:2] * np.arange(h) + turn[:, 2:]).astype(np.float32)
    x, y, z = (across[i][None] + down[i][:, None] + np.float32(shift[i]) * rho for i in range(3))
    z = 1.0 / np.maximum(z, np.float32(1e-6))
    return np.asarray(x * z, np.float32), np.asarray(y * z, np.float32)


def depth_line(rho: F32, u: F32, v: F32, camera: CameraModel, source_from_camera: F64) -> tuple[F32, F32]:
    """By how much ``source_pixels`` ``u``, ``v`` (H, W) shift for a unit of log inverse depth: x, y (H, W) px.

    Of u = X / Z the derivative by log rho is rho (X' - u Z') / Z, where X' = (K t)_x and Z' = t_z.
    """
    h, w = rho.shape
    turn = (camera.K @ source_from_camera[:3, :3] @ np.linalg.inv(camera.K))[2].astype(np.float32)
    shift = (camera.K @ source_from_camera[:3, 3]).astype(np.float32)
    z = (turn[0] * np.arange(w, dtype=np.float32))[None] + (turn[1] * np.arange(h, dtype=np.float32) + turn[2])[:, None]
    size = rho / np.maximum(z + shift[2] * rho, np.float32(1e-6))
    return size * (shift[0] - u * shift[2]), size * (shift[1] - v * shift[2])


def rigid_flow(depth: F32, camera: CameraModel, cur_from_prev: F64) -> F32:
    """(H, W, 2) motion in pixels, from the previous frame to this one, of what is now at each pixel if nothing moved.

    ``depth`` (H, W) and the translation of ``cur_from_prev`` share one unit.
    """
    h, w = depth.shape
    u, v = source_pixels(1.0 / depth, camera, se3_inverse(cur_from_prev))
    return np.stack([np.arange(w, dtype=np.float32)[None, :] - u, np.arange(h, dtype=np.float32)[:, None] - v], axis=2)


def cells(uv: F64, height: int, width: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows (N,) and columns (N,) of a (height, width) grid where places ``uv`` (N, 2) lie, in 0..1 of width and height;
    what is outside counts as at the border."""
    return (np.clip((uv[:, 1] * height).astype(np.int64), 0, height - 1),
            np.clip((uv[:, 0] * width).astype(np.int64), 0, width - 1))


def level_plane(camera: CameraModel, up: F64) -> F32 | None:
    """(H, W) inverse depth of level ground one unit below the camera, or None when that is not most of the view.

    ``up`` (3,) is the vertical in the camera frame. What lies beyond, and the sky, is drawn at ``FARTHEST``.
    """
    rho = -(pixel_rays(camera) @ up.astype(np.float32))
    if float((rho > FARTHEST).mean()) < 0.6:
        return None
    return np.asarray(np.maximum(rho, FARTHEST), np.float32)
