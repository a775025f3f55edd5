"""ONNX Runtime behind the Engine protocol: the engine of machines without TensorRT, and the reference of all others."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, ModelError, WorkFailed
from . import Array, Described, EngineInfo, TensorSpec

DTYPES: dict[str, Any] = {
    "tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8, "tensor(int8)": np.int8, "tensor(int32)": np.int32, "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}


def default_threads() -> int:
    """Inference threads of one stage: half the cores this process may use (other stages need theirs), 1 to 4."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(4, cores // 2))


class OnnxRuntimeEngine(Described):
    """One ONNX model on the CPU.

    Inputs that are contiguous and of the declared type are read where they lie; outputs are written into buffers made
    once, so a call allocates nothing of frame size. The returned arrays are overwritten by the next call.

    Args:
        path: the ONNX file. A symbolic batch (first dimension of an input) is taken as 1: one camera, one frame.
        threads: 0 = ``default_threads()``. Idle threads sleep instead of spinning, so that they starve no other stage.
        why: the reason for choosing this engine, for ``info``.

    Raises:
        ModelError: the file is missing, broken, or holds an operator ONNX Runtime does not know.
    """

    def __init__(self, path: str | Path, threads: int = 0, why: str = "asked for") -> None:
        self.path = Path(path)
        self._session = _open_session(self.path, threads or default_threads())
        self._inputs = tuple(_spec(v) for v in self._session.get_inputs())
        self._outputs = tuple(_spec(v) for v in self._session.get_outputs())
        self._metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        self._info = EngineInfo(self.path.stem, "onnxruntime", _precision(self.path, self._metadata, self._inputs), why)
        self._binding = self._session.io_binding()
        self._results = {s.name: np.zeros(_static(s), s.dtype) for s in self._outputs if None not in s.shape}
        self._sized_late = [s.name for s in self._outputs if None in s.shape]  # known after the run: ORT allocates
        self._staging: dict[str, Array] = {}
        for s in self._outputs:
            if s.name in self._results:
                self._binding.bind_ortvalue_output(s.name, _ort().OrtValue.ortvalue_from_numpy(self._results[s.name]))

    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run once; see the protocol for who owns the returned arrays.

        Raises:
            InputError: a feed is missing, unknown, or of another shape or type than declared.
            WorkFailed: the runtime failed.
        """
        if self._session is None:
            raise WorkFailed(f"engine {self._info.name} is closed", "an open engine", "open it again")
        check_feeds(self._info.name, self._inputs, feeds)
        held = {name: self._contiguous(name, value) for name, value in feeds.items()}
        try:
            for name, value in held.items():
                self._binding.bind_cpu_input(name, value)
            for name in self._sized_late:
                self._binding.bind_output(name)
            self._session.run_with_iobinding(self._binding)
        except Exception as e:  # the runtime's own exception types share no narrower base
            raise WorkFailed(f"engine {self._info.name}: {_first_line(e)}", "a successful inference",
                             "check the model with `engine inspect`") from e
        if not self._sized_late:
            return dict(self._results)
        late = self._binding.get_outputs()[len(self._results):]  # in the order of binding
        return {**self._results, **{n: v.numpy() for n, v in zip(self._sized_late, late, strict=True)}}

    def close(self) -> None:
        self._binding = self._session = None

    def _contiguous(self, name: str, value: Array) -> Array:
        if value.flags.c_contiguous:
            return value
        buffer = self._staging.get(name)
        if buffer is None or buffer.shape != value.shape:
            buffer = self._staging[name] = np.empty(value.shape, value.dtype)
        np.copyto(buffer, value)
        return buffer


def check_feeds(engine: str, inputs: tuple[TensorSpec, ...], feeds: Mapping[str, Array]) -> None:
    """Refuse feeds that do not fit ``inputs``.

    Raises:
        InputError: missing or unknown name, other shape, other dtype.
    """
    if feeds.keys() != {s.name for s in inputs}:
        raise InputError(f"inputs {', '.join(feeds) or 'none'} given to engine {engine}",
                         f"exactly {', '.join(s.name for s in inputs)}", "name the inputs as the model does")
    for s in inputs:
        value = feeds[s.name]
        fits = len(value.shape) == len(s.shape) and all(
            want is None or want == got for want, got in zip(s.shape, value.shape, strict=True))
        if not fits or value.dtype != s.dtype:
            raise InputError(f"input {s.name} of engine {engine} is {value.dtype}{list(value.shape)}",
                             f"{s.dtype}{['any' if n is None else n for n in s.shape]}",
                             "use the preprocessing this model was built with")


def _ort() -> Any:
    import onnxruntime  # here, not above: it costs 0.1 s of start-up where no engine is used

    return onnxruntime


def _open_session(path: Path, threads: int) -> Any:
    if not path.is_file():
        raise ModelError(f"model {path}", "an existing ONNX file", "check the path, or build it with `engine build`")
    ort = _ort()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        batches = {v.shape[0] for v in session.get_inputs() if v.shape and isinstance(v.shape[0], str)}
        if batches:
            for name in batches:
                options.add_free_dimension_override_by_name(name, 1)
            session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as e:  # the runtime's own exception types share no narrower base
        raise ModelError(f"model {path}: {_first_line(e)}", "an ONNX model that ONNX Runtime can run",
                         "export it again (opset 13 to 21, standard operators)") from e
    return session


def _spec(value: Any) -> TensorSpec:
    if value.type not in DTYPES:
        raise ModelError(f"tensor {value.name} of type {value.type}", f"one of {', '.join(DTYPES)}", "export it again")
    shape = tuple(n if isinstance(n, int) and n >= 0 else None for n in value.shape)
    return TensorSpec(value.name, shape, np.dtype(DTYPES[value.type]))


def _static(spec: TensorSpec) -> tuple[int, ...]:
    return tuple(n for n in spec.shape if n is not None)


def _precision(path: Path, metadata: Mapping[str, str], inputs: tuple[TensorSpec, ...]) -> str:
    if "precision" in metadata:
        return metadata["precision"]
    if b"QuantizeLinear" in path.read_bytes():
        return "int8"
    return "fp16" if any(s.dtype == np.float16 for s in inputs) else "fp32"


def _first_line(e: Exception) -> str:
    return (str(e).strip().splitlines() or [type(e).__name__])[0][:300]
