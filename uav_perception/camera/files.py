"""Image folders and video files as picture sources."""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from ..errors import SourceError
from ..records import U8, CameraModel
from .encodings import bgr_from_array, bgr_from_compressed
from .finite import Picture

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # what fails is said in our own one line

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm"}
SUBFOLDERS = ("img", "img1", "images", "image_2", "image_0", "rgb", "color", "data")


def image_files(folder: Path) -> list[Path]:
    """The pictures of a folder, or of its OTB/MOT/KITTI/TUM sub-folder, in the order of the numbers in their names.

    Raises:
        SourceError: no folder, or no pictures in it.
    """
    if not folder.is_dir():
        raise SourceError(f"image folder {folder}", "an existing folder", "check the path")
    for place in (folder, *(folder / name for name in SUBFOLDERS)):
        files = [p for p in place.iterdir() if p.suffix.lower() in SUFFIXES] if place.is_dir() else []
        files = [p for p in files if ".depth." not in p.name]  # RGB-D folders of the 7-Scenes kind
        if files:
            return sorted(files, key=lambda p: [int(t) if t.isdigit() else t for t in re.split(r"(\d+)", p.name)])
    raise SourceError(f"folder {folder} without pictures", f"{', '.join(sorted(SUFFIXES))} files in it or in "
                      f"{'/, '.join(SUBFOLDERS)}/", "check the path")


def image_stamps_ns(folder: Path, files: list[Path], fps: float) -> list[int]:
    """Stamps of a folder's pictures: KITTI ``times.txt``, TUM file names, MOT ``seqinfo.ini``, else ``fps``."""
    times = folder / "times.txt"
    if times.is_file():
        seconds = [line.split()[0] for line in times.read_text().splitlines() if line.strip()]
        if len(seconds) != len(files):
            raise SourceError(f"{times} with {len(seconds)} stamps", f"{len(files)}, one a picture", "correct the file")
        return [seconds_to_ns(s) for s in seconds]
    if all(re.fullmatch(r"\d{6,}\.\d+", p.stem) for p in files):
        return [seconds_to_ns(p.stem) for p in files]
    info = folder / "seqinfo.ini"
    if info.is_file():
        parser = configparser.ConfigParser()
        try:
            parser.read_string(info.read_text())
            fps = parser.getfloat("Sequence", "frameRate", fallback=fps)
        except (configparser.Error, ValueError) as e:
            raise SourceError(f"{info}: {str(e).splitlines()[0]}", "a MOTChallenge seqinfo.ini", "correct it") from e
    return [round(i * 1e9 / fps) for i in range(len(files))]


def seconds_to_ns(text: str) -> int:
    """Nanoseconds of a decimal number of seconds, exact where a float would round."""
    if re.fullmatch(r"\d+\.\d+", text):
        whole, part = text.split(".")
        return int(whole) * 10**9 + int(part[:9].ljust(9, "0"))
    try:
        return round(float(text) * 1e9)
    except ValueError as e:
        raise SourceError(f"stamp {text!r}", "seconds", "correct the list of stamps") from e


class FolderPictures:
    """An ordered folder of pictures."""

    def __init__(self, folder: Path, fps: float) -> None:
        self.files = image_files(folder)
        self.stamps_ns = image_stamps_ns(folder, self.files, fps)
        self.camera: CameraModel | None = None  # set by those who know it (an importer of a calibrated set)

    def pictures(self) -> Iterator[Picture]:
        for path, stamp_ns in zip(self.files, self.stamps_ns, strict=True):
            yield Picture(stamp_ns, lambda path=path: _read(path), self.camera)  # type: ignore[misc]

    def notes(self) -> str:
        return ""

    def close(self) -> None:
        pass


def _read(path: Path) -> U8:
    try:
        return bgr_from_compressed(path.read_bytes(), f"picture {path.name}")
    except OSError as e:
        raise SourceError(f"picture {path}: {e.strerror}", "a readable file", "check the folder") from e


class VideoPictures:
    """A video file, read by OpenCV's FFmpeg; presentation times are the stamps (``fps`` where there are none)."""

    def __init__(self, path: Path, fps: float) -> None:
        if not path.is_file():
            raise SourceError(f"video {path}", "an existing file", "check the path")
        self._path, self._fps = path, fps
        self._capture = self._open()
        self._note = ""
        ok, image = self._capture.read()
        if not ok or image is None:
            self._capture.release()
            raise SourceError(f"video {path} without a readable picture", "a video OpenCV's FFmpeg decodes",
                              "convert it, for example to H.264 in mp4")

    def _open(self) -> cv2.VideoCapture:
        log = getattr(cv2.utils, "logging", cv2)  # OpenCV 4.8 has the function at its top
        level = log.setLogLevel(0)  # silent: what is wrong is said below, in one line
        capture = cv2.VideoCapture(str(self._path), cv2.CAP_FFMPEG)
        log.setLogLevel(level)
        if not capture.isOpened():
            raise SourceError(f"video {self._path}", "a video OpenCV's FFmpeg opens",
                              "convert it, for example to H.264 in mp4")
        return capture

    def pictures(self) -> Iterator[Picture]:
        self._capture.release()
        self._capture = capture = self._open()
        nominal = capture.get(cv2.CAP_PROP_FPS)
        period_ns = round(1e9 / (nominal if np.isfinite(nominal) and 0.1 <= nominal <= 1000 else self._fps))
        announced, count, last_ns = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0, -1
        while capture.grab():
            stamp_ns = round(capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
            if stamp_ns <= last_ns:  # containers without presentation times
                stamp_ns = last_ns + period_ns
            last_ns, count = stamp_ns, count + 1
            yield Picture(stamp_ns, lambda: self._retrieve(capture))
        if count < announced - 1:  # containers announce one too many now and then
            self._note = f"{self._path.name} ended after {count} of {announced} frames: it is cut short or damaged"

    def _retrieve(self, capture: cv2.VideoCapture) -> U8:
        ok, image = capture.retrieve()
        if not ok or image is None:
            raise SourceError(f"frame of {self._path.name}", "a decodable frame", "check the file")
        return bgr_from_array(image)

    def notes(self) -> str:
        return self._note

    def close(self) -> None:
        self._capture.release()
