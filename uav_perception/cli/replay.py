"""``replay``: plays a bag into the live graph with /clock."""

from __future__ import annotations

import argparse
import importlib.util
import signal
import sys
import threading
from pathlib import Path

from ..errors import InputError, MissingDependency
from . import main as command_line
from .main import print_json


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("bag", type=Path, metavar="BAG")
    parser.add_argument("--rate", type=float, default=1.0, metavar="R", help="speed (default %(default)s)")
    parser.add_argument("--loop", action="store_true", help="start again at the end; stamps go on")
    parser.add_argument("--start", type=float, default=0.0, metavar="S", help="seconds into the bag")
    parser.add_argument("--paused", action="store_true", help="wait for `ros2 service call /player/pause` or Enter")
    parser.add_argument("--topics", nargs="+", default=[], metavar="T", help="only the camera and these")
    parser.add_argument("--image-topic", default="", metavar="T", help="camera of a bag with several")
    parser.add_argument("--namespace", default="", metavar="NS", help="ROS namespace of the graph")
    parser.add_argument("--qos", type=Path, metavar="YAML", help="QoS overrides, as `ros2 bag play` takes them")
    parser.add_argument("--wait", type=float, default=5.0, metavar="S", help="wait for a subscriber at most this long")
    parser.add_argument("--json", action="store_true")


def run(args: argparse.Namespace) -> int:
    """Play; Ctrl-C ends it."""
    if importlib.util.find_spec("rclpy") is None:
        raise MissingDependency("no ROS 2 for Python", "rclpy", "source /opt/ros/DISTRO/setup.bash, or "
                                "`pip install 'uav-perception[ros]'`; `evaluate` needs no ROS")
    from ..ros.replay import Options, play
    from ..runtime.process import prepare

    if not 0 <= args.start < 1e9 or not 0 <= args.wait <= 3600:
        raise InputError(f"--start {args.start:g} --wait {args.wait:g}", "seconds >= 0", "correct the numbers")
    prepare()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    played = play(Options(args.bag, args.rate, args.loop, args.start, tuple(args.topics), args.image_topic,
                          args.namespace, args.paused, args.qos, args.wait), stop)
    for line in played.left_out:
        print(f"not played: {line}", file=sys.stderr)
    if args.json:
        print_json({name: dict(value) if isinstance(value, dict) else value for name, value in vars(played).items()})
    else:
        late, dropped = sum(played.late.values()), sum(played.dropped.values())
        print(f"played {sum(played.published.values())} messages in {played.seconds} s, {late} late "
              f"(worst {played.worst_late_ms} ms), {dropped} images dropped")
    return 0


def main() -> int:
    """``ros2 run uav_perception replay BAG`` and launch files, whose --ros-args say nothing to a player."""
    words = sys.argv[1:sys.argv.index("--ros-args")] if "--ros-args" in sys.argv else sys.argv[1:]
    return command_line.main(["replay", *words])


if __name__ == "__main__":
    sys.exit(main())
