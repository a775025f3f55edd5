"""The depth_pose node: depth, ego-motion, odometry, motion mask and rigid flow of the newest frame."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from ..config import DepthPoseConfig
from ..records import DepthMap, DepthPoseResult, Frame, Obstacles, Scale, Track
from ..runtime.worker import Worker
from . import convert, convert_motion, topics
from .bus import Bus
from .main import run
from .node import StageNode
from .topic_source import receive_frames

if TYPE_CHECKING:
    from ..depth_pose.estimator import DepthPose

HEIGHT_VALID_NS = 500_000_000  # a rangefinder that was silent for longer knows nothing


class DepthPoseNode(StageNode):
    """Metres only when something gave a scale: `depth` and `points` then, `depth/relative` otherwise.

    `odometry` is always published; without a scale the variance of its position is 1e6 and `odometry/status` says UNIT.
    A transform has neither: parameter `tf` says whether it is sent without a scale.
    """

    NAME, CONFIG = "depth_pose", DepthPoseConfig

    def __init__(self, bus: Bus | None = None, namespace: str | None = None) -> None:
        super().__init__(bus, namespace)
        self._estimator: DepthPose | None = None
        self._status = ""
        self._scale = Scale.UNIT
        self._tracks: tuple[Track, ...] = ()
        self._height: tuple[int, float] | None = None  # stamp_ns, metres
        self._worker: Worker[Frame] = Worker("depth_pose", self._estimate, self.failed)
        self._depth = self.output(topics.DEPTH)
        self._relative = self.output(topics.DEPTH_RELATIVE)
        self._points = self.output(topics.POINTS)
        self._odometry = self.output(topics.ODOMETRY)
        self._odometry_status = self.output(topics.ODOMETRY_STATUS)
        self._tf = self.output(topics.TF)
        self._obstacles = self.output(topics.OBSTACLES)
        self._mask = self.output(topics.MOTION_MASK)
        self._flow = self.output(topics.FLOW)
        receive_frames(self, self._worker.put)
        self.input(topics.TRACKS, self._on_tracks,
                   lambda m: tuple(convert.track_from_message(d, self.names) for d in m.detections))
        self.subscribe(topics.HEIGHT_AGL, self._on_height)

    def _on_tracks(self, tracks: Any) -> None:
        self._tracks = getattr(tracks, "tracks", tracks)

    def _on_height(self, message: Any) -> None:
        inside = math.isfinite(message.range) and message.min_range <= message.range <= message.max_range
        self._height = (convert.to_ns(message.header.stamp), float(message.range)) if inside else None

    def load(self) -> None:
        from ..depth_pose.estimator import make_depth_pose

        config = self.parameters.read(DepthPoseConfig)
        self._transforms, self._wants_mask, self._wants_parallax = config.tf, config.motion_mask, config.parallax
        self._estimator = make_depth_pose(config)
        self.engine = getattr(self._estimator, "engine_info", None)

    def begin(self) -> None:
        self._worker.start()

    def _estimate(self, frame: Frame) -> None:
        assert self._estimator is not None
        start_ns = time.perf_counter_ns()
        height = self._height
        fresh = height is not None and abs(frame.stamp_ns - height[0]) < HEIGHT_VALID_NS
        dense = (self._depth, self._relative, self._points, self._obstacles, self._flow)
        self._estimator.wants_parallax = self._wants_parallax and any(t.get_subscription_count() for t in dense)
        self._estimator.wants_flow = self._flow.get_subscription_count() > 0
        asked = self._mask.get_subscription_count() > 0
        self._estimator.wants_mask = self._wants_mask and (asked or self.bus is not None)
        self._estimator.mask.careful = asked  # the overlay draws it too, but odometry need not be slower for that
        result = self._estimator.update(frame, height[1] if fresh and height else None, tracks=self._tracks)
        work_ns = time.perf_counter_ns() - start_ns
        self._status = result.status
        self.offer(topics.ODOMETRY, result)
        self._publish(frame, result)
        self.stats.result(frame.stamp_ns, self.now_ns(), work_ns, odometry=result.pose is not None,
                          depth=result.depth is not None)

    def _publish(self, frame: Frame, result: DepthPoseResult) -> None:
        if (pose := result.pose) is not None:
            self._scale = pose.scale
            self._odometry.publish(convert_motion.odometry_message(pose))
            self._odometry_status.publish(convert_motion.odometry_status_message(pose))
            if self._transforms == "always" or (self._transforms == "metric" and pose.scale is Scale.METRIC):
                self._tf.publish(convert_motion.transform_message(pose))
        metric = isinstance(result.depth, DepthMap)
        topic = self._depth if metric else self._relative
        if result.depth is not None and topic.get_subscription_count():
            topic.publish(convert_motion.depth_message(result.depth))
        if isinstance(result.depth, DepthMap) and self._points.get_subscription_count():
            self._points.publish(convert_motion.points_message(result.depth, frame.image))
        if isinstance(result.depth, DepthMap) and self._obstacles.get_subscription_count():
            self._obstacles.publish(convert_motion.obstacles_message(self._sectors(result.depth), "base_link"))
        if result.motion_mask is not None and self._mask.get_subscription_count():
            self._mask.publish(convert.image_message(result.motion_mask.astype(np.uint8) * 255, "mono8",
                                                     frame.stamp_ns, frame.frame_id))
        if result.flow_px is not None and self._flow.get_subscription_count():
            self._flow.publish(convert.image_message(result.flow_px, "32FC2", frame.stamp_ns, frame.frame_id))

    def _sectors(self, depth: DepthMap) -> Obstacles:
        from ..depth_pose.products import obstacle_sectors

        assert self._estimator is not None
        c = self._estimator.config
        return obstacle_sectors(depth, self._estimator.mount, min_m=c.obstacle_min_m, max_m=c.obstacle_max_m,
                                half_height_m=c.obstacle_half_height_m)

    def end(self) -> None:
        self._worker.stop()

    def unload(self) -> None:
        self._estimator = None

    def details(self) -> dict[str, Any]:
        return {"dropped": self._worker.dropped, "scale": self._scale.value, "note": self._status}


def main() -> NoReturn:
    """The process of this node alone."""
    run(lambda: [DepthPoseNode()])


if __name__ == "__main__":
    main()
