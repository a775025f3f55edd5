"""What real time cost: a recorded flight beside the offline evaluation of the bag it flew from, in one table."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..camera.bagfile import BagFile
from ..errors import BagError, InputError
from ..geometry import box_iou, matrix_from_quaternion, se3
from . import messages as msg
from .exports import xywh
from .metrics import tracking
from .metrics.trajectory import score_trajectory

F64 = NDArray[np.float64]
SAME_IOU = 0.5  # boxes of the same frame that overlap as much say the same


def compare_live(evaluated: Path, flight: Path, mount: F64) -> dict[str, Any]:
    """One table of offline against live.

    Args:
        evaluated: folder of one recording's evaluation.
        flight: what `fly` recorded while it flew from that recording (detections, tracks, odometry).
        mount: ``base_from_camera`` (4, 4), to turn odometry into camera poses.

    Returns:
        ``frames``, ``shift_ns`` (a flight may be stamped with its own time) and ``rows`` of what, offline, live.

    Raises:
        BagError: no flight, or nothing in it that was evaluated.
        InputError: the flight's stamps match no frame of the recording.
    """
    frames = _offline_frames(evaluated)
    stamps = frames["stamp_ns"]
    tracks, detections, poses = _read_flight(flight)
    number = {int(s): i + 1 for i, s in enumerate(stamps)}
    offline_tracks = tracking.read_mot(evaluated / "tracks.txt")
    candidates = _shifts(stamps, np.array(sorted({*tracks, *detections, *poses}), np.int64), flight)
    shift_ns = max(candidates, key=lambda s: _likeness(_on_frames(tracks, number, s)[0], offline_tracks))
    live_tracks, tracked = _on_frames(tracks, number, shift_ns)
    live_found, detected = _on_frames(detections, number, shift_ns)
    n = len(stamps)
    rows: list[dict[str, Any]] = [
        _row("frames with detections", int((frames["detections"] >= 0).sum()), len(detected)),
        _row("frames with tracks published", n, len(tracked)),
        _row("frames with odometry", int((frames["ego"] != "none").sum()), sum(s - shift_ns in number for s in poses)),
        _row("detections", int(frames["detections"].clip(0).sum()), len(live_found)),
        _row("track boxes", int(frames["tracks"].sum()), len(live_tracks)),
    ]
    same = _overlap(live_tracks, offline_tracks) >= SAME_IOU
    share = float(same.mean()) if same.size else None
    rows.append(_row("live track boxes that offline has too (IoU 0.5)", None, share))
    if (evaluated / "gt.txt").is_file():
        truth = tracking.read_mot(evaluated / "gt.txt")
        known = live_tracks[np.isin(live_tracks[:, 0], np.unique(truth[:, 0]))]
        scores = [tracking.summary(tracking.score_tracks(truth, t)) for t in (offline_tracks, known)]
        rows += [_row(k, scores[0][k], scores[1][k]) for k in ("HOTA", "IDF1", "MOTA", "IDSW")]
    rows += _trajectory_rows(evaluated, poses, shift_ns, mount)
    rows += _latency_rows(evaluated, flight)
    return {"flight": str(flight), "frames": n, "shift_ns": shift_ns, "rows": rows}


def _row(what: str, offline: float | None, live: float | None) -> dict[str, Any]:
    return {"what": what, "offline": offline, "live": live}


def _offline_frames(evaluated: Path) -> dict[str, NDArray[Any]]:
    with (evaluated / "frames.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    kinds: dict[str, Any] = {"stamp_ns": np.int64, "detections": np.int64, "tracks": np.int64, "ego": str}
    return {k: np.array([r[k] for r in rows]).astype(t) for k, t in kinds.items()}


def _read_flight(flight: Path) -> tuple[dict[int, F64], dict[int, F64], dict[int, F64]]:
    """Live tracks and detections (rows id, x, y, w, h, score) and ``odom_from_base`` by stamp."""
    tracks: dict[int, F64] = {}
    detections: dict[int, F64] = {}
    poses: dict[int, F64] = {}
    with BagFile(flight) as bag:
        wanted = {name: t.msgtype for name, t in bag.topics.items() if "truth" not in name
                  and name.rsplit("/", 1)[-1] in ("tracks", "detections", "odometry")}
        if not any(m == msg.BOXES for m in wanted.values()):
            raise BagError(f"flight {flight} with topics {', '.join(sorted(bag.topics))}", "detections or tracks",
                           "record it with `fly`")
        for raw in bag.messages(list(wanted)):
            if raw.msgtype == msg.ODOMETRY:
                stamp, position, quaternion = msg.read_pose(bag.decode(raw))
                poses[stamp] = se3(matrix_from_quaternion(quaternion), position)
            elif raw.msgtype == msg.BOXES:
                stamp, (corners, ids, _, scores) = msg.read_boxes(raw.data)
                numbers = [float(i) if i.isdigit() else -1.0 for i in ids]
                boxes = np.column_stack([numbers, xywh(corners), scores]).reshape(-1, 6)
                (tracks if raw.topic.endswith("tracks") else detections)[stamp] = boxes
    return tracks, detections, poses


def _shifts(offline: NDArray[np.int64], live: NDArray[np.int64], flight: Path) -> list[int]:
    """What to take off live stamps to get the recording's: the shifts under which most stamps agree.

    Evenly stamped frames of which only some were used may fit in several places.
    """
    if not len(live):
        raise BagError(f"flight {flight} without results", "detections, tracks or odometry", "record it with `fly`")
    known = set(offline.tolist())
    agreeing = {c: sum(s - c in known for s in live.tolist()) for c in {0, *(int(live[0] - s) for s in offline)}}
    agree = max(agreeing.values())
    if agree < max(1, len(live) // 2):
        raise InputError(f"flight {flight}: {agree} of {len(live)} stamps are of the recording",
                         "a flight of the same bag", "fly with --source bag:PATH of this very recording")
    return sorted((c for c, n in agreeing.items() if n == agree), key=abs)


def _on_frames(results: dict[int, F64], number: dict[int, int], shift_ns: int) -> tuple[F64, set[int]]:
    """MOT rows (frame, id, x, y, w, h, score) of results on frames of the recording, and those frames."""
    rows, seen = [np.zeros((0, 7))], set()
    for stamp, boxes in sorted(results.items()):
        frame = number.get(stamp - shift_ns)
        if frame is not None:
            seen.add(frame)
            rows.append(np.column_stack([np.full(len(boxes), frame), boxes]))
    return np.vstack(rows), seen


def _overlap(live: F64, offline: F64) -> F64:
    """Of every live box, its best overlap with an offline box of the same frame."""
    best = np.zeros(len(live))
    for frame in np.unique(live[:, 0]):
        mine = live[:, 0] == frame
        a, b = live[mine, 2:6], offline[offline[:, 0] == frame, 2:6]
        overlap = box_iou(np.hstack([a[:, :2], a[:, :2] + a[:, 2:]]), np.hstack([b[:, :2], b[:, :2] + b[:, 2:]]))
        best[mine] = overlap.max(axis=1, initial=0)
    return best


def _likeness(live: F64, offline: F64) -> float:
    """Mean overlap on the frames where both have boxes."""
    best = _overlap(live, offline)[np.isin(live[:, 0], offline[:, 0])]
    return float(best.mean()) if len(best) else 0.0


def _trajectory_rows(evaluated: Path, poses: dict[int, F64], shift_ns: int, mount: F64) -> list[dict[str, Any]]:
    gt = evaluated / "poses_gt.tum"
    result = json.loads((evaluated / "result.json").read_text())["scores"].get("trajectory")
    if not gt.is_file() or not result or result["poses"] < 3:
        return []
    lines = [line.split() for line in gt.read_text().splitlines()]
    true = {int(t.replace(".", "")): se3(matrix_from_quaternion([float(v) for v in (w, x, y, z)]),
                                         [float(v) for v in p]) for t, *p, x, y, z, w in lines}
    both = [s for s in sorted(poses) if s - shift_ns in true]
    if len(both) < 3:
        return [_row("ATE, m", result["ate_rmse_m"], None)]
    live = score_trajectory(np.array(both, np.int64), np.array([poses[s] @ mount for s in both]),
                            np.array([true[s - shift_ns] for s in both]), result["alignment"] == "SE3")
    return [_row("ATE, m", result["ate_rmse_m"], live["ate_rmse_m"]),
            _row("rotation error of a step, degrees", result["rpe_rot_mean_deg"], live["rpe_rot_mean_deg"])]


def _latency_rows(evaluated: Path, flight: Path) -> list[dict[str, Any]]:
    """p95 of the stages: work offline, age (capture to publication) live, from the flight's report beside its bag."""
    try:
        live = json.loads((flight.parent / "report.json").read_text())
        offline = json.loads((evaluated / "timings.json").read_text())["latency_ms"]
    except (OSError, ValueError, KeyError):
        return []
    rows = [_row(f"{name} p95, ms (offline: work, live: age)", offline.get(name, {}).get("p95"), values.get("p95"))
            for name, values in sorted(live.get("latency_ms", {}).items())]
    return rows + [_row(f"{name}: frames dropped", 0, n) for name, n in sorted(live.get("dropped", {}).items())]
