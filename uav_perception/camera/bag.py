"""Pictures of a bag: which image topic, its intrinsics, and stamps from the message header."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import BagError, SourceError
from ..records import U8, CameraModel
from .bagfile import BagFile, RawMessage, Topic
from .encodings import bgr_from_compressed, bgr_from_raw, is_picture
from .finite import Picture
from .intrinsics import camera_model

IMAGE, COMPRESSED, INFO = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/CameraInfo"
_NOT_A_CAMERA = ("truth", "overlay", "mask", "depth", "flow", "debug")  # parts of names of derived images


def header_ns(header: Any) -> int:
    """Stamp of a ROS 1 or ROS 2 header in ns."""
    stamp = header.stamp
    return int(stamp.sec) * 10**9 + int(stamp.nanosec)


class BagPictures:
    """The pictures of one image topic, in recording order.

    Frames whose header stamp is not later than the one before are left out (time cannot stand still or run backwards
    in front of a tracker); a header without a stamp gets the recording time. ``counts`` says how many of what.
    """

    def __init__(self, path: Path, topic: str = "", frame_id: str = "camera_optical") -> None:
        self.bag = BagFile(path)
        self.topic = self._image_topic(topic)
        self.info_topic = self._info_topic()
        self._frame_id = frame_id
        self.counts: Counter[str] = Counter()
        self.longest_gap_ns = 0
        self._info_problem = "" if self.info_topic else "no CameraInfo topic for these images"
        self._camera: CameraModel | None = None
        self._camera_key: bytes = b""

    def notes(self) -> str:
        parts = [*self.bag.losses, self._info_problem]
        parts += [f"{n} frames {what}" for what, n in sorted(self.counts.items()) if what != "read"]
        return "; ".join(p for p in parts if p)

    def close(self) -> None:
        self.bag.close()

    def pictures(self) -> Iterator[Picture]:
        self.counts.clear()
        if self.info_topic and self._camera is None:  # the first CameraInfo may lie behind the first image
            self._read_info(next(self.bag.messages([self.info_topic]), None))
        last_ns = -1
        for message in self.bag.messages([self.topic, *([self.info_topic] if self.info_topic else [])]):
            if message.topic == self.info_topic:
                self._read_info(message)
                continue
            try:
                image = self.bag.decode(message)
            except BagError:
                self.counts["that do not decode"] += 1
                continue
            stamp_ns = header_ns(image.header)
            if stamp_ns == 0:
                stamp_ns = message.bag_ns
                self.counts["without a stamp, given their recording time"] += 1
            if stamp_ns <= last_ns:
                kind = "with a duplicate stamp left out" if stamp_ns == last_ns else "with a backward stamp left out"
                self.counts[kind] += 1
                continue
            self.longest_gap_ns = max(self.longest_gap_ns, stamp_ns - last_ns if last_ns >= 0 else 0)
            last_ns = stamp_ns
            self.counts["read"] += 1
            yield Picture(stamp_ns, lambda image=image: self._decode(image),  # type: ignore[misc]
                          self._camera, image.header.frame_id or self._frame_id)

    def _decode(self, image: Any) -> U8:
        if hasattr(image, "format"):
            return bgr_from_compressed(image.data, f"{image.format} image of {self.topic}")
        return bgr_from_raw(image.encoding, image.width, image.height, image.step, bool(image.is_bigendian), image.data)

    def _read_info(self, message: RawMessage | None) -> None:
        if message is None:
            return
        name_length = int.from_bytes(message.data[12:16], "little")  # in ROS 1 and in little-endian CDR
        key = message.data[16 + name_length:]  # stamps differ, what follows the header rarely does
        if key == self._camera_key:
            return
        self._camera_key = key
        try:
            info = self.bag.decode(message)
            k, d = (info.K, info.D) if self.bag.ros1 else (info.k, info.d)
            self._camera = camera_model(info.width, info.height, k, d, info.distortion_model,
                                        info.header.frame_id or self._frame_id)
            self._info_problem = ""
        except (BagError, SourceError) as e:
            self._camera, self._info_problem = None, f"{self.info_topic}: {e.value}: frames go on without intrinsics"

    def _image_topic(self, wanted: str) -> str:
        images = [t for t in self.bag.topics.values() if t.msgtype in (IMAGE, COMPRESSED) and t.count]
        if wanted:
            if wanted not in {t.name for t in images}:
                raise BagError(f"image topic {wanted!r} in {self.bag.path}",
                               f"one of {', '.join(t.name for t in images) or 'none: it holds no images'}",
                               "correct camera.image_topic")
            return wanted
        if not images:
            topics = ", ".join(sorted(self.bag.topics))
            raise BagError(f"bag {self.bag.path} without images (topics: {topics or 'none'})",
                           "an Image or CompressedImage topic", "record the camera's topic too")
        cameras = [t for t in images if not any(w in t.name.lower() for w in _NOT_A_CAMERA) and self._is_picture(t)]
        raw = {t.name for t in cameras if t.msgtype == IMAGE}
        cameras = [t for t in cameras if t.name.removesuffix("/compressed") not in raw or t.msgtype == IMAGE]
        if len(cameras) > 1:  # a camera proper has its CameraInfo beside it
            with_info = [t for t in cameras if self._beside(t.name) in self.bag.topics]
            cameras = with_info or cameras
        if not cameras:
            kinds = ", ".join(f"{t.name} ({self._kind(t) or 'nothing that decodes'})" for t in images)
            raise BagError(f"bag {self.bag.path} whose images are no camera's: {kinds}",
                           "a colour, grey, Bayer or YUV encoding, or JPEG, PNG, WebP",
                           "record the camera's topic too, or name it: --image-topic")
        if len(cameras) != 1:
            names = ", ".join(t.name for t in cameras)
            raise BagError(f"bag {self.bag.path} with {len(cameras)} camera topics ({names})", "exactly one",
                           "name it: --image-topic, or camera.image_topic in the parameter file")
        return cameras[0].name

    def _is_picture(self, topic: Topic) -> bool:
        return is_picture(self._kind(topic))

    def _kind(self, topic: Topic) -> str:
        """Encoding or format of a topic's first image; "" when that does not decode."""
        first = next(self.bag.messages([topic.name]), None)
        try:
            image = self.bag.decode(first) if first else None
        except BagError:
            return ""
        return str(getattr(image, "format", "") or getattr(image, "encoding", ""))

    @staticmethod
    def _beside(name: str) -> str:
        return name.removesuffix("/compressed").rsplit("/", 1)[0] + "/camera_info"

    def _info_topic(self) -> str:
        infos = [t.name for t in self.bag.topics.values() if t.msgtype == INFO and t.count]
        beside = self._beside(self.topic)
        return beside if beside in infos else infos[0] if len(infos) == 1 else ""
