"""Live devices through OpenCV: V4L2, GStreamer (CSI cameras), RTSP and MJPEG over HTTP; newest frame wins."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import cv2

from ..config import CameraConfig
from ..errors import SourceError
from ..records import U8, Frame
from .encodings import bgr_from_array
from .frames import FrameMaker, WallClock

_FIRST_RETRY_S = 0.1
_STALE_NS = 2_000_000_000  # a driver stamp further away than this is of another clock


class DeviceCamera:
    """A CameraSource over ``cv2.VideoCapture``, read on a thread of its own so that ``read`` never blocks on a driver.

    ``opener`` opens the device; it is called again with growing waits (0.1 s doubling to ``reconnect_max_s``) when the
    device vanishes. Stamps are capture times: the V4L2 driver's monotonic stamp where it gives one, else the moment the
    frame arrived, both mapped to wall time by an offset measured once.
    """

    def __init__(self, name: str, opener: Callable[[], cv2.VideoCapture], config: CameraConfig,
                 driver_stamps: bool = False) -> None:
        self._name, self._opener, self._config, self._driver_stamps = name, opener, config, driver_stamps
        self._maker = FrameMaker(config)
        self._clock = WallClock()
        self._ready = threading.Condition()
        self._newest: tuple[U8, int] | None = None
        self._problem = ""
        self._stop = threading.Event()
        self._capture = opener()
        if not self._capture.isOpened():
            raise SourceError(f"camera {name} that does not open", "a connected device nobody else uses",
                              "run `uav-perception doctor` to see what this machine has")
        self.ended = False
        self.overwritten = 0  # frames nobody fetched in time
        self.reconnects = 0
        self._thread = threading.Thread(target=self._grab, name=f"camera {name}", daemon=True)
        self._thread.start()

    @property
    def status(self) -> str:
        return "; ".join(p for p in (self._problem, self._maker.note) if p) or "ok"

    def read(self, timeout_s: float) -> Frame | None:
        with self._ready:
            if not self._ready.wait_for(lambda: self._newest is not None or self.ended, timeout_s):
                return None
            newest, self._newest = self._newest, None
        return None if newest is None or self.ended else self._maker.frame(*newest)

    def close(self) -> None:
        self._stop.set()
        with self._ready:
            self.ended = True
            self._ready.notify_all()
        self._thread.join(timeout=2.0)  # a driver may hang in read: the thread is a daemon

    def _grab(self) -> None:
        wait_s = _FIRST_RETRY_S
        while not self._stop.is_set():
            ok, image = self._capture.read()
            if ok and image is not None:
                stamp_ns, wait_s, self._problem = self._stamp_ns(), _FIRST_RETRY_S, ""
                with self._ready:
                    self.overwritten += self._newest is not None
                    self._newest = (bgr_from_array(image), stamp_ns)
                    self._ready.notify_all()
                continue
            self._capture.release()
            self._problem = f"camera {self._name} vanished; trying again every {wait_s:.1f} s"
            if self._stop.wait(wait_s):
                break
            wait_s = min(2 * wait_s, self._config.reconnect_max_s)
            self._capture = self._opener()
            self.reconnects += self._capture.isOpened()
        self._capture.release()

    def _stamp_ns(self) -> int:
        now_ns = time.monotonic_ns()
        if self._driver_stamps:
            driver_ns = round(self._capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
            if 0 <= now_ns - driver_ns < _STALE_NS:
                now_ns = driver_ns
        return self._clock.from_monotonic_ns(now_ns)


def open_v4l2(device: str, config: CameraConfig) -> DeviceCamera:
    """``/dev/videoN``; asks for MJPEG above VGA, which USB cameras need for 30 Hz."""
    if not Path(device).exists():
        raise SourceError(f"camera device {device}", "an existing /dev/videoN",
                          "connect the camera; `uav-perception doctor` lists what is there")
    if not os.access(device, os.R_OK | os.W_OK):
        raise SourceError(f"camera device {device} without read and write permission", "membership of group video",
                          "sudo usermod -aG video $USER, then log in again")

    def opener() -> cv2.VideoCapture:
        capture = cv2.VideoCapture(device, cv2.CAP_V4L2)
        if config.width_px > 640:
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
        for prop, value in ((cv2.CAP_PROP_FRAME_WIDTH, config.width_px), (cv2.CAP_PROP_FRAME_HEIGHT, config.height_px),
                            (cv2.CAP_PROP_FPS, config.fps), (cv2.CAP_PROP_BUFFERSIZE, 1)):
            if value:
                capture.set(prop, value)
        return capture

    return DeviceCamera(device, opener, config, driver_stamps=True)


def csi_pipeline(sensor_id: str, config: CameraConfig) -> str:
    """GStreamer pipeline of a Jetson CSI camera; the appsink keeps only the newest frame."""
    if not sensor_id.isdigit():
        raise SourceError(f"CSI sensor {sensor_id!r}", "a number as in csi:0", "correct the source")
    width, height, fps = config.width_px or 1280, config.height_px or 720, round(config.fps)
    return (f"nvarguscamerasrc sensor-id={sensor_id} ! "
            f"video/x-raw(memory:NVMM),width={width},height={height},framerate={fps}/1,format=NV12 ! "
            f"nvvidconv ! video/x-raw,format=BGRx ! videoconvert ! video/x-raw,format=BGR ! "
            f"appsink drop=true max-buffers=1 sync=false")


def open_gstreamer(pipeline: str, config: CameraConfig) -> DeviceCamera:
    """Any GStreamer pipeline that ends in an appsink of BGR."""
    if not has_gstreamer():
        raise SourceError(f"GStreamer pipeline {pipeline.split(' ')[0]!r} with an OpenCV built without GStreamer",
                          "OpenCV with GStreamer (a Jetson's own; the PyPI wheels have none)",
                          "use the system's python3-opencv, or v4l2:/dev/videoN")
    return DeviceCamera(pipeline.split(" ")[0], lambda: cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER), config)


def has_gstreamer() -> bool:
    """Whether this OpenCV can run GStreamer pipelines."""
    return bool(cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER))


def open_stream(url: str, config: CameraConfig) -> DeviceCamera:
    """RTSP, or MJPEG over HTTP, through OpenCV's FFmpeg; a stall of 5 s counts as vanished."""
    def opener() -> cv2.VideoCapture:
        return cv2.VideoCapture(url, cv2.CAP_FFMPEG, [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 5000,
                                                      cv2.CAP_PROP_READ_TIMEOUT_MSEC, 5000])

    return DeviceCamera(url, opener, config)
