"""`bench`: runs a benchmark of the checkout's bench/ folder; each measures a peer or a baseline in the same run."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from pathlib import Path
from typing import NoReturn

from ..errors import InputError, MissingDependency
from .main import print_json

FOLDER = Path(__file__).resolve().parents[2] / "bench"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `bench`; each benchmark adds its own."""
    parser.add_argument("name", help="transport, pipeline, tracker, engine, depth, replay, soak, ...")
    parser.add_argument("rest", nargs=argparse.REMAINDER, help="options of the benchmark; --json prints one JSON line")


def run(args: argparse.Namespace) -> int:
    """Import bench/NAME.py, hand it its options, print what it measured."""
    if not FOLDER.is_dir():
        raise MissingDependency(f"no folder {FOLDER}", "a checkout of the repository (benchmarks are not installed)",
                                "clone it and run `make bench` there")
    file = FOLDER / f"{args.name}.py"
    known = sorted(p.stem for p in FOLDER.glob("*.py") if not p.stem.startswith("_"))
    if args.name not in known:
        raise InputError(f"benchmark {args.name!r}", f"one of {', '.join(known)}", "correct the name")
    sys.path.insert(0, str(FOLDER.parent))  # bench/ and training/ are not installed
    spec = importlib.util.spec_from_file_location(f"bench_{args.name}", file)
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    parser = _Parser(prog=f"uav-perception bench {args.name}", description=(module.__doc__ or "").split("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON line")
    if hasattr(module, "arguments"):
        module.arguments(parser)
    options = parser.parse_args(args.rest)
    result = module.run(options)
    if options.json:
        print_json(result)
    else:
        print(json.dumps(result, indent=1))
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(message, f"options as in `{self.prog} --help`", "correct the command line")
