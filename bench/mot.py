"""Many targets: ours beside a plain ByteTrack, on equal detections, scored by trackeval.

Sequences are MOTChallenge folders (``img1/``, ``gt/gt.txt``, ``seqinfo.ini``). Detections are the truth spoilt by seed:
boxes jittered, some dropped (also in bursts), some faint, false ones added; both trackers get the same. The peer is
``ByteTrackTracker`` of the package ``trackers`` with our score thresholds and its own defaults otherwise.
"""

from __future__ import annotations

import argparse
import configparser
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from uav_perception.config import LsartConfig, TrackerConfig
from uav_perception.errors import InputError, MissingDependency
from uav_perception.geometry import clip_boxes
from uav_perception.offline.metrics.tracking import combine, read_mot, score_tracks, summary
from uav_perception.records import Detections, Frame, TrackState
from uav_perception.track.stage import make_tracker

F64 = NDArray[np.float64]
KEPT = ("HOTA", "AssA", "DetA", "IDF1", "MOTA", "IDSW", "Frag", "CLR_FP", "CLR_FN")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared/data/mot",
                        help="folder of MOTChallenge sequences with pictures")
    parser.add_argument("--seeds", type=int, default=5, help="repetitions with other detection noise")
    parser.add_argument("--ablation", action="store_true", help="also ours with each cue switched off")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Scores of every tracker, summed over sequences and seeds, and its time a frame."""
    sequences = {d.name: Sequence(d) for d in sorted(Path(args.data).glob("*")) if (d / "img1").is_dir()}
    if not sequences:
        raise InputError(f"--data {args.data}", "folders with img1/ and gt/gt.txt", "name a folder of MOT sequences")
    config = TrackerConfig()
    trackers: dict[str, Any] = {"ours": Ours(config), "bytetrack": ByteTrack(config)}
    if args.ablation:
        trackers |= {"no_camera_motion": Ours(replace(config, camera_motion=False)),
                     "no_appearance": Ours(replace(config, appearance_weight=0.0)),
                     "no_faint_detections": Ours(replace(config, low_score=config.high_score))}
    report: dict[str, Any] = {"seeds": args.seeds, "sequences": list(sequences), "trackers": {}}
    for name, tracker in trackers.items():
        raw, took_ms = {}, []
        for seq_name, sequence in sequences.items():
            for seed in range(args.seeds):
                rows, ms = sequence.track(tracker, seed)
                took_ms += ms
                raw[f"{seq_name}/{seed}"] = score_tracks(sequence.truth, rows, len(sequence.images))
        per_sequence = {s: _short(combine({k: v for k, v in raw.items() if k.startswith(f"{s}/")})) for s in sequences}
        report["trackers"][name] = {**_short(combine(raw)), "ms_p50": round(float(np.median(took_ms)), 2),
                                    "ms_p95": round(float(np.percentile(took_ms, 95)), 2), "sequences": per_sequence}
    ours, peer = report["trackers"]["ours"], report["trackers"]["bytetrack"]
    report["id_switches_ours_over_peer"] = round(ours["IDSW"] / max(peer["IDSW"], 1), 3)
    return report


def _short(result: dict[str, Any]) -> dict[str, float]:
    return {k: round(v, 4) for k, v in summary(result).items() if k in KEPT}


class Sequence:
    """Pictures, truth, and detections made of it."""

    def __init__(self, folder: Path) -> None:
        ini = configparser.ConfigParser()
        ini.read(folder / "seqinfo.ini")
        self.rate_hz = ini.getfloat("Sequence", "frameRate", fallback=25.0)
        self.images = [cv2.imread(str(p)) for p in sorted((folder / "img1").iterdir())]
        self.truth = read_mot(folder / "gt" / "gt.txt")

    def track(self, tracker: Any, seed: int) -> tuple[F64, list[float]]:
        """MOT rows of one run, and the time of each frame in ms."""
        rng = np.random.default_rng(seed)
        silent: dict[int, int] = {}  # target -> frame until which the detector does not see it
        tracker.reset()
        rows, took_ms = [], []
        for k, image in enumerate(self.images, 1):
            frame = Frame(k, round(k / self.rate_hz * 1e9), image)
            detections = spoil(self.truth[self.truth[:, 0] == k], frame, rng, silent)
            started = time.perf_counter()
            found = tracker.update(frame, detections)
            took_ms.append(1e3 * (time.perf_counter() - started))
            rows += [[k, i, x1, y1, x2 - x1, y2 - y1] for i, (x1, y1, x2, y2) in found]
        return np.array(rows, dtype=np.float64).reshape(-1, 6), took_ms


def spoil(truth: F64, frame: Frame, rng: np.random.Generator, silent: dict[int, int]) -> Detections:
    """What a fair detector might say: 6 % jitter, 10 % misses, 2 % bursts of misses, 15 % faint, 5 % false."""
    h, w = frame.image.shape[:2]
    boxes, scores = [], []
    for _, target, x, y, bw, bh in truth[:, :6]:
        dx, dy, sx, sy = rng.normal(0, 0.06, 4)
        drop, faint, score = rng.random(3)
        if rng.random() < 0.02:
            silent[int(target)] = frame.seq + int(rng.integers(2, 6))
        if drop < 0.1 or silent.get(int(target), 0) > frame.seq:
            continue
        cx, cy, bw2, bh2 = x + bw / 2 + dx * bw, y + bh / 2 + dy * bh, bw * np.exp(sx), bh * np.exp(sy)
        boxes.append([cx - bw2 / 2, cy - bh2 / 2, cx + bw2 / 2, cy + bh2 / 2])
        scores.append(0.12 + 0.25 * score if faint < 0.15 else 0.5 + 0.5 * score)
    for _ in range(rng.poisson(0.05 * len(truth))):
        side = np.sqrt(np.median(truth[:, 4] * truth[:, 5]))
        cx, cy = rng.random(2) * [w, h]
        boxes.append([cx - side / 2, cy - side / 2, cx + side / 2, cy + side / 2])
        scores.append(0.12 + 0.6 * rng.random())
    xyxy = clip_boxes(np.array(boxes).reshape(-1, 4), w, h)
    return Detections(frame.stamp_ns, xyxy, np.array(scores), np.zeros(len(boxes)))


class Ours:
    """The tracker stage as it flies."""

    def __init__(self, config: TrackerConfig) -> None:
        self._config = config

    def reset(self) -> None:
        self._stage = make_tracker(self._config, LsartConfig())

    def update(self, frame: Frame, detections: Detections) -> list[tuple[int, list[float]]]:
        tracks = self._stage.update(frame, detections)
        return [(t.id, t.xyxy_px.tolist()) for t in tracks if t.state is TrackState.TRACKED]


class ByteTrack:
    """The peer: motion by frame count and overlap alone."""

    def __init__(self, config: TrackerConfig) -> None:
        try:
            import supervision
            from trackers import ByteTrackTracker
        except ImportError as e:
            raise MissingDependency(f"the peer of this benchmark ({e})", "the packages trackers and supervision",
                                    "pip install --no-deps trackers supervision") from e
        self._sv = supervision
        self._make = lambda: ByteTrackTracker(track_activation_threshold=config.high_score,
                                              high_conf_det_threshold=config.high_score,
                                              minimum_consecutive_frames=config.confirm_hits)

    def reset(self) -> None:
        self._tracker = self._make()

    def update(self, frame: Frame, detections: Detections) -> list[tuple[int, list[float]]]:
        given = self._sv.Detections(xyxy=detections.xyxy_px.copy(), confidence=detections.score.copy(),
                                    class_id=detections.class_id.astype(int))
        out = self._tracker.update(given)
        ids = out.tracker_id if out.tracker_id is not None else []
        return [(int(i), box.tolist()) for i, box in zip(ids, out.xyxy, strict=True) if i >= 0]
