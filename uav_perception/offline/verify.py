"""Scores once more by the reference libraries' own programs, from the exported files: do they agree?"""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import MissingDependency
from .metrics.detection import NAMES
from .metrics.target import score_target

AGREE = 1e-6


def verify(folder: Path, result: dict[str, Any]) -> dict[str, float]:
    """Largest difference of each kind of score between ``result`` and the reference on the files of ``folder``.

    Raises:
        MissingDependency: faster-coco-eval or trackeval is not installed.
    """
    scores, apart = result["scores"], {}
    if "AP" in scores.get("detection", {}):
        other = score_files(folder / "annotations.json", folder / "detections.json")
        if other:
            apart["detection"] = max(_apart(scores["detection"], other), _apart(scores["detection"]["any_class"],
                                                                                 other["any_class"]))
    if "tracking" in scores:
        other = score_tracks_by_files(folder / "gt.txt", folder / "tracks.txt", result["counts"]["frames"])
        apart["tracking"] = max(abs(scores["tracking"][k] - v) for k, v in other.items())
    if scores.get("target", {}).get("frames"):
        files = (folder / "target_gt.txt", folder / "target.txt")
        other = score_target(*(np.genfromtxt(f, delimiter=",").reshape(-1, 4) for f in files))
        names = ("success_auc", "precision_20px", "mean_iou")
        apart["target"] = max(abs(scores["target"][k] - other[k]) for k in names)
    return {k: float(v) for k, v in apart.items()}


def _apart(a: dict[str, Any], b: dict[str, Any]) -> float:
    if any((a[n] is None) != (b[n] is None) for n in NAMES):
        return float("inf")
    return float(max(abs(a[n] - b[n]) for n in NAMES if a[n] is not None))


def score_files(annotations: Path, detections: Path) -> dict[str, Any]:
    """The same numbers (of NAMES, and per class AP) by the reference library, from exported files.

    Raises:
        MissingDependency: faster-coco-eval is not installed.
    """
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError as e:
        raise MissingDependency(f"verification of COCO scores ({e})", "the package faster-coco-eval",
                                "pip install faster-coco-eval") from e
    results = json.loads(detections.read_text())
    with contextlib.redirect_stdout(io.StringIO()):  # the library reports its progress there
        truth = COCO(str(annotations))
        if not truth.dataset["annotations"] or not results:
            return {}
        found = truth.loadRes(results)
        scores: dict[str, Any] = {}
        for name, use_categories in (("", 1), ("any_class", 0)):
            run = COCOeval_faster(truth, found, "bbox", print_function=lambda *_: None)
            run.params.useCats = use_categories
            run.evaluate()
            run.accumulate()
            run.summarize()
            values = {n: None if v < 0 else float(v) for n, v in zip(NAMES, run.stats[:12], strict=True)}
            scores.update({name: values} if name else values)
    return scores


def score_tracks_by_files(gt: Path, tracks: Path, frames: int) -> dict[str, float]:
    """HOTA, DetA, AssA, MOTA and IDF1 by trackeval's MOTChallenge evaluation of two files."""
    try:
        import trackeval
    except ImportError as e:
        raise MissingDependency(f"verification of tracking scores ({e})", "the package trackeval",
                                "pip install trackeval") from e
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stdout(io.StringIO()):
        root = Path(name)
        sequence, data = root / "gt" / "seq", root / "trackers" / "ours" / "data"
        (sequence / "gt").mkdir(parents=True)
        data.mkdir(parents=True)
        (sequence / "gt" / "gt.txt").write_text(gt.read_text())
        (sequence / "seqinfo.ini").write_text(f"[Sequence]\nname=seq\nseqLength={frames}\n")
        (data / "seq.txt").write_text(tracks.read_text())
        quiet = {"PRINT_CONFIG": False, "PRINT_RESULTS": False, "TIME_PROGRESS": False, "OUTPUT_SUMMARY": False,
                 "OUTPUT_DETAILED": False, "PLOT_CURVES": False, "OUTPUT_EMPTY_CLASSES": False}
        dataset = trackeval.datasets.MotChallenge2DBox({
            "GT_FOLDER": str(root / "gt"), "TRACKERS_FOLDER": str(root / "trackers"), "TRACKERS_TO_EVAL": ["ours"],
            "SEQ_INFO": {"seq": None}, "SKIP_SPLIT_FOL": True, "PRINT_CONFIG": False, "BENCHMARK": "MOT17"})
        config = {**trackeval.Evaluator.get_default_eval_config(), **quiet}
        metrics = [trackeval.metrics.HOTA(), trackeval.metrics.CLEAR({"PRINT_CONFIG": False}),
                   trackeval.metrics.Identity({"PRINT_CONFIG": False})]
        results, _ = trackeval.Evaluator(config).evaluate([dataset], metrics)
    found = results["MotChallenge2DBox"]["ours"]["seq"]["pedestrian"]
    return {"HOTA": float(np.mean(found["HOTA"]["HOTA"])), "DetA": float(np.mean(found["HOTA"]["DetA"])),
            "AssA": float(np.mean(found["HOTA"]["AssA"])), "MOTA": float(found["CLEAR"]["MOTA"]),
            "IDF1": float(found["Identity"]["IDF1"])}
