"""The tracker node: identities at camera rate, and the operator's lock on one target."""

from __future__ import annotations

import threading
import time
from typing import Any, NoReturn

from std_srvs.srv import SetBool

from ..config import LsartConfig, TrackerConfig
from ..errors import InputError, UavPerceptionError
from ..records import Detections, Frame, Track
from ..runtime.latest import Latest
from ..runtime.worker import Worker
from ..track import TrackerStage
from . import convert, topics
from .bus import Bus, Tracked
from .main import run
from .node import StageNode
from .topic_source import receive_frames


class TrackerNode(StageNode):
    """Runs on every frame with the newest detections there are; those may belong to an earlier frame.

    ``target/select`` (topic, vision_msgs/BoundingBox2D in source pixels): a box locks what is in it, a box of zero size
    locks what is at the point. ``target/select`` (service, std_srvs/SetBool): true locks the track with the best
    score, false releases.
    """

    NAME, CONFIG, NESTED = "tracker", TrackerConfig, {"lsart": LsartConfig}

    def __init__(self, bus: Bus | None = None, namespace: str | None = None) -> None:
        super().__init__(bus, namespace)
        self._tracker: TrackerStage | None = None
        self._turn = threading.Lock()  # the stage is not thread-safe: a frame or a command, one at a time
        self._newest_detections: Latest[Detections] = Latest()
        self._last: tuple[Track, ...] = ()
        self._ids: set[int] = set()
        self._worker: Worker[Frame] = Worker("tracker", self._track, self.failed)
        self._tracks = self.output(topics.TRACKS)
        self._target = self.output(topics.TARGET)
        self._target_status = self.output(topics.TARGET_STATUS)
        receive_frames(self, self._worker.put)
        self.input(topics.DETECTIONS, self._newest_detections.put,
                   lambda m: convert.detections_from_message(m, self.names))
        self.subscribe(topics.TARGET_SELECT, self._on_box)
        self.create_service(SetBool, topics.TARGET_SELECT.name, self._on_service)

    def load(self) -> None:
        from ..track.stage import make_tracker

        self._tracker = make_tracker(self.parameters.read(TrackerConfig), self.parameters.read(LsartConfig, "lsart."))

    def begin(self) -> None:
        self._newest_detections.clear()
        self._worker.start()

    def _track(self, frame: Frame) -> None:
        assert self._tracker is not None
        start_ns = time.perf_counter_ns()
        with self._turn:
            tracks = self._tracker.update(frame, self._newest_detections.take(0.0))
            target = self._tracker.target
        work_ns = time.perf_counter_ns() - start_ns
        self._last = tracks
        self.offer(topics.TRACKS, Tracked(frame.stamp_ns, frame.frame_id, tracks, target))
        self._tracks.publish(convert.tracks_message(frame.stamp_ns, frame.frame_id, tracks, self.names))
        if target.track is not None:
            self._target.publish(convert.track_message(target.track, self.names))
        self._target_status.publish(convert.target_status_message(target))
        self._ids.update(t.id for t in tracks)
        self.stats.result(frame.stamp_ns, self.now_ns(), work_ns, boxes=len(tracks))

    def _on_box(self, message: Any) -> None:
        x1, y1, x2, y2 = convert.box_corners(message)
        assert self._tracker is not None
        with self._turn:
            if x1 == x2 and y1 == y2:
                self._tracker.lock_point(x1, y1)
            else:
                self._tracker.lock_box((x1, y1, x2, y2))
        self.get_logger().info(f"asked to lock {x1:.0f},{y1:.0f} {x2 - x1:.0f}x{y2 - y1:.0f} px")

    def _on_service(self, request: Any, response: Any) -> Any:
        try:
            response.message = self._lock_best() if request.data else self._release()
            response.success = True
        except UavPerceptionError as e:
            response.success, response.message = False, str(e)
        return response

    def _lock_best(self) -> str:
        if self._tracker is None or not self.active:
            raise InputError("a tracker that is not active", "an active one", "ros2 lifecycle set /tracker activate")
        if not self._last:
            raise InputError("no track", "at least one to lock", "wait for one, or send a box to target/select")
        best = max(self._last, key=lambda t: t.score)
        with self._turn:
            self._tracker.lock_id(best.id)
        return f"locked track {best.id}"

    def _release(self) -> str:
        if self._tracker is not None:
            with self._turn:
                self._tracker.release()
        return "released"

    def end(self) -> None:
        self._worker.stop()

    def unload(self) -> None:
        self._tracker = None

    def details(self) -> dict[str, Any]:
        return {"dropped": self._worker.dropped, "ids": len(self._ids),
                "target": self._tracker.target.state if self._tracker else "NONE"}


def main() -> NoReturn:
    """The process of this node alone."""
    run(lambda: [TrackerNode()])


if __name__ == "__main__":
    main()
