"""What INT8 costs: noise of outputs and layers against float, latency, and the score of the task itself."""

from __future__ import annotations

import contextlib
import json
import platform
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray

from ..config import DetectorConfig
from ..detect.coco import category_of_class, read_coco
from ..engine import Engine
from ..engine.onnxruntime import OnnxRuntimeEngine
from ..errors import InputError
from ..offline.metrics.detection import score_boxes
from ..records import Frame
from .calibrate import Feeds, probe
from .data import read_picture
from .graph import Model

Outputs = list[dict[str, NDArray[Any]]]


def run(model: Model, feeds: Sequence[Feeds], threads: int = 0) -> Outputs:
    """Outputs of ``model`` for each feed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, str(path))
        engine = OnnxRuntimeEngine(path, threads)
    outputs = [{k: v.copy() for k, v in engine.infer(f).items()} for f in feeds]
    engine.close()
    return outputs


def output_error_percent(reference: Outputs, other: Outputs) -> float:
    """RMS of the difference over RMS of the reference, in percent; root mean square over the outputs."""
    shares = []
    for name in reference[0]:
        noise = sum(float(((a[name].astype(np.float64) - b[name]) ** 2).sum())
                    for a, b in zip(reference, other, strict=True))
        signal = sum(float((a[name].astype(np.float64) ** 2).sum()) for a in reference)
        shares.append(noise / max(signal, 1e-30) if noise else 0.0)
    return 100.0 * float(np.sqrt(np.mean(shares)))


def layer_snr_db(float_model: Model, int8_model: Model, tensors: Mapping[str, str], feeds: Sequence[Feeds],
                 threads: int = 0) -> dict[str, float]:
    """Signal-to-noise of each layer in the whole INT8 model, noise of all before it included: layer name -> dB."""
    names = list(tensors.values())
    a, b = probe(float_model, names, threads), probe(int8_model, names, threads)
    signal, noise = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    for feed in feeds:
        x, y = a.infer(feed), b.infer(feed)
        for t in names:
            if t in x and t in y:
                signal[t] += float((x[t].astype(np.float64) ** 2).sum())
                noise[t] += float(((x[t].astype(np.float64) - y[t]) ** 2).sum())
    return {layer: round(float(10 * np.log10(max(signal[t], 1e-30) / max(noise[t], 1e-30))), 2)
            for layer, t in tensors.items() if signal[t] > 0}


def latency_ms(engines: Mapping[str, Engine], feed: Feeds, rounds: int) -> dict[str, dict[str, float]]:
    """Latency of engines measured in turn, so that a busy moment hits all alike: best, p50 and p95 a call.

    ``cpu`` is the least processor time of a call: other processes hardly disturb it, so it decides between engines.
    """
    times: dict[str, list[float]] = {name: [] for name in engines}
    work: dict[str, list[float]] = {name: [] for name in engines}
    for engine in engines.values():
        engine.infer(feed)
    for _ in range(rounds):
        for name, engine in engines.items():
            start, busy = time.perf_counter_ns(), time.process_time_ns()
            engine.infer(feed)
            work[name].append((time.process_time_ns() - busy) / 1e6)
            times[name].append((time.perf_counter_ns() - start) / 1e6)
    return {name: {"best": round(min(t), 3), "p50": round(float(np.median(t)), 3),
                   "p95": round(float(np.percentile(t, 95)), 3), "cpu": round(min(work[name]), 3)}
            for name, t in times.items()}


def cpu_name() -> str:
    """What the operating system calls this processor."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


class Task(Protocol):
    """A task score of a model file, higher is better, in points (0..100)."""

    def score(self, model: Path) -> dict[str, Any]: ...


@dataclass(frozen=True)
class LabelledSet:
    """A COCO annotation file and the folder of its pictures."""

    images: Path
    annotations: Path

    @staticmethod
    def parse(text: str) -> LabelledSet:
        """``IMAGES:ANNOTATIONS.json``, an annotation file beside ``images/``, or a folder holding ``annotations.json``.

        Raises:
            InputError: something of it is missing.
        """
        images, colon, annotations = text.rpartition(":")
        found = LabelledSet(Path(images), Path(annotations)) if colon else _beside(Path(text))
        if not found.annotations.is_file() or not found.images.is_dir():
            raise InputError(f"--eval {text!r}", "IMAGES:ANNOTATIONS.json, or a folder of images/ and annotations.json",
                             "check the path")
        return found


@dataclass(frozen=True)
class DetectionTask:
    """AP50 (points) of a detector over labelled sets; the mean over sets when there are several."""

    sets: tuple[LabelledSet, ...]
    detector: DetectorConfig
    at_most: int  # pictures a set, the first of a seeded draw
    seed: int
    fold: Mapping[str, Sequence[str]]  # annotation category -> the model's classes

    def score(self, model: Path) -> dict[str, Any]:
        """Scores of the model at ``model``."""
        results = {s.annotations.parent.name + "/" + s.annotations.name: self._one(model, s) for s in self.sets}
        points = [r["ap50"] for r in results.values()]
        return {"ap50": float(np.mean(points)), "sets": results}

    def _one(self, model: Path, data: LabelledSet) -> dict[str, Any]:
        from ..detect.detector import make_detector

        read_coco(data.annotations)  # refuses what is not COCO
        tree = json.loads(data.annotations.read_text())
        images = sorted(tree["images"], key=lambda i: int(i["id"]))
        keep = np.random.default_rng(self.seed).permutation(len(images))[: self.at_most]
        images = [images[i] for i in sorted(keep)]
        detector = make_detector(replace(self.detector, model=str(model), score_min=0.01))
        names = {int(c["id"]): str(c["name"]) for c in tree["categories"]}
        categories = category_of_class({n: i for i, n in names.items()}, detector.class_names, self.fold)
        reached = sorted(set(categories.values()))
        ids = {int(i["id"]) for i in images}
        truth = [(a["image_id"], reached.index(a["category_id"]), *a["bbox"], float(a.get("iscrowd", 0)))
                 for a in sorted(tree["annotations"], key=lambda a: int(a["image_id"]))
                 if a["image_id"] in ids and a["category_id"] in reached]
        found = []
        for image in images:
            boxes = detector.detect(Frame(0, 0, read_picture(data.images / image["file_name"])))
            for (x1, y1, x2, y2), score, label in zip(boxes.xyxy_px.tolist(), boxes.score.tolist(),
                                                      boxes.class_id.tolist(), strict=True):
                if label in categories:
                    found.append((image["id"], reached.index(categories[label]), x1, y1, x2 - x1, y2 - y1, score))
        rows = [np.array(r, np.float64).reshape(-1, 7) for r in (truth, found)]
        scores = score_boxes(rows[0], rows[1], [names[c] for c in reached])
        per_class = {n: 100 * float(np.mean(c)) for n, c in scores.get("pr_curve", {}).items()}
        return {"ap50": float(np.mean(list(per_class.values()))) if per_class else 0.0, "per_class": per_class,
                "pr_curve": scores.get("pr_curve", {}), "pictures": len(images), "detections": len(found)}


def _beside(path: Path) -> LabelledSet:
    if path.is_dir():
        return LabelledSet(path / "images", path / "annotations.json")
    return LabelledSet(path.parent / "images", path)
