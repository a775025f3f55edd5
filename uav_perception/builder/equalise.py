"""Cross-layer equalisation: channels of neighbouring convolutions get ranges alike, and the function stays the same.

f(x / s) = f(x) / s for s > 0 holds for ReLU, LeakyReLU and pools, so output channel i of one layer may be divided by
s_i and input channel i of the next multiplied by it. With s_i = sqrt(r1_i / r2_i) both reach the range sqrt(r1_i r2_i)
(Nagel et al. 2019, arXiv 1906.04721, section 4.1, equation 11), and one scale for all channels wastes fewer levels.
SiLU and ReLU6 do not scale so: pairs around them are left alone.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from .graph import Model, Node, attribute, constants, consumers, set_weight

HOMOGENEOUS = ("Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool")
SWEEPS, SETTLED = 50, 1e-3  # over all pairs, until no scale moves by more than this share
Weight = NDArray[np.float32]


def pairs(model: Model) -> list[tuple[Node, Node]]:
    """Convolutions that feed one another alone, with nothing but scale-equivariant nodes between them."""
    values, reads = constants(model), consumers(model)
    outputs = {v.name for v in model.graph.output}
    owners = [n.input[1] for n in model.graph.node if n.op_type == "Conv"]

    def usable(node: Node) -> bool:
        return (node.op_type == "Conv" and node.input[1] in values and owners.count(node.input[1]) == 1
                and all(len(reads[t]) == 1 and t in values for t in node.input[2:] if t))

    def onward(node: Node) -> Iterator[Node]:
        while node.output[0] not in outputs and len(reads[node.output[0]]) == 1:
            node = reads[node.output[0]][0]
            yield node
            if node.op_type not in HOMOGENEOUS:
                return

    found = []
    for first in filter(usable, model.graph.node):
        after = next((n for n in onward(first) if n.op_type not in HOMOGENEOUS), None)
        if after is not None and usable(after) and after.input[1] != first.input[1]:
            found.append((first, after))
    return found


def equalise(model: Model) -> Model:
    """Rescale all pairs of ``model`` in place, sweep by sweep, until their ranges agree."""
    values = {k: v.copy() for k, v in constants(model).items()}
    found = pairs(model)
    for _ in range(SWEEPS):
        moved = 0.0
        for first, second in found:
            w1, by_input = values[first.input[1]], _by_input(second, values[second.input[1]])
            r1, r2 = np.abs(w1.reshape(len(w1), -1)).max(axis=1), np.abs(by_input).max(axis=(2, 3)).reshape(-1)
            alive = (r1 > 0) & (r2 > 0)  # a dead channel has no range to share
            s = np.sqrt(np.divide(r1, r2, out=np.ones_like(r1), where=alive)).astype(np.float32)
            w1 /= s.reshape((-1,) + (1,) * (w1.ndim - 1))
            by_input *= s.reshape(*by_input.shape[:2], 1, 1)
            if len(first.input) > 2 and first.input[2]:
                values[first.input[2]] /= s
            moved = max(moved, float(np.abs(np.log(s)).max()))
        if moved < SETTLED:
            break
    for name in {t for pair in found for n in pair for t in n.input[1:] if t}:
        set_weight(model, name, values[name])
    return model


def _by_input(node: Node, weight: Weight) -> Weight:
    """A view of the weight as (group, input channel in it, outputs that read it, kernel)."""
    groups = attribute(node, "group", 1)
    view: Weight = weight.reshape(groups, len(weight) // groups, weight.shape[1], -1).transpose(0, 2, 1, 3)
    return view
