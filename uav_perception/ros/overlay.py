"""The overlay node: drawn frames for people, as a topic on demand and as a film."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import Any, NoReturn

from ..config import OverlayConfig
from ..records import DepthPoseResult, Detections, Frame
from ..runtime.film import Film
from ..runtime.overlay import draw
from ..runtime.worker import Worker
from . import convert, topics
from .bus import Bus, Tracked
from .main import run
from .node import StageNode
from .topic_source import receive_frames

KEPT = 16  # tracks of a frame come later than the frame; this many frames and detections wait for them


class OverlayNode(StageNode):
    """Draws a frame when its tracks are there, at most ``fps`` times a second, and only when somebody looks."""

    NAME, CONFIG = "overlay", OverlayConfig

    def __init__(self, bus: Bus | None = None, namespace: str | None = None) -> None:
        super().__init__(bus, namespace)
        self._film: Film | None = None
        self._frames: OrderedDict[int, Frame] = OrderedDict()
        self._lock = threading.Lock()
        self._detections: OrderedDict[int, Detections] = OrderedDict()
        self._depth_pose: DepthPoseResult | None = None
        self._last_ns = 0
        self._worker: Worker[Tracked] = Worker("overlay", self._draw, self.failed)
        self._picture = self.output(topics.OVERLAY)
        receive_frames(self, self._on_frame)
        self.input(topics.DETECTIONS, self._on_detections, lambda m: convert.detections_from_message(m, self.names))
        self.input(topics.TRACKS, self._worker.put, self._tracked)
        if bus is not None:
            bus.connect(topics.ODOMETRY, self._on_depth_pose)

    def _tracked(self, message: Any) -> Tracked:
        return Tracked(convert.to_ns(message.header.stamp), message.header.frame_id,
                       tuple(convert.track_from_message(d, self.names) for d in message.detections), None)

    def _on_frame(self, frame: Frame) -> None:
        self._keep(self._frames, frame.stamp_ns, frame)

    def _on_detections(self, detections: Detections) -> None:
        self._keep(self._detections, detections.stamp_ns, detections)

    def _keep(self, kept: OrderedDict[int, Any], stamp_ns: int, record: Any) -> None:
        with self._lock:
            kept[stamp_ns] = record
            while len(kept) > KEPT:
                kept.popitem(last=False)

    def _on_depth_pose(self, result: DepthPoseResult) -> None:
        self._depth_pose = result

    def load(self) -> None:
        self._config = self.parameters.read(OverlayConfig)
        self._film = Film(self._config.video, self._config.fps) if self._config.video else None

    def begin(self) -> None:
        self._worker.start()

    def _draw(self, tracked: Tracked) -> None:
        watched = self._picture.get_subscription_count() > 0
        early = 0 <= tracked.stamp_ns - self._last_ns < 0.98e9 / self._config.fps
        with self._lock:
            frame = self._frames.get(tracked.stamp_ns)
            known = [d for ns, d in self._detections.items() if ns <= tracked.stamp_ns]
        if frame is None or early or not (watched or self._film):
            return
        start_ns = time.perf_counter_ns()
        self._last_ns = tracked.stamp_ns
        picture = draw(frame, known[-1] if known else None, tracked.tracks, tracked.target, self._depth_pose,
                       self.names.names, self._config.width_px)
        if watched:
            self._picture.publish(convert.jpeg_message(picture, self._config.jpeg_quality, frame.stamp_ns,
                                                       frame.frame_id))
        if self._film is not None:
            self._film.write(picture, frame.stamp_ns)
        self.stats.result(frame.stamp_ns, self.now_ns(), time.perf_counter_ns() - start_ns)

    def end(self) -> None:
        self._worker.stop()

    def unload(self) -> None:
        if self._film is not None:
            self._film.close()
        self._film = None

    def details(self) -> dict[str, Any]:
        idle = self._film is None and not self._picture.get_subscription_count()
        return {"dropped": self._worker.dropped, "ended": idle, "film": self._film.path if self._film else ""}


def main() -> NoReturn:
    """The process of this node alone."""
    run(lambda: [OverlayNode()])


if __name__ == "__main__":
    main()
