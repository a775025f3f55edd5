"""Engines: something that maps named arrays to named arrays, on whatever device is here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class TensorSpec:
    """Name, shape (None = dynamic) and numpy dtype of one input or output."""

    name: str
    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class EngineInfo:
    """What runs and why: shown in diagnostics, reports and ``doctor``."""

    name: str
    backend: str  # onnxruntime | tensorrt | none
    precision: str  # fp32 | fp16 | int8
    why: str  # the reason this one was chosen


@runtime_checkable
class Engine(Protocol):
    """One loaded network. Not thread-safe: one engine, one inference thread.

    Arrays returned by ``infer`` belong to the engine and are overwritten by the next call; copy what must live on.
    """

    @property
    def info(self) -> EngineInfo: ...

    @property
    def inputs(self) -> tuple[TensorSpec, ...]: ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]: ...

    @property
    def metadata(self) -> Mapping[str, str]: ...

    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]: ...

    def close(self) -> None: ...


class Described:
    """The half of an engine that says what it is, for those who set the four fields."""

    _info: EngineInfo
    _inputs: tuple[TensorSpec, ...]
    _outputs: tuple[TensorSpec, ...]
    _metadata: Mapping[str, str]

    @property
    def info(self) -> EngineInfo:
        return self._info

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self._inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self._outputs

    @property
    def metadata(self) -> Mapping[str, str]:
        return self._metadata
