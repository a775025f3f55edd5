"""ROS interfaces this package needs that exist as no wheel: field lists and the build that makes them importable."""

from __future__ import annotations

# The interface is the names and types; the RIHS01 hash of what is built proves that they equal upstream's.
DEFINITIONS: dict[str, dict[str, str]] = {
    "vision_msgs": {
        "Point2D": "float64 x\nfloat64 y\n",
        "Pose2D": "vision_msgs/Point2D position\nfloat64 theta\n",
        "BoundingBox2D": "vision_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y\n",
        "ObjectHypothesis": "string class_id\nfloat64 score\n",
        "ObjectHypothesisWithPose": "ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose\n",
        "Detection2D": "std_msgs/Header header\nObjectHypothesisWithPose[] results\nBoundingBox2D bbox\nstring id\n",
        "Detection2DArray": "std_msgs/Header header\nDetection2D[] detections\n",
    },
    "tf2_msgs": {"TFMessage": "geometry_msgs/TransformStamped[] transforms\n"},
}
