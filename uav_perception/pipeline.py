"""READ FIRST: the path of one frame through all stages, in lock-step (no ROS, no CUDA here).

    camera -> detect -> track -> depth/pose -> (flight link)

The live graph runs the same stage objects on threads of their own (``ros/``); offline evaluation takes every frame of a
bag through ``follow``, while the next ones are decoded and detected (``offline/stages.py``). Both see the same records,
so what is measured offline is what flies.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from .config import FlightConfig
from .depth_pose import DepthPoseEstimator
from .detect import Detector
from .records import DepthPoseResult, Detections, Frame, TargetStatus, Track
from .track import Ahead, TrackerStage


@dataclass(frozen=True)
class FrameResult:
    """What every stage said about one frame, and how long each took."""

    frame: Frame
    detections: Detections | None
    tracks: tuple[Track, ...]
    target: TargetStatus
    depth_pose: DepthPoseResult | None
    elapsed_ns: dict[str, int]


@dataclass
class Pipeline:
    """The stages of one camera. ``detector`` or ``depth_pose`` may be None (stage switched off)."""

    detector: Detector | None
    tracker: TrackerStage
    depth_pose: DepthPoseEstimator | None

    def step(self, frame: Frame, height_agl_m: float | None = None) -> FrameResult:
        """Run every stage on ``frame``; deterministic given the same frames."""
        started = time.perf_counter_ns()
        detections = self.detector.detect(frame) if self.detector else None
        took = time.perf_counter_ns() - started
        result = self.follow(frame, detections, height_agl_m)
        return replace(result, elapsed_ns={"detector": took, **result.elapsed_ns})

    def follow(self, frame: Frame, detections: Detections | None, height_agl_m: float | None = None,
               ahead: Ahead | None = None) -> FrameResult:
        """The stages that remember earlier frames, on ``frame`` and what was detected in it.

        ``ahead``: the tracker's ``look_ahead``, where it was called for every frame.
        """
        t0 = time.perf_counter_ns()
        tracks = self.tracker.update(frame, detections, ahead)
        t1 = time.perf_counter_ns()
        depth_pose = self.depth_pose.update(frame, height_agl_m, tracks=tracks) if self.depth_pose else None
        elapsed = {"tracker": t1 - t0, "depth_pose": time.perf_counter_ns() - t1}
        return FrameResult(frame, detections, tracks, self.tracker.target, depth_pose, elapsed)


def build_pipeline(config: FlightConfig) -> Pipeline:
    """Make all stages from one configuration (loads engines; raises ModelError or ConfigError)."""
    from .depth_pose.estimator import make_depth_pose
    from .detect.detector import make_detector
    from .track.stage import make_tracker

    return Pipeline(make_detector(config.detector), make_tracker(config.tracker, config.lsart),
                    make_depth_pose(config.depth_pose))
