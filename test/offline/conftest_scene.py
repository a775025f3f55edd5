"""A small rendered recording with exact truth: textured ground that slides, two squares that move over it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from uav_perception.offline import messages as msg
from uav_perception.offline.bags import BagWriter
from uav_perception.records import CameraModel

WIDTH, HEIGHT, START_NS, PERIOD_NS = 160, 120, 1_700_000_000_000_000_000, 33_333_333
CAMERA = CameraModel(np.array([[150.0, 0, 80], [0, 150.0, 60], [0, 0, 1]]), np.zeros(5), WIDTH, HEIGHT)


def ground() -> np.ndarray:
    rng = np.random.default_rng(3)
    coarse = rng.integers(40, 200, (40, 60, 3), dtype=np.uint8)
    return cv2.GaussianBlur(cv2.resize(coarse, (480, 320), interpolation=cv2.INTER_NEAREST), (5, 5), 0)


GROUND = ground()


def scene(i: int) -> tuple[np.ndarray, np.ndarray]:
    """Picture i and the (2, 4) boxes in it."""
    image = GROUND[20 + i // 2:20 + i // 2 + HEIGHT, 30 + i:30 + i + WIDTH].copy()
    boxes = np.array([[20 + i, 30, 44 + i, 50], [110 - i, 70, 130 - i, 96]], float)
    for (x1, y1, x2, y2), colour in zip(boxes.astype(int), ((20, 20, 230), (230, 220, 20)), strict=True):
        image[y1:y2, x1:x2] = colour
        image[y1 + 4:y1 + 8, x1 + 4:x2 - 4] = 255
    return image, boxes


def write_scene(path: Path, frames: int = 30, storage: str = "mcap", compression: str = "", detections_every: int = 1,
                stamps: list[int] | None = None, jpeg: bool = False) -> Path:
    with BagWriter(path, storage, compression) as bag:
        for i in range(frames):
            ns = stamps[i] if stamps else START_NS + i * PERIOD_NS
            image, boxes = scene(i)
            bag_ns = START_NS + i * PERIOD_NS
            if jpeg:
                bag.write("/camera/image/compressed", msg.compressed_image(
                    cv2.imencode(".jpg", image)[1].tobytes(), "jpeg", ns, "camera_optical"), bag_ns)
            else:
                bag.write("/camera/image", msg.raw_image(image, "bgr8", ns, "camera_optical"), bag_ns)
            bag.write("/camera/camera_info", msg.camera_info(CAMERA, ns), bag_ns)
            bag.write("/truth/boxes", msg.boxes(boxes, ["4", "9"], ["car", "bus"], [1.0, 1.0], ns, "camera_optical"),
                      bag_ns)
            pose = msg.pose_stamped(np.array([i * 0.1, 0.0, 5.0]), np.array([1.0, 0, 0, 0]), ns)
            bag.write("/truth/pose", pose, bag_ns)
            if detections_every and i % detections_every == 0:
                shaky = boxes + np.random.default_rng(i).normal(0, 0.7, (2, 4))
                bag.write("/detections", msg.boxes(shaky, ["", ""], ["car", "bus"], [0.9, 0.8], ns, "camera_optical"),
                          bag_ns)
    return path

