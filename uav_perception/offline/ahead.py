"""Decoding and detecting the next frames while the tracker works on this one: the same results, sooner.

The detector has no memory, so running it ahead of the stages that have one changes nothing but the time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from ..camera import CameraSource
from ..detect import Detector
from ..engine import EngineInfo
from ..records import Detections, Frame


@dataclass(frozen=True)
class Prepared:
    """A decoded frame, what the detector says down to the score floor, and what both took."""

    frame: Frame
    detections: Detections | None
    decode_ns: int
    detect_ns: int


class Ahead:
    """Iterates over the prepared frames of a finite camera, in order, a few frames ahead, on one thread of its own.

    Also a Detector: given to the pipeline in place of the real one, it answers what was prepared, cut at ``score_min``.
    """

    def __init__(self, camera: CameraSource, detector: Detector | None, score_min: float, depth: int) -> None:
        self._camera, self._detector = camera, detector
        self._score_min, self._depth = score_min, depth
        self._current: Detections | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        return self._detector.class_names if self._detector else ()

    @property
    def engine_info(self) -> EngineInfo:
        return self._detector.engine_info if self._detector else EngineInfo("none", "none", "fp32", "no detector")

    def detect(self, frame: Frame) -> Detections:
        return above(self._current, self._score_min) if self._current is not None else Detections.empty(frame.stamp_ns)

    def answer(self, detections: Detections) -> None:
        """What ``detect`` says next, instead of what the detector prepared (recorded detections)."""
        self._current = detections

    def __iter__(self) -> Iterator[Prepared]:
        with ThreadPoolExecutor(1, "ahead") as pool:
            waiting: list[Future[Prepared | None]] = [pool.submit(self._prepare) for _ in range(self._depth)]
            try:
                while (prepared := waiting.pop(0).result()) is not None:
                    waiting.append(pool.submit(self._prepare))
                    self._current = prepared.detections
                    yield prepared
            finally:
                for future in waiting:
                    future.cancel()

    def _prepare(self) -> Prepared | None:
        t0 = time.perf_counter_ns()
        frame = self._camera.read(timeout_s=60.0)
        if frame is None:
            return None
        t1 = time.perf_counter_ns()
        detections = self._detector.detect(frame) if self._detector else None
        return Prepared(frame, detections, t1 - t0, time.perf_counter_ns() - t1)


def above(detections: Detections, score_min: float) -> Detections:
    """The detections with at least this score (all fields are kept in step)."""
    keep = np.asarray(detections.score >= np.float32(score_min))
    if keep.all():
        return detections
    return Detections(detections.stamp_ns, detections.xyxy_px[keep], detections.score[keep], detections.class_id[keep],
                      detections.frame_id)
