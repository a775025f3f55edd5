"""``uav-perception train mask``: from rendered flights to an ONNX file and its model card."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from training.checks import check_arguments, need_torch
from uav_perception.engine.manifest import sha256_of
from uav_perception.errors import InputError


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--flights", required=True, metavar="DIR", help="rendered flights; those missing are rendered")
    parser.add_argument("--count", type=int, default=400,
                        help="how many of them, 9 MB of memory each (default %(default)s)")
    parser.add_argument("--out", required=True, metavar="DIR", help="checkpoint, ONNX, model card")
    parser.add_argument("--start", default="", metavar="FILE", help="an exported mask network to go on from")
    parser.add_argument("--blend", type=float, default=1.0, metavar="SHARE",
                        help="of what was learnt in the result; the rest is --start's (default: all)")
    parser.add_argument("--rate", type=float, default=3e-3, help="largest learning rate (default %(default)s)")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=12, help="crops a step (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Render, train (or go on training), export, write the card; returns what a caller prints as JSON."""
    need_torch()
    check_arguments(args, ("count", "steps", "batch"), (args.start,))
    if not 0 < args.blend <= 1 or (args.blend < 1 and not args.start):
        raise InputError(f"--blend {args.blend:g}", "a share above 0 and up to 1, below 1 only with --start",
                         "correct the arguments")
    from .export import export, write_card
    from .train import Plan, train

    plan = Plan(args.flights, args.out, args.count, args.start, args.blend, args.steps,
                args.batch, args.rate, seed=args.seed)
    model, history = train(plan)
    path = Path(args.out) / "uav_mask.onnx"
    export(model, path, {"steps": plan.steps, "seed": plan.seed, "flights": plan.flights,
                         "start": plan.start and sha256_of(Path(plan.start)), "blend": plan.blend})
    summary = {"onnx": str(path), "steps": plan.steps, "parameters": sum(p.numel() for p in model.parameters()),
               "iou": history[-1]["iou"]}
    write_card(Path(args.out) / "README.md", summary, plan)
    return summary
