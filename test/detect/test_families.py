"""Every family decodes boxes that were encoded by its own definition, written down here a second time."""

from __future__ import annotations

import numpy as np
import pytest

from uav_perception.detect.families import FAMILIES, Candidates, Layout, check_layout, recognise
from uav_perception.engine import TensorSpec
from uav_perception.errors import ModelError

W, H, C = 160, 96, 4
BOXES = np.array([[20.0, 14, 60, 50], [90, 30, 140, 80]], np.float32)
LABELS, SCORES = (2, 0), (0.9, 0.6)
KEPT = np.arange(C, dtype=np.int32)


def spots(strides: tuple[int, ...]) -> list[tuple[float, float, int]]:
    """(column, row, stride) of every point, level by level, row by row."""
    return [(c, r, s) for s in strides for r in range(H // s) for c in range(W // s)]


def nearest(points: list[tuple[float, float, int]], box: np.ndarray, stride: int, offset: float) -> int:
    centre = (box[:2] + box[2:]) / 2
    far = [np.inf if s != stride else np.hypot((c + offset) * s - centre[0], (r + offset) * s - centre[1])
           for c, r, s in points]
    return int(np.argmin(far))


def logit(p: float) -> float:
    return float(np.log(p / (1 - p)))


def encode(name: str) -> dict[str, np.ndarray]:
    if name == "uavdet":
        points = spots((4, 8, 16))
        out = np.full((1, C + 4, len(points)), -8.0, np.float32)
        for box, label, score in zip(BOXES, LABELS, SCORES, strict=True):
            i = nearest(points, box, 8, 0.5)
            x, y = (np.array(points[i][:2]) + 0.5) * 8
            out[0, label, i] = logit(score)
            out[0, C:, i] = np.log(np.array([x - box[0], y - box[1], box[2] - x, box[3] - y]) / 8)
        return {"o": out}
    if name == "yolox":
        points = spots((8, 16, 32))
        out = np.zeros((1, len(points), 5 + C), np.float32)
        for box, label, score in zip(BOXES, LABELS, SCORES, strict=True):
            i = nearest(points, box, 16, 0.0)
            out[0, i, :2] = (box[:2] + box[2:]) / 2 / 16 - points[i][:2]
            out[0, i, 2:4] = np.log((box[2:] - box[:2]) / 16)
            out[0, i, 4], out[0, i, 5 + label] = 0.95, score / 0.95
        return {"o": out}
    if name == "nanodet":
        points = spots((8, 16, 32))
        out = np.zeros((1, len(points), C + 32), np.float32)
        for box, label, score in zip(BOXES, LABELS, SCORES, strict=True):
            i = nearest(points, box, 16, 0.5)
            x, y = (np.array(points[i][:2]) + 0.5) * 16
            out[0, i, label] = score
            for side, d in enumerate(np.array([x - box[0], y - box[1], box[2] - x, box[3] - y]) / 16):
                low = int(d)  # two neighbouring bins whose mean is the distance
                bins = np.full(8, -40.0)
                bins[low], bins[low + 1] = np.log(1 - d + low + 1e-12), np.log(d - low + 1e-12)
                out[0, i, C + 8 * side : C + 8 * side + 8] = bins
        return {"o": out}
    xywh = np.concatenate([(BOXES[:, :2] + BOXES[:, 2:]) / 2, BOXES[:, 2:] - BOXES[:, :2]], 1)
    if name == "yolov5":
        out = np.zeros((1, 3 * len(spots((8, 16, 32))), 5 + C), np.float32)
        for k, (label, score) in enumerate(zip(LABELS, SCORES, strict=True)):
            out[0, 7 + k, :4], out[0, 7 + k, 4], out[0, 7 + k, 5 + label] = xywh[k], 0.95, score / 0.95
        return {"o": out}
    if name == "yolov8":
        out = np.zeros((1, 4 + C, len(spots((8, 16, 32)))), np.float32)
        for k, (label, score) in enumerate(zip(LABELS, SCORES, strict=True)):
            out[0, :4, 7 + k], out[0, 4 + label, 7 + k] = xywh[k], score
        return {"o": out}
    if name == "ssd":
        boxes, scores = np.zeros((1, 50, 4), np.float32), np.zeros((1, 50, 1 + C), np.float32)
        scores[..., 0] = 1
        for k, (label, score) in enumerate(zip(LABELS, SCORES, strict=True)):
            boxes[0, k], scores[0, k, 1 + label] = BOXES[k] / [W, H, W, H], score
        return {"scores": scores, "boxes": boxes}
    assert name == "end2end"
    rows = np.zeros((1, 100, 6), np.float32)
    for k, (label, score) in enumerate(zip(LABELS, SCORES, strict=True)):
        rows[0, k] = [*BOXES[k], score, label]
    return {"o": rows}


def decoded(name: str, reported: np.ndarray = KEPT) -> Candidates:
    outputs = encode(name)
    found = FAMILIES[name].decode(outputs, Layout(W, H, C, tuple(outputs), reported), 0.3)
    order = np.argsort(-found.score)
    return Candidates(found.xyxy[order], found.score[order], found.class_id[order])


@pytest.mark.parametrize("name", FAMILIES)
def test_decodes_what_was_encoded(name: str) -> None:
    found = decoded(name)
    assert np.allclose(found.xyxy, BOXES, atol=0.02)
    assert np.allclose(found.score, SCORES, atol=1e-4) and tuple(found.class_id) == LABELS


@pytest.mark.parametrize("name", FAMILIES)
def test_classes_that_are_not_reported_leave_no_box(name: str) -> None:
    found = decoded(name, np.array([0, 1], np.int32))
    assert np.allclose(found.xyxy, BOXES[1:], atol=0.02) and tuple(found.class_id) == (0,)


def test_levels_in_outputs_of_their_own_are_joined() -> None:
    whole = encode("nanodet")["o"]
    sizes = [W // s * (H // s) for s in (8, 16, 32)]
    parts = np.split(whole[0], np.cumsum(sizes)[:-1])
    outputs = {f"cls{i}": p[None, :, :C] for i, p in enumerate(parts)}
    outputs |= {f"dis{i}": p[None, :, C:] for i, p in enumerate(parts)}
    found = FAMILIES["nanodet"].decode(outputs, Layout(W, H, C, tuple(outputs), KEPT), 0.3)
    assert np.allclose(found.xyxy[np.argsort(-found.score)], BOXES, atol=0.02)


@pytest.mark.parametrize("name", FAMILIES)
def test_recognised_by_shape(name: str) -> None:
    assert recognise([a.shape for a in encode(name).values()], W, H) == name or name == "nanodet"


def specs(outputs: dict[str, np.ndarray]) -> list[TensorSpec]:
    return [TensorSpec(n, a.shape, a.dtype) for n, a in outputs.items()]


@pytest.mark.parametrize("name", FAMILIES)
def test_wrong_class_count_and_layout_are_refused(name: str) -> None:
    outputs = encode(name)
    shapes = [a.shape for a in outputs.values()]
    names = [f"c{i}" for i in range(C)]
    assert check_layout(name, specs(outputs), shapes, W, H, names).classes == C
    if name != "end2end":  # its classes are numbers in the output
        with pytest.raises(ModelError, match="class names"):
            check_layout(name, specs(outputs), shapes, W, H, [*names, "one too many"])
    with pytest.raises(ModelError, match=f"family {name}"):
        check_layout(name, specs(outputs), [(1, 3, 7)] * len(shapes), W, H, names)


def test_end2end_class_number_out_of_range() -> None:
    outputs = encode("end2end")
    with pytest.raises(ModelError, match="class number"):
        FAMILIES["end2end"].decode(outputs, Layout(W, H, 2, ("o",), np.arange(2, dtype=np.int32)), 0.3)


def test_unknown_layout_names_the_families() -> None:
    with pytest.raises(ModelError, match="yolox"):
        recognise([(1, 10, 10, 10)], W, H)
