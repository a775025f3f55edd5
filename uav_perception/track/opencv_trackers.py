"""OpenCV's KCF and CSRT behind the target protocol: peers for comparison, and fall-backs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike

from ..errors import ModelError
from ..records import Detections, Frame, Track, TrackState
from .camera_motion import CameraStep
from .target import TargetTrack, WithoutSearch, checked_start_box

FACTORIES = {"kcf": "TrackerKCF_create", "csrt": "TrackerCSRT_create"}


class OpenCvTracker(WithoutSearch):
    """``name`` is a key of FACTORIES. A failed update is LOST at the last box, with score 0."""

    def __init__(self, name: str) -> None:
        factory = getattr(cv2, FACTORIES[name], None)
        if factory is None:
            raise ModelError(f"tracker {name!r} with OpenCV {cv2.__version__}", "an OpenCV with contrib modules",
                             "install opencv-contrib-python-headless")
        self._factory = factory
        self._tracker: Any = None
        self._out = TargetTrack()

    def start(self, frame: Frame, box_xyxy_px: ArrayLike, track_id: int = 0, class_id: int = -1) -> Track:
        x1, y1, x2, y2 = checked_start_box(box_xyxy_px, frame)
        self._tracker = self._factory()
        self._size = frame.image.shape
        self._tracker.init(frame.image, tuple(round(v) for v in (x1, y1, x2 - x1, y2 - y1)))
        return self._out.start(frame, np.array([x1, y1, x2, y2]), track_id, class_id)

    def update(self, frame: Frame, detections: Detections | None = None, others_xyxy_px: ArrayLike | None = None,
               newcomers: Sequence[Track] = (), camera: CameraStep | None = None) -> Track:
        if self._out.doubted or not self._out.accepts(frame) or frame.image.shape != self._size:
            return self._out.without_evidence(frame, TrackState.LOST)
        found, box = self._tracker.update(frame.image)
        if not found:
            return self._out.without_evidence(frame, TrackState.LOST)
        x, y, w, h = box
        return self._out.seen(frame, np.array([x, y, x + w, y + h], dtype=np.float64), 1.0)
