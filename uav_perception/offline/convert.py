"""Folders of public sets to bags with truth, so that everything that reads bags reads them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..camera.encodings import bgr_from_compressed
from ..camera.files import FolderPictures
from ..camera.intrinsics import load_camera_info
from ..errors import SourceError
from ..records import CameraModel
from . import messages as msg
from .bags import BagWriter
from .importers import FolderTruth, open_folder

_AS_IT_IS = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png"}  # what every reader of CompressedImage knows


@dataclass(frozen=True)
class ConvertOptions:
    """How a folder becomes a bag. ``jpeg_quality`` is for pictures that are neither JPEG nor PNG already."""

    storage: str = "mcap"
    compression: str = ""
    humble: bool = False
    layout: str = ""
    truth_file: Path | None = None
    calibration: str = ""
    fps: float = 30.0
    jpeg_quality: int = 95
    resize: tuple[int, int] | None = None


def convert(folder: Path, out: Path, options: ConvertOptions,
            progress: Callable[[int, int], None] = lambda done, total: None) -> dict[str, Any]:
    """Write one folder as a bag; returns what is in it.

    Raises:
        SourceError, InputError: no pictures, or truth that is not of its layout.
        BagError: something exists at ``out``.
    """
    pictures, truth = open_folder(folder, options.fps, options.truth_file, options.layout)
    if options.calibration:
        pictures.camera = load_camera_info(options.calibration)
    counts = {"images": 0, "boxes": 0, "depth": 0, "unreadable": 0}
    poses = truth.poses() if truth else None
    with BagWriter(out, options.storage, options.compression, 8 if options.humble else 9) as bag:
        for i, (path, stamp_ns) in enumerate(zip(pictures.files, pictures.stamps_ns, strict=True)):
            stamp_ns += 1  # a header stamp of 0 means "not set" to every reader
            try:
                scale, size = _write_picture(bag, path, stamp_ns, options)
            except SourceError:
                counts["unreadable"] += 1
                continue
            counts["images"] += 1
            camera = _scaled(pictures, scale, size)
            if camera is not None:
                bag.write("camera_info", msg.camera_info(camera, stamp_ns), stamp_ns)
            if truth is not None:
                _write_truth(bag, truth, pictures.stamps_ns[i], stamp_ns, scale, counts)
            progress(i + 1, len(pictures.files))
        if poses is not None:
            for i, stamp in enumerate(poses.stamps_ns.tolist()):
                pose = msg.pose_stamped(poses.position_m[i], poses.quaternion_wxyz[i], stamp + 1)
                bag.write("truth/pose", pose, stamp + 1)
    return {"bag": str(out), "layout": truth.layout if truth else "none", **counts,
            "poses": 0 if poses is None else len(poses.stamps_ns)}


def _write_picture(bag: BagWriter, path: Path, stamp_ns: int, options: ConvertOptions) -> tuple[tuple[float, float],
                                                                                                tuple[int, int]]:
    """Write one picture; returns the scale applied to it (x, y) and its size now."""
    data = path.read_bytes()
    image = bgr_from_compressed(data, f"picture {path.name}")
    height, width = image.shape[:2]
    kind = _AS_IT_IS.get(path.suffix.lower())
    size = options.resize or (width, height)
    if size != (width, height):
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        kind = None
    if kind is None:
        data, kind = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, options.jpeg_quality])[1].tobytes(), "jpeg"
    bag.write("image/compressed", msg.compressed_image(data, kind, stamp_ns, "camera_optical"), stamp_ns)
    return (size[0] / width, size[1] / height), size


def _scaled(pictures: FolderPictures, scale: tuple[float, float], size: tuple[int, int]) -> CameraModel | None:
    camera = pictures.camera
    if camera is None or scale == (1.0, 1.0):
        return camera
    k = np.diag([*scale, 1.0]) @ camera.K
    k[0, 2] += 0.5 * scale[0] - 0.5  # integer coordinates are pixel centres: the corner is at -0.5
    k[1, 2] += 0.5 * scale[1] - 0.5
    return CameraModel(k, camera.distortion, *size, camera.frame_id, camera.distortion_model)


def _write_truth(bag: BagWriter, truth: FolderTruth, stamp_then: int, stamp_ns: int, scale: tuple[float, float],
                 counts: dict[str, int]) -> None:
    boxes, depth = truth.boxes(stamp_then), truth.depth(stamp_then)
    if boxes is not None:
        corners = boxes.xyxy_px * [*scale, *scale]
        bag.write("truth/boxes", msg.boxes(corners, boxes.ids, boxes.names, boxes.visibility, stamp_ns,
                                           "camera_optical"), stamp_ns)
        counts["boxes"] += len(boxes.ids)
    if depth is not None:
        message = msg.depth_image(*depth, stamp_ns, "camera_optical")
        bag.write("truth/depth/compressedDepth", message, stamp_ns)
        counts["depth"] += 1
