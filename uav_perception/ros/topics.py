"""Every topic of the graph: relative name, type and quality of service. See docs/interfaces.md."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy


def _qos(reliable: bool, depth: int = 1) -> QoSProfile:
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=depth, durability=DurabilityPolicy.VOLATILE,
                      reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT)


SENSOR = _qos(reliable=False)  # the newest frame wins: a late one is worth nothing
RESULT = _qos(reliable=True)
COMMAND = _qos(reliable=True, depth=10)  # every command counts
SHARED = _qos(reliable=True, depth=100)  # /tf and /diagnostics as everybody else offers them


@dataclass(frozen=True)
class Topic:
    """``name`` is relative (a namespace moves it) unless it starts with a slash."""

    name: str
    type: str  # package/Name
    qos: QoSProfile

    def message(self) -> Any:
        """The message class (imported here: a node loads only the types it uses)."""
        package, name = self.type.split("/")
        return getattr(importlib.import_module(f"{package}.msg"), name)


IMAGE = Topic("image", "sensor_msgs/Image", SENSOR)
IMAGE_JPEG = Topic("image/compressed", "sensor_msgs/CompressedImage", SENSOR)
CAMERA_INFO = Topic("camera_info", "sensor_msgs/CameraInfo", SENSOR)
DETECTIONS = Topic("detections", "vision_msgs/Detection2DArray", RESULT)
TRACKS = Topic("tracks", "vision_msgs/Detection2DArray", RESULT)
TARGET = Topic("target", "vision_msgs/Detection2D", RESULT)
TARGET_STATUS = Topic("target/status", "diagnostic_msgs/DiagnosticStatus", RESULT)
TARGET_SELECT = Topic("target/select", "vision_msgs/BoundingBox2D", COMMAND)  # a std_srvs/SetBool service too
HEIGHT_AGL = Topic("height_agl", "sensor_msgs/Range", SENSOR)
DEPTH = Topic("depth", "sensor_msgs/Image", SENSOR)
DEPTH_RELATIVE = Topic("depth/relative", "sensor_msgs/Image", SENSOR)
POINTS = Topic("points", "sensor_msgs/PointCloud2", SENSOR)
ODOMETRY = Topic("odometry", "nav_msgs/Odometry", RESULT)
ODOMETRY_STATUS = Topic("odometry/status", "diagnostic_msgs/DiagnosticStatus", RESULT)
TF = Topic("/tf", "tf2_msgs/TFMessage", SHARED)
OBSTACLES = Topic("obstacles", "sensor_msgs/LaserScan", RESULT)
MOTION_MASK = Topic("motion_mask", "sensor_msgs/Image", SENSOR)
FLOW = Topic("flow", "sensor_msgs/Image", SENSOR)
OVERLAY = Topic("overlay/compressed", "sensor_msgs/CompressedImage", SENSOR)
DIAGNOSTICS = Topic("/diagnostics", "diagnostic_msgs/DiagnosticArray", SHARED)

ALL: tuple[Topic, ...] = (IMAGE, IMAGE_JPEG, CAMERA_INFO, DETECTIONS, TRACKS, TARGET, TARGET_STATUS, TARGET_SELECT,
                          HEIGHT_AGL, DEPTH, DEPTH_RELATIVE, POINTS, ODOMETRY, ODOMETRY_STATUS, TF, OBSTACLES,
                          MOTION_MASK, FLOW, OVERLAY, DIAGNOSTICS)
