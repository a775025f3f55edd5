"""Build an engine: calibrate, quantise, search the fewest float layers that meet the gate, prove, write atomically.

    float ONNX -> prepared (folded, merged) -> statistics -> candidates -> mixed precision -> files
"""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import metadata as packages
from pathlib import Path
from typing import Any

import onnx

from ..config import BuilderConfig
from ..engine.manifest import MANIFEST, EngineFile, Manifest, sha256_of
from ..engine.onnxruntime import OnnxRuntimeEngine
from ..errors import GateMissed, InputError, WorkFailed
from .accuracy import Outputs, Task, cpu_name, latency_ms, layer_snr_db, output_error_percent, run
from .calibrate import Feeds, Progress, collect, no_progress
from .data import Drawn, Preprocess
from .graph import Model, load_float_model, name_nodes, reopen, weighted_layers
from .placement import float_by_rule, place
from .plan import build_plan, check_target
from .prepare import prepare
from .ranges import METHODS
from .report import write_build_report
from .rounding import Rounder, covariances
from .search import (
    Calibrated,
    channel_noise,
    fastest,
    fewest_in_float,
    layers_on_large_maps,
    sensitivity_percent,
)

TOOLS = ("onnx", "onnxruntime", "numpy", "opencv-contrib-python-headless", "tensorrt", "tensorrt_rtx_cu12_bindings")


@dataclass(frozen=True)
class Request:
    """What to build. ``gate`` is in points of AP50 with a ``task``, else in percent of output error."""

    model: Path
    out: Path
    drawn: Drawn
    sources: tuple[str, ...]
    preprocess: Preprocess
    target: str = "onnxruntime"
    precision: str = "int8"
    gate: float | None = None
    task: Task | None = None
    config: BuilderConfig = field(default_factory=BuilderConfig)
    plan_options: dict[str, Any] = field(default_factory=dict)


@dataclass
class Quantised:
    """The outcome of calibration and search, before anything is written."""

    model: Model
    method: str
    layers_int8: list[str]
    layers_float: list[str]
    error_percent: float
    drop_points: float | None
    snr_db: dict[str, float]
    sensitivity: dict[str, float]
    candidates: dict[str, float]
    task_float: dict[str, Any] | None
    task_int8: dict[str, Any] | None


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
            _save(result.model, request, quantised_model)
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


def quantise_to_gate(request: Request, model: Model, feeds: Sequence[Feeds],
                     progress: Progress = no_progress) -> Quantised:
    """Calibrate, choose the range method, and leave the fewest layers in float that meet the gate (or the goal)."""
    config = request.config
    judged = feeds[: config.judge_pictures]
    reference = run(model, judged)
    calibrated = calibrate(model, feeds, "onnxruntime" if request.target == "onnxruntime" else "tensorrt", progress)
    kept = sorted(float_by_rule(calibrated.model, calibrated.target))
    methods = list(METHODS) if config.method == "auto" else [config.method]
    candidates = {m: _error(calibrated, m, kept, judged, reference) for m in methods}
    method = min(candidates, key=lambda m: candidates[m])
    task_float = request.task.score(request.model) if request.task else None
    scores: dict[int, dict[str, Any]] = {}

    def cost(extra: Sequence[str]) -> float:
        if task_float is None or request.task is None:
            return _error(calibrated, method, [*kept, *extra], judged, reference)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{request.model.stem}.onnx"
            _save(calibrated.quantised(method, [*kept, *extra]), request, path)
            scores[len(extra)] = request.task.score(path)
        return float(task_float["ap50"] - scores[len(extra)]["ap50"])

    layers = place(calibrated.model, calibrated.target, set(kept)).layers
    wanted = request.gate if request.gate is not None else 1.0 if request.task else config.goal_percent
    sensitivity: dict[str, float] = {}
    extra: list[str] = []
    reached = cost([])
    if reached > wanted or candidates[method] > config.goal_percent:
        guess = channel_noise(calibrated, method, kept)
        guessed = sorted(layers, key=lambda n: -guess[n])
        suspects = guessed[: config.suspects]
        sensitivity = sensitivity_percent(calibrated, method, suspects, judged[:1], reference[:1], progress)
        ranked = sorted(suspects, key=lambda n: -sensitivity[n]) + guessed[config.suspects:]
        extra, reached = fewest_in_float(ranked, cost, wanted, int(len(layers) * config.max_float_share))
    if config.plan == "fastest" and calibrated.target == "onnxruntime":
        plans = [extra, *([*extra, *more] for more in layers_on_large_maps(calibrated, [*kept, *extra]))]
        swift = fastest([calibrated.quantised(method, [*kept, *p]) for p in plans], judged[0], config.latency_rounds)
        if swift and cost(plans[swift]) <= max(wanted, reached):
            extra, reached = plans[swift], cost(plans[swift])
    final = calibrated.quantised(method, [*kept, *extra])
    outputs = {n.name: n.output[0] for n in weighted_layers(calibrated.model)}
    return Quantised(
        model=final, method=method, layers_int8=place(calibrated.model, calibrated.target, {*kept, *extra}).layers,
        layers_float=[*kept, *extra], error_percent=output_error_percent(reference, run(final, judged)),
        drop_points=reached if task_float else None,
        snr_db=layer_snr_db(calibrated.model, final, outputs, judged[:2]), sensitivity=sensitivity,
        candidates=candidates, task_float=task_float, task_int8=scores.get(len(extra)))


def calibrate(model: Model, feeds: Sequence[Feeds], target: str, progress: Progress = no_progress) -> Calibrated:
    """Prepare the float model and learn ranges, means and covariances from ``feeds``."""
    prepared = prepare(model, target)
    stats = collect(prepared, feeds, progress=progress)
    layers = [n for n in weighted_layers(prepared) if n.name not in float_by_rule(prepared, target)]
    return Calibrated(prepared, stats, Rounder(covariances(prepared, layers, feeds[:16], progress)), target)


def _error(calibrated: Calibrated, method: str, float_layers: Sequence[str], feeds: Sequence[Feeds],
           reference: Outputs) -> float:
    return output_error_percent(reference, run(calibrated.quantised(method, float_layers), feeds))


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
        "gate": request.gate, "method": result.method, "method_error_percent": result.candidates,
        "output_error_percent": result.error_percent, "ap50_drop_points": result.drop_points,
        "task_fp32": result.task_float, "task_int8": result.task_int8,
        "layers_int8": len(result.layers_int8), "layers_float": result.layers_float,
        "layer_snr_db": result.snr_db, "layer_sensitivity_percent": result.sensitivity,
    }


def _save(model: Model, request: Request, path: Path) -> None:
    """Write a Q/DQ model with the metadata the run time needs; names that only explain are left out to save room."""
    original = onnx.load(str(request.model), load_external_data=False)
    if request.target == "onnxruntime":  # TensorRT builds for the size of the calibration
        reopen(model, original)
    given = {p.key: p.value for p in original.metadata_props}
    del model.metadata_props[:]
    for key, value in {**given, "preprocess": request.preprocess.text, "precision": "int8"}.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    del model.graph.value_info[:]
    onnx.save(model, str(path))


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
