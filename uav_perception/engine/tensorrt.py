"""TensorRT 8.6 to 11 behind the Engine protocol.

Only what all of these versions have is used: tensors by name and ``execute_async_v3`` (8.5 and later; 10.0 removed
binding indices). Buffers are made once: pinned on the host, device memory, one stream an engine.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import EngineMismatch, InputError, MissingDependency, ModelError, UavPerceptionError, WorkFailed
from . import Array, Described, EngineInfo, TensorSpec
from .cuda import Cuda, open_cuda
from .manifest import EngineFile
from .onnxruntime import check_feeds

log = logging.getLogger(__name__)
DTYPES: dict[str, Any] = {"FLOAT": np.float32, "HALF": np.float16, "INT8": np.int8, "INT32": np.int32, "BOOL": np.bool_,
                          "UINT8": np.uint8, "INT64": np.int64}


def load_tensorrt(module: str = "tensorrt") -> Any:
    """The TensorRT module.

    Raises:
        MissingDependency: not installed (packages of type stubs alone do not count).
    """
    try:
        found = importlib.import_module(module)
    except (ImportError, OSError) as e:
        raise MissingDependency(f"{module} ({e})", "TensorRT's Python package",
                                "use JetPack's own, or install tensorrt; the ONNX engines run without it") from e
    if not hasattr(found, "Runtime"):
        raise MissingDependency(f"{module} without a Runtime", "TensorRT's Python package, not its type stubs",
                                "use JetPack's own, or install tensorrt; the ONNX engines run without it")
    return found


def device_facts(trt: Any, cuda: Cuda) -> dict[str, str]:
    """What a plan is tied to: TensorRT version, CUDA, SM, device name."""
    with cuda.entered():
        return {"tensorrt": str(trt.__version__), **cuda.facts()}


def check_device(path: Path, entry: EngineFile) -> None:
    """Refuse a plan that was built with another TensorRT version or for another device.

    Raises:
        MissingDependency: no TensorRT or no CUDA device here.
        EngineMismatch: this is not where the plan belongs.
    """
    here = device_facts(load_tensorrt(), open_cuda())
    for key, what in (("tensorrt", "TensorRT"), ("sm", "compute capability"), ("name", "device")):
        wanted = entry.device.get(key)
        if wanted != here[key]:
            raise EngineMismatch(f"plan {path} built for {what} {wanted}", f"{what} {here[key]}, which is here",
                                 "run `engine build --target tensorrt` on this device")


class TensorRTEngine(Described):
    """One plan on GPU 0. The returned arrays are pinned buffers, overwritten by the next call.

    Args:
        path: the plan.
        why: the reason for choosing this engine, for ``info``.
        precision: as its manifest says.
        metadata: of the ONNX it was built from, kept in the manifest: a plan carries none.

    Raises:
        MissingDependency: no TensorRT or CUDA here.
        EngineMismatch: TensorRT refuses the plan.
        ModelError: the plan has dynamic shapes or a tensor type without a numpy equivalent.
    """

    def __init__(self, path: str | Path, why: str = "asked for", precision: str = "int8",
                 metadata: Mapping[str, str] | None = None) -> None:
        self.path = Path(path)
        self._trt, self._cuda = load_tensorrt(), open_cuda()
        self._metadata = dict(metadata or {})
        self._info = EngineInfo(self.path.stem, "tensorrt", precision, why)
        self._host: dict[str, Array] = {}
        self._device: dict[str, int] = {}
        with self._cuda.entered():
            try:
                self._open()
            except UavPerceptionError:
                self._cuda.release()
                raise

    def _open(self) -> None:
        trt = self._trt
        self._logger = trt.Logger(trt.Logger.ERROR)
        self._runtime = trt.Runtime(self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(self.path.read_bytes())
        if self._engine is None:
            raise EngineMismatch(f"plan {self.path}", f"one that TensorRT {trt.__version__} can read",
                                 "run `engine build --target tensorrt` on this device")
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        specs = {n: self._spec(n) for n in names}
        inputs = [n for n in names if self._engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT]
        self._inputs = tuple(specs[n] for n in inputs)
        self._outputs = tuple(specs[n] for n in names if n not in inputs)
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise WorkFailed(f"plan {self.path}", "enough device memory for an execution context", "free GPU memory")
        self._stream = self._cuda.stream()
        for name, spec in specs.items():
            shape = tuple(int(n or 0) for n in spec.shape)
            self._host[name] = self._cuda.pinned(shape, spec.dtype)
            self._device[name] = self._cuda.allocate(max(1, self._host[name].nbytes))
            self._context.set_tensor_address(name, self._device[name])

    def _spec(self, name: str) -> TensorSpec:
        shape = tuple(int(n) for n in self._engine.get_tensor_shape(name))
        dtype = self._engine.get_tensor_dtype(name).name
        if dtype not in DTYPES or min(shape, default=1) < 0:
            raise ModelError(f"tensor {name} {dtype}{list(shape)} of plan {self.path}", "fixed sizes and a plain type",
                             "build it from an ONNX with static shapes")
        return TensorSpec(name, shape, np.dtype(DTYPES[dtype]))

    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run once; see the protocol for who owns the returned arrays.

        Raises:
            InputError: a feed is missing, unknown, or of another shape or type than declared.
            WorkFailed: CUDA or TensorRT failed.
        """
        if self._context is None:
            raise WorkFailed(f"engine {self._info.name} is closed", "an open engine", "open it again")
        check_feeds(self._info.name, self._inputs, feeds)
        try:
            with self._cuda.entered():
                for name, value in feeds.items():
                    np.copyto(self._host[name], value)
                    self._cuda.upload(self._device[name], self._host[name], self._stream)
                if not self._context.execute_async_v3(self._stream):
                    raise WorkFailed(f"engine {self._info.name}: TensorRT refused the inference", "success",
                                     "see the log; build the plan again")
                for spec in self._outputs:
                    self._cuda.download(self._host[spec.name], self._device[spec.name], self._stream)
                self._cuda.wait(self._stream)
        except (InputError, WorkFailed):
            raise
        except Exception as e:  # pycuda raises types of its own
            raise WorkFailed(f"engine {self._info.name}: {e}", "a working GPU", "check the driver") from e
        return {s.name: self._host[s.name] for s in self._outputs}

    def close(self) -> None:
        """Release device memory; pinned arrays handed out before are gone with it."""
        if self._context is None:
            return
        with self._cuda.entered():
            self._context = self._engine = self._runtime = None
            self._host.clear()
            self._cuda.release()
