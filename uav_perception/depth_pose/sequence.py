"""A whole recorded sequence at once: the same stage frame by frame, then all tracks adjusted together.

In flight only the past is known; over a recording the future is too, so every pose and every point is settled by all
frames that saw it (bundle adjustment in overlapping stretches).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from ..geometry import se3, se3_inverse
from ..records import F32, F64, U8, Bool, CameraModel, Frame, Scale
from .bundle import Window, solve, transform_points
from .dense import supported
from .estimator import DepthPose
from .features import I64
from .fusion import drawn_shape, fuse
from .parallax import EVERY_S, OLDEST_S, View, best, corrected
from .products import scaled_camera
from .structure import measured_points
from .terrain import Terrain

STRETCH, OVERLAP = 40, 12  # frames adjusted together, and how many of them are settled already
PASSES = 2  # of setting depth right: flow is surer of what is nearly right already
TURN_MAX_RAD = 0.9  # a stretch ends when the camera has turned by this


@dataclass
class Sighting:
    """What one frame contributed; ``world_from_camera`` is None where nothing is known, ``run`` counts fresh starts."""

    stamp_ns: int
    run: int
    world_from_camera: F64 | None
    ids: I64
    xy: F64
    sigma_px: float
    disparity: F32 | None
    ground: F64 | None  # (3,) inverse depth of the ground, see `fuse`
    moving: Bool | None  # (H, W)
    height_agl_m: float | None
    metres_per_unit: float | None
    depth: F32 | None
    grey: U8 | None  # (h, w) the picture, of the size that depth has in flight
    point_ids: I64
    points: F64  # (N, 4) of x, y, rho and the standard deviation of rho, in this camera


def observe(stage: DepthPose, frames: Iterable[Frame], heights_m: dict[int, float] | None = None) -> Iterator[Sighting]:
    """Run ``stage`` over ``frames``; one sighting a frame. ``heights_m`` maps stamps to height above ground."""
    for frame in frames:
        height = None if heights_m is None else heights_m.get(frame.stamp_ns)
        result = stage.update(frame, height)
        step = stage.last_step
        used = result.pose is not None and step is not None
        world = None
        points, point_ids = np.zeros((0, 4)), np.zeros(0, np.int64)
        ids, xy, sigma = np.zeros(0, np.int64), np.zeros((0, 2)), 1.0
        if used and step is not None:
            world = step.world_from_cur
            view = stage.odometry.newest
            ids, xy, sigma = (view.ids, view.xy, view.sigma_px) if view is not None else (ids, xy, sigma)
            points, point_ids = np.column_stack([step.cur_xy, step.rho, step.rho_sigma]), step.ids
        depth = None if result.depth is None else np.where(result.depth.valid, result.depth.depth, np.nan)
        factor = stage.scale.metres_per_unit
        if depth is not None and factor is not None:
            depth = depth / factor
        yield Sighting(frame.stamp_ns, stage.odometry.generation, world, ids.copy(), xy.copy(), sigma,
                       stage.last_disparity if used else None, stage.last_ground if used else None,
                       result.motion_mask, height, factor,
                       None if depth is None else depth.astype(np.float32), stage.last_grey if used else None,
                       point_ids, points)


def smooth(sightings: list[Sighting], focal_px: float) -> None:
    """Adjust all poses and points together, in place, stretch by stretch; runs are kept apart."""
    runs: dict[int, list[int]] = {}
    for k, s in enumerate(sightings):
        if s.world_from_camera is not None and len(s.ids):
            runs.setdefault(s.run, []).append(k)
    for members in runs.values():
        start, settled = 0, 1
        while start + settled < len(members):
            stretch = _stretch([sightings[k] for k in members[start:start + STRETCH]], settled)
            _adjust(stretch, min(settled, len(stretch) - 1), focal_px)
            if start + len(stretch) >= len(members):
                break
            overlap = min(OVERLAP, len(stretch) // 2)
            start, settled = start + len(stretch) - overlap, overlap


def _stretch(frames: list[Sighting], settled: int) -> list[Sighting]:
    first = frames[0].world_from_camera
    assert first is not None
    for k, s in enumerate(frames):
        assert s.world_from_camera is not None
        cosine = (np.trace(first[:3, :3].T @ s.world_from_camera[:3, :3]) - 1) / 2
        if k > settled + 1 and np.arccos(np.clip(cosine, -1, 1)) > TURN_MAX_RAD:
            return frames[:k]
    return frames


def _adjust(frames: list[Sighting], settled: int, focal_px: float) -> None:
    world_from_first = frames[0].world_from_camera
    assert world_from_first is not None
    poses = [se3_inverse(s.world_from_camera) @ world_from_first for s in frames if s.world_from_camera is not None]
    ids, counts = np.unique(np.concatenate([s.ids for s in frames]), return_counts=True)
    ids = ids[counts >= 3]
    if len(ids) < 15:
        return
    start = np.full((len(ids), 3), np.nan)
    for s, pose in zip(frames, poses, strict=True):  # the last frame that knew a point gives the first guess
        known = np.isin(s.point_ids, ids)
        inverse = se3_inverse(pose)
        if known.any():
            moved = transform_points(s.points[known, :3], inverse[:3, :3], inverse[:3, 3])
            start[np.searchsorted(ids, s.point_ids[known])] = moved
    usable = np.isfinite(start).all(1) & (start[:, 2] > 1e-6)
    ids, start = ids[usable], start[usable]
    camera, point, xy, sigma = [], [], [], []
    for j, s in enumerate(frames):
        here = np.isin(s.ids, ids)
        camera.append(np.full(int(here.sum()), j))
        point.append(np.searchsorted(ids, s.ids[here]))
        xy.append(s.xy[here])
        sigma.append(np.full(int(here.sum()), s.sigma_px / focal_px))
    w = Window(np.stack([p[:3, :3] for p in poses]), np.stack([p[:3, 3] for p in poses]), start, np.concatenate(camera),
               np.concatenate(point), np.concatenate(xy), np.concatenate(sigma))
    if len(w.xy) < 30:
        return
    solution = solve(w, 10, free_from=settled)
    keep = solution.residual < 6.0
    w.camera, w.point, w.xy, w.sigma = w.camera[keep], w.point[keep], w.xy[keep], w.sigma[keep]
    solution = solve(w, 15, free_from=settled)
    for j, s in enumerate(frames):
        r, t = w.rotation[j], w.translation[j]
        if j >= settled:
            s.world_from_camera = world_from_first @ se3_inverse(se3(r, t))
        mine = w.point[w.camera == j]
        seen = transform_points(w.points[mine], r, t)
        relative = solution.rho_sigma[mine] / np.maximum(np.abs(w.points[mine, 2]), 1e-9)
        s.point_ids, s.points = ids[mine], np.column_stack([seen, relative * np.abs(seen[:, 2])])


def lay_out(sightings: list[Sighting], stage: DepthPose, camera: CameraModel) -> None:
    """Ground, and metres where they were known, anew from the smoothed points, in place."""
    terrain, run = Terrain(), -1
    for s in sightings:
        height = s.height_agl_m
        ground = stage.ground_below(s.points[:, :2], s.points[:, 2], s.points[:, 3], height)
        s.ground = stage.told(ground, camera)
        if s.run != run:
            terrain.reset()
            run = s.run
        if ground is None or s.world_from_camera is None:
            continue
        terrain.add(s.point_ids, s.points[:, :2], s.points[:, 2], s.points[:, 3], ground, s.world_from_camera)
        if s.metres_per_unit is not None and height is not None and 0 < height < np.inf:
            s.metres_per_unit = height / terrain.height(ground, s.world_from_camera)


def depth_of(sightings: list[Sighting], k: int, camera: CameraModel, reach: float) -> F32 | None:
    """Depth (H, W) of source size in run units, from the smoothed points and the pictures before and after; NaN where
    unknown, None when nothing is."""
    s = sightings[k]
    p = s.points
    uv, rho, sigma = measured_points(p[:, :2], p[:, 2], p[:, 3], camera)
    depth = s.depth
    if len(rho) >= 12 and s.grey is not None:
        inverse = fuse(s.disparity, uv, rho, sigma, shape=drawn_shape(camera), ground=s.ground, moving=s.moving,
                       reach=reach)
        h, w = s.grey.shape
        small = scaled_camera(camera, w, h)
        depth = np.asarray(np.float32(1) / cv2.resize(inverse, (w, h), interpolation=cv2.INTER_LINEAR), np.float32)
        views = [view for side in (-1, 1) for view in best(_views(sightings, k, side), depth, small)]
        for _ in range(PASSES):
            depth = corrected(depth, s.grey, views, small, s.ground, s.moving)
        if s.disparity is None:
            depth = np.where(supported(uv, w, h), depth, np.nan)
    return _sized(depth, camera)


def in_flight(sighting: Sighting, camera: CameraModel) -> F32 | None:
    """Depth (H, W) of source size in run units, as it was said in flight; NaN where unknown, None when nothing was."""
    return _sized(sighting.depth, camera)


def _sized(depth: F32 | None, camera: CameraModel) -> F32 | None:
    if depth is None:
        return None
    size = (camera.width_px, camera.height_px)
    return np.asarray(cv2.resize(depth, size, interpolation=cv2.INTER_LINEAR), np.float32)


def _views(sightings: list[Sighting], k: int, side: int) -> list[View]:
    """Pictures of the run before (``side`` -1) or after (1) the ``k``-th: the next one, and others not long from it."""
    here = sightings[k]
    views, last_s = list[View](), 0.0
    for s in (sightings[j] for j in range(k + side, len(sightings) if side > 0 else -1, side)):
        away_s = abs(s.stamp_ns - here.stamp_ns) / 1e9
        if s.run != here.run or (views and away_s > OLDEST_S):
            break
        if s.world_from_camera is None or here.world_from_camera is None or s.grey is None:
            continue
        if not views or away_s - last_s >= EVERY_S:
            views.append(View(s.grey, se3_inverse(s.world_from_camera) @ here.world_from_camera, s.moving))
            last_s = away_s
    return views


def run_scale(sightings: list[Sighting]) -> tuple[Scale, float]:
    """METRIC and the median factor when metres were known in a single run, and in most frames from the first such on;
    else UNIT and 1."""
    known = [(k, s.run, s.metres_per_unit) for k, s in enumerate(sightings) if s.metres_per_unit is not None]
    if len({run for _, run, _ in known}) == 1 and 2 * len(known) > len(sightings) - known[0][0]:
        return Scale.METRIC, float(np.median([factor for _, _, factor in known]))
    return Scale.UNIT, 1.0
