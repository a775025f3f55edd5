"""`doctor`: what this machine has, what will be used, what to do about what is missing."""

from __future__ import annotations

import argparse

from ..runtime.doctor import as_dict, examine
from .main import print_json

MARKS = {"ok": "ok     ", "note": "note   ", "missing": "MISSING"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `doctor`."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Examine and print; exit code 1 when something is missing."""
    findings = examine()
    for f in findings if not args.json else ():
        print(f"{MARKS[f.state]} {f.name:16} {f.found}" + (f"\n{'':25}-> {f.remedy}" if f.remedy else ""))
    if args.json:
        print_json(as_dict(findings))
    return 1 if any(f.state == "missing" for f in findings) else 0
