"""The recorder node, in a process of its own: serialised messages go to an MCAP bag as they came."""

from __future__ import annotations

import os
import queue
import shutil
import threading
import time
from pathlib import Path
from typing import Any, Literal, NoReturn

from rclpy.qos import QoSProfile

from ..camera.bag_types import typestore
from ..config import RecorderConfig
from ..errors import MissingDependency, WorkFailed
from . import topics
from .bus import Bus
from .main import run
from .node import StageNode
from .topics import Topic

RESULTS = (topics.CAMERA_INFO, topics.DETECTIONS, topics.TRACKS, topics.TARGET, topics.TARGET_STATUS,
           topics.TARGET_SELECT, topics.HEIGHT_AGL, topics.ODOMETRY, topics.ODOMETRY_STATUS, topics.TF,
           topics.DIAGNOSTICS)
IMAGES: dict[str, tuple[Topic, ...]] = {"jpeg": (topics.IMAGE_JPEG,), "raw": (topics.IMAGE,), "none": ()}
DENSE = (topics.DEPTH, topics.DEPTH_RELATIVE, topics.POINTS, topics.MOTION_MASK, topics.FLOW)


class RecorderNode(StageNode):
    """Records every topic of the graph; what the disk cannot take in time is dropped and counted.

    The bag is a folder's `NAME.mcap` and `metadata.yaml`, put there when it is complete; until then and after a crash
    it is under `NAME.partial`.
    """

    NAME, CONFIG = "recorder", RecorderConfig

    def __init__(self, bus: Bus | None = None, namespace: str | None = None) -> None:
        super().__init__(None, namespace)
        self._writer: Any = None
        self._queue: queue.Queue[tuple[Any, int, bytes] | None] = queue.Queue()
        self._thread: threading.Thread | None = None
        self._subscriptions_made: list[Any] = []
        self._dropped = 0

    def load(self) -> None:
        self._config = self.parameters.read(RecorderConfig)
        if not self._config.bag:
            return
        try:
            from rosbags.rosbag2 import StoragePlugin, Writer
        except ImportError as e:
            raise MissingDependency("no module rosbags", "it, to record", "pip install rosbags") from e
        self._target = Path(self._config.bag).absolute()
        self._folder = self._target.with_suffix(".partial") / self._target.stem
        shutil.rmtree(self._folder.parent, ignore_errors=True)
        try:
            self._target.parent.mkdir(parents=True, exist_ok=True)
            self._writer = Writer(self._folder, version=_metadata_version(), storage_plugin=StoragePlugin.MCAP)
            self._writer.open()
        except OSError as e:
            raise WorkFailed(f"bag {self._target}: {e.strerror}", "a folder that can be written",
                             "choose another") from e
        self._queue = queue.Queue(self._config.queue)
        types = typestore()
        for topic in (*IMAGES[self._config.images], *RESULTS, *(DENSE if self._config.dense else ())):
            self._record(topic, types)
        self._thread = threading.Thread(target=self._write, name="recorder", daemon=True)
        self._thread.start()

    def _record(self, topic: Topic, types: Any) -> None:
        package, name = topic.type.split("/")
        connection = self._writer.add_connection(self.resolve_topic_name(topic.name), f"{package}/msg/{name}",
                                                 typestore=types, offered_qos_profiles=[_offered(topic.qos)])

        def keep(data: bytes) -> None:
            now_ns = self.now_ns()
            try:
                self._queue.put_nowait((connection, now_ns, data))
            except queue.Full:
                self._dropped += 1

        qos = QoSProfile(depth=self._config.queue, reliability=topic.qos.reliability, durability=topic.qos.durability)
        self._subscriptions_made.append(self.create_subscription(topic.message(), topic.name, keep, qos, raw=True))

    def _write(self) -> None:
        while (item := self._queue.get()) is not None:
            connection, now_ns, data = item
            start_ns = time.perf_counter_ns()
            try:
                self._writer.write(connection, now_ns, data)
            except Exception as e:  # the disk is full: say so, keep counting what is lost
                self._dropped += 1
                self.failed(f"bag {self._target}: {e}")
                continue
            self.stats.result(now_ns, self.now_ns(), time.perf_counter_ns() - start_ns, bytes=len(data))

    def unload(self) -> None:
        for subscription in self._subscriptions_made:
            self.destroy_subscription(subscription)
        self._subscriptions_made.clear()
        if self._writer is None:
            return
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join(1.5)
        self._writer.close()
        self._writer = None
        os.replace(self._folder / self._target.name, self._target)
        os.replace(self._folder / "metadata.yaml", self._target.with_name("metadata.yaml"))
        shutil.rmtree(self._folder.parent, ignore_errors=True)

    def details(self) -> dict[str, Any]:
        return {"dropped": self._dropped, "bag": self.parameters.read(RecorderConfig).bag,
                "ended": self._writer is None}


def _metadata_version() -> Literal[8, 9]:
    """Of rosbag2: quality of service is text until Humble."""
    return 8 if os.environ.get("ROS_DISTRO") == "humble" else 9


def _offered(qos: QoSProfile) -> Any:
    from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

    forever = QosTime(2147483647, 4294967295)
    reliable = qos.reliability.name == "RELIABLE"
    return Qos(QosHistory.KEEP_LAST, qos.depth, QosReliability.RELIABLE if reliable else QosReliability.BEST_EFFORT,
               QosDurability.VOLATILE, forever, forever, QosLiveliness.AUTOMATIC, forever, False)


def main() -> NoReturn:
    """The process of this node alone."""
    run(lambda: [RecorderNode()])


if __name__ == "__main__":
    main()
