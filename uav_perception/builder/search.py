"""Which layers stay in float: the fewest that meet the gate, chosen by what each alone does to the outputs, and those
that are faster so on this processor, by the clock.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from ..engine.onnxruntime import OnnxRuntimeEngine
from .accuracy import Outputs, latency_ms, output_error_percent, run
from .calibrate import Feeds, Progress, no_progress, ranges_of
from .graph import Model, consumers, shapes, weighted_layers
from .placement import place
from .qdq import activation_params, quantise
from .ranges import TensorStats
from .rounding import Rounder

FIRST, MAPS = (1, 2, 3), 2  # layers, and map sizes, tried in float
PLAINLY = 0.01  # below it is noise, and the plan chosen without a clock is the same on every machine
ACTIVATIONS = ("Sigmoid", "Mul", "LeakyRelu", "Relu", "Clip")


@dataclass(frozen=True)
class Calibrated:
    """A prepared float model and all that calibration learnt of it."""

    model: Model
    stats: Mapping[str, TensorStats]
    rounder: Rounder
    target: str

    def quantised(self, method: str, float_layers: Iterable[str]) -> Model:
        """The model in Q/DQ form with ``float_layers`` left in float."""
        placement = place(self.model, self.target, set(float_layers))
        ranges = ranges_of(self.model, placement, self.stats, method, self.target)
        return quantise(self.model, placement, ranges, self.stats, self.rounder, self.target)


def channel_noise(calibrated: Calibrated, method: str, float_layers: Iterable[str]) -> dict[str, float]:
    """Expected rounding noise around each layer over the variance of what it carries, mean over channels.

    A guess that costs no inference. It finds tensors in which a few wide channels leave the others no levels.
    """
    placement = place(calibrated.model, calibrated.target, set(float_layers))
    ranges = ranges_of(calibrated.model, placement, calibrated.stats, method, calibrated.target)
    share: dict[str, float] = {}
    for t, span in ranges.items():
        variance = calibrated.stats[t].channel_variance
        if variance is not None and variance.any():
            step = float(activation_params(span, calibrated.target)[0])
            floor = 1e-6 * float(variance.max())  # a channel that is all but constant carries nothing
            share[t] = float(np.mean(step**2 / 12 / np.maximum(variance, floor)))
    reads, found = consumers(calibrated.model), {}
    for n in weighted_layers(calibrated.model):
        if n.name in placement.layers:
            after = [n.output[0]]
            for t in after:  # the layer's output and what its activation makes of it
                after += [o for k in reads[t] if k.op_type in ACTIVATIONS for o in k.output if o not in after]
            found[n.name] = sum(share.get(t, 0.0) for t in [n.input[0], *after])
    return found


def sensitivity_percent(calibrated: Calibrated, method: str, layers: Sequence[str], feeds: Sequence[Feeds],
                        reference: Outputs, progress: Progress = no_progress) -> dict[str, float]:
    """Output error when one layer alone (with the activations around it) is INT8: layer name -> percent."""
    every = {n.name for n in weighted_layers(calibrated.model)}
    found = {}
    for layer in progress(layers, "sensitivity"):
        alone = calibrated.quantised(method, every - {layer})
        found[layer] = output_error_percent(reference, run(alone, feeds))
    return found


def fewest_in_float(ranked: Sequence[str], cost: Callable[[Sequence[str]], float], gate: float,
                    at_most: int) -> tuple[list[str], float]:
    """The shortest head of ``ranked`` (most sensitive first) to leave in float so that ``cost`` <= ``gate``.

    Doubles the head until it passes, then bisects. When even ``at_most`` layers do not suffice, the cheapest head seen.
    """
    seen: dict[int, float] = {}

    def at(n: int) -> float:
        if n not in seen:
            seen[n] = cost(ranked[:n])
        return seen[n]

    low, high = -1, 0
    while at(high) > gate and high < at_most:
        low, high = high, min(at_most, max(1, high * 2))
    if at(high) > gate:
        best = min(seen, key=lambda n: (seen[n], n))
        return list(ranked[:best]), seen[best]
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if at(middle) <= gate else (middle, high)
    return list(ranked[:high]), at(high)


def fronts(calibrated: Calibrated, float_layers: Iterable[str]) -> list[list[str]]:
    """INT8 layers that may be faster in float: the first ones, and those on the largest maps.

    There a convolution with few channels is cheap and its activation is not, and where the front ends decides how large
    a map is quantised.
    """
    size = shapes(calibrated.model)
    layers = place(calibrated.model, calibrated.target, set(float_layers)).layers
    reads = {n.name: int(np.prod(size[n.input[0]][2:])) for n in weighted_layers(calibrated.model)
             if n.name in layers and len(size.get(n.input[0], ())) == 4}
    found = [layers[:n] for n in FIRST]
    for step in sorted(set(reads.values()), reverse=True)[:MAPS]:
        found.append([n for n in layers if reads.get(n, 0) >= step])
    return [f for i, f in enumerate(found) if len(f) < len(layers) and f not in found[:i]]


def fastest(models: Sequence[Model], feed: Feeds, rounds: int) -> int:
    """Index of the model that takes the least processor time here; the first, unless another is plainly faster."""
    with tempfile.TemporaryDirectory() as folder:
        engines = {}
        for i, model in enumerate(models):
            path = Path(folder) / f"{i}.onnx"
            onnx.save(model, str(path))
            engines[str(i)] = OnnxRuntimeEngine(path)
        times = [t["cpu"] for t in latency_ms(engines, feed, rounds).values()]
        for engine in engines.values():
            engine.close()
    best = int(np.argmin(times))
    return best if times[best] < times[0] * (1 - PLAINLY) else 0
