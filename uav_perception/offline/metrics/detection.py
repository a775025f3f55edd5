"""COCO AP and AR by faster-coco-eval, from exported ``annotations.json`` and ``detections.json``."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import MissingDependency

NAMES = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR1", "AR10", "AR100", "AR_small", "AR_medium",
         "AR_large")  # the order of COCO's summary


def score_detections(annotations: Path, detections: Path) -> dict[str, Any]:
    """COCO scores (0..1; None where there is no truth of that size), per class AP, and PR curves at IoU 0.5.

    ``any_class`` is the same evaluation with categories ignored (``useCats = 0``).
    """
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError as e:
        raise MissingDependency(f"COCO scores ({e})", "the package faster-coco-eval",
                                "pip install 'uav-perception[evaluate]'") from e
    results = json.loads(detections.read_text())
    with contextlib.redirect_stdout(io.StringIO()):  # the library reports its progress there
        truth = COCO(str(annotations))
        if not truth.dataset["annotations"]:
            return {"objects": 0, "note": "no objects in the truth"}
        categories = {c["id"]: c["name"] for c in truth.dataset["categories"]}
        scores: dict[str, Any] = {"objects": sum(not a["iscrowd"] for a in truth.dataset["annotations"]),
                                  "detections": len(results)}
        if not results:
            return {**scores, **dict.fromkeys(NAMES, 0.0), "per_class": {}, "pr_curve": {},
                    "any_class": dict.fromkeys(NAMES, 0.0)}
        found = truth.loadRes(results)
        for name, use_categories in (("", 1), ("any_class", 0)):
            run = COCOeval_faster(truth, found, "bbox", print_function=lambda *_: None)
            run.params.useCats = use_categories
            run.evaluate()
            run.accumulate()
            run.summarize()
            values = {n: _known(v) for n, v in zip(NAMES, run.stats[:12], strict=True)}
            precision = run.eval["precision"]  # (IoU thresholds, recalls, classes, areas, max detections)
            if name:
                scores[name] = {**values, "pr_curve": _curve(precision[0, :, 0, 0, 2])}
                continue
            scores.update(values)
            shown = {categories[c]: k for k, c in enumerate(run.params.catIds)}
            scores["per_class"] = {n: _known(_mean(precision[:, :, k, 0, 2])) for n, k in shown.items()}
            scores["pr_curve"] = {n: _curve(precision[0, :, k, 0, 2]) for n, k in shown.items()
                                  if scores["per_class"][n] is not None}
    return scores


def _mean(values: Any) -> float:
    known = values[values > -1]
    return float(known.mean()) if known.size else -1.0


def _known(value: float) -> float | None:
    """COCO says -1 where there is nothing to score."""
    return None if value < 0 else float(value)


def _curve(precision: Any) -> list[float]:
    """Precision at the 101 recalls 0, 0.01 ... 1."""
    return [round(float(p), 6) for p in np.maximum(precision, 0)]
