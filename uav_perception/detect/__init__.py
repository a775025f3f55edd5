"""Detectors: a frame in, boxes in source pixels out."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from ..engine import EngineInfo
from ..records import Detections, Frame


@runtime_checkable
class Detector(Protocol):
    """One frame in, its boxes out: source pixels, best score first, the frame's stamp. Not thread-safe."""

    @property
    def class_names(self) -> tuple[str, ...]: ...

    @property
    def engine_info(self) -> EngineInfo: ...

    def detect(self, frame: Frame) -> Detections: ...
