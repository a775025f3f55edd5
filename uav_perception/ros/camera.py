"""The camera node: frames from any source to the other stages, and to topics when someone outside listens."""

from __future__ import annotations

import threading
from typing import Any, NoReturn

from ..camera import CameraSource
from ..camera.sources import open_camera
from ..config import CameraConfig
from ..records import Frame
from . import convert, topics
from .bus import Bus
from .companion import RecordedHeights
from .main import run
from .node import StageNode
from .topic_source import TopicSource

READ_S = 0.1  # how long a read may wait: ending the node takes no longer


class CameraNode(StageNode):
    """Publishes image, image/compressed and camera_info on demand; hands every frame over in this process.

    The rangefinder of a bag goes with its pictures as `height_agl`.
    """

    NAME, CONFIG = "camera", CameraConfig

    def __init__(self, bus: Bus | None = None, namespace: str | None = None) -> None:
        super().__init__(bus, namespace)
        self._source: CameraSource | None = None
        self._thread: threading.Thread | None = None
        self._from_topic = self.parameters.read(CameraConfig).source == "topic"
        self._jpeg = self.output(topics.IMAGE_JPEG) if not self._from_topic else None
        self._image = self.output(topics.IMAGE) if not self._from_topic else None
        self._info = self.output(topics.CAMERA_INFO) if not self._from_topic else None
        self._height = self.output(topics.HEIGHT_AGL) if not self._from_topic else None
        self._heights: RecordedHeights | None = None
        self._inbox = TopicSource(self) if self._from_topic else None

    def load(self) -> None:
        self._config = self.parameters.read(CameraConfig)
        self._open()

    def _open(self) -> None:
        self._source = self._inbox if self._inbox is not None else open_camera(self._config)
        recording = getattr(self._source, "recording", None)
        self._heights = RecordedHeights(recording) if recording else None

    def begin(self) -> None:
        assert self._source is not None
        if self._source.ended:  # activated again after its end
            self._open()
        self._thread = threading.Thread(target=self._flow, name="camera", daemon=True)
        self._thread.start()

    def _flow(self) -> None:
        source, announced = self._source, False
        while self.active and source is not None:
            try:
                frame = source.read(READ_S)
                if frame is not None:
                    self._hand_over(frame)
                elif source.ended and not announced:
                    announced = True
                    self.get_logger().info(f"source {self._config.source} has ended")
                    self.report()
                if source.ended and frame is None:
                    threading.Event().wait(READ_S)
            except Exception as e:  # one bad frame is not the end of the flight
                self.failed(f"{type(e).__name__}: {e}" if not hasattr(e, "remedy") else str(e))

    def _hand_over(self, frame: Frame) -> None:
        stamp_ns, now_ns = frame.stamp_ns, self.now_ns()
        if self._heights is not None and self._height is not None:
            shift_ns = getattr(self._source, "shift_ns", 0)
            for message in self._heights.until(stamp_ns - shift_ns, shift_ns):
                self._height.publish(message)
        self.offer(topics.IMAGE, frame)
        if self._info is not None and self._info.get_subscription_count():
            self._info.publish(convert.camera_info_message(frame))
        if self._image is not None and self._image.get_subscription_count():
            self._image.publish(convert.image_message(frame.image, "bgr8", stamp_ns, frame.frame_id))
        if self._jpeg is not None and self._jpeg.get_subscription_count():
            self._jpeg.publish(convert.jpeg_message(frame.image, self._config.jpeg_quality, stamp_ns, frame.frame_id))
        self.stats.result(stamp_ns, now_ns, self.now_ns() - now_ns)

    def end(self) -> None:
        if self._thread is not None:
            self._thread.join(1.0)

    def unload(self) -> None:
        if self._source is not None and self._inbox is None:
            self._source.close()
        if self._heights is not None:
            self._heights.close()
        self._source = self._heights = None

    def details(self) -> dict[str, Any]:
        source = self._source
        if source is None:
            return {}
        status = source.status
        return {"source": self._config.source, "ended": source.ended,
                "dropped": int(getattr(source, "skipped", 0)), "note": "" if status == "ok" else status}


def main() -> NoReturn:
    """The process of this node alone."""
    run(lambda: [CameraNode()])


if __name__ == "__main__":
    main()
