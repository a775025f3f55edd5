"""Heads whose maps end as rows of positions: their 1x1 convolutions become products of rows of channels.

Detectors lay (1, C, H, W) maps behind one another as (1, positions, C) or (1, C, positions). ONNX Runtime's INT8 layers
are channels-last already, and its product of INT8 rows yields float at once: no copies of maps between layouts remain.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from .graph import Model, Node, attribute, constants, head_layers, infer_shapes, shapes

POINTWISE = ("Sigmoid", "Relu", "Clip", "LeakyRelu", "Tanh", "HardSigmoid")


def heads_as_rows(model: Model) -> Model:
    """The model with its heads on rows, when every head is a 1x1 convolution whose maps end as rows of positions.

    Edits ``model`` in place, or leaves it as it is.
    """
    values, size, heads = constants(model), shapes(model), head_layers(model)
    rows: set[str] = set()  # tensors (1, C, ...) that have a form (1, positions, C), named with "_rows"
    nodes: list[Node] = []
    for node in model.graph.node:
        if node.name in heads:
            made = _product(node, values, size)
        elif rows & set(node.input):
            made = _moved(node, rows, size)
        else:
            nodes.append(node)
            continue
        if not made:
            return model
        nodes += made
        rows |= set(node.output) if node.op_type != "Transpose" else set()
    for name in (v.name for v in model.graph.output if v.name in rows):
        if len(size.get(name, ())) != 3:
            return model
        nodes.append(helper.make_node("Transpose", [f"{name}_rows"], [name], f"{name}_last", perm=[0, 2, 1]))
    weights = {n.input[1] for n in model.graph.node if n.name in heads}
    extra = {f"{w}_rows": values[w][:, :, 0, 0] for w in weights}
    extra |= {f"rows_of_{values[w].shape[1]}": np.array([-1, values[w].shape[1]], np.int64) for w in weights}
    extra["rows_axis"] = np.array([0], np.int64)
    model.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in sorted(extra.items()))
    del model.graph.node[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)
    return infer_shapes(model)


def _product(node: Node, values: Mapping[str, NDArray[Any]], size: Mapping[str, tuple[int, ...]]) -> list[Node]:
    """(1, C, H, W) -> rows of channels -> product -> bias; empty when ``node`` is no plain 1x1 convolution."""
    plain = (node.op_type == "Conv" and values[node.input[1]].shape[2:] == (1, 1) and attribute(node, "group", 1) == 1
             and set(attribute(node, "strides", [1])) == {1} and not any(attribute(node, "pads", [0]))
             and size.get(node.input[0], (0,))[0] == 1)
    if not plain:
        return []
    x, y = node.input[0], f"{node.output[0]}_rows"
    channels = values[node.input[1]].shape[1]
    return [helper.make_node("Transpose", [x], [f"{y}_last"], f"{y}_last", perm=[0, 2, 3, 1]),
            helper.make_node("Reshape", [f"{y}_last", f"rows_of_{channels}"], [f"{y}_in"], f"{y}_in"),
            helper.make_node("Gemm", [f"{y}_in", f"{node.input[1]}_rows", *node.input[2:]], [f"{y}_2d"], node.name,
                             transB=1),
            helper.make_node("Unsqueeze", [f"{y}_2d", "rows_axis"], [y], f"{y}_out")]


def _moved(node: Node, rows: set[str], size: Mapping[str, tuple[int, ...]]) -> list[Node]:
    """``node`` on rows; empty when that cannot be."""
    inputs, outputs = [f"{t}_rows" for t in node.input if t in rows], [f"{t}_rows" for t in node.output]
    rank, axis = len(size.get(node.input[0], ())), attribute(node, "axis")
    turned = {(4, 1): 2, (3, 1): 2, (3, 2): 1}.get((rank, axis % rank)) if axis is not None else None
    if node.op_type in POINTWISE and len(rows & set(node.input)) == 1:
        return [_copy(node, [*inputs, *node.input[1:]], outputs)]
    if node.op_type == "Concat" and turned is not None and all(t in rows for t in node.input):
        return [_copy(node, inputs, outputs, axis=turned)]
    if node.op_type == "Split" and turned is not None:
        return [_copy(node, [*inputs, *node.input[1:]], outputs, axis=turned)]
    if node.op_type == "Reshape":
        before, after = size.get(node.input[0], ()), size.get(node.output[0], ())
        if len(before) == 4 and after == (1, before[1], before[2] * before[3]):
            return [helper.make_node("Identity", inputs, outputs, node.name)]
    if node.op_type == "Transpose" and rank == 3 and list(attribute(node, "perm", [])) == [0, 2, 1]:
        return [helper.make_node("Identity", inputs, list(node.output), node.name)]
    return []


def _copy(node: Node, inputs: list[str], outputs: list[str], **changed: Any) -> Node:
    kept = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return helper.make_node(node.op_type, inputs, outputs, node.name, **{**kept, **changed})
