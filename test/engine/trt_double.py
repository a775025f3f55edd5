"""A TensorRT and two CUDA bindings that do simple arithmetic on the host, as strict about names as the real ones.

The API is read from NVIDIA's own type stubs (package ``tensorrt-stubs``, 10.13): every attribute the code under test
touches must exist there, or the double fails as the real module would. ``ADDED`` and ``REMOVED`` make it 8.6 or 11.
"""

from __future__ import annotations

import importlib.util
import re
import threading
import types
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

CALIBRATORS = {f"IInt8{k}" for k in ("Calibrator", "EntropyCalibrator", "EntropyCalibrator2", "MinMaxCalibrator",
                                     "LegacyCalibrator")}
# facts of the release notes: 10.0 added INT64 and removed bindings; 11.0 removed calibrators and precision flags
REMOVED: dict[str, dict[str, set[str]]] = {
    "8.6.1": {"DataType": {"INT64", "BF16", "FP4", "E8M0", "INT4"}},
    "10.13.0": {},
    "11.0.0": {"": CALIBRATORS, "BuilderFlag": {"INT8", "FP16", "BF16", "FP8", "INT4"},
               "NetworkDefinitionCreationFlag": {"EXPLICIT_BATCH"}, "IBuilderConfig": {"int8_calibrator"}},
}
ADDED: dict[str, dict[str, set[str]]] = {
    "8.6.1": {"ICudaEngine": {"num_bindings", "get_binding_name", "max_batch_size"},
              "IExecutionContext": {"execute_async_v2", "set_binding_shape"}},
    "10.13.0": {}, "11.0.0": {},
}


@lru_cache
def stub_api() -> dict[str, set[str]]:
    """Class -> member names, inherited ones included; "" -> names of the module."""
    spec = importlib.util.find_spec("tensorrt_bindings")
    paths = [Path(p) / "tensorrt.pyi" for p in (spec.submodule_search_locations or [])] if spec else []
    found = [p for p in paths if p.is_file()]
    if not found:
        pytest.skip("package tensorrt-stubs is not installed")
    classes: dict[str, set[str]] = {}
    bases: dict[str, list[str]] = {}
    members: set[str] = set()
    for line in found[0].read_text().splitlines():  # line by line: one signature of the stubs is no valid Python
        if head := re.match(r"class (\w+)(?:\((.*)\))?:", line):
            members = classes[head[1]] = set()
            bases[head[1]] = (head[2] or "").replace(" ", "").split(",")
        elif member := re.match(r"    (?:def (\w+)\(|(\w+) ?[:=])", line):
            members.add(member[1] or member[2])
        elif re.match(r"\S", line):
            members = set()
    for name in classes:
        for base in bases[name]:
            classes[name] |= classes.get(base, set())
    return {**classes, "": set(classes) | {"__version__"}}


class Strict:
    """Lets through only what class ``kind`` of the stubs has; implementations start with ``_do_``."""

    _kind = ""
    _version = ""

    def __getattr__(self, name: str) -> Any:
        allowed = stub_api()[self._kind] - REMOVED[self._version].get(self._kind, set())
        if name not in allowed | ADDED[self._version].get(self._kind, set()):
            raise AttributeError(f"TensorRT {self._version}: {self._kind} has no {name}")
        try:
            return object.__getattribute__(self, f"_do_{name}")
        except AttributeError:
            raise NotImplementedError(f"the double does not implement {self._kind}.{name}") from None


class Enum:
    """Members of an enumeration of the stubs."""

    def __init__(self, kind: str, version: str) -> None:
        self._kind, self._version = kind, version

    def __getattr__(self, name: str) -> Any:
        if name not in stub_api()[self._kind] - REMOVED[self._version].get(self._kind, set()) or name.startswith("__"):
            raise AttributeError(f"TensorRT {self._version}: {self._kind} has no {name}")
        value = sorted(stub_api()[self._kind]).index(name)
        member = type(f"{self._kind}Member", (int,), {"name": name})(value)
        return member


class Device:
    """Memory by address; operations outside a bound context fail, as on a GPU."""

    def __init__(self) -> None:
        self.memory: dict[int, np.ndarray] = {}
        self.bound = threading.local()
        self.freed = 0
        self.next = 4096

    def check(self) -> None:
        assert getattr(self.bound, "depth", 0) > 0, "CUDA call without a context on this thread"

    def allocate(self, size: int) -> int:
        self.check()
        self.next += 1 << 20
        self.memory[self.next] = np.zeros(size, np.uint8)
        return self.next


PLAN = b"PLAN of y = 2 x + 1"


def make_tensorrt(version: str, device: Device, shape: tuple[int, ...] = (1, 3, 4, 4), works: bool = True) -> Any:
    """A module that looks like TensorRT ``version`` and runs y = 2 x + 1."""

    def strict(kind: str, **members: Any) -> Any:
        body = {f"_do_{k}": staticmethod(v) if callable(v) else v for k, v in members.items()}
        return type(kind, (Strict,), {"_kind": kind, "_version": version, **body})()

    mode, dtype = Enum("TensorIOMode", version), Enum("DataType", version)
    addresses: dict[str, int] = {}

    def execute(stream: int) -> bool:
        device.check()
        x = device.memory[addresses["x"]].view(np.float32)
        device.memory[addresses["y"]].view(np.float32)[:] = 2 * x + 1
        return works

    def context() -> Any:
        return strict("IExecutionContext", execute_async_v3=lambda stream_handle: execute(stream_handle),
                      set_tensor_address=lambda name, memory: addresses.update({name: memory}) or True)

    engine = strict(
        "ICudaEngine", num_io_tensors=2, get_tensor_name=lambda i: ("x", "y")[i],
        get_tensor_mode=lambda n: mode.INPUT if n == "x" else mode.OUTPUT, get_tensor_shape=lambda n: shape,
        get_tensor_dtype=lambda n: dtype.FLOAT, create_execution_context=context)
    runtime = strict("Runtime", deserialize_cuda_engine=lambda data: engine if data == PLAN else None)
    logger = types.SimpleNamespace(ERROR=1)
    logger_class = type("Logger", (), {"ERROR": 1, "__init__": lambda self, severity=1: None})
    known = {"__version__": version, "Logger": logger_class, "Runtime": lambda log: runtime, "TensorIOMode": mode,
             "DataType": dtype, "BuilderFlag": Enum("BuilderFlag", version),
             "NetworkDefinitionCreationFlag": Enum("NetworkDefinitionCreationFlag", version),
             "DeviceType": Enum("DeviceType", version)}
    known |= {name: type(name, (), {}) for name in CALIBRATORS}
    assert logger.ERROR == 1

    class Module(types.ModuleType):
        """Only names of the stubs exist."""

        def __getattr__(self, name: str) -> Any:
            if name not in stub_api()[""] - REMOVED[version].get("", set()):
                raise AttributeError(f"TensorRT {version} has no {name}")
            if name not in known:
                raise NotImplementedError(f"the double does not implement {name}")
            return known[name]

    module = Module("tensorrt")
    module.__version__ = version
    return module


def make_pycuda(device: Device) -> Any:
    """``pycuda.driver`` with a primary context."""

    class Context:
        def push(self) -> None:
            device.bound.depth = getattr(device.bound, "depth", 0) + 1

        def pop(self) -> None:
            device.bound.depth -= 1

    class Stream:
        def __init__(self) -> None:
            device.check()
            self.handle = id(self)

        def synchronize(self) -> None:
            device.check()

    class Memory(int):
        def __del__(self) -> None:
            device.freed += 1

    def upload(dest: int, src: np.ndarray, stream: Stream) -> None:
        device.check()
        device.memory[dest][:] = src.reshape(-1).view(np.uint8)

    def download(dest: np.ndarray, src: int, stream: Stream) -> None:
        device.check()
        dest.reshape(-1).view(np.uint8)[:] = device.memory[src]

    physical = types.SimpleNamespace(compute_capability=lambda: (8, 7), name=lambda: "Orin",
                                     retain_primary_context=Context)
    return types.SimpleNamespace(
        init=lambda: None, Device=lambda i: physical, get_driver_version=lambda: 12060, Stream=Stream,
        pagelocked_empty=lambda shape, dtype: np.empty(shape, dtype),
        mem_alloc=lambda n: Memory(device.allocate(n)), memcpy_htod_async=upload, memcpy_dtoh_async=download)


def make_cudart(device: Device) -> Any:
    """``cuda.bindings.runtime``: every call returns (error, values...)."""
    import ctypes

    hosts: dict[int, Any] = {}

    def bind(index: int) -> tuple[int]:
        device.bound.depth = 1
        return (0,)

    def host(size: int) -> tuple[int, int]:
        device.check()
        buffer = ctypes.create_string_buffer(size)
        hosts[ctypes.addressof(buffer)] = buffer
        return 0, ctypes.addressof(buffer)

    def copy(dst: int, src: int, size: int, kind: int, stream: int) -> tuple[int]:
        device.check()
        if kind == 1:
            device.memory[dst][:] = np.frombuffer((ctypes.c_uint8 * size).from_address(src), np.uint8)
        else:
            ctypes.memmove(dst, device.memory[src].ctypes.data, size)
        return (0,)

    def free(pointer: int) -> tuple[int]:
        device.freed += 1
        return (0,)

    properties = types.SimpleNamespace(name=b"Orin", major=8, minor=7)
    return types.SimpleNamespace(
        cudaSetDevice=bind, cudaGetDeviceProperties=lambda i: (0, properties), cudaDriverGetVersion=lambda: (0, 12060),
        cudaMallocHost=host, cudaMalloc=lambda n: (0, device.allocate(n)), cudaStreamCreate=lambda: (0, 77),
        cudaMemcpyKind=int, cudaMemcpyAsync=copy, cudaStreamSynchronize=lambda s: (0,), cudaFree=free,
        cudaStreamDestroy=free, cudaFreeHost=free)
