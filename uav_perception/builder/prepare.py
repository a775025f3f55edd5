"""Exact rewrites of the float graph that make INT8 faster or more accurate."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from .equalise import equalise
from .graph import Model, Node, attribute, clone, constants, consumers, infer_shapes, producers, set_weight, shapes
from .tails import heads_as_rows

Offset = tuple[str, int, int]  # source tensor, row, column


def prepare(model: Model, target: str, equalised: bool = False) -> Model:
    """All exact rewrites that help ``target``; the function computed stays the same.

    Args:
        equalised: rescale channels across layers too, see ``equalise``.
    """
    merged = infer_shapes(_cascade_pools(_merge_focus(clone(model))))
    if equalised:
        equalise(merged)
    return heads_as_rows(_double_by_copies(merged)) if target == "onnxruntime" else merged


def _merge_focus(model: Model) -> Model:
    """Every second row and column, stacked as channels, then a convolution: one strided convolution on the picture.

    The "focus" stem of YOLOX and YOLOv5: the slices copy the whole input, the strided kernel reads it in place.
    """
    made, values, size = producers(model), constants(model), shapes(model)
    for concat in [n for n in model.graph.node if n.op_type == "Concat" and attribute(n, "axis") == 1]:
        readers = consumers(model)[concat.output[0]]
        parts = [_offset(t, made, values, size) for t in concat.input]
        sources = {p[0] for p in parts if p}
        if None in parts or len(sources) != 1 or len(readers) != 1 or not _plain(readers[0], values):
            continue
        source, conv = sources.pop(), readers[0]
        weight = values[conv.input[1]]
        channels = size[source][1]
        if weight.shape[1] != channels * len(parts):
            continue
        set_weight(model, conv.input[1], _interleave(weight, [(y, x) for _, y, x in filter(None, parts)], channels))
        pads, strides = attribute(conv, "pads", [0] * 4), attribute(conv, "strides", [1, 1])
        kept = [a for a in conv.attribute if a.name not in ("pads", "strides", "kernel_shape")]
        del conv.attribute[:]
        conv.attribute.extend([*kept, helper.make_attribute("pads", [2 * p for p in pads]),
                               helper.make_attribute("strides", [2 * s for s in strides])])
        conv.input[0] = source
        _drop_unread(model)
    return model


def _cascade_pools(model: Model) -> Model:
    """Max pools of one tensor with growing windows, each from the one before: 5, 9, 13 become 5, 5, 5 in a row."""
    nodes = list(model.graph.node)
    together: dict[str, dict[int, int]] = {}  # pooled tensor -> window -> place in the graph
    for i, node in enumerate(nodes):
        if (window := _centred_pool(node)) > 1:
            together.setdefault(node.input[0], {})[window] = i
    for places in (p for p in together.values() if len(p) > 1):
        windows, end = sorted(places), max(places.values())
        pools = [nodes[places[k]] for k in windows]
        if any({n.output[0] for n in pools} & set(n.input) for n in nodes[:end]):
            continue  # someone reads a pool before the last one is made: their order matters
        for (before, k0), (pool, k1) in pairwise(zip(pools, windows, strict=True)):
            step = k1 - k0 + 1
            kept = [a for a in pool.attribute if a.name not in ("pads", "kernel_shape")]
            del pool.attribute[:]
            pool.attribute.extend([*kept, helper.make_attribute("pads", [step // 2] * 4),
                                   helper.make_attribute("kernel_shape", [step] * 2)])
            pool.input[0] = before.output[0]
        for place, pool in zip(sorted(places.values()), pools, strict=True):
            nodes[place] = pool
    ordered = [clone(n) for n in nodes]
    del model.graph.node[:]
    model.graph.node.extend(ordered)
    return model


def _centred_pool(node: Node) -> int:
    """Window of a square max pool of stride 1 that keeps the size; 0 for every other node."""
    window = attribute(node, "kernel_shape", [])
    alike = node.op_type == "MaxPool" and len(node.output) == 1 and len(window) == 2 and len(set(window)) == 1
    if not alike or {*attribute(node, "strides", [1]), *attribute(node, "dilations", [1])} != {1}:
        return 0
    k = int(window[0])
    whole = k % 2 == 1 and list(attribute(node, "pads", [])) == [k // 2] * 4 and not attribute(node, "ceil_mode", 0)
    return k if whole else 0


DOUBLING = {(b"asymmetric", b"floor"), (b"asymmetric", b"round_prefer_floor"), (b"half_pixel", b"round_prefer_floor"),
            (b"half_pixel", b"round_prefer_ceil")}  # nearest neighbours that repeat every pixel twice


def _double_by_copies(model: Model) -> Model:
    """Doubling by nearest neighbours as two concatenations, channels last: of rows, then of pixels.

    ONNX Runtime's INT8 resizing goes value by value, concatenation by blocks of channels. Nothing here depends on the
    size of the map.
    """
    values, size = constants(model), shapes(model)
    nodes: list[Node] = []
    extra: dict[str, list[int]] = {}
    for node in model.graph.node:
        x, y = node.input[0] if node.input else "", node.output[0]
        scales = values.get(node.input[2]) if node.op_type == "Resize" and len(node.input) > 2 else None
        how = (attribute(node, "coordinate_transformation_mode", b"half_pixel"),
               attribute(node, "nearest_mode", b"round_prefer_floor"))
        if (scales is None or scales.tolist() != [1, 1, 2, 2] or how not in DOUBLING or size.get(x, (0,))[0] != 1
                or attribute(node, "mode", b"nearest") != b"nearest"):
            nodes.append(node)
            continue
        channels = size[x][1]
        pixels = f"pixels_of_{channels}"
        extra |= {"rows_apart": [-1, 1, 0, 0], "rows_joined": [1, -1, 0, 0], pixels: [0, 0, -1, channels]}
        steps: list[tuple[str, list[str], dict[str, Any]]] = [
            ("Transpose", [], {"perm": [0, 2, 3, 1]}), ("Reshape", ["rows_apart"], {}), ("Concat", [], {"axis": 1}),
            ("Reshape", ["rows_joined"], {}), ("Concat", [], {"axis": 3}), ("Reshape", [pixels], {}),
            ("Transpose", [], {"perm": [0, 3, 1, 2]})]
        for i, (kind, more, attributes) in enumerate(steps):
            out = y if i + 1 == len(steps) else f"{y}_double{i}"
            data = [x, x] if kind == "Concat" else [x, *more]
            nodes.append(helper.make_node(kind, data, [out], f"{y}_double{i}", **attributes))
            x = out
    if extra:
        ordered = [clone(n) for n in nodes]
        del model.graph.node[:]
        model.graph.node.extend(ordered)
        model.graph.initializer.extend(numpy_helper.from_array(np.array(v, np.int64), k) for k, v in extra.items())
    return infer_shapes(model)


def _offset(tensor: str, made: dict[str, Node], values: dict[str, NDArray[Any]],
            size: dict[str, tuple[int, ...]]) -> Offset | None:
    """(source, row, column) when ``tensor`` is every second row and column of a source, through one or two slices."""
    offset = {2: -1, 3: -1}
    while tensor in made and made[tensor].op_type == "Slice":
        node = made[tensor]
        if len(node.input) != 5 or any(t not in values for t in node.input[1:]) or node.input[0] not in size:
            return None
        starts, ends, axes, steps = (values[t].tolist() for t in node.input[1:])
        for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
            axis = axis % 4
            whole = end >= size[node.input[0]][axis] - (1 if start == 0 else 0)
            if step != 2 or start not in (0, 1) or not whole or offset.get(axis, 0) != -1:
                return None
            offset[axis] = start
        tensor = node.input[0]
    good = -1 not in offset.values() and len(size.get(tensor, ())) == 4
    return (tensor, offset[2], offset[3]) if good and all(n % 2 == 0 for n in size[tensor][2:]) else None


def _plain(node: Node, values: dict[str, NDArray[Any]]) -> bool:
    return bool(node.op_type == "Conv" and attribute(node, "group", 1) == 1 and node.input[1] in values
                and set(attribute(node, "dilations", [1])) == {1}
                and attribute(node, "auto_pad", b"NOTSET") == b"NOTSET")


def _interleave(weight: NDArray[Any], offsets: list[tuple[int, int]], channels: int) -> NDArray[Any]:
    out, _, kh, kw = weight.shape
    merged = np.zeros((out, channels, 2 * kh, 2 * kw), weight.dtype)
    for i, (y, x) in enumerate(offsets):
        merged[:, :, y::2, x::2] += weight[:, i * channels:(i + 1) * channels]
    return merged


def _drop_unread(model: Model) -> None:
    """Remove nodes nobody reads, and their stale shapes."""
    outputs = {o.name for o in model.graph.output}
    while True:
        read = outputs | {t for n in model.graph.node for t in n.input}
        dead = [n for n in model.graph.node if not any(t in read for t in n.output)]
        if not dead:
            break
        for n in dead:
            model.graph.node.remove(n)
