"""The operator's lock through full occlusions of 1-3 s: is it reported, and is the right target found again?

Cases come from recordings with truth (``--bags``: rendered flights, where buildings, bridges and trees hide things)
and, composited, from real footage (``--sequences``: OTB-style folders) or flights (``--drawn``) with canopies and bridges,
fixed to the ground, drawn in the target's way.
The whole tracker stage runs, in every second frame with detections: made of the truth (jitter, misses; none of what is
hidden), or the package's own detector's, or none. ``predicted_off``: how far from the target its box is when it comes out
again, in target sizes for each second that it was hidden (median of those that are OCCLUDED then).
"""

from __future__ import annotations

import argparse
import functools
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench._hidden import MIN_S, SEEN, Case, bag_cases, bag_footage, drawn_cases, folder_footage
from uav_perception.config import DetectorConfig, LsartConfig, TrackerConfig
from uav_perception.detect.detector import EngineDetector, make_detector
from uav_perception.errors import InputError
from uav_perception.geometry import box_iou, clip_boxes
from uav_perception.records import Detections, Frame
from uav_perception.track.stage import make_tracker

F64 = NDArray[np.float64]
REPORT_FRAMES = 5
LOOK_EVERY = 2


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bags", type=Path, nargs="*", default=[], help="recordings with truth/boxes")
    parser.add_argument("--sequences", type=Path, default=Path(__file__).parents[2] / "shared/data/sot",
                        help="folder of OTB-style sequences to draw canopies over; 'none' for none")
    parser.add_argument("--drawn", action="store_true", help="draw canopies and bridges over the flights of --bags too")
    parser.add_argument("--trackers", nargs="+", default=["lsart", "csrt", "kcf"])
    parser.add_argument("--detections", choices=("truth", "detector", "none"), default="truth",
                        help="none: the target tracker does all alone")
    parser.add_argument("--shortest", type=float, default=MIN_S, metavar="S",
                        help="also shorter occlusions of the recordings, from S seconds on")
    parser.add_argument("--limit", type=int, default=1000, help="at most so many cases")

Look = Callable[[Case, int, Frame], Detections | None]


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Shares of cases reported and regained, for every tracker."""
    rows_of: dict[str, list[dict[str, Any]]] = {name: [] for name in args.trackers}
    for case in itertools.islice(_cases(args), args.limit):
        for name, rows in rows_of.items():
            rows.append(fly(case, name, _look(args.detections)))
    report: dict[str, Any] = {"trackers": {}}
    for name, rows in rows_of.items():
        n = len(rows)
        if not n:
            raise InputError("no occlusion of 1-3 s in the recordings", "bags with truth, or sequences", "give others")
        report["trackers"][name] = {
            "reported_within_5_frames": round(sum(r["report_frames"] <= REPORT_FRAMES for r in rows) / n, 3),
            "regained": round(sum(r["regained"] for r in rows) / n, 3),
            "wrong_target": round(sum(r["wrong"] for r in rows) / n, 3),
            "predicted_off": _median([r["predicted_off"] for r in rows]),
            "cases": rows}
    return report


def _median(values: list[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return round(float(np.median(known)), 3) if known else None


def _cases(args: argparse.Namespace) -> Iterator[Case]:
    for path in args.bags:
        yield from bag_cases(path, args.shortest)
        for footage in bag_footage(path) if args.drawn else ():
            yield from drawn_cases(footage)
    if str(args.sequences) != "none":
        for folder in sorted(args.sequences.glob("*")):
            if (folder / "groundtruth.txt").is_file():
                for footage in folder_footage(folder):
                    yield from drawn_cases(footage)


def _look(kind: str) -> Look:
    """What answers for frame k of a case."""
    if kind == "none":
        return lambda case, k, frame: None
    if kind == "detector":
        detector = own_detector()
        return lambda case, k, frame: detector.detect(frame)
    rng = np.random.default_rng(0)

    def made_of_truth(case: Case, k: int, frame: Frame) -> Detections:
        boxes = np.concatenate([case.others[k], case.box[k][None][: int(case.visibility[k] > 0.5)]])
        return detected(boxes, frame.stamp_ns, frame.image.shape, rng)

    return made_of_truth


@functools.cache
def own_detector() -> EngineDetector:
    return make_detector(DetectorConfig(threads=1))


def fly(case: Case, target_tracker: str, look: Look) -> dict[str, Any]:
    """One case with one target tracker: when was the occlusion reported, was the target found again, and as what."""
    stage = make_tracker(TrackerConfig(target_tracker=target_tracker), LsartConfig())
    first, last = case.hidden
    states, ious = [], []
    locked_id, off = None, None
    for k, (stamp_ns, image) in enumerate(zip(case.stamps_ns, case.images, strict=True)):
        frame = Frame(k, stamp_ns, image)
        stage.update(frame, look(case, k, frame) if k % LOOK_EVERY == 0 else None)
        if k == 2:
            stage.lock_box(case.box[k])
            locked_id = stage.target.track.id if stage.target.track else None
        status = stage.target
        same = status.track is not None and status.track.id == locked_id
        if k == last and status.track is not None and status.state == "OCCLUDED":
            off = _off_sizes(status.track.xyxy_px, case.box[k])
        states.append(status.state)
        ious.append(float(box_iou(status.track.xyxy_px, case.box[k])[0, 0]) if same and status.track else 0.0)
    quiet = [k for k in range(first, last + 1) if states[k] != "LOCKED"]
    after = [k for k in range(last + 1, len(states)) if case.visibility[k] > SEEN]
    end = states[-1] == "LOCKED"
    width, height = case.box[first][2:] - case.box[first][:2]
    return {"name": case.name, "hidden_frames": last - first + 1, "frames_after": len(states) - 1 - last,
            "target_px": round(float(np.sqrt(width * height)), 1),
            "report_frames": (quiet[0] - first if quiet else 10**6),
            "locked_while_hidden": sum(states[k] == "LOCKED" for k in range(first + REPORT_FRAMES, last + 1)),
            "tracked_before": bool(states[first - 1] == "LOCKED" or max(ious[3:first], default=0) > 0.5),
            "regained": bool(end and ious[-1] > 0.4),
            "regain_frames": next((k - last for k in after if states[k] == "LOCKED" and ious[k] > 0.4), None),
            "wrong": bool(end and ious[-1] < 0.1),
            "predicted_off": off if off is None else round(off / (case.stamps_ns[last] - case.stamps_ns[first]) * 1e9, 3)}


def _off_sizes(found: ArrayLike, true: F64) -> float:
    """Distance of a box's middle from the true one's, in sizes of that."""
    middle = np.reshape(found, (2, 2)).mean(axis=0)
    return float(np.linalg.norm(middle - true.reshape(2, 2).mean(axis=0)) / np.sqrt(np.prod(true[2:] - true[:2])))


def detected(boxes: F64, stamp_ns: int, shape: tuple[int, ...], rng: np.random.Generator) -> Detections:
    """A detector's answer: 4 % jitter, 10 % misses."""
    kept = boxes[rng.random(len(boxes)) > 0.1]
    sides = np.tile(kept[:, 2:] - kept[:, :2], 2)
    noisy = clip_boxes(kept + rng.normal(0, 0.04, kept.shape) * sides, shape[1], shape[0])
    noisy = np.hstack([noisy[:, :2], np.maximum(noisy[:, 2:], noisy[:, :2])])
    return Detections(stamp_ns, noisy, rng.uniform(0.5, 1.0, len(noisy)), np.zeros(len(noisy)))
