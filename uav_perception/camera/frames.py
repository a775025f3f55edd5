"""From pixels and a stamp to a Frame: numbering, intrinsics, undistortion, and what to say when sizes disagree."""

from __future__ import annotations

import time

from ..config import CameraConfig
from ..records import U8, CameraModel, Frame
from .intrinsics import Undistorter, load_camera_info


class WallClock:
    """Wall time that cannot jump: the monotonic clock plus an offset measured once."""

    def __init__(self) -> None:
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def now_ns(self) -> int:
        return time.monotonic_ns() + self._offset_ns

    def from_monotonic_ns(self, monotonic_ns: int) -> int:
        return monotonic_ns + self._offset_ns


class FrameMaker:
    """Makes the Frames of one source. ``note`` is "" or one line on what is wrong with the latest frame.

    A frame of another size than its intrinsics is handed on *without* intrinsics: boxes stay true, and the stages
    that need a calibrated camera say so instead of computing with the wrong one.
    """

    def __init__(self, config: CameraConfig) -> None:
        self._frame_id = config.frame_id
        self._undistort = config.undistort
        self._calibration = load_camera_info(config.calibration, config.frame_id) if config.calibration else None
        self._undistorter: tuple[CameraModel, Undistorter] | None = None
        self._seq = 0
        self._size: tuple[int, int] | None = None
        self.note = ""

    def frame(self, image: U8, stamp_ns: int, camera: CameraModel | None = None, frame_id: str = "") -> Frame:
        """The next Frame; the configured calibration file outranks ``camera``, the source's own intrinsics."""
        camera = self._calibration or camera
        height, width = image.shape[:2]
        self.note = ""
        if camera is not None and (camera.width_px, camera.height_px) != (width, height):
            self.note = (f"image of {width}x{height} px, intrinsics are for {camera.width_px}x{camera.height_px}: "
                         f"frames go on without intrinsics; give the calibration of this size")
            camera = None
        elif self._size not in (None, (width, height)):
            self.note = f"image size changed from {self._size[0]}x{self._size[1]} to {width}x{height} px"
        self._size = (width, height)
        if camera is not None and self._undistort and camera.distortion.any():
            if self._undistorter is None or self._undistorter[0] is not camera:
                self._undistorter = (camera, Undistorter(camera))
            image, camera = self._undistorter[1](image), self._undistorter[1].ideal
        frame = Frame(self._seq, stamp_ns, image, camera, frame_id or self._frame_id)
        self._seq += 1
        return frame
