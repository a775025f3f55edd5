"""Target trackers: ours, KCF, CSRT and NanoTrack in one run on one thread, and what each part of ours is worth.

Sequences are folders with ``img/`` and ``groundtruth.txt`` (OTB rules: one pass, strict >, first frame counts). Time is
the tracker's alone; images are decoded before. ``cpu_fps`` counts CPU time, so that a busy machine does not spoil it.
One pass says little about robustness: ``--starts`` begins again in other ways.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

PARTS = ("colour", "regions", "distance_transform", "quality_fusion", "scale", "aspect", "figure", "refine",
         "camera_motion", "gate")


def arguments(parser: argparse.ArgumentParser) -> None:
    shared = Path(__file__).parents[2] / "shared/data"
    parser.add_argument("--data", type=Path, default=shared / "sot", help="folder of sequences")
    parser.add_argument("--models", type=Path, default=shared / "models", help="folder with NanoTrack's ONNX files")
    parser.add_argument("--trackers", default="lsart,kcf,csrt,nanotrackv2,nanotrackv3", help="which, comma-separated")
    parser.add_argument("--ablation", action="store_true", help="also ours with each part switched off (or on)")
    parser.add_argument("--starts", type=int, default=0, metavar="N",
                        help="also N runs a sequence of each tracker from other starts: another of the first frames, box off")
    parser.add_argument("--limit", type=int, default=0, help="frames a sequence at most; 0 = all")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """AUC, precision at 20 px and speed of every tracker, in the mean and per sequence."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")  # holds where numpy is not imported yet; else set it outside
    import cv2

    from uav_perception.errors import InputError

    cv2.setNumThreads(1)
    folders = [d for d in sorted(args.data.glob("*")) if (d / "groundtruth.txt").is_file()]
    if not folders:
        raise InputError(f"--data {args.data}", "folders with img/ and groundtruth.txt", "name a folder of sequences")
    variants: dict[str, tuple[str, dict[str, Any]]] = {}
    for name in args.trackers.split(","):
        nano = {"nano_models": str(args.models), "nano_version": name}
        variants[name] = ("nano", nano) if name.startswith("nano") else (name, {})
    if args.ablation:
        variants |= {f"no_{part}": ("lsart", {part: False}) for part in PARTS}
        variants["with_cross_patch"] = ("lsart", {"cross_patch": True})
    rows: dict[str, dict[str, dict[str, float]]] = {name: {} for name in variants}
    for folder in folders:
        images, truth = _load(folder, args.limit)
        for name, (tracker, values) in variants.items():
            rows[name][folder.name] = _one_pass(tracker, values, images, truth)
            if args.starts:
                rows[name][folder.name] |= _other_starts(tracker, values, images, truth, args.starts)
    means = {name: {k: round(sum(r[k] for r in per.values()) / len(per), 4) for k in next(iter(per.values()))}
             | {"auc_min": min(r["auc"] for r in per.values())} for name, per in rows.items()}
    return {"threads": 1, "sequences": [f.name for f in folders], "mean": means, "per_sequence": rows}


def _load(folder: Path, limit: int) -> tuple[list[Any], Any]:
    import numpy as np

    from uav_perception.camera.files import FolderPictures

    lines = (folder / "groundtruth.txt").read_text().replace(",", " ").split("\n")
    truth = np.array([[float(v) for v in line.split()[:4]] for line in lines if line.strip()])
    pictures = FolderPictures(folder, 30.0).pictures()
    images = [p.decode() for _, p in zip(range(limit or len(truth)), pictures, strict=False)]
    n = min(len(images), len(truth))
    return images[:n], truth[:n]


FIRST_FRAMES, BOX_OFF = 6, 0.03  # other starts: one of the first frames, edges off by a share of the box (sigma)


def _other_starts(name: str, values: dict[str, Any], images: list[Any], truth: Any, count: int) -> dict[str, float]:
    """Mean AUC from other starts, and the share of them whose AUC is below 0.5."""
    import numpy as np

    aucs = []
    for k in range(count):
        rng = np.random.default_rng(k)
        first = int(rng.integers(FIRST_FRAMES))
        off = rng.normal(0, BOX_OFF, 4) * np.tile(truth[first, 2:], 2)
        start = truth[first] + np.concatenate([off[:2], off[2:] - off[:2]])
        aucs.append(_one_pass(name, values, images[first:], truth[first:], start)["auc"])
    return {"other_starts_auc": round(float(np.mean(aucs)), 4), "other_starts_lost": float(np.mean(np.array(aucs) < 0.5))}


def _one_pass(name: str, values: dict[str, Any], images: list[Any], truth: Any, start: Any = None) -> dict[str, float]:
    """Scores and speed; ``start``: the first box (x, y, w, h) if it is not the truth's."""
    import numpy as np

    from uav_perception.config import LsartConfig, TrackerConfig
    from uav_perception.offline.metrics.target import score_target
    from uav_perception.records import Frame
    from uav_perception.track.trackers import make_target_tracker

    tracker = make_target_tracker(TrackerConfig(target_tracker=name), LsartConfig(**values))
    x, y, w, h = truth[0] if start is None else start
    boxes, wall, cpu = [tracker.start(Frame(0, 0, images[0]), [x, y, x + w, y + h]).xyxy_px], 0.0, 0.0
    for k, image in enumerate(images[1:], 1):
        frame = Frame(k, k * 33_333_333, image)
        t0, c0 = time.perf_counter(), time.process_time()
        track = tracker.update(frame)
        wall, cpu = wall + time.perf_counter() - t0, cpu + time.process_time() - c0
        boxes.append(track.xyxy_px)
    found = np.array(boxes, dtype=np.float64)
    found[:, 2:] -= found[:, :2]
    score = score_target(truth, found)
    return {"auc": round(score["success_auc"], 4), "precision_20px": round(score["precision_20px"], 4),
            "fps": round((len(images) - 1) / wall, 1), "cpu_fps": round((len(images) - 1) / max(cpu, 1e-9), 1)}
