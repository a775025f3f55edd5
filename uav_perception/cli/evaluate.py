"""``evaluate``: every stage over every frame of recordings, scored where truth exists."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from ..config import EvaluateConfig, FlightConfig, load_flight_config
from ..errors import InputError
from ..parameters import make
from .main import print_json


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("recordings", nargs="+", metavar="BAG_OR_DIR", help="bags, image folders, or folders of those")
    parser.add_argument("--out", default="out/evaluate", help="where reports and results go (default: %(default)s)")
    parser.add_argument("--truth", default="", metavar="F", help="truth file of one image folder (COCO, MOT, OTB, ...)")
    parser.add_argument("--config", metavar="YAML", help="parameter file of the stages (launch/params/flight.yaml)")
    parser.add_argument("--detector", metavar="M", help="detector model")
    parser.add_argument("--tracker", metavar="T", help="target tracker (lsart, kcf, csrt, nano)")
    parser.add_argument("--calibration", metavar="YAML", help="intrinsics of image folders")
    parser.add_argument("--image-topic", metavar="T", help="image topic of bags with several cameras")
    parser.add_argument("--stages", default="detector,tracker,depth_pose", metavar="LIST",
                        help="what runs; `tracker` alone uses the recorded detections (default: %(default)s)")
    parser.add_argument("--target", default="auto", metavar="ID",
                        help="locked target: auto (the only object of the first frame), largest, none, or an identity")
    parser.add_argument("--map", action="append", default=[], metavar="TARGET=a,b",
                        help="truth class TARGET is met by the model's classes a, b (repeatable)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes on this machine")
    parser.add_argument("--cluster", default="", metavar="ADDRESS", help="dask.distributed scheduler (extra `cluster`)")
    parser.add_argument("--baseline", metavar="REPORT", help="earlier report.json: exit 1 when a score got worse")
    parser.add_argument("--tolerance", type=float, metavar="X", help="how much worse is still fine (default 0.01)")
    parser.add_argument("--live", metavar="FLIGHT", help="recorded flight of the same bag: what real time cost")
    parser.add_argument("--verify", action="store_true", help="score the exported files by the reference libraries "
                        "too; exit 1 when a score differs by more than 1e-6")
    parser.add_argument("--fresh", action="store_true", help="evaluate again what is finished already")
    parser.add_argument("--json", action="store_true", help="print the report's summary as one JSON line")


def run(args: argparse.Namespace) -> int:
    """Evaluate; exit 0, or 1 when a recording failed or a score got worse."""
    from ..depth_pose.estimator import base_from_optical
    from ..offline.evaluate import Options
    from ..offline.html import write_evaluation
    from ..offline.live import compare_live
    from ..offline.recording import find_recordings
    from ..offline.report import text
    from ..offline.runner import make_jobs, run_jobs
    from ..offline.stages import STAGES
    from ..offline.summary import compare, load_report, report_of
    from ..offline.verify import AGREE

    config = load_flight_config(args.config) if args.config else FlightConfig()
    config = config.with_values("detector", model=args.detector).with_values("tracker", target_tracker=args.tracker)
    config = config.with_values("camera", calibration=args.calibration, image_topic=args.image_topic)
    settings = make(EvaluateConfig, {} if args.tolerance is None else {"tolerance": args.tolerance})
    stages = tuple(s for s in args.stages.split(",") if s)
    if not stages or any(s not in STAGES for s in stages):
        raise InputError(f"--stages {args.stages}", f"some of {','.join(STAGES)}", "correct the list")
    if args.workers < 1:
        raise InputError(f"--workers {args.workers}", "at least 1", "correct the number")
    options = Options(stages, args.target, class_map(args.map), args.truth)
    baseline = load_report(Path(args.baseline)) if args.baseline else None
    paths, out = find_recordings([Path(p) for p in args.recordings]), Path(args.out)
    if args.truth and len(paths) != 1:
        raise InputError(f"--truth {args.truth} with {len(paths)} recordings", "one", "evaluate them one by one")
    jobs = make_jobs(paths, out, config, settings, options)
    if args.fresh:
        for job in jobs:
            (Path(job.out) / "done.json").unlink(missing_ok=True)
    results = run_jobs(jobs, args.workers, args.cluster, _progress)
    report = report_of(results)
    regressions = compare(report, baseline, settings.tolerance) if baseline else []
    apart = _verify(report, out) if args.verify else {}
    live = None
    if args.live:
        if len(jobs) != 1 or report["failed"]:
            raise InputError(f"--live {args.live} with {len(jobs)} recordings", "the one it flew from, evaluated",
                             "give that recording alone")
        live = compare_live(Path(jobs[0].out), Path(args.live), base_from_optical(config.depth_pose))
    write_evaluation(out, report, regressions, live, settings.pictures_max)
    worse = [r for r in regressions if r["worse"]]
    for row in worse:
        print(f"worse than the baseline: {row['recording']} {row['score']} {row['now']} (was {row['baseline']})",
              file=sys.stderr)
    for row in live["rows"] if live else ():
        print(f"{row['what']}: offline {text(row['offline'])}, live {text(row['live'])}", file=sys.stderr)
    if args.json:
        print_json({"report": str(out / "report.json"), "failed": report["failed"], "overall": report["overall"],
                    "regressions": worse, "live": live, "apart": apart})
    else:
        print(f"{len(results) - len(report['failed'])} of {len(results)} recordings evaluated: {out / 'report.html'}")
    return 1 if worse or report["failed"] or any(v > AGREE for v in apart.values()) else 0


def _verify(report: dict[str, Any], out: Path) -> dict[str, float]:
    """Largest differences from the reference libraries, over all recordings; said on standard error."""
    from ..offline.verify import verify

    apart: dict[str, float] = {}
    for result in report["recordings"]:
        for kind, value in (verify(out / result["name"], result) if "error" not in result else {}).items():
            apart[kind] = max(apart.get(kind, 0.0), value)
    for kind, value in apart.items():
        print(f"{kind}: differs from the reference library by {value:.2g} at most", file=sys.stderr)
    return apart


def class_map(words: list[str]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """``TARGET=a,b`` words as pairs.

    Raises:
        InputError: no ``=`` or nothing behind it.
    """
    pairs = []
    for word in words:
        target, equals, names = word.partition("=")
        if not equals or not target or not all(names.split(",")):
            raise InputError(f"--map {word}", "TARGET=a,b", "name a truth class and the model's classes")
        pairs.append((target, tuple(names.split(","))))
    return tuple(pairs)


def _progress(name: str, result: dict[str, Any]) -> None:
    text = result.get("error") or "; ".join(_headline(result)) or "no truth to score against"
    print(f"{name}: {text}", file=sys.stderr, flush=True)


def _headline(result: dict[str, Any]) -> list[str]:
    from ..offline.summary import WATCHED

    shown = [f"{result['counts']['frames']} frames"]
    for score, ((section, key), _, _) in WATCHED.items():
        value = result["scores"].get(section, {}).get(key)
        if value is not None:
            shown.append(f"{score} {value:.3f}")
    loss = result["loss"]
    if loss["status"]:
        shown.append(f"loss: {loss['status']}")
    return shown
