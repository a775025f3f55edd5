"""Entry point: parses, dispatches, and turns errors into one line and an exit code."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from ..errors import InputError, UavPerceptionError

# name -> what it does; each lives in cli/<name>.py with `arguments(parser)` and `run(args) -> int`
COMMANDS = {
    "fly": "the live graph: real ROS 2 nodes and topics",
    "replay": "play a bag into the graph with /clock",
    "evaluate": "every stage over every frame of a bag, offline and deterministic, scored where truth exists",
    "convert": "public data sets and folders to bags",
    "detect": "detections of a folder as a COCO results list",
    "track": "one-pass single-target tracking",
    "mot": "many targets, MOTChallenge text",
    "depth": "depth and ego-motion over an ordered folder",
    "engine": "build, inspect, compare engines",
    "train": "train the detector, depth, box refinement or motion mask networks (extra `train`)",
    "sim": "render a flight with exact truth (extra `sim`)",
    "bench": "benchmarks, each beside a peer",
    "doctor": "what this machine has and what will be used",
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(message, f"arguments as in `{self.prog} --help`", "correct the command line")


def print_json(value: Any) -> None:
    """The last line of standard output of a command with ``--json``."""
    print(json.dumps(value, allow_nan=False), flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns the exit code: 0 done, 1 failed or gate missed, 2 bad input."""
    words = list(sys.argv[1:] if argv is None else argv)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # our matrices are small: BLAS threads only spin; before numpy
    try:
        parser = _Parser(prog="uav-perception", description="Onboard real-time perception for UAVs.")
        commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
        for name, text in COMMANDS.items():
            sub = commands.add_parser(name, help=text, description=text)
            if words[:1] == [name]:  # import only what runs: start-up stays fast
                command = importlib.import_module(f".{name}", __package__)
                command.arguments(sub)
        args = parser.parse_args(words)
        if args.command is None:
            parser.print_help()
            return 2
        return int(command.run(args))
    except UavPerceptionError as e:
        print(f"uav-perception: {type(e).__name__}: {e}", file=sys.stderr)
        return e.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 0


def run_main() -> None:
    """The console script."""
    sys.exit(main())


if __name__ == "__main__":
    run_main()
