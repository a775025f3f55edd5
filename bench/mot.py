"""Many targets: ours beside a plain ByteTrack, on equal detections.

Sequences are MOTChallenge folders (``img1/``, ``gt/gt.txt``, ``seqinfo.ini``) and flights with truth (bags of ``sim
render``; objects less than a quarter visible are not required). Detections are the truth spoilt by seed:
boxes jittered, some dropped (also in bursts), some faint, false ones added; both trackers get the same. The peer is
``ByteTrackTracker`` of the package ``trackers`` with our score thresholds and its own defaults otherwise.
"""

from __future__ import annotations

import argparse
import configparser
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from uav_perception.config import CameraConfig, EvaluateConfig, LsartConfig, TrackerConfig
from uav_perception.errors import InputError, MissingDependency
from uav_perception.geometry import clip_boxes
from uav_perception.offline.exports import xywh
from uav_perception.offline.metrics.tracking import combine, read_mot, score_tracks, summary
from uav_perception.offline.recording import open_recording
from uav_perception.records import Detections, Frame, TrackState
from uav_perception.track.stage import make_tracker

F64 = NDArray[np.float64]
SEEN = 0.4  # share of an object that a detector needs to see
KEPT = ("HOTA", "AssA", "DetA", "IDF1", "MOTA", "IDSW", "Frag", "CLR_FP", "CLR_FN")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared/data/mot",
                        help="folder of MOTChallenge sequences with pictures")
    parser.add_argument("--flights", type=Path, nargs="*", default=[], help="bags with truth/boxes")
    parser.add_argument("--seeds", type=int, default=5, help="repetitions with other detection noise")
    parser.add_argument("--ablation", action="store_true", help="also ours with each cue switched off")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Scores of every tracker, summed over sequences and seeds, and its time a frame."""
    folders = [d for d in sorted(Path(args.data).glob("*")) if (d / "img1").is_dir()]
    kinds = {"images": {d.name: of_folder(d) for d in folders}, "flights": {f.stem: of_flight(f) for f in args.flights}}
    sequences = {name: sequence for kind in kinds.values() for name, sequence in kind.items()}
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
                raw[seq_name, seed] = score_tracks(sequence.truth, rows)
        scores = {kind: _together(raw, names) for kind, names in kinds.items() if names}
        report["trackers"][name] = {**scores, "ms_p50": round(float(np.median(took_ms)), 2),
                                    "ms_p95": round(float(np.percentile(took_ms, 95)), 2),
                                    "sequences": {s: _together(raw, [s]) for s in sequences}}
    ours, peer = report["trackers"]["ours"], report["trackers"]["bytetrack"]
    report["id_switches_ours_over_peer"] = {kind: round(ours[kind]["IDSW"] / max(peer[kind]["IDSW"], 1), 3)
                                            for kind, names in kinds.items() if names}
    return report


def _together(raw: dict[tuple[str, int], Any], names: Iterable[str]) -> dict[str, float]:
    """Scores over all seeds of these sequences."""
    return _short(combine({f"{n}/{seed}": v for (n, seed), v in raw.items() if n in names}))


def _short(result: dict[str, Any]) -> dict[str, float]:
    return {k: round(v, 4) for k, v in summary(result).items() if k in KEPT}


@dataclass(frozen=True)
class Sequence:
    """Pictures (as files' bytes), their stamps, and truth: rows frame, id, x, y, w, h, confidence (0 = not scored)."""

    pictures: list[NDArray[np.uint8]]
    stamps_ns: list[int]
    truth: F64
    seen: F64  # rows of the truth that a detector might see

    def track(self, tracker: Any, seed: int) -> tuple[F64, list[float]]:
        """MOT rows of one run, and the time of each frame in ms."""
        rng = np.random.default_rng(seed)
        silent: dict[int, int] = {}  # target -> frame until which the detector does not see it
        tracker.reset()
        rows, took_ms = [], []
        for k, (picture, stamp_ns) in enumerate(zip(self.pictures, self.stamps_ns, strict=True), 1):
            frame = Frame(k, stamp_ns, np.asarray(cv2.imdecode(picture, cv2.IMREAD_COLOR), np.uint8))
            detections = spoil(self.seen[self.seen[:, 0] == k], frame, rng, silent)
            started = time.perf_counter()
            found = tracker.update(frame, detections)
            took_ms.append(1e3 * (time.perf_counter() - started))
            rows += [[k, i, x1, y1, x2 - x1, y2 - y1] for i, (x1, y1, x2, y2) in found]
        return np.array(rows, dtype=np.float64).reshape(-1, 6), took_ms


def of_folder(folder: Path) -> Sequence:
    """A MOTChallenge folder."""
    ini = configparser.ConfigParser()
    ini.read(folder / "seqinfo.ini")
    rate_hz = ini.getfloat("Sequence", "frameRate", fallback=25.0)
    pictures = [np.fromfile(p, np.uint8) for p in sorted((folder / "img1").iterdir())]
    truth = read_mot(folder / "gt" / "gt.txt")
    return Sequence(pictures, [round(k / rate_hz * 1e9) for k in range(1, len(pictures) + 1)], truth, truth)


def of_flight(path: Path) -> Sequence:
    """A bag with ``truth/boxes``."""
    recording = open_recording(path, CameraConfig(realtime=False), EvaluateConfig())
    pictures, stamps_ns, rows = [], [], []
    numbers: dict[str, int] = {}
    while (frame := recording.camera.read(60.0)) is not None:
        pictures.append(cv2.imencode(".png", frame.image, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1])
        stamps_ns.append(frame.stamp_ns)
        boxes = recording.truth.boxes(frame.stamp_ns)
        for box, who, visible in zip(xywh(boxes.xyxy_px), boxes.ids, boxes.visibility, strict=True) if boxes else ():
            rows.append([len(pictures), numbers.setdefault(who, len(numbers) + 1), *box, visible])
    recording.close()
    if not rows:
        raise InputError(f"--flights {path}", "a bag with truth/boxes", "render one with `sim render`")
    truth = np.array(rows)
    seen = truth[truth[:, 6] >= SEEN]
    truth[:, 6] = truth[:, 6] >= EvaluateConfig().visibility_min
    return Sequence(pictures, stamps_ns, truth, seen)


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
                                    "pip install --no-deps trackers supervision pydeprecate requests urllib3 idna "
                                    "certifi charset-normalizer tqdm defusedxml") from e
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
