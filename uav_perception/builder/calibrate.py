"""Run a float model over calibration feeds and keep statistics of every activation."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ..engine.onnxruntime import OnnxRuntimeEngine
from .graph import Model, consumers, producers, shapes
from .placement import Placement
from .ranges import METHODS, Range, TensorStats, clamped, merged

Feeds = Mapping[str, NDArray[np.float32]]
Progress = Callable[[Iterable[Any], str], Iterable[Any]]
SATURATION = 8.0  # a sigmoid is flat beyond: 3e-4 from its limits, and x * sigmoid(x) is 3e-3 at -8
SAMPLE = 65536  # values of a tensor and picture that enter its histogram: enough for the 1e-4 quantile of 16 pictures


def no_progress(items: Iterable[Any], what: str) -> Iterable[Any]:
    """Show nothing."""
    return items


def probe(model: Model, tensors: Sequence[str], threads: int = 0) -> OnnxRuntimeEngine:
    """An engine of ``model`` whose outputs are also ``tensors``."""
    count = len(model.graph.output)
    have = {v.name for v in (*model.graph.output, *model.graph.input)}
    known = {v.name: v for v in model.graph.value_info}
    model.graph.output.extend(known[t] for t in tensors if t not in have and t in known)
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "probe.onnx"
            onnx.save(model, str(path))
            return OnnxRuntimeEngine(path, threads)
    finally:
        del model.graph.output[count:]  # weights may be most of a gigabyte: the model is lent, not copied


def collect(model: Model, feeds: Sequence[Feeds], threads: int = 0,
            progress: Progress = no_progress) -> dict[str, TensorStats]:
    """Statistics of every float activation over ``feeds`` (two passes).

    Raises:
        WorkFailed: an activation is NaN or infinite.
    """
    made = producers(model)
    inputs = [v.name for v in model.graph.input]
    names = [t for t in shapes(model) if t in made or t in inputs]
    engine = probe(model, names, threads)
    stats = {t: TensorStats() for t in names}
    for feed in progress(feeds, "ranges"):
        for t, value in {**engine.infer(feed), **feed}.items():
            if t in stats:
                stats[t].see_extremes(t, value)
    for feed in progress(feeds, "histograms"):
        for t, value in {**engine.infer(feed), **feed}.items():
            if t in stats:
                stats[t].see_values(value, SAMPLE)
    engine.close()
    return stats


def ranges_of(model: Model, placement: Placement, stats: Mapping[str, TensorStats], method: str,
              target: str) -> dict[str, Range]:
    """One range for each paired tensor; inputs of the model keep all they were seen to hold."""
    symmetric = target == "tensorrt"
    useful = _useful_spans(model)
    inputs = {v.name for v in model.graph.input}
    group = {t: g for g in placement.same_range for t in g}
    done: dict[str, Range] = {}
    for t in placement.tensors:
        if t in done:
            continue
        together = group.get(t, [t])
        how = "minmax" if any(k in inputs for k in together) else method
        low, high = useful.get(t, (-np.inf, np.inf)) if len(together) == 1 else (-np.inf, np.inf)
        span = METHODS[how](clamped(merged([stats[k] for k in together]), low, high), symmetric)
        done.update(dict.fromkeys(together, span))
    return done


def _useful_spans(model: Model) -> dict[str, Range]:
    """What of a tensor matters to who reads it: nothing beyond where a sigmoid, or x * sigmoid(x), is flat."""
    reads, spans = consumers(model), {}
    for t, nodes in reads.items():
        gates = {n.output[0] for n in nodes if n.op_type == "Sigmoid"}
        others = [n for n in nodes if n.op_type != "Sigmoid"]
        if gates and not others:
            spans[t] = (-SATURATION, SATURATION)
        elif gates and all(n.op_type == "Mul" and gates & set(n.input) for n in others):
            spans[t] = (-SATURATION, np.inf)
    return spans
