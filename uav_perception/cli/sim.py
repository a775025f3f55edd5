"""``sim render SCENE --out BAG``: a rendered flight with exact truth."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..errors import InputError
from .main import print_json


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `sim` takes."""
    actions = parser.add_subparsers(dest="action", required=True, parser_class=type(parser))
    actions.add_parser("scenes", help="list the scenes")
    p = actions.add_parser("render", help="render a scene into a bag")
    p.add_argument("scene")
    p.add_argument("--out", type=Path, required=True, help="bag: a folder, or one file NAME.mcap")
    p.add_argument("--seconds", type=float, default=10.0)
    p.add_argument("--fps", type=float, default=20.0)
    p.add_argument("--size", default="640x480", help="WIDTHxHEIGHT in px")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--thermal", action="store_true", default=None, help="a thermal camera")
    p.add_argument("--trajectory", help="hover, orbit, survey or follow")
    p.add_argument("--altitude", type=float, help="m above ground, 3–150")
    p.add_argument("--look-down", type=float, help="degrees below the horizon, 15–90")
    p.add_argument("--fov", type=float, default=65.0, help="horizontal field of view, degrees")
    p.add_argument("--exposure", type=float, default=4.0, help="ms; longer blurs more")
    p.add_argument("--rolling-shutter", type=float, default=0.0, help="ms from first to last row; 0 = global shutter")
    p.add_argument("--noise", type=float, default=0.008, help="share of full scale")
    p.add_argument("--haze", type=float, help="m to 63 %% haze")
    p.add_argument("--quality", type=int, default=92, help="JPEG quality")
    p.add_argument("--depth-every", type=int, default=1, help="depth for every N-th frame; 0 = none")
    p.add_argument("--resume", action="store_true", help="go on with an interrupted render")
    p.add_argument("--json", action="store_true")


def run(args: argparse.Namespace) -> int:
    """List the scenes or render one."""
    from ..sim.flight import SCENES, FlightOptions

    if args.action == "scenes":
        for name, spec in SCENES.items():
            print(f"{name:12} {spec.place}, {spec.trajectory}, {spec.altitude_m:g} m, {spec.look_down_deg:g} deg down")
        return 0
    from ..sim.record import BagOptions, render_bag

    width, x, height = args.size.partition("x")
    if not (x and width.isdecimal() and height.isdecimal()):
        raise InputError(f"--size {args.size!r}", "WIDTHxHEIGHT such as 640x480", "correct the argument")
    options = FlightOptions(
        int(width),
        int(height),
        args.fps,
        args.seed,
        args.thermal,
        args.trajectory,
        args.altitude,
        args.look_down,
        args.fov,
        args.exposure / 1e3,
        args.rolling_shutter / 1e3,
        args.noise,
        args.haze,
    )
    show = (
        (lambda done, total: print(f"\r{done}/{total} frames", end="", file=sys.stderr, flush=True))
        if sys.stderr.isatty()
        else (lambda done, total: None)
    )
    frames = render_bag(
        args.scene, args.out, options, BagOptions(args.seconds, args.quality, args.depth_every), args.resume, show
    )
    if args.json:
        print_json({"bag": str(args.out), "scene": args.scene, "frames": frames, "seed": args.seed})
    else:
        print(f"{frames} frames in {args.out}")
    return 0
