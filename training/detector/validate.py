"""AP50 of a network on labelled pictures, through the same preprocessing and decoding as in flight."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from uav_perception.detect.families import FAMILIES, Layout
from uav_perception.detect.nms import suppress
from uav_perception.detect.preprocess import Preprocessor, shaped_size

from .model import CLASSES, UavDet
from .pictures import IGNORE, Picture

VEHICLES = ("car", "truck", "bus")
SCORE_MIN, NMS_IOU, SIDE_PX = 0.01, 0.6, 960


@torch.no_grad()
def validate(model: UavDet, pictures: Sequence[Picture]) -> dict[str, float]:
    """AP50 of each class on thermal pictures and of all vehicles together on colour pictures, and their mean."""
    model.eval()
    out: dict[str, float] = {}
    for domain in ("thermal", "rgb"):
        chosen = [p for p in pictures if p.domain == domain][:: 3 if domain == "thermal" else 1]
        classes = list(CLASSES) if domain == "thermal" else ["vehicle"]
        boxes = {c: ([], []) for c in classes}  # type: dict[str, tuple[list[Any], list[Any]]]
        for i, picture in enumerate(chosen):
            _collect(model, picture, i, boxes)
        for name, (truth, found) in boxes.items():
            if any(not t["iscrowd"] for t in truth):
                out[f"{domain} {name}"] = ap50(truth, found, len(chosen))
    model.train()
    if out:
        out["mean"] = float(np.mean(list(out.values())))
    return out


def _collect(model: UavDet, picture: Picture, image_id: int, boxes: dict[str, tuple[list[Any], list[Any]]]) -> None:
    h, w = picture.image.shape[:2]
    width, height = shaped_size(w, h, SIDE_PX)
    blob, place = Preprocessor(FAMILIES["uavdet"].preprocess.sized(width, height))(picture.image)
    raw = model(torch.from_numpy(blob).contiguous(memory_format=torch.channels_last)).numpy()
    layout = Layout(width, height, len(CLASSES), ("out",), np.arange(len(CLASSES), dtype=np.int32))
    found = FAMILIES["uavdet"].decode({"out": raw}, layout, SCORE_MIN)
    name_of = [("vehicle" if "vehicle" in boxes and c in VEHICLES else c) for c in CLASSES]
    group = np.array([0 if c in VEHICLES else i + 1 for i, c in enumerate(CLASSES)], np.int32)
    kept = suppress(found.xyxy, found.score, group[found.class_id], NMS_IOU, 300)
    xyxy = place.to_source(found.xyxy[kept])
    for (x1, y1, x2, y2), score, c in zip(xyxy.tolist(), found.score[kept].tolist(), found.class_id[kept], strict=True):
        if name_of[c] in boxes:
            boxes[name_of[c]][1].append({"image_id": image_id, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1],
                                         "score": score})
    for (x1, y1, x2, y2), c in zip(picture.objects.xyxy.tolist(), picture.objects.label, strict=True):
        for name in boxes if c == IGNORE else [name_of[c]] if name_of[c] in boxes else []:
            boxes[name][0].append({"image_id": image_id, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1],
                                   "area": (x2 - x1) * (y2 - y1), "iscrowd": int(c == IGNORE)})


def ap50(truth: list[dict[str, Any]], found: list[dict[str, Any]], images: int) -> float:
    """COCO AP at IoU 0.5 of one class (faster-coco-eval, the field's reference arithmetic)."""
    from faster_coco_eval import COCO, COCOeval_faster

    if not found:
        return 0.0
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO()
        gt.dataset = {"images": [{"id": i} for i in range(images)], "categories": [{"id": 1, "name": "object"}],
                      "annotations": [{**t, "id": i + 1} for i, t in enumerate(truth)]}
        gt.createIndex()
        score = COCOeval_faster(gt, gt.loadRes(found), "bbox", print_function=lambda *_: None)
        score.params.iouThrs = np.array([0.5])
        score.params.maxDets = [1, 10, 300]
        score.evaluate()
        score.accumulate()
        precision = score.eval["precision"][0, :, 0, 0, -1]
    return float(precision[precision > -1].mean()) if (precision > -1).any() else 0.0
