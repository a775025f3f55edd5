"""A camera that is a topic: another driver's, or a bag being replayed (`source: topic`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..camera.frames import FrameMaker
from ..config import CameraConfig
from ..records import CameraModel, Frame
from ..runtime.latest import Latest
from . import convert, topics

if TYPE_CHECKING:
    from .node import StageNode


class FrameReceiver:
    """Makes Frames of `image` messages, with the intrinsics of the latest `camera_info` of that size."""

    def __init__(self, node: StageNode) -> None:
        self._maker = FrameMaker(CameraConfig())
        self._camera: CameraModel | None = None
        node.subscribe(topics.CAMERA_INFO, self._on_info)

    def _on_info(self, message: Any) -> None:
        self._camera = None  # an impossible one must not leave an older one in force
        self._camera = convert.camera_from_message(message)

    def frame(self, message: Any) -> Frame:
        """The Frame of an Image or CompressedImage message; SourceError where it is no picture."""
        pixels = convert.jpeg_pixels(message) if hasattr(message, "format") else convert.frame_pixels(message)
        return self._maker.frame(pixels, convert.to_ns(message.header.stamp), self._camera, message.header.frame_id)

    @property
    def note(self) -> str:
        return self._maker.note


def receive_frames(node: StageNode, sink: Callable[[Frame], None]) -> None:
    """Frames of the camera node: the very same objects inside its process, made of messages in another."""
    receiver = FrameReceiver(node) if node.bus is None else None
    node.input(topics.IMAGE, sink, lambda message: receiver.frame(message) if receiver else message)


class TopicSource:
    """A CameraSource over `image`, or `image/compressed` where only that comes; newest wins."""

    def __init__(self, node: StageNode) -> None:
        self._receiver = FrameReceiver(node)
        self._inbox: Latest[Frame] = Latest()
        self._raw_seen = False
        node.subscribe(topics.IMAGE, self._on_raw)
        node.subscribe(topics.IMAGE_JPEG, self._on_jpeg)

    def _on_raw(self, message: Any) -> None:
        self._raw_seen = True
        self._inbox.put(self._receiver.frame(message))

    def _on_jpeg(self, message: Any) -> None:
        if not self._raw_seen:
            self._inbox.put(self._receiver.frame(message))

    ended = False

    @property
    def status(self) -> str:
        return self._receiver.note or "ok"

    @property
    def skipped(self) -> int:
        return self._inbox.dropped

    def read(self, timeout_s: float) -> Frame | None:
        return self._inbox.take(timeout_s)

    def close(self) -> None:
        self._inbox.clear()
