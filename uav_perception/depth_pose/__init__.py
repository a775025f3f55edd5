"""Depth and ego-motion from one camera; metric only when something gave it a scale."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from numpy.typing import ArrayLike

from ..records import DepthPoseResult, Frame, Track


@runtime_checkable
class DepthPoseEstimator(Protocol):
    """``update`` for every frame, in order. ``height_agl_m`` and ``nav_position_m`` (3, ENU) are None when unknown.

    Never raises on bad frames: fields of the result are None and ``status`` says why.
    """

    def update(self, frame: Frame, height_agl_m: float | None = None, nav_position_m: ArrayLike | None = None,
               tracks: tuple[Track, ...] = ()) -> DepthPoseResult: ...
