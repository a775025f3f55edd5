"""The few CUDA calls an engine needs, over pycuda or cuda-python, whichever is installed.

pycuda ships with older JetPack stacks; NVIDIA's own samples moved to cuda-python. Both are used on the device's primary
context, entered and left around every use: a context bound on import fails in executor threads.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import MissingDependency, WorkFailed

HOST_TO_DEVICE, DEVICE_TO_HOST = 1, 2  # cudaMemcpyKind


class Cuda(Protocol):
    """One device. All calls but ``entered`` must happen inside ``with cuda.entered():``."""

    def entered(self) -> Any: ...

    def facts(self) -> dict[str, str]: ...

    def pinned(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]: ...

    def allocate(self, size: int) -> int: ...

    def stream(self) -> int: ...

    def upload(self, device: int, host: NDArray[Any], stream: int) -> None: ...

    def download(self, host: NDArray[Any], device: int, stream: int) -> None: ...

    def wait(self, stream: int) -> None: ...

    def release(self) -> None: ...


class PyCuda:
    """pycuda's driver API."""

    def __init__(self) -> None:
        import pycuda.driver as driver

        driver.init()
        self._driver, self._device = driver, driver.Device(0)
        self._context = self._device.retain_primary_context()
        self._held: dict[int, Any] = {}  # handle -> object whose life the handle depends on

    @contextmanager
    def entered(self) -> Iterator[None]:
        self._context.push()
        try:
            yield
        finally:
            self._context.pop()

    def facts(self) -> dict[str, str]:
        major, minor = self._device.compute_capability()
        version = self._driver.get_driver_version()
        return {"name": self._device.name(), "sm": f"{major}.{minor}", "cuda": _version(version)}

    def pinned(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        return np.asarray(self._driver.pagelocked_empty(shape, dtype))

    def allocate(self, size: int) -> int:
        memory = self._driver.mem_alloc(size)
        self._held[int(memory)] = memory
        return int(memory)

    def stream(self) -> int:
        stream = self._driver.Stream()
        self._held[int(stream.handle)] = stream
        return int(stream.handle)

    def upload(self, device: int, host: NDArray[Any], stream: int) -> None:
        self._driver.memcpy_htod_async(device, host, self._held[stream])

    def download(self, host: NDArray[Any], device: int, stream: int) -> None:
        self._driver.memcpy_dtoh_async(host, device, self._held[stream])

    def wait(self, stream: int) -> None:
        self._held[stream].synchronize()

    def release(self) -> None:
        self._held.clear()


class CudaPython:
    """cuda-python's runtime API; every call returns (error, values...)."""

    def __init__(self) -> None:
        try:
            from cuda.bindings import runtime
        except ImportError:  # before cuda-python 12.6
            from cuda import cudart as runtime
        self._runtime = runtime
        self._memory: list[int] = []
        self._hosts: list[int] = []
        self._streams: list[int] = []

    @contextmanager
    def entered(self) -> Iterator[None]:
        self._call(self._runtime.cudaSetDevice, 0)  # binds the primary context to this thread
        yield

    def facts(self) -> dict[str, str]:
        p = self._call(self._runtime.cudaGetDeviceProperties, 0)
        name = p.name.decode().rstrip("\0") if isinstance(p.name, bytes) else str(p.name)
        version = self._call(self._runtime.cudaDriverGetVersion)
        return {"name": name, "sm": f"{p.major}.{p.minor}", "cuda": _version(int(version))}

    def pinned(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        count = int(np.prod(shape, dtype=np.int64))
        size = max(1, count * np.dtype(dtype).itemsize)
        pointer = int(self._call(self._runtime.cudaMallocHost, size))
        self._hosts.append(pointer)
        raw = (ctypes.c_uint8 * size).from_address(pointer)
        return np.frombuffer(raw, dtype=dtype, count=count).reshape(shape)

    def allocate(self, size: int) -> int:
        pointer = int(self._call(self._runtime.cudaMalloc, size))
        self._memory.append(pointer)
        return pointer

    def stream(self) -> int:
        handle = int(self._call(self._runtime.cudaStreamCreate))
        self._streams.append(handle)
        return handle

    def upload(self, device: int, host: NDArray[Any], stream: int) -> None:
        kind = self._runtime.cudaMemcpyKind(HOST_TO_DEVICE)
        self._call(self._runtime.cudaMemcpyAsync, device, host.ctypes.data, host.nbytes, kind, stream)

    def download(self, host: NDArray[Any], device: int, stream: int) -> None:
        kind = self._runtime.cudaMemcpyKind(DEVICE_TO_HOST)
        self._call(self._runtime.cudaMemcpyAsync, host.ctypes.data, device, host.nbytes, kind, stream)

    def wait(self, stream: int) -> None:
        self._call(self._runtime.cudaStreamSynchronize, stream)

    def release(self) -> None:
        for handles, free in ((self._streams, self._runtime.cudaStreamDestroy), (self._memory, self._runtime.cudaFree),
                              (self._hosts, self._runtime.cudaFreeHost)):
            while handles:
                self._call(free, handles.pop())

    def _call(self, function: Callable[..., Any], *args: Any) -> Any:
        error, *values = function(*args)
        if int(error) != 0:
            raise WorkFailed(f"CUDA {getattr(function, '__name__', '')}: {error}", "success",
                             "check the driver with nvidia-smi or tegrastats")
        return values[0] if values else None


BINDINGS: dict[str, Callable[[], Cuda]] = {"pycuda": PyCuda, "cuda-python": CudaPython}


def open_cuda() -> Cuda:
    """The first binding that is installed and finds a device.

    Raises:
        MissingDependency: none is installed, or there is no device.
    """
    problems = []
    for name, make in BINDINGS.items():
        try:
            return make()
        except Exception as e:  # a missing library and a missing driver raise types of their own
            problems.append(f"{name}: {(str(e).splitlines() or [type(e).__name__])[0]}")
    raise MissingDependency(f"CUDA ({'; '.join(problems)})", "pycuda or cuda-python, and an NVIDIA device",
                            "pip install cuda-python on the robot, or use backend onnxruntime")


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"
