"""ROS interfaces this package needs that exist as no wheel: field lists and the build that makes them importable."""

from __future__ import annotations

from ...camera.bag_types import VISION_MSGS

# The interface is the names and types; the RIHS01 hash of what is built proves that they equal upstream's.
DEFINITIONS: dict[str, dict[str, str]] = {
    "vision_msgs": {name.rsplit("/", 1)[-1]: fields for name, fields in VISION_MSGS.items()},
    "tf2_msgs": {"TFMessage": "geometry_msgs/TransformStamped[] transforms\n"},
}
