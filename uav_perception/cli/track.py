"""``uav-perception track``: one-pass single-target tracking of sequences, one box a frame."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, SourceError
from .main import print_json

if TYPE_CHECKING:  # numpy and OpenCV are imported in `run`, after the number of threads is set
    from ..camera.finite import Picture
    from ..records import Frame, Track
    from ..track import TargetTracker

TRACKERS = ("lsart", "kcf", "csrt", "nano")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("sequences", nargs="+", type=Path, metavar="SEQ",
                        help="folder with img/ and groundtruth.txt (its first line is read), or a video with --box")
    parser.add_argument("--out", type=Path, required=True, help="folder for <sequence>.txt: x,y,w,h a frame")
    parser.add_argument("--tracker", choices=TRACKERS, default=None, help="default: what the parameters say (lsart)")
    parser.add_argument("--box", help="x,y,w,h of the target in the first frame, instead of groundtruth.txt")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of the tracker (default 1)")
    parser.add_argument("--fps", type=float, default=30.0, help="rate of image folders, Hz")
    parser.add_argument("--models", type=Path, help="folder with NanoTrack's ONNX files (tracker nano)")
    parser.add_argument("--params", type=Path, help="ROS 2 parameter file with tracker settings")
    parser.add_argument("--overlay", type=Path, help="folder for <sequence>.mp4 with the box drawn")
    parser.add_argument("--json", action="store_true", help="print speed and states as the last line")


def run(args: argparse.Namespace) -> int:
    """Track every sequence; the box convention of the input (0- or 1-based) is that of the output."""
    if args.threads < 1:
        raise InputError(f"--threads {args.threads}", "at least 1", "leave it out for one thread")
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, str(args.threads))
    import cv2

    from ..config import FlightConfig, load_flight_config
    from ..track.trackers import make_target_tracker

    cv2.setNumThreads(args.threads)
    config = load_flight_config(args.params) if args.params else FlightConfig()
    config = config.with_values("tracker", target_tracker=args.tracker)
    config = config.with_values("lsart", nano_models=str(args.models) if args.models else None)
    for folder in filter(None, (args.out, args.overlay)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise InputError(f"folder {folder}: {e.strerror}", "a folder that can be made", "name another") from e
    names = [s.stem if s.is_file() else s.resolve().name for s in args.sequences]
    twice = {n for n in names if names.count(n) > 1}
    if twice:
        raise InputError(f"two sequences named {', '.join(sorted(twice))}", "different names", "track them in two runs")
    report: dict[str, Any] = {}
    for name, sequence in zip(names, args.sequences, strict=True):
        tracker = make_target_tracker(config.tracker, config.lsart)
        report[name] = _track(tracker, sequence, name, args)
        if not args.json:
            print(f"{name}: {report[name]['frames']} frames, {report[name]['fps']} fps", flush=True)
    if args.json:
        fps = [r["fps"] for r in report.values() if r["fps"]]
        print_json({"tracker": config.tracker.target_tracker, "threads": args.threads,
                    "fps_mean": round(sum(fps) / len(fps), 1) if fps else None, "sequences": report})
    return 0


def _track(tracker: TargetTracker, sequence: Path, name: str, args: argparse.Namespace) -> dict[str, Any]:
    import numpy as np

    from ..camera.files import FolderPictures, VideoPictures
    from ..offline.exports import write_otb, xywh
    from ..records import Frame

    first = _box(args.box, f"--box {args.box}") if args.box else _first_box(sequence)
    source = VideoPictures(sequence, args.fps) if sequence.is_file() else FolderPictures(sequence, args.fps)
    film, boxes, states, spent_ns, shape = None, [], [], 0, (0, 0)
    try:
        for k, picture in enumerate(source.pictures()):
            image = _decode(picture, name, shape)
            shape = image.shape[:2]
            frame = Frame(k, picture.stamp_ns, image)
            began = time.perf_counter_ns()
            if k == 0:
                x, y, w, h = first
                track = tracker.start(frame, [x, y, x + w, y + h])
            else:
                track = tracker.update(frame)
                spent_ns += time.perf_counter_ns() - began
            boxes.append(track.xyxy_px)
            states.append(track.state.value)
            if args.overlay:
                film = film or _Film(args.overlay / f"{name}.mp4", args.fps, frame)
                film.add(frame, track)
    finally:
        source.close()
        if film:
            film.close()
    if not boxes:
        raise SourceError(f"sequence {sequence} without frames", "at least one picture", "check the path")
    table = xywh(np.array(boxes))
    table[0] = first
    write_otb(args.out / f"{name}.txt", table)
    fps = round((len(boxes) - 1) / (spent_ns / 1e9), 1) if spent_ns else None
    return {"frames": len(boxes), "fps": fps, "states": {s: states.count(s) for s in sorted(set(states))}}


def _decode(picture: Picture, name: str, shape: tuple[int, int]) -> Any:
    """The image; a damaged one in mid-sequence is a black frame (no evidence), said on standard error."""
    import numpy as np

    try:
        return picture.decode()
    except SourceError as e:
        if not any(shape):
            raise
        print(f"uav-perception track: {name}: {e}", file=sys.stderr)
        return np.zeros((*shape, 3), np.uint8)


def _first_box(sequence: Path) -> tuple[float, ...]:
    truth = sequence / "groundtruth.txt"
    if not truth.is_file():
        raise InputError(f"sequence {sequence} without groundtruth.txt", "its first line x,y,w,h, or --box",
                         "give --box x,y,w,h")
    with truth.open(encoding="utf-8", errors="replace") as lines:
        return _box(next(lines, ""), f"first line of {truth}")


def _box(text: str, what: str) -> tuple[float, ...]:
    try:
        values = tuple(float(v) for v in text.replace(",", " ").split())
    except ValueError:
        values = ()
    if len(values) != 4 or not all(abs(v) < 1e7 for v in values):
        raise InputError(what, "four finite numbers x,y,w,h", "correct the box")
    return values


class _Film:
    """MP4 with the box in the colour of its state: green TRACKED, orange OCCLUDED, red LOST."""

    COLOURS = {"TRACKED": (80, 220, 60), "OCCLUDED": (0, 165, 255), "LOST": (40, 40, 230)}  # noqa: RUF012

    def __init__(self, path: Path, fps: float, frame: Frame) -> None:
        import cv2

        self._size = (frame.image.shape[1], frame.image.shape[0])
        self._writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, self._size)
        if not self._writer.isOpened():
            raise InputError(f"overlay {path}", "a folder that can be written", "name another")

    def add(self, frame: Frame, track: Track) -> None:
        import cv2

        picture = frame.image.copy()
        colour = self.COLOURS.get(track.state.value, (255, 255, 255))
        x1, y1, x2, y2 = (round(float(v)) for v in track.xyxy_px)
        cv2.rectangle(picture, (x1, y1), (x2, y2), colour, 2)
        cv2.putText(picture, f"{track.state.value} {track.score:.2f}", (max(0, x1), max(12, y1 - 6)),
                    cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA)
        if (picture.shape[1], picture.shape[0]) != self._size:
            picture = cv2.resize(picture, self._size)
        self._writer.write(picture)

    def close(self) -> None:
        self._writer.release()
