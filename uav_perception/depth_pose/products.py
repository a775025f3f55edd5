"""What others make use of: point cloud, obstacle sectors, rigid flow, motion mask, velocities of tracked objects."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..geometry import se3_inverse
from ..records import F32, F64, U8, Bool, CameraModel, DepthMap

SECTORS = 72


def scaled_camera(camera: CameraModel, width_px: int, height_px: int) -> CameraModel:
    """The same camera for a picture resized to ``width_px`` x ``height_px`` (pixel centres at integers)."""
    sx, sy = width_px / camera.width_px, height_px / camera.height_px
    K = camera.K.copy()
    K[0] *= sx
    K[1] *= sy
    K[0, 2] += 0.5 * sx - 0.5
    K[1, 2] += 0.5 * sy - 0.5
    return CameraModel(K, camera.distortion, width_px, height_px, camera.frame_id, camera.distortion_model)


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


def obstacle_sectors(depth: DepthMap, base_from_optical: F64, *, band_m: float = 1.0, range_max_m: float = 60.0) -> F32:
    """(72,) horizontal distance in metres to the nearest thing in sectors of 5 degrees, NaN where nothing is known.

    Sector 0 is centred straight ahead, the count goes clockwise seen from above (the order of MAVLink's
    OBSTACLE_DISTANCE in the body frame). Only points within ``band_m`` above or below the vehicle count; a sector the
    camera sees but in which nothing is nearer than ``range_max_m`` holds infinity.
    """
    rays = pixel_rays(depth.camera)
    step = max(1, depth.depth.shape[0] // 120)
    z = depth.depth[::step, ::step]
    ok = depth.valid[::step, ::step]
    points = (rays[::step, ::step][ok] * z[ok][:, None]) @ base_from_optical[:3, :3].T + base_from_optical[:3, 3]
    bearing = np.arctan2(-points[:, 1], points[:, 0])
    sector = np.round(bearing / (2 * np.pi / SECTORS)).astype(int) % SECTORS
    distance = np.hypot(points[:, 0], points[:, 1])
    out = np.full(SECTORS, np.nan, np.float32)
    out[np.unique(sector)] = np.inf
    near = (np.abs(points[:, 2]) < band_m) & (distance < range_max_m) & (distance > 0.1)
    nearest = np.full(SECTORS, np.inf)
    np.minimum.at(nearest, sector[near], distance[near])
    return np.where(np.isfinite(nearest), nearest, out).astype(np.float32)


def rigid_flow(depth: F32, camera: CameraModel, cur_from_prev: F64) -> F32:
    """(H, W, 2) motion in pixels, from the previous frame to this one, of what is now at each pixel if nothing moved.

    ``depth`` (H, W) and the translation of ``cur_from_prev`` share one unit.
    """
    m = se3_inverse(cur_from_prev)
    rays = pixel_rays(camera)
    before = (rays @ m[:3, :3].T.astype(np.float32)) * depth[..., None] + m[:3, 3].astype(np.float32)
    z = np.maximum(before[..., 2], 1e-6)
    k = camera.K
    u = before[..., 0] / z * k[0, 0] + k[0, 2]
    v = before[..., 1] / z * k[1, 1] + k[1, 2]
    h, w = depth.shape
    flow = np.empty((h, w, 2), np.float32)
    flow[..., 0] = np.arange(w)[None, :] - u
    flow[..., 1] = np.arange(h)[:, None] - v
    return flow


def plane_flow(prev_to_cur: F64, width_px: int, height_px: int) -> F32:
    """(H, W, 2) motion in pixels of a homography, at the pixels of the current frame."""
    u, v = np.meshgrid(np.arange(width_px, dtype=np.float64), np.arange(height_px, dtype=np.float64))
    p = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(prev_to_cur).T
    return np.stack([u - p[..., 0] / p[..., 2], v - p[..., 1] / p[..., 2]], -1).astype(np.float32)


class MotionMask:
    """Where the image moves against the rigid scene: measured dense flow minus what the camera's motion explains."""

    def __init__(self, threshold_px: float = 1.0) -> None:
        self._threshold_px = threshold_px
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._flow.setUseSpatialPropagation(True)

    def measure(self, previous: U8, current: U8) -> F32:
        """(H, W, 2) where each pixel of ``current`` came from in ``previous`` (grey images), relative, px."""
        return np.asarray(self._flow.calc(current, previous, np.zeros((*current.shape, 2), np.float32)), np.float32)

    def __call__(self, backward: F32, expected: list[F32]) -> Bool:
        """(H, W) True where none of ``expected`` (H, W, 2) flows explains the measured ``backward`` flow."""
        residual = np.full(backward.shape[:2], np.inf, np.float32)
        for flow in expected:
            difference = flow + backward
            residual = np.minimum(residual, np.hypot(difference[..., 0], difference[..., 1]))
        noise = 1.48 * float(np.median(residual))
        limit = max(self._threshold_px, 4.0 * noise)
        moving = (cv2.medianBlur(residual, 5) > limit).astype(np.uint8)
        opened = cv2.morphologyEx(moving, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        return np.asarray(cv2.morphologyEx(opened, cv2.MORPH_CLOSE, np.ones((7, 7), np.uint8)) > 0)


def object_velocity(centre_px: F64, velocity_px_s: F64, depth_m: float, camera: CameraModel, cur_from_prev: F64,
                    dt_s: float) -> F64:
    """Velocity (3,) m/s over ground of an object, in the current optical frame, as if it kept its depth.

    ``velocity_px_s`` is its image velocity; what the camera's own motion (metres) does to a resting point there is
    taken off, and the rest is lifted to metres at ``depth_m``.
    """
    ray = np.linalg.inv(camera.K) @ np.array([centre_px[0], centre_px[1], 1.0])
    before = se3_inverse(cur_from_prev) @ np.append(ray * depth_m, 1.0)
    if before[2] <= 1e-6:
        return np.zeros(3)
    resting_px = (camera.K @ before[:3] / before[2])[:2]
    own_px_s = velocity_px_s - (centre_px - resting_px) / dt_s
    return np.array([own_px_s[0] * depth_m / camera.K[0, 0], own_px_s[1] * depth_m / camera.K[1, 1], 0.0])
