"""The heart of a build: calibrate, try range methods, and leave in float the fewest layers that meet the gate."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx

from ..config import BuilderConfig
from .accuracy import Outputs, Task, layer_snr_db, output_error_percent, run
from .calibrate import Feeds, Progress, collect, no_progress
from .data import Drawn, Preprocess
from .equalise import pairs
from .graph import Model, reopen, weighted_layers
from .placement import float_by_rule, place
from .prepare import prepare
from .ranges import METHODS
from .rounding import Rounder, covariances
from .search import (
    Calibrated,
    channel_noise,
    fastest,
    fewest_in_float,
    fronts,
    sensitivity_percent,
)

WEAK_POINTS = 10.0  # a float model below this AP50 cannot tell a good INT8 from a bad one: the output error then does


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
    equalised: bool
    layers_int8: list[str]
    layers_float: list[str]
    error_percent: float
    drop_points: float | None
    snr_db: dict[str, float]
    sensitivity: dict[str, float]
    candidates: dict[str, float]
    task_float: dict[str, Any] | None
    task_int8: dict[str, Any] | None


def quantise_to_gate(request: Request, model: Model, feeds: Sequence[Feeds],
                     progress: Progress = no_progress) -> Quantised:
    """Calibrate, choose the range method, and leave the fewest layers in float that meet the gate (or the goal)."""
    config = request.config
    judged = feeds[: config.judge_pictures]
    reference = run(model, judged)
    target = "onnxruntime" if request.target == "onnxruntime" else "tensorrt"
    methods = list(METHODS) if config.method == "auto" else [config.method]
    tried = []
    for equalised in _equalisations(config, model):
        calibrated = calibrate(model, feeds, target, progress, equalised)
        kept = sorted(float_by_rule(calibrated.model, target))
        candidates = {m: _error(calibrated, m, kept, judged, reference) for m in methods}
        tried.append((min(candidates.values()), equalised, calibrated, candidates))
    _, equalised, calibrated, candidates = min(tried, key=lambda t: t[0])
    method = min(candidates, key=lambda m: candidates[m])
    task_float = request.task.score(request.model) if request.task else None
    telling = task_float is not None and task_float["ap50"] >= WEAK_POINTS
    scores: dict[tuple[str, ...], dict[str, Any]] = {}

    def score(extra: Sequence[str]) -> dict[str, Any] | None:
        if request.task and tuple(extra) not in scores:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / f"{request.model.stem}.onnx"
                save_quantised(calibrated.quantised(method, [*kept, *extra]), request, path)
                scores[tuple(extra)] = request.task.score(path)
        return scores.get(tuple(extra))

    def cost(extra: Sequence[str]) -> float:
        if not telling:
            return _error(calibrated, method, [*kept, *extra], judged, reference)
        return lost_points(task_float, score(extra)) or 0.0

    layers = place(calibrated.model, calibrated.target, set(kept)).layers
    if telling:
        wanted = 1.0 if request.gate is None else request.gate
    else:
        wanted = config.goal_percent if request.gate is None or request.task else request.gate
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
        plans = [extra, *([*extra, *more] for more in fronts(calibrated, [*kept, *extra]))]
        swift = fastest([calibrated.quantised(method, [*kept, *p]) for p in plans], judged[0], config.latency_rounds)
        if swift and cost(plans[swift]) <= max(wanted, reached):
            extra = plans[swift]
    final = calibrated.quantised(method, [*kept, *extra])
    outputs = {n.name: n.output[0] for n in weighted_layers(calibrated.model)}
    return Quantised(
        model=final, method=method, equalised=equalised,
        layers_int8=place(calibrated.model, calibrated.target, {*kept, *extra}).layers,
        layers_float=[*kept, *extra], error_percent=output_error_percent(reference, run(final, judged)),
        drop_points=lost_points(task_float, score(extra)),
        snr_db=layer_snr_db(calibrated.model, final, outputs, judged[:2]), sensitivity=sensitivity,
        candidates=candidates, task_float=task_float, task_int8=score(extra))


def lost_points(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> float | None:
    """Points of AP50 that quantisation cost; None without a task."""
    return float(before["ap50"] - after["ap50"]) if before and after else None


def _equalisations(config: BuilderConfig, model: Model) -> tuple[bool, ...]:
    """Whether to calibrate without cross-layer equalisation, with it, or both ways and compare."""
    if config.equalise == "off" or not pairs(model):
        return (False,)
    return (True,) if config.equalise == "on" else (False, True)


def calibrate(model: Model, feeds: Sequence[Feeds], target: str, progress: Progress = no_progress,
              equalised: bool = False) -> Calibrated:
    """Prepare the float model and learn ranges, means and covariances from ``feeds``."""
    prepared = prepare(model, target, equalised)
    stats = collect(prepared, feeds, progress=progress)
    layers = [n for n in weighted_layers(prepared) if n.name not in float_by_rule(prepared, target)]
    return Calibrated(prepared, stats, Rounder(covariances(prepared, layers, feeds[:16], progress)), target)


def _error(calibrated: Calibrated, method: str, float_layers: Sequence[str], feeds: Sequence[Feeds],
           reference: Outputs) -> float:
    return output_error_percent(reference, run(calibrated.quantised(method, float_layers), feeds))


def save_quantised(model: Model, request: Request, path: Path) -> None:
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
