"""Which layers stay in float: the fewest that meet the gate, chosen by what each alone does to the outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from .accuracy import Outputs, output_error_percent, run
from .calibrate import Feeds, ranges_of
from .graph import Model, weighted_layers
from .placement import place
from .qdq import quantise
from .ranges import TensorStats

Progress = Callable[[Iterable[Any], str], Iterable[Any]]


def quantised(model: Model, stats: Mapping[str, TensorStats], method: str, target: str,
              float_layers: Iterable[str]) -> Model:
    """``model`` in Q/DQ form with ``float_layers`` left in float."""
    placement = place(model, target, set(float_layers))
    return quantise(model, placement, ranges_of(model, placement, stats, method, target), stats, target)


def sensitivity_percent(model: Model, stats: Mapping[str, TensorStats], method: str, target: str,
                        layers: Sequence[str], feeds: Sequence[Feeds], reference: Outputs,
                        progress: Progress = lambda it, _: it) -> dict[str, float]:
    """Output error when one layer alone (with the activations around it) is INT8: layer name -> percent."""
    every = {n.name for n in weighted_layers(model)}
    found = {}
    for layer in progress(layers, "sensitivity"):
        alone = quantised(model, stats, method, target, every - {layer})
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
