"""``engine``: build, inspect and compare engines."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..config import BuilderConfig, DetectorConfig
from ..detect.coco import parse_maps
from ..errors import InputError
from ..parameters import make
from .main import print_json


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="build|inspect|compare")
    build = actions.add_parser("build", help="calibrate, quantise, check accuracy, build")
    build.add_argument("model", metavar="MODEL.onnx")
    build.add_argument("--calib", nargs="+", required=True, metavar="DIR_OR_BAG", help="pictures to calibrate on")
    build.add_argument("--calib-topic", default="", metavar="T", help="image topic of bags with several cameras")
    build.add_argument("--out", required=True, metavar="DIR")
    build.add_argument("--precision", choices=("int8", "fp16", "fp32"), default="int8")
    build.add_argument("--target", choices=("onnxruntime", "tensorrt", "tensorrt-rtx"), default="onnxruntime")
    build.add_argument("--gate", type=float, metavar="DROP",
                       help="points of AP50 (with --eval) or percent of output error that INT8 may cost; else exit 1")
    build.add_argument("--eval", nargs="+", default=[], metavar="COCO",
                       help="labelled sets: IMAGES:ANNOTATIONS.json, or a folder with images/ and annotations.json")
    build.add_argument("--map", action="append", default=[], metavar="TARGET=a,b",
                       help="annotation category TARGET is met by the model's classes a, b (repeatable)")
    build.add_argument("--preprocess", default="", metavar="K=V,...",
                       help="when the model does not say: color, mean, scale, fit, align, pad_value")
    build.add_argument("--method", choices=("auto", "mse", "percentile", "minmax", "entropy"), help="range method")
    build.add_argument("--equalise", choices=("auto", "on", "off"), help="cross-layer equalisation of channel ranges")
    build.add_argument("--plan", choices=("fastest", "fixed"),
                       help="fixed: choose float layers without a clock, so that every machine writes the same file")
    build.add_argument("--pictures", type=int, metavar="N", help="calibration pictures drawn")
    build.add_argument("--seed", type=int, metavar="N", help="seed of the draw")
    build.add_argument("--sm", default="8.9", help="GPU of tensorrt-rtx plans (default: %(default)s)")
    build.add_argument("--dla", type=int, default=-1, metavar="CORE", help="DLA core of tensorrt plans (-1: none)")
    build.add_argument("--implicit", choices=("entropy", "minmax"), default="",
                       help="calibrate inside TensorRT <= 10 instead of Q/DQ (what DLA needs there)")
    build.add_argument("--timing-cache", default="", metavar="FILE", help="TensorRT timing cache, read and updated")
    build.add_argument("--json", action="store_true")
    inspect = actions.add_parser("inspect", help="what an engine is and whether it runs here")
    inspect.add_argument("path", metavar="PATH")
    inspect.add_argument("--json", action="store_true")
    compare = actions.add_parser("compare", help="tensor and task differences of two engines")
    compare.add_argument("a", metavar="A")
    compare.add_argument("b", metavar="B")
    compare.add_argument("--data", required=True, metavar="DIR", help="pictures, or with --eval-map a labelled set")
    compare.add_argument("--preprocess", default="", metavar="K=V,...")
    compare.add_argument("--map", action="append", default=[], metavar="TARGET=a,b")
    compare.add_argument("--json", action="store_true")


def run(args: argparse.Namespace) -> int:
    """Dispatch; exit 1 when the gate is missed."""
    return {"build": _build, "inspect": _inspect, "compare": _compare}[args.action](args)


def _build(args: argparse.Namespace) -> int:
    from ..builder.accuracy import DetectionTask, LabelledSet
    from ..builder.build import build
    from ..builder.data import draw, preprocess_of
    from ..builder.quantiser import WEAK_POINTS, Request
    from ..engine.onnxruntime import OnnxRuntimeEngine

    given = {"method": args.method, "plan": args.plan, "equalise": args.equalise,
             "pictures": args.pictures, "seed": args.seed}
    config = make(BuilderConfig, {k: v for k, v in given.items() if v is not None})
    if args.gate is not None and not args.gate >= 0:
        raise InputError(f"--gate {args.gate}", "a number >= 0", "correct the gate")
    model = Path(args.model)
    engine = OnnxRuntimeEngine(model)
    preprocess = preprocess_of(engine, args.preprocess)
    engine.close()
    sets = tuple(LabelledSet.parse(text) for text in args.eval)
    task = DetectionTask(sets, DetectorConfig(), config.eval_pictures, config.seed, parse_maps(args.map))
    drawn = draw(args.calib, config.pictures, config.seed, args.calib_topic, len(preprocess.inputs))
    options = {"sm": args.sm, "dla_core": args.dla, "timing_cache": args.timing_cache,
               "implicit": args.implicit}
    manifest = build(Request(model, Path(args.out), drawn, tuple(args.calib), preprocess, args.target, args.precision,
                             args.gate, task if sets else None, config, options), _progress)
    a = manifest.accuracy
    print(f"{args.out}: {', '.join(f.file for f in manifest.files)}; report.html says what it cost")
    if "output_error_percent" in a:
        drop = a["ap50_drop_points"]
        print(f"output error {a['output_error_percent']:.2f} %, {a['layers_int8']} layers in INT8, "
              f"{len(a['layers_float'])} in float" + (f", AP50 lost {drop:.2f} points" if drop is not None else ""))
    if (a.get("task_fp32") or {}).get("ap50", WEAK_POINTS) < WEAK_POINTS:
        print(f"the float model reaches {a['task_fp32']['ap50']:.1f} points of AP50 on --eval, too few to tell: "
              "layers were chosen by output error; give pictures of what it was trained for")
    if "latency_ms" in a:
        ratio = manifest.int8_latency_ratio or 1.0
        print(f"processor time here {ratio:.2f} of float, size {a['bytes']['int8'] / a['bytes']['fp32']:.2f}"
              + ("; INT8 gains nothing on this CPU: the folder runs its float ONNX" if ratio >= 1 else ""))
    if args.json:
        print_json({"out": args.out, "files": [asdict(f) for f in manifest.files], "accuracy": _brief(a)})
    return 0


def _inspect(args: argparse.Namespace) -> int:
    from ..builder.inspect import inspect

    found = inspect(Path(args.path))
    for key, value in found.items():
        print(f"{key}: {value}")
    if args.json:
        print_json(found)
    return 0


def _compare(args: argparse.Namespace) -> int:
    from ..builder.inspect import compare

    found = compare(Path(args.a), Path(args.b), Path(args.data), args.preprocess, parse_maps(args.map))
    for key, value in found.items():
        print(f"{key}: {value}")
    if args.json:
        print_json(found)
    return 0


def _brief(accuracy: Any) -> dict[str, Any]:
    """Accuracy without the long tables, for the JSON line; they are in the manifest."""
    long = ("layer_snr_db", "layer_sensitivity_percent", "task_fp32", "task_int8", "builder")
    return {k: v for k, v in accuracy.items() if k not in long}


def _progress(items: Iterable[Any], what: str) -> Iterable[Any]:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(items, what, console=console) if console.is_terminal else items
