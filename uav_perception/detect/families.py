"""Output layouts of common detector exports, decoded to boxes in network pixels.

A family says what a model is fed with when its metadata does not, whether its outputs fit, and how to read them.
Points that cannot reach ``score_min`` are dropped before any box is computed: decoding costs what is found, not what
could be. Layouts: YOLOX (Ge et al. 2021, raw export), NanoDet (distribution of distances, generalised focal loss,
Li et al. 2020), YOLOv5/v8/11 (Ultralytics exports), SSD (Liu et al. 2016, decoded boxes), end-to-end exports.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engine import Array, TensorSpec
from ..errors import ModelError
from ..records import F32, I32
from .preprocess import PreprocessSpec


@dataclass(frozen=True)
class Candidates:
    """Boxes in network pixels before suppression: xyxy (N, 4), score (N,), class_id (N,)."""

    xyxy: F32
    score: F32
    class_id: I32


@dataclass(frozen=True)
class Layout:
    """What decoding needs to know of one model: input size, number of classes, output names in model order.

    ``reported`` are the class indices that matter: the best of them labels a box.
    """

    width_px: int
    height_px: int
    classes: int
    outputs: tuple[str, ...]
    reported: NDArray[np.int32]


Outputs = dict[str, Array]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Family:
    """One output layout. ``classes_of`` gives the number of classes the shapes imply, or None when they do not fit."""

    decode: Callable[[Outputs, Layout, float], Candidates]
    classes_of: Callable[[Sequence[Shape], int, int], int | None]
    layout: str  # what a person is told was expected
    preprocess: PreprocessSpec = field(default_factory=PreprocessSpec)
    needs_nms: bool = True


@lru_cache(maxsize=16)
def grid(width_px: int, height_px: int, strides: tuple[int, ...], offset: float) -> tuple[F32, F32]:
    """Positions (P, 2) in network pixels and strides (P,) of all points, level by level, row by row."""
    where, step = [], []
    for s in strides:
        y, x = np.mgrid[0 : -(-height_px // s), 0 : -(-width_px // s)]
        where.append((np.stack([x.ravel(), y.ravel()], 1) + offset) * s)
        step.append(np.full(x.size, s))
    return np.concatenate(where).astype(np.float32), np.concatenate(step).astype(np.float32)


def cells(width_px: int, height_px: int, strides: Sequence[int]) -> int:
    """Number of points of a pyramid."""
    return sum(-(-height_px // s) * -(-width_px // s) for s in strides)


def _corners(xywh: F32) -> F32:
    half = xywh[:, 2:] / 2
    return np.asarray(np.concatenate([xywh[:, :2] - half, xywh[:, :2] + half], 1), np.float32)


def _best(scores: F32, layout: Layout, score_min: float) -> tuple[NDArray[np.int64], F32, I32]:
    """Rows of (P, C) whose best reported class reaches ``score_min``: indices, scores, classes."""
    if len(layout.reported) < layout.classes:
        scores = scores[:, layout.reported]
    keep = np.flatnonzero(scores.max(1) >= score_min)
    chosen = scores[keep]
    column = chosen.argmax(1)
    return keep, chosen[np.arange(len(keep)), column], layout.reported[column]


def _sigmoid(x: F32) -> F32:
    return np.asarray(1.0 / (1.0 + np.exp(-x)), np.float32)


# --- our own: (1, C + 4, P), logits then log-distances in strides

UAVDET_STRIDES = (4, 8, 16)
MAX_LOG_DISTANCE = 4.0


def _uavdet(outputs: Outputs, layout: Layout, score_min: float) -> Candidates:
    raw = outputs[layout.outputs[0]][0]
    logit_min = np.log(max(score_min, 1e-6) / max(1.0 - score_min, 1e-6))
    logits = raw[layout.reported]
    best = logits.max(0)
    keep = np.flatnonzero(best >= logit_min)
    centre, stride = grid(layout.width_px, layout.height_px, UAVDET_STRIDES, 0.5)
    distance = np.exp(np.minimum(raw[layout.classes :, keep].T, MAX_LOG_DISTANCE)) * stride[keep, None]
    xyxy = np.concatenate([centre[keep] - distance[:, :2], centre[keep] + distance[:, 2:]], 1)
    return Candidates(xyxy, _sigmoid(best[keep]), layout.reported[logits[:, keep].argmax(0)])


def _uavdet_classes(shapes: Sequence[Shape], w: int, h: int) -> int | None:
    fits = len(shapes) == 1 and len(shapes[0]) == 3 and shapes[0][2] == cells(w, h, UAVDET_STRIDES)
    return shapes[0][1] - 4 if fits else None


# --- YOLOX: (1, P, 5 + C), centre offsets and log sizes in strides, objectness and classes through a sigmoid

YOLOX_STRIDES = (8, 16, 32)


def _yolox(outputs: Outputs, layout: Layout, score_min: float) -> Candidates:
    raw = outputs[layout.outputs[0]][0]
    likely = np.flatnonzero(raw[:, 4] >= score_min)  # a class score never exceeds its objectness
    keep, score, class_id = _best(raw[likely, 5:] * raw[likely, 4:5], layout, score_min)
    keep = likely[keep]
    corner, stride = grid(layout.width_px, layout.height_px, YOLOX_STRIDES, 0.0)
    centre = raw[keep, :2] * stride[keep, None] + corner[keep]
    size = np.exp(np.minimum(raw[keep, 2:4], 10.0)) * stride[keep, None]
    return Candidates(_corners(np.concatenate([centre, size], 1)), score, class_id)


def _yolox_classes(shapes: Sequence[Shape], w: int, h: int) -> int | None:
    fits = len(shapes) == 1 and len(shapes[0]) == 3 and shapes[0][1] == cells(w, h, YOLOX_STRIDES)
    return shapes[0][2] - 5 if fits else None


# --- YOLOv5: (1, 3 P, 5 + C), boxes already in network pixels


def _yolov5(outputs: Outputs, layout: Layout, score_min: float) -> Candidates:
    raw = outputs[layout.outputs[0]][0]
    likely = np.flatnonzero(raw[:, 4] >= score_min)
    keep, score, class_id = _best(raw[likely, 5:] * raw[likely, 4:5], layout, score_min)
    return Candidates(_corners(raw[likely[keep], :4]), score, class_id)


def _yolov5_classes(shapes: Sequence[Shape], w: int, h: int) -> int | None:
    points = [3 * cells(w, h, s) for s in ((8, 16, 32), (8, 16, 32, 64))]
    fits = len(shapes) == 1 and len(shapes[0]) == 3 and shapes[0][1] in points
    return shapes[0][2] - 5 if fits else None


# --- YOLOv8/11: (1, 4 + C, P), boxes already in network pixels


def _yolov8(outputs: Outputs, layout: Layout, score_min: float) -> Candidates:
    raw = outputs[layout.outputs[0]][0]
    scores = raw[4 + layout.reported]
    best = scores.max(0)
    keep = np.flatnonzero(best >= score_min)
    return Candidates(_corners(raw[:4, keep].T), best[keep], layout.reported[scores[:, keep].argmax(0)])


def _yolov8_classes(shapes: Sequence[Shape], w: int, h: int) -> int | None:
    points = [cells(w, h, s) for s in ((8, 16, 32), (4, 8, 16, 32), (8, 16, 32, 64))]
    fits = len(shapes) == 1 and len(shapes[0]) == 3 and shapes[0][2] in points
    return shapes[0][1] - 4 if fits else None


# --- NanoDet(-Plus): scores after a sigmoid and a distribution over distances, joined or one output a level

NANODET_STRIDES = ((8, 16, 32), (8, 16, 32, 64))
NANODET_BINS = 8


def _nanodet(outputs: Outputs, layout: Layout, score_min: float) -> Candidates:
    arrays = [np.asarray(outputs[n][0]) for n in layout.outputs]
    if len(arrays) == 1:
        score, spread = arrays[0][:, : layout.classes], arrays[0][:, layout.classes :]
    else:
        score = np.concatenate([a for a in arrays if a.shape[1] == layout.classes])
        spread = np.concatenate([a for a in arrays if a.shape[1] != layout.classes])
    strides = next(s for s in NANODET_STRIDES if cells(layout.width_px, layout.height_px, s) == len(score))
    plus = len(strides) == 4  # NanoDet-Plus counts from cell corners, NanoDet from cell centres
    keep, best, class_id = _best(score, layout, score_min)
    where, stride = grid(layout.width_px, layout.height_px, strides, 0.0 if plus else 0.5)
    bins = spread[keep].reshape(-1, 4, NANODET_BINS)
    weight = np.exp(bins - bins.max(2, keepdims=True))
    distance = (weight @ np.arange(NANODET_BINS, dtype=np.float32)) / weight.sum(2) * stride[keep, None]
    return Candidates(np.concatenate([where[keep] - distance[:, :2], where[keep] + distance[:, 2:]], 1), best, class_id)


def _nanodet_classes(shapes: Sequence[Shape], w: int, h: int) -> int | None:
    if any(len(s) != 3 for s in shapes):
        return None
    for strides in NANODET_STRIDES:
        if len(shapes) == 1 and shapes[0][1] == cells(w, h, strides):
            return shapes[0][2] - 4 * NANODET_BINS
        levels = [cells(w, h, (s,)) for s in strides]
        scores = [s for s in shapes if s[2] != 4 * NANODET_BINS]
        spreads = [s for s in shapes if s[2] == 4 * NANODET_BINS]
        if [s[1] for s in scores] == levels == [s[1] for s in spreads]:
            return scores[0][2]
    return None


# --- SSD: boxes (1, N, 4) in 0..1 and scores (1, N, background + C)


def _ssd(outputs: Outputs, layout: Layout, score_min: float) -> Candidates:
    first, second = (np.asarray(outputs[n][0]) for n in layout.outputs)
    boxes, scores = (first, second) if first.shape[1] == 4 else (second, first)
    keep, score, class_id = _best(scores[:, 1:], layout, score_min)
    size = np.array([layout.width_px, layout.height_px] * 2, np.float32)
    return Candidates(boxes[keep] * size, score, class_id)


def _ssd_classes(shapes: Sequence[Shape], w: int, h: int) -> int | None:
    if len(shapes) != 2 or any(len(s) != 3 for s in shapes) or shapes[0][1] != shapes[1][1]:
        return None
    widths = [s[2] for s in shapes]
    return max(widths[1] if widths[0] == 4 else widths[0], 1) - 1 if 4 in widths else None


# --- end-to-end (no suppression left to do): (1, N, 6) = xyxy in network pixels, score, class


def _end2end(outputs: Outputs, layout: Layout, score_min: float) -> Candidates:
    raw = outputs[layout.outputs[0]][0]
    rows = raw[raw[:, 4] >= score_min]
    class_id = rows[:, 5].astype(np.int32)
    if len(class_id) and not 0 <= class_id.min() <= class_id.max() < layout.classes:
        raise ModelError(f"class number {class_id.max()} in the model's output", f"0 to {layout.classes - 1}",
                         "give detector.classes the names of all its classes")
    wanted = np.isin(class_id, layout.reported)
    rows, class_id = rows[wanted], class_id[wanted]
    return Candidates(np.asarray(rows[:, :4]), np.asarray(rows[:, 4]), class_id)


def _end2end_classes(shapes: Sequence[Shape], w: int, h: int) -> int | None:
    return 0 if len(shapes) == 1 and len(shapes[0]) == 3 and shapes[0][2] == 6 else None  # 0: any number


_RGB_UNIT = {"color": "rgb", "scale": (1 / 255.0,) * 3, "align": "centre"}
FAMILIES: dict[str, Family] = {
    "uavdet": Family(_uavdet, _uavdet_classes, "one output (1, classes + 4, points at strides 4, 8, 16)",
                     PreprocessSpec(512, 512, mean=(114.0,) * 3, shrink="mean")),
    "yolox": Family(_yolox, _yolox_classes, "one output (1, points at strides 8, 16, 32; 5 + classes)"),
    "nanodet": Family(_nanodet, _nanodet_classes,
                      "one output (1, points, classes + 32), or scores and distances for each stride",
                      PreprocessSpec(mean=(103.53, 116.28, 123.675), scale=(1 / 57.375, 1 / 57.12, 1 / 58.395),
                                     fit="stretch")),
    "yolov5": Family(_yolov5, _yolov5_classes, "one output (1, 3 x points, 5 + classes)",
                     PreprocessSpec(**_RGB_UNIT)),  # type: ignore[arg-type]
    "yolov8": Family(_yolov8, _yolov8_classes, "one output (1, 4 + classes, points)",
                     PreprocessSpec(**_RGB_UNIT)),  # type: ignore[arg-type]
    "ssd": Family(_ssd, _ssd_classes, "two outputs, boxes (1, N, 4) in 0..1 and scores (1, N, background + classes)",
                  PreprocessSpec(color="rgb", mean=(127.0,) * 3, scale=(1 / 128.0,) * 3, fit="stretch")),
    "end2end": Family(_end2end, _end2end_classes, "one output (1, N, 6): x1, y1, x2, y2, score, class",
                      PreprocessSpec(**_RGB_UNIT), needs_nms=False),  # type: ignore[arg-type]
}


def recognise(shapes: Sequence[Shape], width_px: int, height_px: int) -> str:
    """The family whose layout the output shapes have.

    Raises:
        ModelError: none, or several fit.
    """
    found = [name for name, family in FAMILIES.items() if family.classes_of(shapes, width_px, height_px) is not None]
    if "nanodet" in found and "yolox" in found:  # same number of points: told apart by the usual 80 classes
        found.remove("yolox" if shapes[0][2] == 80 + 4 * NANODET_BINS else "nanodet")
    if len(found) != 1:
        raise ModelError(f"model with outputs {[list(s) for s in shapes]}",
                         "the layout of exactly one known family" + (f", not of {', '.join(found)}" if found else ""),
                         f"set detector.family to one of {', '.join(FAMILIES)}")
    return found[0]


def check_layout(name: str, outputs: Sequence[TensorSpec], shapes: Sequence[Shape], width_px: int, height_px: int,
                 class_names: Sequence[str]) -> Layout:
    """The layout of a model of family ``name``.

    Raises:
        ModelError: outputs of another layout or type, or another number of classes.
    """
    family: Any = FAMILIES[name]
    classes = family.classes_of(shapes, width_px, height_px)
    if classes is None or classes < 0 or any(s.dtype.kind != "f" for s in outputs):
        found = ", ".join(f"{o.name} {o.dtype}{list(s)}" for o, s in zip(outputs, shapes, strict=True))
        raise ModelError(f"model with outputs {found}", f"family {name}: {family.layout}, float",
                         "set detector.family to the model's layout")
    if classes not in (0, len(class_names)):
        raise ModelError(f"model with {classes} classes and {len(class_names)} class names", "as many names as classes",
                         "give detector.classes the names in the model's order")
    return Layout(width_px, height_px, len(class_names), tuple(o.name for o in outputs),
                  np.arange(len(class_names), dtype=np.int32))
