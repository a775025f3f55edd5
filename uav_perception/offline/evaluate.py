"""One recording through all stages in lock-step, scored: the same bag gives the same bytes, every time.

``report.json`` holds nothing that depends on the machine's speed; times go to ``timings.json``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..config import EvaluateConfig, FlightConfig
from ..errors import SourceError
from ..pipeline import FrameResult
from ..runtime.process import SWITCH_S, tune_malloc
from ..runtime.stats import Histogram
from .apart import DepthPoseProcess
from .exports import write_json
from .recording import Recording, open_recording
from .scoring import Scorer
from .stages import STAGES, Stages, build

SCRATCH = ".rows"  # folder beside the results where rows wait until they are scored


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


def evaluate_recording(path: Path, out: Path, config: FlightConfig, settings: EvaluateConfig, options: Options,
                       alone: bool = False) -> dict[str, Any]:
    """Evaluate one recording into the folder ``out``; returns what is written to its ``result.json``.

    ``alone``: no other recording is evaluated on this machine meanwhile, so a second process is worth its while. The
    result is the same.

    Raises:
        UavPerceptionError: the recording or a model cannot be used; nothing is scored then.
    """
    tune_malloc()
    sys.setswitchinterval(SWITCH_S)
    cv2.setNumThreads(1)  # results must not depend on the machine; the second core decodes and detects ahead
    cv2.setRNGSeed(0)
    np.random.seed(0)
    recording = open_recording(path, dataclasses.replace(config.camera, realtime=False, loop=False), settings,
                               Path(options.truth_file) if options.truth_file else None)
    try:
        offline = offline_config(config, settings)
        second = alone and len(os.sched_getaffinity(0)) > 1 and set(options.stages) > {"depth_pose"}
        with DepthPoseProcess(offline.depth_pose) if second else contextlib.nullcontext() as apart:
            run = _Run(recording, out, config, offline, settings, options, apart)
            result = run.all_frames()
    finally:
        recording.close()
        shutil.rmtree(out / SCRATCH, ignore_errors=True)
    write_json(out / "timings.json", run.timings())
    write_json(out / "result.json", result)
    return result


def offline_config(config: FlightConfig, settings: EvaluateConfig) -> FlightConfig:
    """The stages' parameters without what would make results depend on speed or machine.

    Nor are the motion mask and the flow computed: no truth exists for them, and no other result depends on them.
    """
    floor = min(settings.score_floor, config.detector.score_min)
    config = config.with_values("detector", score_min=floor, threads=config.detector.threads or 1)
    config = config.with_values("depth_pose", motion_mask=False, flow=False, threads=config.depth_pose.threads or 1)
    return config.with_values("tracker", budget_ms=0.0)


class _Run:
    """State of one recording's evaluation."""

    def __init__(self, recording: Recording, out: Path, config: FlightConfig, offline: FlightConfig,
                 settings: EvaluateConfig, options: Options, apart: DepthPoseProcess | None) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self._recording, self._out, self._settings, self._options = recording, out, settings, options
        self._apart = apart
        self._pipeline = build(offline, tuple(s for s in options.stages if s != "depth_pose" or apart is None))
        self._stages = Stages(recording, self._pipeline, config.detector.score_min, options.target,
                              settings.prefetch_frames, self._apart)
        shutil.rmtree(out / SCRATCH, ignore_errors=True)  # of a run that was killed
        (out / SCRATCH).mkdir()
        self._scorer = Scorer(out, out / SCRATCH, config, settings, options.class_map, "detector" in options.stages)
        timed = (s for s in STAGES if s == "tracker" or s in options.stages)
        self._histograms = {name: Histogram() for name in ("decode", *timed)}
        self._digest = hashlib.sha256()
        self._wall_ns = 0

    def all_frames(self) -> dict[str, Any]:
        started, locked = time.perf_counter_ns(), None
        with contextlib.closing(iter(self._stages)) as followed:
            for one in followed:
                depth = one.result.depth_pose.depth if one.result.depth_pose else None
                depth_truth = self._recording.truth.depth(one.result.frame.stamp_ns) if depth is not None else None
                self._scorer.add(one, depth_truth)
                self._account(one.result)
                locked = one.locked
        self._wall_ns = time.perf_counter_ns() - started
        if not self._scorer.frames:
            raise SourceError(f"recording {self._recording.path} without a single usable frame "
                              f"({self._recording.camera.status})", "images that decode", "record it again")
        scores = self._scorer.finish(self._recording.truth, locked)
        networks = {"detector": self._pipeline.detector, "depth_pose": self._apart or self._pipeline.depth_pose}
        infos = {name: getattr(stage, "engine_info", None) for name, stage in networks.items()}
        engines = {name: dataclasses.asdict(info) for name, info in infos.items() if info is not None}
        return {**scores, "loss": self._recording.loss(), "stages": list(self._options.stages), "engines": engines,
                "locked_object": locked, "truth": sorted(self._recording.truth.kinds),
                "digest": self._digest.hexdigest()}

    def _account(self, result: FrameResult) -> None:
        for name, histogram in self._histograms.items():
            histogram.add(result.elapsed_ns[name] * 1e-6)
        self._digest.update(str(result.frame.stamp_ns).encode())
        if result.detections is not None:
            for values in (result.detections.xyxy_px, result.detections.score, result.detections.class_id):
                self._digest.update(values.tobytes())
        for track in result.tracks:
            self._digest.update(f"{track.id}{track.state.value}".encode() + track.xyxy_px.tobytes())
        said = result.depth_pose
        if said is not None:
            for array in (said.ego_motion.to_from if said.ego_motion else None,
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
