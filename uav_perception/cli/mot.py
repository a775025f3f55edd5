"""``uav-perception mot``: identities of many targets over an image folder, as MOTChallenge text."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..camera.files import FolderPictures
from ..config import CameraConfig, FlightConfig, load_flight_config
from ..errors import InputError
from ..offline.exports import write_mot, xywh
from ..offline.given_detections import read_detections
from ..records import Frame, TrackState
from ..track.stage import make_tracker
from .main import print_json


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--images", type=Path, required=True, help="image folder, or a MOTChallenge sequence")
    parser.add_argument("--out", type=Path, required=True, help="MOTChallenge text: frame,id,x,y,w,h,score,-1,-1,-1")
    parser.add_argument("--detections", type=Path, help="MOT det.txt or COCO results; default: run the detector")
    parser.add_argument("--detector", default=None, help="model to detect with (where --detections is not given)")
    parser.add_argument("--fps", type=float, default=CameraConfig().fps, help="rate where no seqinfo.ini tells it, Hz")
    parser.add_argument("--params", type=Path, help="ROS 2 parameter file with tracker settings")
    parser.add_argument("--json", action="store_true", help="print counts and speed as the last line")


def run(args: argparse.Namespace) -> int:
    """Track and write the file."""
    if not (np.isfinite(args.fps) and args.fps > 0):
        raise InputError(f"--fps {args.fps}", "a rate > 0 Hz", "give the rate of the images")
    if not args.out.absolute().parent.is_dir():
        raise InputError(f"--out {args.out}", "a file in an existing folder", "make the folder first")
    config = load_flight_config(args.params) if args.params else FlightConfig()
    sequence = args.images.parent if (args.images.parent / "seqinfo.ini").is_file() else args.images
    pictures = FolderPictures(args.images, args.fps)
    if sequence != args.images and FolderPictures(sequence, args.fps).files == pictures.files:
        pictures = FolderPictures(sequence, args.fps)  # its seqinfo.ini knows the rate
    given = read_detections(args.detections, pictures.files) if args.detections else None
    if given is not None and given.note:
        print(f"uav-perception mot: {args.detections}: {given.note}", file=sys.stderr)
    detector = None
    if given is None:
        from ..detect.detector import make_detector

        chosen = config if args.detector is None else config.with_values("detector", model=args.detector)
        low = min(chosen.detector.score_min, chosen.tracker.low_score)  # faint detections help to hold identities
        detector = make_detector(replace(chosen.detector, score_min=low))
    tracker = make_tracker(config.tracker, config.lsart)
    rows, tracker_ns = [], 0
    for k, picture in enumerate(pictures.pictures(), 1):
        frame = Frame(k, picture.stamp_ns, picture.decode(), picture.camera)
        if given is not None:
            detections = given.at(k, frame.stamp_ns)
        else:
            assert detector is not None
            detections = detector.detect(frame)
        started = time.perf_counter_ns()
        tracks = tracker.update(frame, detections)
        tracker_ns += time.perf_counter_ns() - started
        rows += [[k, t.id, *xywh(t.xyxy_px)[0], round(t.score, 4)] for t in tracks if t.state is TrackState.TRACKED]
    table = np.array(rows, dtype=np.float64).reshape(-1, 7)
    write_mot(args.out, table, truth=False)
    if args.json:
        frames = len(pictures.files)
        print_json({"frames": frames, "boxes": len(table), "identities": len(np.unique(table[:, 1])),
                    "tracker_fps": round(frames / max(tracker_ns / 1e9, 1e-9), 1)})
    return 0
