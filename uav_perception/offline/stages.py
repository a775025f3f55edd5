"""All stages over all frames of one recording: every stage sees every frame, in order.

The next frames are decoded and detected on a second thread meanwhile, or what is recorded of them is read and corners
are followed through them; none of that asks what the stages said of earlier frames, so only the time changes. Depth and
motion, which no other stage waits for, may be measured in another process.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from ..config import FlightConfig
from ..errors import InputError
from ..pipeline import FrameResult, Pipeline, build_pipeline
from ..records import DepthPoseResult, Detections, Frame
from ..track import Ahead
from .ahead import ahead
from .apart import DepthPoseProcess
from .recording import Recording
from .truth import BoxTruth

STAGES = ("detector", "tracker", "depth_pose")


@dataclass(frozen=True)
class Prepared:
    """A decoded frame, its true boxes, and what the detector says down to the score floor or what was recorded."""

    frame: Frame
    scored: Detections | None
    flown: Detections | None  # of those, what the tracker gets; None: nobody looked at this frame
    ahead: Ahead | None  # what the tracker knows of it already
    class_names: tuple[str, ...]  # of the detections
    truth: BoxTruth | None
    elapsed_ns: dict[str, int]


@dataclass(frozen=True)
class Followed:
    """What is known of a frame when the stages are through, and the truth it is scored against."""

    result: FrameResult
    scored: Detections | None  # detections down to the score floor
    truth: BoxTruth | None
    class_names: tuple[str, ...]  # of the detections
    locked: str | None  # identity of the target
    just_locked: bool


class Stages:
    """Iterates over what the stages say of a recording.

    Args:
        recording: read once.
        pipeline: fresh stages; without a detector the recorded detections are tracked, if there are any.
        score_min: detections below are scored, but not tracked.
        target: see ``Options``.
        most: frames decoded and detected ahead of the tracker, and tracked ahead of a ``depth_pose`` elsewhere.
        depth_pose: that stage, where it runs in a process of its own (``pipeline`` has none then).
    """

    def __init__(self, recording: Recording, pipeline: Pipeline, score_min: float, target: str, most: int,
                 depth_pose: DepthPoseProcess | None = None) -> None:
        self._recording, self._pipeline, self._score_min = recording, pipeline, score_min
        self._target, self._most, self._depth_pose = target, most, depth_pose
        self._locked: str | None = None

    def _prepare(self) -> Generator[Prepared, None, None]:
        """Decode and detect, or read what was detected when the flight was recorded."""
        detector, truth, started = self._pipeline.detector, self._recording.truth, time.perf_counter_ns()
        names: tuple[str, ...] = detector.class_names if detector else ()
        while (frame := self._recording.camera.read(timeout_s=60.0)) is not None:
            decoded = time.perf_counter_ns()
            detections = detector.detect(frame) if detector else None
            took = {"decode": decoded - started, "detector": time.perf_counter_ns() - decoded, "tracker": 0}
            ahead_of = None
            recorded = truth.recorded_detections(frame.stamp_ns) if detector is None else None
            if recorded is not None:
                names = tuple(dict.fromkeys((*names, *recorded.names)))
                detections = _as_detections(recorded, names, frame.stamp_ns)
            flown = None if detections is None else _above(detections, self._score_min)
            if detector is None:  # else this thread has enough to do
                described = time.perf_counter_ns()
                ahead_of = self._pipeline.tracker.look_ahead(frame, flown)
                took["tracker"] = time.perf_counter_ns() - described
            yield Prepared(frame, detections, flown, ahead_of, names, truth.boxes(frame.stamp_ns), took)
            started = time.perf_counter_ns()

    def __iter__(self) -> Generator[Followed, None, None]:
        followed = self._follow()
        return followed if self._depth_pose is None else self._measured(followed, self._depth_pose)

    def _measured(self, followed: Generator[Followed, None, None], depth_pose: DepthPoseProcess
                  ) -> Generator[Followed, None, None]:
        """The same with the depth and motion that the other process measured."""
        waiting: deque[tuple[Followed, Future[tuple[DepthPoseResult, int]]]] = deque()
        with contextlib.closing(followed):
            for one in followed:
                frame = one.result.frame
                height = self._recording.truth.height_agl_m(frame.stamp_ns)
                waiting.append((one, depth_pose.update(frame, height)))
                if len(waiting) > self._most:
                    yield _joined(*waiting.popleft())
            while waiting:
                yield _joined(*waiting.popleft())

    def _follow(self) -> Generator[Followed, None, None]:
        """Follow what was detected; lock the target when it appears."""
        with contextlib.closing(ahead(self._prepare(), self._most)) as frames:
            for one in frames:
                height = self._recording.truth.height_agl_m(one.frame.stamp_ns)
                result = self._pipeline.follow(one.frame, one.flown, height, one.ahead)
                took = {**one.elapsed_ns, **result.elapsed_ns}
                took["tracker"] += one.elapsed_ns["tracker"]
                result = dataclasses.replace(result, elapsed_ns=took)
                just_locked = self._locked is None and one.truth is not None and self._lock(one.truth)
                yield Followed(result, one.scored, one.truth, one.class_names, self._locked, just_locked)

    def _lock(self, truth: BoxTruth) -> bool:
        """Lock the target the options ask for, at its first appearance."""
        wanted = self._target
        chosen = None
        if wanted == "largest" or (wanted == "auto" and len(truth.ids) == 1):
            area = np.prod(truth.xyxy_px[:, 2:] - truth.xyxy_px[:, :2], axis=1)
            chosen = int(np.argmax(area)) if len(area) else None
        if chosen is not None and not truth.ids[chosen]:
            chosen = None  # an object without identity cannot be followed by the truth
        elif wanted in truth.ids:
            chosen = truth.ids.index(wanted)
        elif wanted == "auto" and len(truth.ids) > 1:
            self._target = "none"  # many objects: none is the target
        if chosen is None:
            return False
        try:
            self._pipeline.tracker.lock_box(truth.xyxy_px[chosen])
        except InputError:  # too small or outside the image: perhaps it can be locked later
            return False
        self._locked = truth.ids[chosen]
        return True


def _joined(one: Followed, measured: Future[tuple[DepthPoseResult, int]]) -> Followed:
    depth_pose, took_ns = measured.result()
    elapsed = {**one.result.elapsed_ns, "depth_pose": took_ns}
    return dataclasses.replace(one, result=dataclasses.replace(one.result, depth_pose=depth_pose, elapsed_ns=elapsed))


def _as_detections(boxes: BoxTruth, names: tuple[str, ...], stamp_ns: int) -> Detections:
    """Recorded detections; their classes are places in ``names``."""
    return Detections(stamp_ns, np.asarray(boxes.xyxy_px, np.float32), np.clip(boxes.visibility, 0, 1).astype(
        np.float32), np.asarray([names.index(n) for n in boxes.names], np.int32))


def _above(detections: Detections, score_min: float) -> Detections:
    """The detections with at least this score (all fields are kept in step)."""
    keep = np.asarray(detections.score >= np.float32(score_min))
    if keep.all():
        return detections
    return Detections(detections.stamp_ns, detections.xyxy_px[keep], detections.score[keep], detections.class_id[keep],
                      detections.frame_id)


def build(config: FlightConfig, stages: tuple[str, ...]) -> Pipeline:
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
