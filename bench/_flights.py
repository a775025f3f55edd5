"""Depth, metres, drift and moving things on rendered flights with exact truth, as in flight; ORB's drift beside ours."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from uav_perception.config import DepthPoseConfig
from uav_perception.depth_pose.estimator import make_depth_pose
from uav_perception.geometry import matrix_from_quaternion, se3, se3_inverse
from uav_perception.offline.metrics.trajectory import score_trajectory
from uav_perception.records import DepthMap, DepthPoseResult, Frame, Scale

F64 = NDArray[np.float64]
MOVES_PX = 1.0  # from frame to frame, against the scene: the other rule for what moves


@dataclass(frozen=True)
class Truth:
    """A frame and what is true of it: depth (H, W) m, infinite at the sky; own motion (H, W) px against the scene;
    ``moves`` (H, W): shows a thing that goes over the ground by more than ``MOVES_M_S``."""

    frame: Frame
    world_from_camera: F64
    depth_m: NDArray[np.float32]
    own_px: NDArray[np.float32]
    moves: NDArray[np.bool_]
    height_agl_m: float


@dataclass
class Overlap:
    """Intersection over union of masks, of the pixels of all frames together."""

    both: int = 0
    either: int = 0

    def add(self, found: NDArray[np.bool_], true: NDArray[np.bool_]) -> None:
        self.both += int((found & true).sum())
        self.either += int((found | true).sum())

    @property
    def share(self) -> float | None:
        return self.both / self.either if self.either else None


def rendered(scene: str, seed: int, seconds: float, fps: float) -> tuple[float, Iterator[Truth]]:
    """Degrees the camera of a scene looks down, and its frames."""
    from uav_perception.sim.flight import MOVES_M_S, Flight, FlightOptions  # needs the extra `sim`

    flight = Flight(scene, FlightOptions(seed=seed, fps=fps))

    def frames() -> Iterator[Truth]:
        for _, f in zip(range(round(seconds * fps)), flight, strict=False):
            depth = np.where(f.depth.valid, f.depth.depth, np.float32(np.inf))
            yield Truth(f.frame, f.world_from_camera, depth, f.own_px, f.speed_m_s > MOVES_M_S, f.height_agl_m)

    return flight.spec.look_down_deg, frames()


def measure(frames: Iterable[Truth], pitch_deg: float, mask_model: str = ""
            ) -> tuple[dict[str, Any], list[Frame], list[F64]]:
    """Scores of one flight with height above ground given; its frames and true poses for the peer.

    ``moving_iou``: of the pixels of things that go over the ground by more than ``MOVES_M_S``. ``moving_iou_1px``: of the
    pixels that move by more than a pixel a frame, which of two walkers may be the nearer one alone; ``oracle_iou_1px`` has
    by that rule who outlines exactly the things that move. ``frame_ms_p50``: wall time of the stage for a frame that has
    a mask.
    """
    stage = make_depth_pose(DepthPoseConfig(camera_pitch_deg=pitch_deg, mask_model=mask_model))
    abs_rel, delta, ratio, found, true, stamps, kept, all_true, seconds = [], [], [], [], [], [], [], [], []
    overlaps, metric = {name: Overlap() for name in ("moving_iou", "moving_iou_1px", "oracle_iou_1px")}, 0
    for t in frames:
        began = time.perf_counter()
        r = stage.update(t.frame, t.height_agl_m)
        if r.motion_mask is not None:
            seconds.append(time.perf_counter() - began)
        kept.append(t.frame)
        all_true.append(t.world_from_camera)
        if r.depth is not None:
            error, share, size = depth_errors(r, t)
            abs_rel.append(error)
            delta.append(share)
            if isinstance(r.depth, DepthMap):
                ratio.append(size)
        metric += r.pose is not None and r.pose.scale is Scale.METRIC
        if r.pose is not None and (found or r.pose.scale is Scale.METRIC):
            base = se3(matrix_from_quaternion(r.pose.quaternion_wxyz), r.pose.position_m)
            found.append(base @ stage.mount)
            true.append(t.world_from_camera)
            stamps.append(t.frame.stamp_ns)
        if r.motion_mask is not None:
            pixels = t.own_px > MOVES_PX
            overlaps["moving_iou"].add(r.motion_mask, t.moves)
            overlaps["moving_iou_1px"].add(r.motion_mask, pixels)
            overlaps["oracle_iou_1px"].add(t.moves, pixels)
    path = score_trajectory(np.array(stamps, np.int64), np.array(found), np.array(true), metric=True)
    off = np.abs(np.array(ratio) - 1)
    return {"frames": len(kept), "metric_frames": metric, "resets": stage.resets,
            "abs_rel": _rounded(np.mean(abs_rel)) if abs_rel else None,
            "delta1": _rounded(np.mean(delta)) if delta else None,
            "scale_error": _rounded(np.median(off)) if len(off) else None,
            "scale_error_p95": _rounded(np.percentile(off, 95)) if len(off) else None,
            "path_m": _rounded(path.get("path_m")), "drift_percent": _rounded(path.get("drift_percent")),
            **{name: _rounded(overlap.share) for name, overlap in overlaps.items()},
            "moving_px": overlaps["moving_iou"].either,
            "frame_ms_p50": _rounded(1e3 * np.median(seconds)) if seconds else None}, kept, all_true


def depth_errors(result: DepthPoseResult, truth: Truth) -> tuple[float, float, float]:
    """Abs Rel and delta < 1.25 after scaling by the medians, and the medians' ratio."""
    assert result.depth is not None
    found = result.depth.depth
    wanted = cv2.resize(truth.depth_m, found.shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    ok = result.depth.valid & np.isfinite(wanted)
    a, b = found[ok], np.asarray(wanted)[ok]
    size = float(np.median(a) / np.median(b))
    a = a / size
    return float(np.mean(np.abs(a - b) / b)), float((np.maximum(a / b, b / a) < 1.25).mean()), size


def peer_drift(frames: list[Frame], true: list[F64], steps: list[F64]) -> float | None:
    """The peer's drift, its unit steps given their true lengths."""
    poses = [np.eye(4)]
    for k in range(1, len(true)):
        step = se3_inverse(steps[k - 1]) @ steps[k]
        length = float(np.linalg.norm(step[:3, 3]))
        step[:3, 3] *= np.linalg.norm(true[k][:3, 3] - true[k - 1][:3, 3]) / max(length, 1e-9)
        poses.append(poses[-1] @ step)
    stamps = np.array([f.stamp_ns for f in frames], np.int64)
    return _rounded(score_trajectory(stamps, np.array(poses), np.array(true), metric=True).get("drift_percent"))


def _rounded(value: Any) -> float | None:
    return None if value is None else round(float(value), 4)
