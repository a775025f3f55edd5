"""Labelled pictures: COCO folders in memory, objects with outlines, and crops of them under any similarity.

A box rotated as a box grows; an outline does not. Every object therefore carries ``OUTLINE`` points on its silhouette:
measured by segmentation where the picture allows (``sprites.py``), else those of a rounded box.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from uav_perception.errors import InputError

from .model import CLASSES, PAD_VALUE

OUTLINE = 16
IGNORE = -1
# category name in a data set (lower case) -> our class; None = there, but neither right nor wrong
CLASS_MAP: dict[str, str | None] = {
    "person": "person", "pedestrian": "person", "people": "person",
    "car": "car", "van": "car", "minibus": "car", "pickup": "car", "vehicle": "car",
    "truck": "truck", "lorry": "truck", "bus": "bus",
    "bicycle": "two-wheeler", "bike": "two-wheeler", "cyclist": "two-wheeler", "motorcycle": "two-wheeler",
    "motorbike": "two-wheeler", "two-wheeler": "two-wheeler",
    "othervehicle": None, "dontcare": None,
}  # fmt: skip

U8 = NDArray[np.uint8]
F64 = NDArray[np.float64]


@dataclass
class Objects:
    """``outline`` (N, OUTLINE, 2) in pixels, ``label`` (N,) class index or IGNORE."""

    outline: F64 = field(default_factory=lambda: np.zeros((0, OUTLINE, 2)))
    label: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def xyxy(self) -> F64:
        return np.concatenate([self.outline.min(1), self.outline.max(1)], 1)

    def moved(self, matrix: F64) -> Objects:
        return Objects(self.outline @ matrix[:, :2].T + matrix[:, 2], self.label)

    def __add__(self, other: Objects) -> Objects:
        return Objects(np.concatenate([self.outline, other.outline]), np.concatenate([self.label, other.label]))


@dataclass
class Picture:
    """One labelled image (H, W, 3) BGR; ``labelled`` says which classes its annotation would name if present."""

    name: str
    image: U8
    objects: Objects
    labelled: NDArray[np.bool_]
    domain: str  # "thermal" or "rgb"
    half: U8 = field(init=False)

    def __post_init__(self) -> None:
        self.half = np.asarray(cv2.resize(self.image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8)


@dataclass
class Sample:
    """What the network sees: square ``image``, boxes (N, 4) xyxy, labels (N,), labelled classes (C,)."""

    image: U8
    xyxy: F64
    label: NDArray[np.int64]
    labelled: NDArray[np.bool_]


def rounded_outline(xyxy: F64, roundness: float) -> F64:
    """Outline points of boxes (N, 4): superellipse of exponent ``roundness`` (2 = ellipse, large = box)."""
    angle = np.arange(OUTLINE) * 2 * np.pi / OUTLINE
    c, s = np.cos(angle), np.sin(angle)
    unit = np.stack([np.sign(c) * np.abs(c) ** (2 / roundness), np.sign(s) * np.abs(s) ** (2 / roundness)], 1)
    centre, half = (xyxy[:, :2] + xyxy[:, 2:]) / 2, (xyxy[:, 2:] - xyxy[:, :2]) / 2
    return np.asarray(centre[:, None] + half[:, None] * unit)


def load_coco(folder: Path, domain: str | None = None) -> list[Picture]:
    """Read ``annotations.json`` and ``images/`` of a folder. Pictures without colour are of the domain ``thermal``.

    Raises:
        InputError: no such folder, broken annotation, unknown category, unreadable picture.
    """
    path = folder / "annotations.json"
    try:
        tree = json.loads(path.read_text())
        categories = {c["id"]: str(c["name"]) for c in tree["categories"]}
        by_image: dict[int, list[dict[str, object]]] = {i["id"]: [] for i in tree["images"]}
        for note in tree["annotations"]:
            by_image[note["image_id"]].append(note)
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise InputError(f"{path}: {type(e).__name__} {e}", "a COCO annotation file beside images/",
                         "give folders holding annotations.json and images/") from e
    unknown = [n for n in categories.values() if n.lower() not in CLASS_MAP]
    if unknown:
        raise InputError(f"category {unknown[0]!r} in {path}", f"one of {', '.join(CLASS_MAP)}",
                         "add it to CLASS_MAP in training/detector/pictures.py")
    target = {i: CLASS_MAP[n.lower()] for i, n in categories.items()}
    labelled = np.array([c in target.values() for c in CLASSES])
    pictures = []
    for info in tree["images"]:
        image = cv2.imread(str(folder / "images" / info["file_name"]))
        if image is None:
            raise InputError(f"picture {info['file_name']} in {folder}", "a readable image", "fetch the data again")
        grey = domain or ("thermal" if np.ptp(image[::8, ::8].astype(int), axis=2).max() < 12 else "rgb")
        notes = by_image[info["id"]]
        box = np.array([n["bbox"] for n in notes], np.float64).reshape(-1, 4)
        box[:, 2:] += box[:, :2]
        names = [None if n.get("iscrowd") else target[n["category_id"]] for n in notes]  # type: ignore[index]
        label = np.array([IGNORE if n is None else CLASSES.index(n) for n in names], np.int64)
        outline = rounded_outline(box, 2.5) if len(box) else np.zeros((0, OUTLINE, 2))
        compact = (label == CLASSES.index("person"))[:, None, None]
        outline = np.where(compact, rounded_outline(box, 2.0), outline) if len(box) else outline
        image = np.asarray(image, np.uint8)
        pictures.append(Picture(info["file_name"], image, Objects(outline, label), labelled, grey))
    return pictures


def similarity(scale: float, angle_rad: float, mirror: bool, centre: F64, size_px: int) -> F64:
    """(2, 3) map that brings ``centre`` to the middle of a square of ``size_px``."""
    c, s = scale * np.cos(angle_rad), scale * np.sin(angle_rad)
    m = np.array([[c, -s], [s, c]]) @ np.diag([-1.0 if mirror else 1.0, 1.0])
    return np.column_stack([m, np.array([size_px / 2, size_px / 2]) - m @ centre])


def warp(picture: Picture, matrix: F64, size_px: int) -> tuple[U8, Objects]:
    """The square that ``matrix`` cuts from the picture; strong shrinking starts from the half-size copy."""
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    source, m = (picture.half, matrix @ np.diag([2.0, 2.0, 1.0])) if scale < 0.6 else (picture.image, matrix)
    border = (PAD_VALUE,) * 3
    image = cv2.warpAffine(source, m, (size_px, size_px), flags=cv2.INTER_LINEAR, borderValue=border)
    return np.asarray(image, np.uint8), picture.objects.moved(matrix)


def finish(image: U8, objects: Objects, labelled: NDArray[np.bool_], smallest_px: float = 3.0) -> Sample:
    """Clip objects to the image; cut-off ones of which little is left become IGNORE, tiny ones too."""
    size = image.shape[0]
    box = objects.xyxy
    clipped = np.clip(box, 0, size)
    side = clipped[:, 2:] - clipped[:, :2]
    visible = side.prod(1) / np.maximum((box[:, 2:] - box[:, :2]).prod(1), 1e-6)
    inside = (side > 1).all(1) & (visible > 0.05)
    label = np.where((visible < 0.3) | (side.max(1) < smallest_px), IGNORE, objects.label)
    return Sample(image, clipped[inside], label[inside], labelled)
