"""Records to messages and back: stamps, pictures, cameras, boxes, the target (depth and motion: convert_motion)."""

from __future__ import annotations

import array
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from vision_msgs.msg import BoundingBox2D, Detection2D, Detection2DArray, ObjectHypothesisWithPose

from ..camera.encodings import bgr_from_compressed, bgr_from_raw
from ..camera.intrinsics import camera_model
from ..errors import RecordError
from ..records import (
    F32,
    U8,
    CameraModel,
    Detections,
    Frame,
    TargetStatus,
    Track,
    TrackState,
)


class ClassNames:
    """Names on the wire, numbers inside: shared by the nodes of a process."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.names: list[str] = list(names)

    def name(self, class_id: int) -> str:
        return self.names[class_id] if 0 <= class_id < len(self.names) else "" if class_id < 0 else str(class_id)

    def number(self, name: str) -> int:
        """The number of a name, a new one for a name not seen before; -1 for the empty name (unknown)."""
        if not name:
            return -1
        if name not in self.names:
            self.names.append(name)
        return self.names.index(name)


def to_time(stamp_ns: int) -> Time:
    """A stamp of a record as a message."""
    return Time(sec=stamp_ns // 1_000_000_000, nanosec=stamp_ns % 1_000_000_000)


def to_ns(stamp: Time) -> int:
    """A stamp of a message as records have it."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def header(stamp_ns: int, frame_id: str) -> Header:
    """Capture time and frame."""
    return Header(stamp=to_time(stamp_ns), frame_id=frame_id)


def packed(pixels: NDArray[Any]) -> array.array[int]:
    """An array the message takes as it is; an ndarray or a list would be checked element by element (200 ms)."""
    data = array.array("B")
    data.frombytes(np.ascontiguousarray(pixels).data.cast("B"))
    return data


def image_message(pixels: NDArray[Any], encoding: str, stamp_ns: int, frame_id: str) -> Image:
    """``pixels`` (H, W) or (H, W, C) of the dtype that ``encoding`` names."""
    height, width = pixels.shape[:2]
    message = Image(header=header(stamp_ns, frame_id), height=height, width=width, encoding=encoding,
                    step=pixels[0].nbytes)
    message.data = packed(pixels)
    return message


def frame_pixels(message: Image) -> U8:
    """BGR picture of an Image message; SourceError where there is none."""
    return bgr_from_raw(message.encoding, message.width, message.height, message.step, bool(message.is_bigendian),
                        message.data)


def jpeg_message(pixels: U8, quality: int, stamp_ns: int, frame_id: str) -> CompressedImage:
    """A JPEG of BGR pixels; ``quality`` 1..100."""
    message = CompressedImage(header=header(stamp_ns, frame_id), format="bgr8; jpeg compressed bgr8")
    message.data = packed(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1])
    return message


def jpeg_pixels(message: CompressedImage) -> U8:
    """BGR picture of a CompressedImage message; SourceError where there is none."""
    return bgr_from_compressed(message.data)


def camera_info_message(frame: Frame) -> CameraInfo:
    """Intrinsics of a frame; K[0] = 0 says "not calibrated", as CameraInfo's definition has it."""
    height, width = frame.image.shape[:2]
    message = CameraInfo(header=header(frame.stamp_ns, frame.frame_id), width=width, height=height)
    if (camera := frame.camera) is not None:
        message.distortion_model = camera.distortion_model
        message.d = camera.distortion.tolist()
        message.k = camera.K.ravel()
        message.r = np.eye(3).ravel()
        message.p = np.column_stack([camera.K, np.zeros(3)]).ravel()
    return message


def camera_from_message(message: CameraInfo) -> CameraModel | None:
    """None where the camera says it is not calibrated; SourceError for NaN and other impossible values."""
    if message.k[0] == 0:
        return None
    return camera_model(message.width, message.height, message.k, message.d, message.distortion_model,
                        message.header.frame_id)


def _box(xyxy_px: Sequence[float] | F32) -> BoundingBox2D:
    x1, y1, x2, y2 = (float(v) for v in xyxy_px)
    box = BoundingBox2D(size_x=x2 - x1, size_y=y2 - y1)
    box.center.position.x, box.center.position.y = (x1 + x2) / 2, (y1 + y2) / 2
    return box


def box_corners(box: BoundingBox2D) -> tuple[float, float, float, float]:
    """x1, y1, x2, y2 in px of a box message."""
    x, y, w, h = box.center.position.x, box.center.position.y, box.size_x, box.size_y
    if not all(map(math.isfinite, (x, y, w, h))) or w < 0 or h < 0:
        raise RecordError(f"box centre {x}, {y} size {w}, {h}", "finite numbers and sizes >= 0", "check who sent it")
    return x - w / 2, y - h / 2, x + w / 2, y + h / 2


def _detection(head: Header, xyxy_px: Sequence[float] | F32, score: float, name: str, id_: str = "") -> Detection2D:
    message = Detection2D(header=head, bbox=_box(xyxy_px), id=id_)
    hypothesis = ObjectHypothesisWithPose()
    hypothesis.hypothesis.class_id, hypothesis.hypothesis.score = name, float(score)
    message.results.append(hypothesis)
    return message


def detections_message(detections: Detections, names: ClassNames) -> Detection2DArray:
    """Boxes as centre and size in source pixels; an empty array says that nothing was seen."""
    head = header(detections.stamp_ns, detections.frame_id)
    boxes = zip(detections.xyxy_px, detections.score, detections.class_id, strict=True)
    return Detection2DArray(header=head, detections=[_detection(head, b, s, names.name(int(c))) for b, s, c in boxes])


def detections_from_message(message: Detection2DArray, names: ClassNames) -> Detections:
    """Boxes with their first hypothesis; new class names get new numbers."""
    boxes = [box_corners(d.bbox) for d in message.detections]
    best = [d.results[0].hypothesis if d.results else None for d in message.detections]
    return Detections(to_ns(message.header.stamp), np.array(boxes, np.float32).reshape(-1, 4),
                      np.array([h.score if h else 0.0 for h in best], np.float32),
                      np.array([names.number(h.class_id) if h else -1 for h in best], np.int32),
                      message.header.frame_id)


def track_message(track: Track, names: ClassNames) -> Detection2D:
    """A track; its id is the Detection2D's id."""
    return _detection(header(track.stamp_ns, track.frame_id), track.xyxy_px, track.score, names.name(track.class_id),
                      str(track.id))


def tracks_message(stamp_ns: int, frame_id: str, tracks: Sequence[Track], names: ClassNames) -> Detection2DArray:
    """All tracks of one frame."""
    return Detection2DArray(header=header(stamp_ns, frame_id), detections=[track_message(t, names) for t in tracks])


def track_from_message(message: Detection2D, names: ClassNames) -> Track:
    """A track as another process sees it: the wire carries no velocity (0 here) and only tracks that are held."""
    best = message.results[0].hypothesis if message.results else None
    stamp_ns = to_ns(message.header.stamp)
    return Track(stamp_ns, int(message.id), TrackState.TRACKED, np.array(box_corners(message.bbox), np.float32),
                 np.zeros(2, np.float32), best.score if best else 0.0, names.number(best.class_id) if best else -1,
                 stamp_ns, message.header.frame_id)


def status_message(name: str, level: int, text: str, values: dict[str, Any], hardware_id: str = "") -> DiagnosticStatus:
    """A DiagnosticStatus whose values are JSON scalars as text."""
    return DiagnosticStatus(level=bytes([level]), name=name, message=text, hardware_id=hardware_id,
                            values=[KeyValue(key=k, value=v if isinstance(v, str) else json.dumps(v))
                                    for k, v in values.items()])


def status_values(message: DiagnosticStatus) -> dict[str, Any]:
    """The values of a DiagnosticStatus; text that is no JSON stays text."""
    def parse(text: str) -> Any:
        try:
            return json.loads(text)
        except ValueError:
            return text

    return {v.key: parse(v.value) for v in message.values}


TARGET_LEVELS = {"NONE": 0, "ACQUIRING": 0, "LOCKED": 0, "OCCLUDED": 1, "LOST": 1, "FAILED": 2}


def target_status_message(target: TargetStatus) -> DiagnosticStatus:
    """The whole TargetStatus but for its box, which is in `target` with the same stamp."""
    return status_message("target", TARGET_LEVELS[target.state], target.message or target.state.lower(), {
        "state": target.state, "stamp_ns": target.stamp_ns, "quality": target.quality, "age_ns": target.age_ns,
        "has_box": target.track is not None,
        "last_seen_ns": target.track.last_seen_ns if target.track else None,
        "velocity_px_s": target.track.velocity_px_s.tolist() if target.track else None})


def target_from_messages(status: DiagnosticStatus, box: Detection2D | None, names: ClassNames) -> TargetStatus:
    """The TargetStatus that was published; ``box`` is the `target` message of the same stamp where there is one."""
    values = status_values(status)
    track = None
    if box is not None:
        seen = track_from_message(box, names)
        states = {"LOCKED": TrackState.TRACKED, "OCCLUDED": TrackState.OCCLUDED, "LOST": TrackState.LOST}
        track = Track(seen.stamp_ns, seen.id, states.get(values["state"], TrackState.TENTATIVE), seen.xyxy_px,
                      np.array(values.get("velocity_px_s") or (0, 0), np.float32), seen.score, seen.class_id,
                      min(int(values.get("last_seen_ns") or seen.stamp_ns), seen.stamp_ns), seen.frame_id)
    return TargetStatus(int(values["stamp_ns"]), str(values["state"]), track, float(values["quality"]),
                        int(values["age_ns"]), status.message)
