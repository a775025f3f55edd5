"""The perception process: camera, detector, tracker, depth_pose and overlay in one, frames handed over by reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import cv2

from ..engine.onnxruntime import default_threads
from .bus import Bus
from .camera import CameraNode
from .depth_pose import DepthPoseNode
from .detector import DetectorNode
from .main import run
from .node import StageNode
from .overlay import OverlayNode
from .tracker import TrackerNode


def make_nodes() -> Sequence[StageNode]:
    """From the source to the last consumer; activated in the opposite order."""
    cv2.setNumThreads(default_threads())  # every stage would take all cores: the slowest frames become slower still
    bus = Bus()
    return [cls(bus) for cls in (CameraNode, DetectorNode, TrackerNode, DepthPoseNode, OverlayNode)]


def main() -> NoReturn:
    """The process."""
    run(make_nodes)


if __name__ == "__main__":
    main()
