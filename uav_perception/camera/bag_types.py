"""What bags hold: message definitions, topics, serialised messages."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from rosbags.serde import SerdeError
from rosbags.typesys import Stores, TypesysError, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

# vision_msgs 4.x (Humble and later): names and types are the interface, the hash in the tests proves them.
VISION_MSGS = {
    "vision_msgs/msg/Point2D": "float64 x\nfloat64 y\n",
    "vision_msgs/msg/Pose2D": "vision_msgs/Point2D position\nfloat64 theta\n",
    "vision_msgs/msg/BoundingBox2D": "vision_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y\n",
    "vision_msgs/msg/ObjectHypothesis": "string class_id\nfloat64 score\n",
    "vision_msgs/msg/ObjectHypothesisWithPose":
        "vision_msgs/ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose\n",
    "vision_msgs/msg/Detection2D": "std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\n"
                                   "vision_msgs/BoundingBox2D bbox\nstring id\n",
    "vision_msgs/msg/Detection2DArray": "std_msgs/Header header\nvision_msgs/Detection2D[] detections\n",
}
DECODE_ERRORS = (SerdeError, TypesysError, ValueError, IndexError, KeyError, AssertionError, struct.error, MemoryError)


@lru_cache(maxsize=2)
def typestore(ros1: bool = False) -> Typestore:
    """Definitions of every message this package reads or writes (vision_msgs added to those of ROS)."""
    store = get_typestore(Stores.ROS1_NOETIC if ros1 else Stores.ROS2_KILTED)
    if not ros1:
        for name, text in VISION_MSGS.items():
            store.register(get_types_from_msg(text, name))
    return store


@dataclass(frozen=True)
class Topic:
    """A topic of a bag; ``count`` is what the recorder or the salvage counted."""

    name: str
    msgtype: str
    count: int
    digest: str = ""
    definition: str = ""  # as recorded, ``.msg`` text; "" where the bag tells none
    qos: tuple[Any, ...] = ()


@dataclass(frozen=True)
class RawMessage:
    """One serialised message and when it was recorded."""

    topic: str
    msgtype: str
    bag_ns: int
    data: bytes


def recorded_hash(topic: Topic) -> str:
    """The type's hash as recorded (sqlite3) or of the recorded definition (mcap); "" where the bag tells neither."""
    if topic.digest or not topic.definition:
        return topic.digest
    try:
        recorded = get_typestore(Stores.EMPTY)
        recorded.register(get_types_from_msg(topic.definition, topic.msgtype))
        return recorded.hash_rihs01(topic.msgtype)
    except DECODE_ERRORS:
        return "unreadable definition"
