"""Depth, points and poses to messages and back. Quaternions are xyzw only here and beyond."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from numpy.typing import NDArray
from sensor_msgs.msg import Image, LaserScan, PointCloud2, PointField

from ..errors import RecordError
from ..records import U8, DepthMap, Obstacles, Pose, RelativeDepth, Scale
from .convert import header, image_message, packed, status_message, status_values, to_ns

# What a variance says where it is not known: so large that no filter weighs the value. (NaN would poison filters.)
UNKNOWN_VARIANCE = 1e6


def depth_message(depth: DepthMap | RelativeDepth) -> Image:
    """32FC1; NaN where nothing is known (REP 118)."""
    return image_message(np.where(depth.valid, depth.depth, np.float32(np.nan)), "32FC1", depth.stamp_ns,
                         depth.camera.frame_id)


def points_message(depth: DepthMap, image: U8 | None = None) -> PointCloud2:
    """Organised cloud (H, W) in the optical frame: x, y, z float32 metres (NaN where unknown), rgb when given."""
    h, w = depth.depth.shape
    scale_x, scale_y = w / depth.camera.width_px, h / depth.camera.height_px
    k = depth.camera.K
    z = np.where(depth.valid, depth.depth, np.float32(np.nan))
    x = (np.arange(w, dtype=np.float32) + 0.5) / scale_x - 0.5 - k[0, 2]
    y = (np.arange(h, dtype=np.float32) + 0.5) / scale_y - 0.5 - k[1, 2]
    cloud = np.zeros((h, w, 4), np.float32)
    cloud[..., 2] = z
    cloud[..., 1] = z * (y[:, None] / k[1, 1])
    cloud[..., 0] = (z * x[None] - k[0, 1] * cloud[..., 1]) / k[0, 0]
    fields = [PointField(name=n, offset=4 * i, datatype=PointField.FLOAT32, count=1)
              for i, n in enumerate(("x", "y", "z"))]
    if image is not None:
        colours = cv2.resize(image, (w, h), interpolation=cv2.INTER_AREA)
        cloud.view(np.uint8).reshape(h, w, 16)[..., 12:15] = colours
        fields.append(PointField(name="rgb", offset=12, datatype=PointField.FLOAT32, count=1))
    message = PointCloud2(header=header(depth.stamp_ns, depth.camera.frame_id), height=h, width=w, fields=fields,
                          point_step=16, row_step=16 * w, is_dense=False)
    message.data = packed(cloud)
    return message


def odometry_message(pose: Pose) -> Any:
    """nav_msgs/Odometry. The position's variance is UNKNOWN_VARIANCE without a metric scale; the twist's always."""
    from nav_msgs.msg import Odometry

    message = Odometry(header=header(pose.stamp_ns, pose.parent), child_frame_id=pose.child)
    p, q = message.pose.pose.position, message.pose.pose.orientation
    p.x, p.y, p.z = map(float, pose.position_m)
    q.w, q.x, q.y, q.z = map(float, pose.quaternion_wxyz)
    covariance = np.eye(6) * UNKNOWN_VARIANCE if pose.covariance is None else pose.covariance.copy()
    if pose.scale is not Scale.METRIC:
        covariance[:3], covariance[:, :3] = 0.0, 0.0
        covariance[:3, :3] = np.eye(3) * UNKNOWN_VARIANCE
    message.pose.covariance = covariance.ravel()
    message.twist.covariance = (np.eye(6) * UNKNOWN_VARIANCE).ravel()
    return message


def odometry_status_message(pose: Pose) -> DiagnosticStatus:
    """What Odometry has no field for: whether the metres are metres, and how often the origin was moved."""
    metric = pose.scale is Scale.METRIC
    return status_message("odometry", 0 if metric else 1, "metric" if metric else "no metric scale", {
        "stamp_ns": pose.stamp_ns, "scale": pose.scale.value, "reset_counter": pose.reset_counter,
        "has_covariance": pose.covariance is not None})


def pose_from_messages(message: Any, status: DiagnosticStatus) -> Pose:
    """The Pose that was published as `odometry` and `odometry/status` of one stamp."""
    values = status_values(status)
    p, q = message.pose.pose.position, message.pose.pose.orientation
    covariance = np.asarray(message.pose.covariance).reshape(6, 6) if values["has_covariance"] else None
    return Pose(to_ns(message.header.stamp), message.header.frame_id, message.child_frame_id, np.array([p.x, p.y, p.z]),
                np.array([q.w, q.x, q.y, q.z]), covariance, int(values["reset_counter"]), Scale(values["scale"]))


def transform_message(pose: Pose) -> Any:
    """tf2_msgs/TFMessage with parent -> child at the image's stamp."""
    from geometry_msgs.msg import TransformStamped
    from tf2_msgs.msg import TFMessage

    transform = TransformStamped(header=header(pose.stamp_ns, pose.parent), child_frame_id=pose.child)
    t, q = transform.transform.translation, transform.transform.rotation
    t.x, t.y, t.z = map(float, pose.position_m)
    q.w, q.x, q.y, q.z = map(float, pose.quaternion_wxyz)
    return TFMessage(transforms=[transform])


def obstacles_message(obstacles: Obstacles, frame_id: str) -> LaserScan:
    """A LaserScan counter-clockwise from straight behind; NaN = not looked at, infinite = free (REP 117)."""
    n = len(obstacles.distance_m)
    step = 2 * math.pi / n
    scan = LaserScan(header=header(obstacles.stamp_ns, frame_id), angle_min=-math.pi, angle_max=math.pi - step,
                     angle_increment=step, range_min=obstacles.min_m, range_max=obstacles.max_m)
    scan.ranges = obstacles.distance_m[_turned(n)].tolist()
    return scan


def obstacles_from_message(message: LaserScan) -> Obstacles:
    """The Obstacles that were published; RecordError for a scan that is not of the whole turn from behind."""
    n = len(message.ranges)
    if n == 0 or n % 2 or not np.allclose([message.angle_min, message.angle_increment], [-math.pi, 2 * math.pi / n],
                                          atol=1e-4):
        raise RecordError(f"scan of {n} ranges from {message.angle_min:.4g} rad", "a whole turn from straight behind",
                          "check who publishes obstacles")
    return Obstacles(to_ns(message.header.stamp), np.asarray(message.ranges, np.float32)[_turned(n)], message.range_min,
                     message.range_max)


def _turned(n: int) -> NDArray[np.int64]:
    """Clockwise from ahead <-> counter-clockwise from behind; its own inverse."""
    return (n // 2 - np.arange(n)) % n
