"""``convert``: folders of public sets to bags with truth."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..errors import InputError
from .main import print_json


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("folder", type=Path, help="pictures, or a folder with img/, img1/, images/, image_0/, rgb/")
    parser.add_argument("--out", type=Path, required=True, metavar="BAG", help="bag to write: a folder, or NAME.mcap")
    parser.add_argument("--layout", default="", help="coco, yolo, mot, otb (and VOT), kitti, tum; default: found out")
    parser.add_argument("--truth", type=Path, metavar="F", help="truth file (YOLO: folder) not in its usual place")
    parser.add_argument("--calibration", default="", metavar="YAML", help="intrinsics (camera_info_manager YAML)")
    parser.add_argument("--fps", type=float, default=30.0, help="rate of sets that tell no times (default %(default)s)")
    parser.add_argument("--resize", metavar="WxH", help="scale pictures and truth")
    parser.add_argument("--storage", default="mcap", choices=("mcap", "sqlite3"))
    parser.add_argument("--compression", default="", choices=("", "chunk", "message", "file"), help="zstd, by bag part")
    parser.add_argument("--humble", action="store_true", help="metadata that Humble and Iron read")
    parser.add_argument("--json", action="store_true")


def run(args: argparse.Namespace) -> int:
    """Convert one folder."""
    from ..offline.convert import ConvertOptions, convert

    if not 0.1 <= args.fps <= 1000:
        raise InputError(f"--fps {args.fps}", "0.1 to 1000", "correct the rate")
    options = ConvertOptions(args.storage, args.compression, args.humble, args.layout, args.truth, args.calibration,
                             args.fps, resize=_size(args.resize))
    shown = sys.stderr.isatty()

    def progress(done: int, total: int) -> None:
        if shown and (done % 50 == 0 or done == total):
            print(f"\r{done}/{total}", end="" if done < total else "\n", file=sys.stderr, flush=True)

    said = convert(args.folder, args.out, options, progress)
    if args.json:
        print_json(said)
    else:
        print(", ".join(f"{k} {v}" for k, v in said.items()))
    return 0


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    width, x, height = text.partition("x")
    digits = x and width.isdigit() and height.isdigit()
    if not digits or not (0 < int(width) <= 16384 and 0 < int(height) <= 16384):
        raise InputError(f"--resize {text}", "WIDTHxHEIGHT in px", "for example 640x480")
    return int(width), int(height)
