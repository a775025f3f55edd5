"""Which layers stay in float: the fewest that meet the gate, chosen by what each alone does to the outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .accuracy import Outputs, output_error_percent, run
from .calibrate import Feeds, Progress, no_progress, ranges_of
from .graph import Model, consumers, weighted_layers
from .placement import place
from .qdq import activation_params, quantise
from .ranges import TensorStats
from .rounding import Rounder

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
