"""`fly`: the live graph of real ROS 2 nodes, from one command."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

from ..errors import InputError, MissingDependency
from .main import print_json


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `fly`."""
    parser.add_argument("--source", metavar="SRC", help="demo (default), sim:SCENE, a video, an image folder, "
                        "bag:PATH, v4l2:/dev/video0, csi:0, rtsp://..., topic (another driver's images)")
    parser.add_argument("--duration", type=float, metavar="S", help="seconds from the first frame; default: until the "
                        "source ends or Ctrl-C")
    parser.add_argument("--out", type=Path, default=Path("out/fly"), metavar="DIR", help="folder for what is written")
    parser.add_argument("--detector", metavar="M", help="engine, manifest folder or ONNX file")
    parser.add_argument("--fc", metavar="URL", help="autopilot: udpout:host:port, udpin:host:port, serial "
                        "device[:baud]; default: a listener of its own on this machine, and the best track is locked")
    parser.add_argument("--no-record", action="store_true", help="write neither flight.mcap nor overlay.mp4")
    parser.add_argument("--separate", action="store_true", help="every node in a process of its own")
    parser.add_argument("--params", type=Path, metavar="FILE",
                        help="parameter file instead of launch/params/flight.yaml")
    parser.add_argument("--namespace", default="", help="ROS namespace of the whole graph")
    parser.add_argument("--sim-time", action="store_true", help="follow /clock of `replay` or a simulator; with "
                        "--source topic")
    parser.add_argument("--json", action="store_true", help="print the report as the last line")


def run(args: argparse.Namespace) -> int:
    """Fly and report."""
    if args.duration is not None and not 0 < args.duration < float("inf"):
        raise InputError(f"--duration {args.duration}", "seconds > 0", "leave it out to fly until the source ends")
    source = _absolute(args.source)
    if importlib.util.find_spec("rclpy") is None:  # said at once and clearly, not by a process that dies
        raise MissingDependency("no module rclpy", "ROS 2 for Python", "source /opt/ros/DISTRO/setup.bash, or "
                                "`pip install 'uav-perception[ros]'`; `evaluate` needs no ROS")
    from ..ros.flight import Options, fly

    report = fly(Options(args.out, source, args.duration, _absolute(args.detector), args.fc, not args.no_record,
                         not args.separate, args.params, args.namespace, args.sim_time))
    counts = ", ".join(f"{n} {what}" for what, n in report["counts"].items())
    print(f"{args.out}/report.html: {counts}; first track after {report['first_track_s']} s", file=sys.stderr)
    if args.json:
        print_json(report)
    return 0


def _absolute(text: str | None) -> str | None:
    """A path that exists as an absolute one; anything else (demo, v4l2:...) as it is. The nodes get it either way."""
    if text is None:
        return None
    kind, colon, rest = text.partition(":")
    if colon and kind in ("bag", "file") and Path(rest).exists():
        return f"{kind}:{Path(rest).resolve()}"
    return str(Path(text).resolve()) if text != "demo" and Path(text).exists() else text
