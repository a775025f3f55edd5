"""``uav-perception train detector|depth|refine|mask``: hands over to the repository's ``training/`` (not installed)."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any

from ..errors import MissingDependency
from .main import print_json

CHECKOUT = Path(__file__).resolve().parents[2]
NETWORKS = {"detector": "training.detector.command", "depth": "training.depth.command",
            "refine": "training.refine.command", "mask": "training.mask.command"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments; each network adds its own."""
    networks = parser.add_subparsers(dest="network", required=True, metavar="|".join(NETWORKS))
    for name, module in NETWORKS.items():
        sub = networks.add_parser(name, help=f"train the {name} network", description=f"Train the {name} network.")
        try:
            _command(module).arguments(sub)
        except MissingDependency as e:
            sub.set_defaults(missing=e)


def run(args: argparse.Namespace) -> int:
    """Train; the command's module returns what ``--json`` prints."""
    missing = getattr(args, "missing", None)
    if isinstance(missing, MissingDependency):
        raise missing
    summary = _command(NETWORKS[args.network]).run(args)
    if getattr(args, "json", False):
        print_json(summary)
    elif summary:
        print("\n".join(f"{k}: {v}" for k, v in summary.items()))
    return 0


def _command(module: str) -> Any:
    """The training module of a network.

    Raises:
        MissingDependency: this is an installation without ``training/``.
    """
    if not (CHECKOUT / Path(*module.split("."))).with_suffix(".py").is_file():
        raise MissingDependency(f"no {module.replace('.', '/')}.py beside the package", "a checkout of the repository",
                                "clone it, run `make train-setup` and train from there")
    if str(CHECKOUT) not in sys.path:
        sys.path.insert(0, str(CHECKOUT))
    try:
        return importlib.import_module(module)
    except ImportError as e:
        raise MissingDependency(f"{module} cannot be loaded: {e}", "the extra `train`", "run `make train-setup`") from e
