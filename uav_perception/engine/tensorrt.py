"""TensorRT behind the Engine protocol: the only file that imports TensorRT or a CUDA binding."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..errors import MissingDependency
from . import Array, EngineInfo, TensorSpec
from .manifest import EngineFile


def check_device(path: Path, entry: EngineFile) -> None:
    """Refuse a plan that belongs to another TensorRT or device."""
    raise MissingDependency(f"plan {path}", "the package tensorrt and a CUDA binding", "use JetPack's own")


class TensorRTEngine:
    """One plan."""

    def __init__(self, path: Path, why: str) -> None:
        raise MissingDependency(f"plan {path}", "the package tensorrt and a CUDA binding", "use JetPack's own")

    @property
    def info(self) -> EngineInfo: ...  # type: ignore[empty-body]

    @property
    def inputs(self) -> tuple[TensorSpec, ...]: ...  # type: ignore[empty-body]

    @property
    def outputs(self) -> tuple[TensorSpec, ...]: ...  # type: ignore[empty-body]

    @property
    def metadata(self) -> Mapping[str, str]: ...  # type: ignore[empty-body]

    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]: ...  # type: ignore[empty-body]

    def close(self) -> None: ...
