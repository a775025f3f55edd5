"""``uav-perception detect``: a folder of pictures to a COCO results list."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import sys
from pathlib import Path
from typing import Any

from ..config import DetectorConfig
from ..parameters import make
from .main import print_json

SCORE_MIN = 0.01  # average precision wants the whole curve
INPUT_PX = 960  # frames up to about 1280 x 720 are seen in full resolution


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--images", required=True, metavar="DIR")
    parser.add_argument("--coco", required=True, metavar="ANNOTATIONS.json", 
                        help="image ids and categories are taken from it")
    parser.add_argument("--out", required=True, metavar="DETS.json")
    parser.add_argument("--detector", default="", metavar="M",
                        help="engine, manifest folder or ONNX; default: the package's own")
    parser.add_argument("--map", action="append", default=[], metavar="TARGET=a,b",
                        help="the category TARGET gets the model's classes a, b; repeatable")
    parser.add_argument("--family", help="output layout of the model; default: from its metadata or shapes")
    parser.add_argument("--classes", help="the model's class names in order, comma separated")
    parser.add_argument("--score-min", type=float, default=SCORE_MIN)
    parser.add_argument("--nms-iou", type=float)
    parser.add_argument("--input-px", type=int, default=INPUT_PX, metavar="PX",
                        help="network input of models of free size: about its square, shaped as the frame; "
                        f"default {INPUT_PX}, 0 = the model's own")
    parser.add_argument("--views", type=int, metavar="N",
                        help="looks at the picture as it is, mirrored at its diagonals, turned by half, fused; "
                        "default: all 4 with models of the family uavdet, which know no upright, else 1 (as live)")
    parser.add_argument("--tile", type=int, dest="tile_px", metavar="PX",
                        help="side of tiles in source pixels; 0 = whole frames")
    parser.add_argument("--backend", choices=("auto", "onnxruntime", "tensorrt"))
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", action="store_true")


def run(args: argparse.Namespace) -> int:
    """Detect in every picture of the annotation file."""
    from ..detect import coco
    from ..detect.detector import make_detector
    from ..detect.views import VIEWS
    from ..records import Frame

    given = {"model": args.detector, "family": args.family, "score_min": args.score_min, "nms_iou": args.nms_iou,
             "classes": args.classes.split(",") if args.classes else None, "input_px": args.input_px,
             "views": args.views, "tile_px": args.tile_px, "backend": args.backend, "threads": args.threads}
    listed, maps = coco.read_coco(args.coco), coco.parse_maps(args.map)
    detector = make_detector(make(DetectorConfig, {k: v for k, v in given.items() if v is not None}))
    if args.views is None and detector.family == "uavdet":
        detector.look_from(VIEWS)  # offline, accuracy before speed
    category = coco.category_of_class(listed.categories, detector.class_names, maps)
    detector.report_only([detector.class_names[i] for i in category])
    rows: list[dict[str, Any]] = []
    costs = []
    for i, (image_id, _, image) in enumerate(coco.read_images(args.images, listed)):
        rows += coco.results(image_id, detector.detect(Frame(i, i, image)), category)
        costs.append(detector.last_cost)
        if sys.stderr.isatty():
            print(f"\r{i + 1}/{len(listed.images)}", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    _write(Path(args.out), rows)
    info = detector.engine_info
    ms = {part: statistics.median([getattr(c, f"{part}_ns") / 1e6 for c in costs] or [0.0])
          for part in ("preprocess", "inference", "postprocess")}
    passes = max((c.passes for c in costs), default=0)
    summary = {"images": len(costs), "detections": len(rows), "out": args.out, "passes": passes, "median_ms": ms,
               "engine": dataclasses.asdict(info)}
    if args.json:
        print_json(summary)
    else:
        spent = ", ".join(f"{k} {v:.1f} ms" for k, v in ms.items())
        print(f"{len(rows)} detections in {len(costs)} pictures -> {args.out}\n"
              f"{info.name}, {info.precision}: {passes} passes a picture; medians: {spent}")
    return 0


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    from ..errors import InputError

    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(rows))
        os.replace(partial, path)
    except OSError as e:
        raise InputError(f"output {path}: {e.strerror}", "a file that can be written", "choose another --out") from e
