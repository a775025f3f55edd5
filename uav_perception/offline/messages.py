"""ROS messages of bags to and from arrays and records, without ROS: pictures, intrinsics, boxes, poses, depth."""

from __future__ import annotations

import math
import struct
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..camera.bag import header_ns
from ..camera.bagfile import typestore
from ..errors import BagError
from ..records import F32, U8, CameraModel

F64 = NDArray[np.float64]
IMAGE, COMPRESSED, INFO = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/CameraInfo"
BOXES, POSE, RANGE = "vision_msgs/msg/Detection2DArray", "geometry_msgs/msg/PoseStamped", "sensor_msgs/msg/Range"
ODOMETRY = "nav_msgs/msg/Odometry"


def make(name: str, *values: Any, **fields: Any) -> Any:
    """A message object of the type ``package/msg/Name``."""
    return typestore().types[name](*values, **fields)


def header(stamp_ns: int, frame_id: str) -> Any:
    """std_msgs/Header of a stamp in ns."""
    stamp = make("builtin_interfaces/msg/Time", sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return make("std_msgs/msg/Header", stamp=stamp, frame_id=frame_id)


def compressed_image(data: bytes | U8, kind: str, stamp_ns: int, frame_id: str) -> Any:
    """A CompressedImage of bytes that are a ``kind`` (jpeg, png, webp) file already."""
    return make(COMPRESSED, header(stamp_ns, frame_id), kind, np.frombuffer(data, np.uint8))


def raw_image(image: NDArray[Any], encoding: str, stamp_ns: int, frame_id: str) -> Any:
    """An Image whose rows are those of ``image`` (H, W[, C]), tightly packed, little endian."""
    height, width = image.shape[:2]
    data = np.ascontiguousarray(image)
    return make(IMAGE, header(stamp_ns, frame_id), height, width, encoding, 0, data.nbytes // height,
                data.reshape(-1).view(np.uint8))


def camera_info(camera: CameraModel, stamp_ns: int) -> Any:
    """CameraInfo of an unrectified camera."""
    K = np.asarray(camera.K, np.float64)
    roi = make("sensor_msgs/msg/RegionOfInterest", 0, 0, 0, 0, False)
    projection = np.hstack([K, np.zeros((3, 1))])
    return make(INFO, header(stamp_ns, camera.frame_id), camera.height_px, camera.width_px, camera.distortion_model,
                np.asarray(camera.distortion, np.float64), K.ravel(), np.eye(3).ravel(), projection.ravel(), 0, 0, roi)


def boxes(xyxy_px: ArrayLike, ids: list[str], class_names: list[str], scores: ArrayLike, stamp_ns: int,
          frame_id: str) -> Any:
    """A Detection2DArray; ``scores`` of truth are visibilities (docs/truth.md)."""
    corners = np.asarray(xyxy_px, np.float64).reshape(-1, 4)
    values = np.asarray(scores, np.float64).reshape(-1)
    head = header(stamp_ns, frame_id)
    pose = make("geometry_msgs/msg/PoseWithCovariance", _pose(np.zeros(3), np.array([1.0, 0, 0, 0])), np.zeros(36))
    items = []
    for (x1, y1, x2, y2), one, name, score in zip(corners, ids, class_names, values, strict=True):
        centre = make("vision_msgs/msg/Pose2D", make("vision_msgs/msg/Point2D", (x1 + x2) / 2, (y1 + y2) / 2), 0.0)
        box = make("vision_msgs/msg/BoundingBox2D", centre, x2 - x1, y2 - y1)
        hypothesis = make("vision_msgs/msg/ObjectHypothesis", name, float(score))
        result = make("vision_msgs/msg/ObjectHypothesisWithPose", hypothesis, pose)
        items.append(make("vision_msgs/msg/Detection2D", head, [result], box, one))
    return make(BOXES, head, items)


def read_boxes(data: bytes | memoryview) -> tuple[int, tuple[F64, list[str], list[str], F64]]:
    """Stamp in ns, and (N, 4) xyxy px, ids, class names and scores of a serialised Detection2DArray.

    Walks through plain CDR (OMG DDSI-RTPS 2.5, ch. 10: every number aligned to its size, counted from byte 4) by hand,
    because a crowd's message has thousands of numbers of which five a box are wanted; through message objects this
    takes ten times as long.

    Raises:
        BagError: bytes that are no such message.
    """
    boxes, ids, names, scores = [], [], [], []
    data = bytes(data)
    try:
        count_of, head_of, score_of, box_of = _FIELDS[data[1] & 1]
        seconds, nanoseconds, length = head_of(data, 4)
        at = 16 + length
        (count,) = count_of(data, at + -at % 4)
        at += -at % 4 + 4
        for _ in range(count):
            at += -at % 4 + 12 + head_of(data, at + -at % 4)[2]  # the box's own header
            at += -at % 4 + 4
            (results,) = count_of(data, at - 4)
            name, score = b"", -math.inf
            for _ in range(results):
                start = at + -at % 4 + 4
                at = start + count_of(data, start - 4)[0]
                candidate = data[start:at - 1]
                at += (4 - at) % 8 + _RESULT
                (value,) = score_of(data, at - _RESULT)
                if value > score:
                    name, score = candidate, value
            at += (4 - at) % 8 + 40
            boxes.append(box_of(data, at - 40))
            start = at + 4
            at = start + count_of(data, at)[0]
            ids.append(data[start:at - 1].decode())
            names.append(name.decode())
            scores.append(score if results else 1.0)
        if at > len(data):
            raise ValueError("the last text ends behind it")
    except (struct.error, ValueError, IndexError) as e:
        raise BagError(f"a message of {len(data)} bytes that is no {BOXES} ({e})", "plain CDR of vision_msgs 4",
                       "record it again") from e
    x, y, _, w, h = np.asarray(boxes, np.float64).reshape(-1, 5).T
    corners = np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], axis=1)
    stamp_ns = int(seconds) * 10**9 + int(nanoseconds)
    return stamp_ns, (corners, ids, names, np.asarray(scores, np.float64))


_RESULT = 44 * 8  # bytes of a score, a pose and its covariance
_FIELDS = [tuple(struct.Struct(end + kinds).unpack_from for kinds in ("I", "iII", "d", "5d")) for end in "><"]


def _pose(position_m: F64, quaternion_wxyz: F64) -> Any:
    w, x, y, z = (float(v) for v in quaternion_wxyz)
    return make("geometry_msgs/msg/Pose", make("geometry_msgs/msg/Point", *(float(v) for v in position_m)),
                make("geometry_msgs/msg/Quaternion", x, y, z, w))


def pose_stamped(position_m: F64, quaternion_wxyz: F64, stamp_ns: int, frame_id: str = "map") -> Any:
    """PoseStamped of a position in metres and a quaternion wxyz."""
    return make(POSE, header(stamp_ns, frame_id), _pose(position_m, quaternion_wxyz))


def read_pose(message: Any) -> tuple[int, F64, F64]:
    """Stamp in ns, position (3,) and quaternion wxyz (4,) of a PoseStamped or Odometry."""
    pose = message.pose if hasattr(message.pose, "position") else message.pose.pose
    p, q = pose.position, pose.orientation
    return header_ns(message.header), np.array([p.x, p.y, p.z]), np.array([q.w, q.x, q.y, q.z])


def range_m(distance_m: float, stamp_ns: int, frame_id: str) -> Any:
    """A Range of infrared kind (type 1); the meaning is docs/truth.md's ``height_agl``."""
    return make(RANGE, header(stamp_ns, frame_id), 1, 0.0, 0.0, 1000.0, float(distance_m), 0.0)


def depth_image(depth_m: F32, valid: NDArray[np.bool_], stamp_ns: int, frame_id: str) -> Any:
    """A ``compressedDepth`` image: 16-bit codes of inverse depth, code 0 = nothing known (docs/truth.md)."""
    near = float(depth_m[valid].min()) if valid.any() else 1.0
    b = 0.0
    a = near * 65535.0  # the nearest depth gets the highest code
    codes = np.where(valid, np.clip(np.rint(a / np.maximum(depth_m, near) + b), 1, 65535), 0).astype(np.uint16)
    ok, png = cv2.imencode(".png", codes)
    if not ok:
        raise BagError(f"depth image of shape {depth_m.shape}", "one that PNG can hold", "check the depth")
    data = struct.pack("<iff", 0, a, b) + png.tobytes()
    return compressed_image(data, "32FC1; compressedDepth png", stamp_ns, frame_id)


def read_depth(message: Any) -> tuple[F32, NDArray[np.bool_]]:
    """Depth in metres (H, W) and validity of a 32FC1/16UC1 Image (16UC1: mm) or a compressedDepth image.

    Raises:
        BagError: another encoding, or bytes that are no depth image.
    """
    if not hasattr(message, "format"):
        kinds = {"32FC1": (np.float32, 1.0), "16UC1": (np.uint16, 1e-3), "mono16": (np.uint16, 1e-3)}
        if message.encoding not in kinds:
            raise BagError(f"depth image of encoding {message.encoding!r}", "32FC1 or 16UC1", "convert the recording")
        dtype, unit = kinds[message.encoding]
        order = np.dtype(dtype).newbyteorder(">" if message.is_bigendian else "<")
        rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
        raw = np.ascontiguousarray(rows[:, :message.width * order.itemsize]).view(order)
        depth = raw.astype(np.float32) * np.float32(unit)
    else:
        data = bytes(message.data)
        if "compressedDepth" not in message.format:
            raise BagError(f"depth image of format {message.format!r}", "compressedDepth", "convert the recording")
        image = cv2.imdecode(np.frombuffer(data, np.uint8, offset=12), cv2.IMREAD_UNCHANGED) if len(data) > 12 else None
        if image is None or image.ndim != 2:
            raise BagError(f"compressedDepth image of {len(data)} bytes", "12 bytes and a 16-bit PNG",
                           "record it again")
        if message.format.startswith("16UC1"):
            depth = image.astype(np.float32) * np.float32(1e-3)
        else:
            _, a, b = struct.unpack_from("<iff", data)
            codes = image.astype(np.float32)
            depth = np.where(image > 0, np.float32(a) / np.where(image > 0, codes - np.float32(b), 1), 0)
    depth = np.asarray(depth, np.float32)
    valid = np.isfinite(depth) & (depth > 0)
    return np.where(valid, depth, 0).astype(np.float32), valid
