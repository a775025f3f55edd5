"""Folders, videos and live streams behind the one protocol: order, stamps, pacing, and what bad input does."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from uav_perception.camera import CameraSource
from uav_perception.camera.device import csi_pipeline
from uav_perception.camera.files import seconds_to_ns
from uav_perception.camera.sources import open_camera
from uav_perception.config import CameraConfig
from uav_perception.errors import SourceError, UavPerceptionError
from uav_perception.records import Frame


def picture(i: int, width: int = 64, height: int = 48) -> np.ndarray:
    image = np.full((height, width, 3), 40, np.uint8)
    image[:, : 2 + 2 * i] = (10, 200, 90)
    return image


def folder_of(path: Path, n: int, suffix: str = ".png", name: str = "{:d}") -> Path:
    path.mkdir(parents=True)
    for i in range(n):
        cv2.imwrite(str(path / (name.format(i + 1) + suffix)), picture(i))
    return path


def read_all(config: CameraConfig) -> tuple[list[Frame], CameraSource]:
    camera = open_camera(config)
    frames = []
    while not camera.ended:
        frame = camera.read(1.0)
        if frame is not None:
            frames.append(frame)
    camera.close()
    return frames, camera


def test_folder_is_read_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "seq" / "img", 12)
    frames, camera = read_all(CameraConfig(source=str(folder.parent), realtime=False, fps=10.0))
    assert isinstance(camera, CameraSource) and camera.read(0.0) is None and camera.ended
    assert [f.seq for f in frames] == list(range(12))
    assert [f.stamp_ns for f in frames] == [i * 100_000_000 for i in range(12)]
    assert all(np.array_equal(f.image, picture(i)) for i, f in enumerate(frames))


def test_stamps_from_the_layouts_of_public_sets(tmp_path: Path) -> None:
    kitti = folder_of(tmp_path / "kitti" / "image_0", 3)
    (kitti.parent / "times.txt").write_text("0.0\n1.037875e-01\n2.0e-01\n")
    assert [f.stamp_ns for f in read_all(CameraConfig(source=str(kitti.parent), realtime=False))[0]] == [
        0, 103_787_500, 200_000_000]
    tum = tmp_path / "tum" / "rgb"
    tum.mkdir(parents=True)
    for name in ("1305031102.175304", "1305031102.211214"):
        cv2.imwrite(str(tum / f"{name}.png"), picture(0))
    assert [f.stamp_ns for f in read_all(CameraConfig(source=str(tum.parent), realtime=False))[0]] == [
        1305031102175304000, 1305031102211214000]
    mot = folder_of(tmp_path / "mot" / "img1", 2)
    (mot.parent / "seqinfo.ini").write_text("[Sequence]\nname=x\nframeRate=25\n")
    assert read_all(CameraConfig(source=str(mot.parent), realtime=False))[0][1].stamp_ns == 40_000_000
    (kitti.parent / "times.txt").write_text("0.0\n")
    with pytest.raises(SourceError, match="1 stamps; expected 3"):
        open_camera(CameraConfig(source=str(kitti.parent)))


def test_seconds_keep_their_nanoseconds() -> None:
    assert seconds_to_ns("1700000000.123456789") == 1700000000123456789
    assert seconds_to_ns("1e-3") == 1_000_000
    with pytest.raises(SourceError, match="seconds"):
        seconds_to_ns("soon")


def test_real_time_is_paced_and_stamped_now(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "img", 6)
    camera = open_camera(CameraConfig(source=str(folder), fps=20.0))
    before = time.time_ns()
    assert camera.read(1.0) is not None
    assert camera.read(0.001) is None and not camera.ended  # the next one is due 50 ms later
    frames = []
    while not camera.ended:
        frame = camera.read(0.2)
        if frame is not None:
            assert time.time_ns() >= frame.stamp_ns - 2_000_000  # never before its time
            frames.append(frame)
    assert all((b.stamp_ns - a.stamp_ns) % 50_000_000 == 0 < b.stamp_ns - a.stamp_ns for a, b in pairwise(frames))
    assert before <= frames[0].stamp_ns and len(frames) + getattr(camera, "skipped") == 5  # noqa: B009


def test_loop_goes_on_with_later_stamps(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "img", 3)
    camera = open_camera(CameraConfig(source=str(folder), fps=10.0, realtime=False, loop=True))
    frames = [camera.read(1.0) for _ in range(8)]
    camera.close()
    assert [f.stamp_ns // 100_000_000 for f in frames if f] == list(range(8))
    assert frames[3] is not None and np.array_equal(frames[3].image, picture(0))


def test_pictures_of_all_kinds_become_bgr(tmp_path: Path) -> None:
    folder = tmp_path / "img"
    folder.mkdir()
    bgr = picture(5)
    gray16 = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY).astype(np.uint16) * 16
    for name, image in {"1.png": bgr[:, :, 0], "2.png": gray16, "3.webp": bgr, "4.jpg": bgr, "5.tif": bgr,
                        "6.png": np.dstack([bgr, np.full(bgr.shape[:2], 7, np.uint8)])}.items():
        cv2.imwrite(str(folder / name), image)
    frames, camera = read_all(CameraConfig(source=str(folder), realtime=False))
    assert len(frames) == 6 and all(f.image.shape == (48, 64, 3) for f in frames) and camera.status == "ended"
    assert np.array_equal(frames[5].image, bgr)


def test_broken_picture_is_left_out_and_said(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "img", 4)
    (folder / "2.png").write_bytes(b"not a picture")
    frames, camera = read_all(CameraConfig(source=str(folder), realtime=False))
    assert len(frames) == 3 and "1 unreadable frames left out" in camera.status and "2.png" in camera.status


def test_another_size_mid_stream_goes_on_without_intrinsics(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "img", 4)
    cv2.imwrite(str(folder / "3.png"), picture(2, 32, 24))
    calibration = tmp_path / "camera.yaml"
    calibration.write_text(CALIBRATION)
    camera = open_camera(CameraConfig(source=str(folder), realtime=False, calibration=str(calibration)))
    frames = [camera.read(1.0) for _ in range(2)]
    assert camera.status == "ok"
    small = camera.read(1.0)
    assert small is not None and small.camera is None and "image of 32x24 px, intrinsics are for 64x48" in camera.status
    frames.append(camera.read(1.0))
    assert all(f is not None and f.camera is not None for f in frames)
    camera.close()


def make_video(path: Path, n: int = 20, fps: float = 25.0) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, (64, 48))
    for i in range(n):
        writer.write(picture(i))
    writer.release()
    return path


def test_video_has_presentation_times(tmp_path: Path) -> None:
    frames, camera = read_all(CameraConfig(source=str(make_video(tmp_path / "v.mp4")), realtime=False))
    assert len(frames) == 20 and camera.status == "ended"
    assert [round(f.stamp_ns / 1e6) for f in frames] == [40 * i for i in range(20)]
    assert np.abs(frames[9].image.astype(int) - picture(9)).mean() < 12


def test_slow_reader_of_a_video_skips_and_stays_in_time(tmp_path: Path) -> None:
    camera = open_camera(CameraConfig(source=str(make_video(tmp_path / "v.mp4", 20, 50.0))))
    stamps = []
    while not camera.ended:
        frame = camera.read(0.5)
        if frame is not None:
            stamps.append(frame.stamp_ns)
            time.sleep(0.06)  # three frames long
    assert len(stamps) < 16 and "skipped" in camera.status
    assert len(stamps) + getattr(camera, "skipped") == 20  # noqa: B009


@pytest.mark.parametrize("source", ["no/such/path", "empty", "text.mp4", "one.png", "v4l2:/dev/video77", "csi:0",
                                    "csi:x", "rtsp://127.0.0.1:9/none", "bag:nothing.mcap", "cut.mp4"])
def test_unusable_sources_say_so_in_one_line(tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("text.mp4").write_text("no video")
    cv2.imwrite("one.png", picture(0))
    Path("cut.mp4").write_bytes(make_video(tmp_path / "whole.mp4").read_bytes()[:700])
    with pytest.raises(UavPerceptionError) as said:
        open_camera(CameraConfig(source=source))
    assert said.value.exit_code == 2 and "\n" not in str(said.value) and "expected" in str(said.value)


def test_csi_pipeline_asks_for_what_is_configured() -> None:
    text = csi_pipeline("1", CameraConfig(width_px=1920, height_px=1080, fps=60.0))
    assert "sensor-id=1" in text and "width=1920,height=1080,framerate=60/1" in text
    assert "appsink drop=true max-buffers=1" in text


CALIBRATION = """
image_width: 64
image_height: 48
camera_name: test
camera_matrix: {rows: 3, cols: 3, data: [60.0, 0, 31.5, 0, 60.0, 23.5, 0, 0, 1]}
distortion_model: plumb_bob
distortion_coefficients: {rows: 1, cols: 5, data: [-0.3, 0.1, 0.001, -0.002, 0]}
"""


@pytest.mark.parametrize(("old", "new", "said"), [
    ("60.0, 0, 31.5", ".nan, 0, 31.5", "NaN"), ("60.0, 0, 31.5", "-60.0, 0, 31.5", "focal"),
    ("image_width: 64", "image_width: 0", "image size"), ("plumb_bob", "wobbly", "wobbly"),
    ("cols: 5, data: [-0.3, 0.1, 0.001, -0.002, 0]", "cols: 3, data: [1, 2, 3]", "3 plumb_bob"),
    ("camera_matrix", "matrix", "camera_matrix"), ("image_width: 64", "image_width: [", "camera_info_manager"),
    ("60.0, 0, 31.5", "x, 0, 31.5", "no numbers")])
def test_wrong_calibration_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    folder = folder_of(tmp_path / "img", 2)
    (tmp_path / "c.yaml").write_text(CALIBRATION.replace(old, new))
    with pytest.raises(SourceError, match=said):
        open_camera(CameraConfig(source=str(folder), calibration=str(tmp_path / "c.yaml")))


def test_undistortion_keeps_k_and_straightens(tmp_path: Path) -> None:
    """A point of a distorted picture lands where the ideal pinhole with the same K sees it."""
    k = np.array([[60.0, 0, 31.5], [0, 60.0, 23.5], [0, 0, 1]])
    ideal = np.array([60.0, 4.0])
    ray = np.linalg.inv(k) @ [*ideal, 1.0]
    distortion = np.array([-0.3, 0.1, 0.001, -0.002, 0])
    seen = cv2.projectPoints(ray.reshape(1, 1, 3), np.zeros(3), np.zeros(3), k, distortion)[0]
    image = np.zeros((48, 64, 3), np.uint8)
    cv2.circle(image, tuple(int(v) for v in np.rint(seen.ravel())), 1, (255, 255, 255), -1)
    (tmp_path / "img").mkdir()
    cv2.imwrite(str(tmp_path / "img" / "1.png"), image)
    (tmp_path / "c.yaml").write_text(CALIBRATION)
    frames, _ = read_all(CameraConfig(source=str(tmp_path / "img"), realtime=False, undistort=True,
                                      calibration=str(tmp_path / "c.yaml")))
    camera = frames[0].camera
    assert camera is not None and np.array_equal(camera.K, k) and not camera.distortion.any()
    y, x = np.nonzero(frames[0].image[:, :, 0] > 100)
    assert np.hypot(x.mean() - ideal[0], y.mean() - ideal[1]) < 1.0
    assert np.hypot(*(seen.ravel() - ideal)) > 1.5


class _Mjpeg(BaseHTTPRequestHandler):
    """A network camera: an endless multipart stream of JPEG at about 50 Hz."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        i = 0
        try:
            while not self.server.stop:  # type: ignore[attr-defined]
                jpeg = cv2.imencode(".jpg", picture(i % 20))[1].tobytes()
                self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg))
                self.wfile.write(jpeg + b"\r\n")
                i += 1
                time.sleep(0.02)
        except OSError:
            pass

    def log_message(self, *_: object) -> None:
        pass


def serve(port: int = 0) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(("127.0.0.1", port), _Mjpeg)
    server.daemon_threads = True
    server.stop = False  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def test_live_stream_vanishes_and_comes_back() -> None:
    server = serve()
    port = server.server_address[1]
    camera = open_camera(CameraConfig(source=f"http://127.0.0.1:{port}/s.mjpg", reconnect_max_s=0.3))
    try:
        first = camera.read(5.0)
        assert first is not None and abs(time.time_ns() - first.stamp_ns) < 1_000_000_000 and camera.status == "ok"
        time.sleep(0.3)
        newest = camera.read(1.0)  # the newest, not the next
        assert newest is not None and getattr(camera, "overwritten") > 0  # noqa: B009 - not of the protocol
        server.stop = True  # type: ignore[attr-defined]
        server.shutdown()
        server.server_close()
        deadline = time.monotonic() + 10
        while "vanished" not in camera.status and time.monotonic() < deadline:
            camera.read(0.1)
        assert "vanished" in camera.status and not camera.ended
        server = serve(port)
        back_ns, again = time.time_ns(), None
        while (again is None or again.stamp_ns < back_ns) and time.monotonic() < deadline + 20:
            again = camera.read(0.5)
        assert again is not None and again.stamp_ns > back_ns and camera.status == "ok"
    finally:
        camera.close()
        server.stop = True  # type: ignore[attr-defined]
        server.shutdown()
        server.server_close()
    assert camera.ended and camera.read(0.0) is None
