"""One recording through all stages in lock-step, scored: the same bag gives the same bytes, every time.

``report.json`` holds nothing that depends on the machine's speed; times go to ``timings.json``.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..config import EvaluateConfig, FlightConfig
from ..errors import InputError, SourceError
from ..pipeline import FrameResult, Pipeline, build_pipeline
from ..records import Detections
from ..runtime.stats import Histogram
from .ahead import Ahead, Prepared, above
from .exports import write_json
from .recording import Recording, open_recording
from .scoring import Scorer
from .truth import BoxTruth

STAGES = ("detector", "tracker", "depth_pose")


@dataclass(frozen=True)
class Options:
    """What of a recording is evaluated, beyond the parameters of the stages.

    ``stages``: of STAGES; the tracker always runs (without a detector it gets the recorded detections, if any).
    ``target``: "auto" locks the only object of the first frame with truth, "largest" its largest, a number that
    identity, "none" nothing. ``class_map``: truth name -> model's names that count as it (else equal names do).
    """

    stages: tuple[str, ...] = STAGES
    target: str = "auto"
    class_map: tuple[tuple[str, tuple[str, ...]], ...] = ()
    truth_file: str = ""
    save_depth: bool = False


def evaluate_recording(path: Path, out: Path, config: FlightConfig, settings: EvaluateConfig,
                       options: Options) -> dict[str, Any]:
    """Evaluate one recording into the folder ``out``; returns what is written to its ``result.json``.

    Raises:
        UavPerceptionError: the recording or a model cannot be used; nothing is scored then.
    """
    cv2.setNumThreads(1)  # results must not depend on the machine; the second core decodes and detects ahead
    cv2.setRNGSeed(0)
    np.random.seed(0)
    recording = open_recording(path, dataclasses.replace(config.camera, realtime=False, loop=False), settings,
                               Path(options.truth_file) if options.truth_file else None)
    try:
        run = _Run(recording, out, config, settings, options)
        result = run.all_frames()
    finally:
        recording.close()
    write_json(out / "timings.json", run.timings())
    write_json(out / "result.json", result)
    return result


def offline_config(config: FlightConfig, settings: EvaluateConfig, options: Options) -> FlightConfig:
    """The stages' parameters with what would make results depend on speed or machine taken out."""
    floor = min(settings.score_floor, config.detector.score_min)
    config = config.with_values("detector", score_min=floor, threads=config.detector.threads or 1)
    return config.with_values("tracker", budget_ms=0.0)


class _Run:
    """State of one recording's evaluation."""

    def __init__(self, recording: Recording, out: Path, config: FlightConfig, settings: EvaluateConfig,
                 options: Options) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self._recording, self._out, self._settings, self._options = recording, out, settings, options
        self._pipeline = _build(offline_config(config, settings, options), options.stages)
        self._score_min = config.detector.score_min
        self._ahead = Ahead(recording.camera, self._pipeline.detector, self._score_min, settings.prefetch_frames)
        self._pipeline.detector = self._ahead
        self._scorer = Scorer(out, config, settings, options.class_map, self._ahead.class_names,
                              "detector" in options.stages)
        self._histograms = {name: Histogram() for name in ("decode", *STAGES)}
        self._digest = hashlib.sha256()
        self._locked: str | None = None
        self._recorded_names: list[str] = []
        self._wall_ns = 0

    def all_frames(self) -> dict[str, Any]:
        import time

        started = time.perf_counter_ns()
        for prepared in self._ahead:
            self._one(prepared)
        self._wall_ns = time.perf_counter_ns() - started
        if not self._scorer.frames:
            raise SourceError(f"recording {self._recording.path} without a single usable frame "
                              f"({self._recording.camera.status})", "images that decode", "record it again")
        scores = self._scorer.finish(self._recording.truth, self._locked)
        info = self._ahead.engine_info
        depth_pose = self._pipeline.depth_pose
        engines = {"detector": dataclasses.asdict(info)} if "detector" in self._options.stages else {}
        for name, extra in getattr(depth_pose, "engine_infos", {}).items():
            engines[name] = dataclasses.asdict(extra)
        return {**scores, "loss": self._recording.loss(), "stages": list(self._options.stages), "engines": engines,
                "locked_object": self._locked, "truth": sorted(self._recording.truth.kinds),
                "digest": self._digest.hexdigest()}

    def _one(self, prepared: Prepared) -> None:
        frame, truth = prepared.frame, self._recording.truth
        stamp_ns = frame.stamp_ns
        boxes, height = truth.boxes(stamp_ns), truth.height_agl_m(stamp_ns)
        scored = prepared.detections
        if scored is None:
            recorded = truth.recorded_detections(stamp_ns)
            scored = self._as_detections(recorded, stamp_ns) if recorded is not None else None
            self._ahead.answer(above(scored, self._score_min) if scored else Detections.empty(stamp_ns))
        result = self._pipeline.step(frame, height)
        just_locked = self._locked is None and boxes is not None and self._lock(boxes)
        depth_truth = truth.depth(stamp_ns) if result.depth_pose and result.depth_pose.depth is not None else None
        self._scorer.add(result, scored, boxes, depth_truth, self._locked, bool(just_locked))
        self._account(prepared, result)

    def _lock(self, truth: BoxTruth) -> bool:
        """Lock the target the options ask for, at its first appearance."""
        wanted = self._options.target
        chosen = None
        if wanted == "largest" or (wanted == "auto" and len(truth.ids) == 1):
            area = np.prod(truth.xyxy_px[:, 2:] - truth.xyxy_px[:, :2], axis=1)
            chosen = int(np.argmax(area)) if len(area) else None
        if chosen is not None and not truth.ids[chosen]:
            chosen = None  # an object without identity cannot be followed by the truth
        elif wanted in truth.ids:
            chosen = truth.ids.index(wanted)
        elif wanted == "auto" and len(truth.ids) > 1:
            self._options = dataclasses.replace(self._options, target="none")  # many objects: none is the target
        if chosen is None:
            return False
        try:
            self._pipeline.tracker.lock_box(truth.xyxy_px[chosen])
        except InputError:  # too small or outside the image: perhaps it can be locked later
            return False
        self._locked = truth.ids[chosen]
        return True

    def _as_detections(self, boxes: BoxTruth, stamp_ns: int) -> Detections:
        for name in boxes.names:
            if name not in self._recorded_names:
                self._recorded_names.append(name)
        ids = [self._recorded_names.index(n) for n in boxes.names]
        self._scorer.class_names = tuple(self._recorded_names)
        return Detections(stamp_ns, np.asarray(boxes.xyxy_px, np.float32), np.clip(boxes.visibility, 0, 1).astype(
            np.float32), np.asarray(ids, np.int32))

    def _account(self, prepared: Prepared, result: FrameResult) -> None:
        elapsed = {**result.elapsed_ns, "decode": prepared.decode_ns, "detector": prepared.detect_ns}
        for name, histogram in self._histograms.items():
            if name != "depth_pose" or "depth_pose" in self._options.stages:
                histogram.add(elapsed[name] * 1e-6)
        self._digest.update(str(result.frame.stamp_ns).encode())
        if result.detections is not None:
            for values in (result.detections.xyxy_px, result.detections.score, result.detections.class_id):
                self._digest.update(values.tobytes())
        for track in result.tracks:
            self._digest.update(f"{track.id}{track.state.value}".encode() + track.xyxy_px.tobytes())
        said = result.depth_pose
        if said is not None:
            for array in (said.ego_motion.to_from if said.ego_motion else None, said.motion_mask,
                          said.pose.position_m if said.pose else None, said.depth.depth if said.depth else None):
                self._digest.update(b"-" if array is None else array.tobytes())

    def timings(self) -> dict[str, Any]:
        """Times of this run: they differ from run to run."""
        wall_s = self._wall_ns * 1e-9
        span_s = self._scorer.span_s
        return {"frames": self._scorer.frames, "wall_s": round(wall_s, 3), "recorded_s": round(span_s, 6),
                "fps": round(self._scorer.frames / wall_s, 2) if wall_s else None,
                "real_time_factor": round(span_s / wall_s, 3) if wall_s else None,
                "latency_ms": {n: h.summary() for n, h in self._histograms.items() if h.count},
                "histograms_ms": {n: h.bins() for n, h in self._histograms.items() if h.count}}


def _build(config: FlightConfig, stages: tuple[str, ...]) -> Pipeline:
    """The pipeline with only the wanted stages loaded."""
    if set(stages) == set(STAGES):
        return build_pipeline(config)
    from ..track.stage import make_tracker

    detector, depth_pose = None, None
    if "detector" in stages:
        from ..detect.detector import make_detector

        detector = make_detector(config.detector)
    if "depth_pose" in stages:
        from ..depth_pose.estimator import make_depth_pose

        depth_pose = make_depth_pose(config.depth_pose)
    return Pipeline(detector, make_tracker(config.tracker, config.lsart), depth_pose)
