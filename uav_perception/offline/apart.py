"""The depth/pose stage in a process of its own: the same results, while the next frames are tracked here.

Threads would not do: much of depth/pose and of the tracker is Python, which runs on one core of a process at a time.
"""

from __future__ import annotations

import time
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context

import cv2

from ..config import DepthPoseConfig
from ..depth_pose import DepthPoseEstimator
from ..engine import EngineInfo
from ..records import DepthPoseResult, Frame
from ..runtime.process import tune_malloc


class DepthPoseProcess:
    """Takes frames in order, answers in order; the process ends with the ``with`` block."""

    def __init__(self, config: DepthPoseConfig) -> None:
        self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        self._loaded = self._pool.submit(_load, config)

    @property
    def engine_info(self) -> EngineInfo | None:
        """Which network runs there; waits until it is loaded. Raises ModelError when it cannot be."""
        return self._loaded.result()

    def update(self, frame: Frame, height_agl_m: float | None) -> Future[tuple[DepthPoseResult, int]]:
        """What the stage says of ``frame``, and how many ns that took. Raises ModelError where it is not loaded.

        Without the velocities of tracked objects: nothing scores them, and a crowd's tracks take long to hand over.
        """
        self._loaded.result()
        return self._pool.submit(_update, frame, height_agl_m)

    def __enter__(self) -> DepthPoseProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)  # frames it has not begun are given up


_stage: DepthPoseEstimator | None = None  # of the one recording this process works for


def _load(config: DepthPoseConfig) -> EngineInfo | None:
    global _stage
    from ..depth_pose.estimator import make_depth_pose

    tune_malloc()
    cv2.setNumThreads(1)
    cv2.setRNGSeed(0)
    _stage = make_depth_pose(config)
    info: EngineInfo | None = getattr(_stage, "engine_info", None)
    return info


def _update(frame: Frame, height_agl_m: float | None) -> tuple[DepthPoseResult, int]:
    assert _stage is not None
    started = time.perf_counter_ns()
    result = _stage.update(frame, height_agl_m)
    return result, time.perf_counter_ns() - started
