"""Build an engine: calibrate, quantise, search the fewest float layers that meet the gate, prove, write atomically.

    float ONNX -> prepared (folded, merged) -> statistics -> candidates -> mixed precision -> files
"""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from importlib import metadata as packages
from pathlib import Path
from typing import Any

from ..engine.manifest import MANIFEST, EngineFile, Manifest, sha256_of
from ..engine.onnxruntime import OnnxRuntimeEngine
from ..errors import GateMissed, InputError, WorkFailed
from .accuracy import cpu_name, latency_ms
from .calibrate import Progress, no_progress
from .graph import Model, load_float_model, name_nodes, weighted_layers
from .plan import build_plan, check_target
from .quantiser import Quantised, Request, quantise_to_gate, save_quantised
from .report import write_build_report

TOOLS = ("onnx", "onnxruntime", "numpy", "opencv-contrib-python-headless", "tensorrt", "tensorrt_rtx_cu12_bindings")


def build(request: Request, progress: Progress = no_progress) -> Manifest:
    """Build and write an engine folder: the float ONNX, the INT8 engine, ``manifest.json`` and ``report.html``.

    Everything is made in a temporary folder beside ``out`` and moved at the end, so that a failed build leaves no trace
    and an older engine untouched.

    Raises:
        ModelError, SourceError, InputError: bad model or calibration data.
        WorkFailed: NaN activations, a full disk, a builder that fails.
        GateMissed: INT8 costs more than ``gate``; the float engine and the report are written, INT8 is not.
    """
    out = request.out
    if request.precision == "fp16" and request.target == "onnxruntime":
        raise InputError("precision fp16 for onnxruntime", "int8 or fp32: CPUs gain nothing by it", "choose another")
    if request.target != "onnxruntime":
        check_target(request.target)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as e:
        raise WorkFailed(f"output folder {out}: {e.strerror}", "a folder that can be written", "choose another") from e
    try:
        manifest, missed = _build_into(request, work, progress)
        out.mkdir(exist_ok=True)
        for file in sorted(work.iterdir(), key=lambda p: p.name == MANIFEST):  # last: it makes the rest valid
            os.replace(file, out / file.name)
    except OSError as e:
        raise WorkFailed(f"writing {out}: {e.strerror or e}", "room on the disk and permission",
                         "free some space; the older engine is untouched") from e
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if missed:
        raise missed
    return manifest


def _build_into(request: Request, work: Path, progress: Progress) -> tuple[Manifest, GateMissed | None]:
    name = request.model.stem
    model = load_float_model(request.model, request.preprocess.size)
    name_nodes(model)
    feeds = request.preprocess.feeds(request.drawn.pictures)
    shutil.copyfile(request.model, work / f"{name}.onnx")
    files = [_entry(work / f"{name}.onnx", "onnxruntime", "fp32")]
    quantised_model = None
    missed = None
    accuracy: dict[str, Any] = {}
    if request.precision == "int8":
        result = quantise_to_gate(request, model, feeds, progress)
        missed = _gate(request, result)
        accuracy = _accuracy(request, result)
        if missed is None:
            quantised_model = work / f"{name}.int8.onnx"
            save_quantised(result.model, request, quantised_model)
            accuracy["bytes"] = {"fp32": request.model.stat().st_size, "int8": quantised_model.stat().st_size}
            if request.target == "onnxruntime":
                files.append(_entry(quantised_model, "onnxruntime", "int8"))
                engines = {"fp32": OnnxRuntimeEngine(request.model), "int8": OnnxRuntimeEngine(quantised_model)}
                accuracy["latency_ms"] = latency_ms(engines, feeds[0], request.config.latency_rounds)
    if request.target != "onnxruntime" and missed is None:
        implicit = bool(request.plan_options.get("implicit"))  # TensorRT calibrates the float model itself
        source = request.model if implicit or quantised_model is None else quantised_model
        plan, device = build_plan(source, work / f"{name}.{request.precision}.plan",
                                  request.target, request.precision, feeds, request.plan_options)
        accuracy["builder"] = device.pop("layers", {})
        files.append(EngineFile(plan.name, sha256_of(plan), request.target, request.precision, device))
    manifest = _manifest(request, model, tuple(files), accuracy)
    write_build_report(work / "report.html", manifest, missed)
    (work / MANIFEST).write_text(manifest.to_json())
    return manifest, missed


def _gate(request: Request, result: Quantised) -> GateMissed | None:
    if request.gate is None:
        return None
    value, unit = ((result.drop_points, "points of AP50") if result.drop_points is not None
                   else (result.error_percent, "% output error"))
    if value <= request.gate:
        return None
    return GateMissed(f"INT8 of {request.model.name} costs {value:.2f} {unit}, {len(result.layers_float)} layers in "
                      "float", f"at most {request.gate:g}", "the float engine stays in use; calibrate on pictures like "
                      "those of the flight, or allow more")


def _accuracy(request: Request, result: Quantised) -> dict[str, Any]:
    return {
        "gate": request.gate, "method": result.method, "equalised": result.equalised,
        "method_error_percent": result.candidates,
        "output_error_percent": result.error_percent, "ap50_drop_points": result.drop_points,
        "task_fp32": result.task_float, "task_int8": result.task_int8,
        "layers_int8": len(result.layers_int8), "layers_float": result.layers_float,
        "layer_snr_db": result.snr_db, "layer_sensitivity_percent": result.sensitivity,
    }


def _entry(path: Path, backend: str, precision: str) -> EngineFile:
    return EngineFile(path.name, sha256_of(path), backend, precision)


def _manifest(request: Request, model: Model, files: tuple[EngineFile, ...], accuracy: dict[str, Any]) -> Manifest:
    engine = OnnxRuntimeEngine(request.model)
    described = [tuple({"name": s.name, "shape": list(s.shape), "dtype": str(s.dtype)} for s in specs)
                 for specs in (engine.inputs, engine.outputs)]
    metadata = dict(engine.metadata)
    engine.close()
    drawn = request.drawn
    in_float = set(accuracy.get("layers_float", ()))
    int8 = request.precision == "int8"
    return Manifest(
        name=request.model.stem, source={"file": request.model.name, "sha256": sha256_of(request.model)}, files=files,
        preprocess={"specification": request.preprocess.text, "hash": request.preprocess.hash},
        metadata={**metadata, "preprocess": request.preprocess.text}, inputs=described[0], outputs=described[1],
        calibration={"sources": [Path(s).name for s in request.sources], "sha256": drawn.sha256,
                     "drawn": len(drawn.names), "population": drawn.population, "seed": drawn.seed,
                     "pictures": list(drawn.names)},
        precision_per_layer={n.name: ("fp32" if n.name in in_float else "int8") if int8 else request.precision
                             for n in weighted_layers(model)},
        tools=_versions(), accuracy=accuracy)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "machine": platform.machine(), "cpu": cpu_name()}
    for name in TOOLS:
        try:
            found[name] = packages.version(name)
        except packages.PackageNotFoundError:
            continue
    return found
