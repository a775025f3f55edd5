"""Plans: TensorRT's builder on the device, or TensorRT for RTX ahead of time on any machine.

Our Q/DQ model is the source on every version. Up to TensorRT 10 the network is weakly typed with INT8 and FP16 allowed,
so that layers outside Q/DQ may use FP16; TensorRT 11 and RTX have strong typing only. DLA up to 10.7 knows no Q/DQ:
there the float model is calibrated implicitly with our feeds.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..engine.cuda import open_cuda
from ..engine.tensorrt import device_facts, load_tensorrt
from ..errors import InputError, ModelError, WorkFailed
from .calibrate import Feeds

MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx_bindings"}
RTX_DEFAULT_SM = "8.9"
LAYER = re.compile(r"^Name: (?P<name>[^,]+), LayerType: (?P<kind>[^,]+), Inputs: \[(?P<inputs>.*?)\], Constants: "
                   r"\[(?P<constants>.*?)\], Outputs:", re.DOTALL)


def build_plan(onnx_path: Path, out: Path, target: str, precision: str, feeds: Sequence[Feeds],
               options: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
    """Build a plan of ``onnx_path`` at ``out``; returns its path, and what it is tied to with the builder's report.

    Args:
        target: ``tensorrt`` (this device) or ``tensorrt-rtx`` (``options["sm"]``, no GPU needed).
        feeds: calibration inputs, used only with a DLA core on TensorRT <= 10.
        options: ``sm``, ``dla_core`` (-1: none), ``timing_cache`` (path or empty), ``implicit`` (entropy or minmax).

    Raises:
        MissingDependency: the target is not installed here.
        ModelError: the parser refuses the model.
        WorkFailed: the builder fails.
    """
    trt = load_tensorrt(MODULES[target])
    log = _Log(trt)
    builder = trt.Builder(log.logger)
    network = builder.create_network(_network_flags(trt))
    parser = trt.OnnxParser(network, log.logger)
    if not parser.parse_from_file(str(onnx_path)):
        problems = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise ModelError(f"model {onnx_path.name}: {problems[:300]}", f"operators {target} knows", "export it again")
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    cache_file = Path(options.get("timing_cache") or "")
    cache = _timing_cache(config, cache_file) if options.get("timing_cache") else None
    _allow_precisions(trt, config, precision)
    if target == "tensorrt-rtx":
        device = _aim_rtx(trt, config, str(options.get("sm") or RTX_DEFAULT_SM))
    else:
        device = device_facts(trt, open_cuda())
    if options.get("dla_core", -1) >= 0:
        device["dla"] = _use_dla(trt, config, network, int(options["dla_core"]))
    calibrator = None
    if options.get("implicit"):
        calibrator = implicit_calibrator(trt, str(options["implicit"]), feeds, out.with_suffix(".calibration"))
        config.int8_calibrator = calibrator
    serialised = builder.build_serialized_network(network, config)
    if serialised is None:
        raise WorkFailed(f"{target} builder: {log.last_error()}", "a plan", "see the message; leave layers in float")
    out.write_bytes(memoryview(serialised))
    if cache is not None:
        _write_beside(cache_file, bytes(memoryview(config.get_timing_cache().serialize())))
    return out, {**device, "layers": {**network_report(network), **log.layer_report()}}


def check_target(target: str) -> None:
    """Fail before minutes of calibration when ``target`` cannot be built here.

    Raises:
        MissingDependency: its packages, or for ``tensorrt`` the GPU, are missing.
    """
    load_tensorrt(MODULES[target])
    if target == "tensorrt":
        open_cuda()


def network_report(network: Any) -> dict[str, Any]:
    """How many layers with weights read INT8 in the parsed network, and which do not."""
    in_float = []
    int8 = 0
    made = {}
    for i in range(network.num_layers):
        layer = network.get_layer(i)
        for j in range(layer.num_outputs):
            made[layer.get_output(j).name] = layer
    for i in range(network.num_layers):
        layer = network.get_layer(i)
        if layer.type.name not in ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY"):
            continue
        if layer.type.name == "MATRIX_MULTIPLY" and not any(_constant(made, layer.get_input(k)) for k in (0, 1)):
            continue
        sources = [made.get(layer.get_input(k).name) for k in range(layer.num_inputs) if layer.get_input(k) is not None]
        if sources and sources[0] is not None and sources[0].type.name == "DEQUANTIZE":
            int8 += 1
        else:
            in_float.append(layer.name)
    return {"network_int8": int8, "network_float": in_float}


def implicit_calibrator(trt: Any, kind: str, feeds: Sequence[Feeds], cache: Path) -> Any:
    """Calibrator of TensorRT <= 10 over our feeds; ``cache`` keeps its scales, as ``trtexec --calib`` reads them.

    Raises:
        InputError: an unknown kind, or a TensorRT that has calibrators no more.
    """
    names = {"entropy": "IInt8EntropyCalibrator2", "minmax": "IInt8MinMaxCalibrator"}
    if kind not in names or not hasattr(trt, names.get(kind, "")):
        raise InputError(f"implicit calibration {kind!r} with TensorRT {trt.__version__}",
                         f"one of {', '.join(names)}, and TensorRT up to 10", "build from Q/DQ instead (the default)")
    cuda = open_cuda()
    base: Any = getattr(trt, names[kind])

    class Calibrator(base):  # type: ignore[misc]
        """Feeds one batch after the other from device buffers."""

        def __init__(self) -> None:
            base.__init__(self)
            self._left = iter(feeds)
            with cuda.entered():
                self._stream = cuda.stream()
                self._device = {k: cuda.allocate(v.nbytes) for k, v in feeds[0].items()}

        def get_batch_size(self) -> int:
            return 1

        def get_batch(self, names: list[str], *_: Any) -> list[int] | None:
            feed = next(self._left, None)
            if feed is None:
                return None
            with cuda.entered():
                for name in names:
                    cuda.upload(self._device[name], np.ascontiguousarray(feed[name]), self._stream)
                cuda.wait(self._stream)
            return [self._device[name] for name in names]

        def read_calibration_cache(self, *_: Any) -> bytes | None:
            return cache.read_bytes() if cache.is_file() else None

        def write_calibration_cache(self, data: Any, *_: Any) -> None:
            _write_beside(cache, bytes(memoryview(data)))

    return Calibrator()


def _network_flags(trt: Any) -> int:
    flags = trt.NetworkDefinitionCreationFlag
    if not hasattr(trt.BuilderFlag, "INT8"):  # TensorRT 11 and RTX
        return int(1 << int(flags.STRONGLY_TYPED))
    return int(1 << int(flags.EXPLICIT_BATCH))


def _allow_precisions(trt: Any, config: Any, precision: str) -> None:
    for flag in {"int8": ("INT8", "FP16"), "fp16": ("FP16",), "fp32": ()}[precision]:
        if hasattr(trt.BuilderFlag, flag):
            config.set_flag(getattr(trt.BuilderFlag, flag))
        elif precision == "fp16":
            raise InputError(f"precision fp16 with {trt.__name__} {trt.__version__}", "int8 or fp32 (strong typing)",
                             "export the ONNX in FP16, and build it as fp32")


def _aim_rtx(trt: Any, config: Any, sm: str) -> dict[str, Any]:
    name = f"SM{sm.replace('.', '')}"
    if not hasattr(trt.ComputeCapability, name):
        known = [n for n in dir(trt.ComputeCapability) if n.startswith("SM")]
        raise InputError(f"--sm {sm}", f"one of {', '.join(f'{n[2:-1]}.{n[-1]}' for n in known)}", "correct it")
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, name), 0)
    return {"tensorrt_rtx": str(trt.__version__), "sm": sm}


def _use_dla(trt: Any, config: Any, network: Any, core: int) -> str:
    """Run on a DLA core; names what falls back to the GPU, since TensorRT does it silently."""
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = core
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    fallen = [layer.name for layer in layers if not config.can_run_on_DLA(layer)]
    return f"core {core}; on the GPU: {', '.join(fallen) or 'nothing'}"


def _timing_cache(config: Any, path: Path) -> Any:
    cache = config.create_timing_cache(path.read_bytes() if path.is_file() else b"")
    if not config.set_timing_cache(cache, False):
        cache = config.create_timing_cache(b"")  # of another device or version: start anew
        config.set_timing_cache(cache, True)
    return cache


def _write_beside(path: Path, data: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data)
    os.replace(part, path)


def _constant(made: dict[str, Any], tensor: Any) -> bool:
    return tensor is not None and tensor.name in made and made[tensor.name].type.name in ("CONSTANT", "DEQUANTIZE")


class _Log:
    """TensorRT's log: the last error, and the layers the builder made (its only report without a GPU)."""

    def __init__(self, trt: Any) -> None:
        lines: list[tuple[str, str]] = []
        base: Any = trt.ILogger

        class Logger(base):  # type: ignore[misc]
            """Keeps what TensorRT says."""

            def __init__(self) -> None:
                base.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                lines.append((severity.name, message))

        self.logger, self._lines = Logger(), lines

    def last_error(self) -> str:
        return next((m for s, m in reversed(self._lines) if "ERROR" in s), "no message")[:300]

    def layer_report(self) -> dict[str, Any]:
        """Built layers by kind and input type, from the layer lines of the verbose log."""
        kinds: Counter[str] = Counter()
        for _, message in self._lines:
            for line in message.splitlines():
                found = LAYER.match(line)
                if found and found["kind"] in ("correlation", "CaskConvolution", "gemm", "CaskGemmConvolution"):
                    types = re.findall(r"Datatype: (\w+)", found["inputs"])
                    kinds[f"{found['kind']} of {types[0] if types else 'unknown'}"] += 1
        return {"built": dict(kinds)}
