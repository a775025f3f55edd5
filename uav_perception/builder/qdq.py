"""From a float model and ranges to an explicit Q/DQ model: INT8 weights behind DequantizeLinear, pairs where placed.

Weights are symmetric per output channel. Activations are symmetric INT8 for TensorRT, and unsigned with a zero point
for ONNX Runtime, whose signed kernels are several times slower. On CPUs without VNNI the u8 x s8 multiply-add of two
neighbours saturates at 16 bits; there the scale of a channel grows just enough that it cannot (at most by 2).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from .graph import WEIGHTED, Model, Node, attribute, channel_axis, constants, infer_shapes, skeleton
from .placement import Placement
from .ranges import Range, TensorStats
from .rounding import Rounder

F32 = NDArray[np.float32]


def quantise(model: Model, placement: Placement, ranges: Mapping[str, Range], stats: Mapping[str, TensorStats],
             rounder: Rounder, target: str) -> Model:
    """The Q/DQ form of ``model``.

    Args:
        ranges: of every tensor in ``placement.tensors``, already merged where they share one.
        stats: channel means of layer inputs, for bias correction (Nagel et al. 2019, arXiv 1906.04721, section 4.2).
        rounder: rounds the weights of convolutions.
        target: ``onnxruntime`` or ``tensorrt``.
    """
    out = skeleton(model)
    writer = _Writer(out, target, model.graph.initializer)
    params = {t: activation_params(ranges[t], target) for t in placement.tensors}
    values = constants(model)
    for t in (v.name for v in model.graph.input):
        if t in params:
            writer.pair(t, t, *params[t])
    for node in list(out.graph.node):
        if node.name in placement.layers:
            mean = stats[node.input[0]].channel_mean if node.input[0] in stats else None
            writer.weight(node, values, params[node.input[0]][0], mean, rounder)
        elif len(node.input) > 1 and node.input[1] in values and node.op_type in WEIGHTED:
            writer.half(node, values)
        for i, t in enumerate(node.input):
            if (t, node.name) in placement.readers and t in params:
                node.input[i] = f"{t}_dq"
        writer.nodes.append(node)
        for t in list(node.output):
            if t in params:
                writer.pair(t, t, *params[t])
    return infer_shapes(writer.finish())


def activation_params(span: Range, target: str) -> tuple[np.float32, Any]:
    """(scale, zero point) of a range; zero is always exact, as padding needs it to be."""
    low, high = min(span[0], 0.0), max(span[1], 0.0)
    if target == "tensorrt":
        return np.float32(max(-low, high, 1e-6) / 127), np.int8(0)
    scale = max(high - low, 1e-6) / 255
    return np.float32(scale), np.uint8(np.clip(np.rint(-low / scale), 0, 255))


def quantise_weight(weight: F32, axis: int, target: str, floor: F32 | None = None,
                    grouped: bool = False) -> tuple[NDArray[np.int8], F32]:
    """Symmetric INT8 weights and one scale a slice of ``axis``; ``floor`` is the least scale allowed."""
    rows = np.moveaxis(weight, axis, 0)
    flat = np.abs(rows.reshape(len(rows), -1))
    scale = flat.max(axis=1) / 127
    if target == "onnxruntime" and not grouped:
        scale = np.maximum(scale, _saturation_free_scale(rows))
    scale = np.maximum(scale, 1e-12 if floor is None else floor).astype(np.float32)
    shape = (-1,) + (1,) * (rows.ndim - 1)
    levels = np.clip(np.rint(rows / scale.reshape(shape)), -127, 127).astype(np.int8)
    return np.ascontiguousarray(np.moveaxis(levels, 0, axis)), scale


def _saturation_free_scale(rows: F32) -> Any:
    """Least scale a channel at which 255 * (w_k + w_k+1) fits 16 bits for all neighbours of one sign.

    Neighbours are those of the kernels' order: input channel fastest, then kernel column, then kernel row.
    """
    order = np.moveaxis(rows, 1, -1).reshape(len(rows), -1) if rows.ndim > 2 else rows
    if order.shape[1] < 2:
        return np.zeros(len(rows))
    positive, negative = np.maximum(order, 0), np.maximum(-order, 0)
    up, down = (side[:, 1:] + side[:, :-1] for side in (positive, negative))
    # 255 * 128 fits; one of these 128 levels is spare, since each of the two weights may round up by a half
    return np.maximum(up.max(axis=1), down.max(axis=1)) / 127


class _Writer:
    """Collects the new graph. Equal scales and zero points are stored once, and only layers keep names: in a small
    network the text of the graph would else be a tenth of the file.
    """

    def __init__(self, model: Model, target: str, weights: Iterable[Any]) -> None:
        self.model, self.target, self._old = model, target, weights
        self.nodes: list[Node] = []
        self._new: dict[str, Any] = {}
        self._weights: dict[str, str] = {}
        self._scales: dict[bytes, int] = {}
        taken = [t for n in model.graph.node for t in (*n.input, *n.output)]
        self._prefix = "." + "_" * max((len(t) - len(t.lstrip("._")) for t in taken), default=0)  # nobody else's

    def pair(self, source: str, name: str, scale: np.float32, zero: Any) -> None:
        key = f"s{self._scales.setdefault(scale.tobytes(), len(self._scales))}"
        s, z = self._constant(key, scale), self._constant(f"z{zero.dtype.char}{zero}", zero)
        self.nodes.append(helper.make_node("QuantizeLinear", [source, s, z], [f"{name}_q"]))
        self.nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", s, z], [f"{name}_dq"]))

    def weight(self, node: Node, values: Mapping[str, NDArray[Any]], in_scale: np.float32,
               in_mean: NDArray[np.float64] | None, rounder: Rounder) -> None:
        weight, group = values[node.input[1]].astype(np.float32), attribute(node, "group", 1)
        axis = channel_axis(node, weight)
        bias_name = node.input[2] if len(node.input) > 2 else ""
        bias = values.get(bias_name) if bias_name else None
        floor = None
        if bias is not None and bias.shape == (weight.shape[axis],):
            floor = (np.abs(bias) / (float(in_scale) * 2.0**30)).astype(np.float32)  # the bias must fit INT32
        grouped = node.op_type == "Conv" and group > 1
        levels, scale = quantise_weight(weight, axis, self.target, floor, grouped)
        if axis == 0:
            levels = rounder(node.name, weight, scale)
            bias = self._correct(node, weight, levels, scale, group, bias, in_mean)
        name = node.input[1]
        if name not in self._weights:
            q, s = self._constant(f"{name}_q", levels), self._constant(f"{name}_s", scale)
            z = self._constant(f"zw{len(scale)}", np.zeros(len(scale), np.int8))
            self.nodes.append(helper.make_node("DequantizeLinear", [q, s, z], [f"{name}_dq"], axis=axis))
            self._weights[name] = f"{name}_dq"
        node.input[1] = self._weights[name]
        if node.op_type == "Gemm" and bias is not None and self.target == "onnxruntime":
            self._integer_bias(node, bias, (scale * in_scale).astype(np.float32))

    def _integer_bias(self, node: Node, bias: NDArray[Any], steps: F32) -> None:
        """ONNX Runtime makes an INT8 product of rows only with an INT32 bias behind DequantizeLinear."""
        q = self._constant(f"{node.name}_bq", np.rint(bias / steps).astype(np.int32))
        s = self._constant(f"{node.name}_bs", steps)
        z = self._constant(f"zb{len(steps)}", np.zeros(steps.shape, np.int32))
        self.nodes.append(helper.make_node("DequantizeLinear", [q, s, z], [f"{node.name}_bdq"], axis=0))
        node.input[2] = f"{node.name}_bdq"

    def half(self, node: Node, values: Mapping[str, NDArray[Any]]) -> None:
        """Store the weight of a layer that stays in float in half precision; the cast is folded on loading."""
        name = node.input[1]
        if values[name].dtype != np.float32 or np.abs(values[name]).max(initial=0) > 6e4:
            return
        if name not in self._weights:
            stored = self._constant(f"{name}_h", values[name].astype(np.float16))
            self.nodes.append(helper.make_node("Cast", [stored], [f"{name}_f"], to=TensorProto.FLOAT))
            self._weights[name] = f"{name}_f"
        node.input[1] = self._weights[name]

    def _correct(self, node: Node, weight: F32, levels: NDArray[np.int8], scale: F32, group: int,
                 bias: NDArray[Any] | None, in_mean: NDArray[np.float64] | None) -> NDArray[Any] | None:
        """Bias correction: take the mean error that rounded weights make of the mean input off the bias."""
        if in_mean is None or len(in_mean) != weight.shape[1] * group:
            return bias
        error = levels.astype(np.float64) * scale.reshape((-1,) + (1,) * (weight.ndim - 1)) - weight
        per_input = error.reshape(len(weight), weight.shape[1], -1).sum(axis=2)
        means = in_mean.reshape(group, -1).repeat(len(weight) // group, axis=0)
        shift = (per_input * means).sum(axis=1)
        corrected = np.asarray((0.0 if bias is None else bias.astype(np.float64)) - shift, np.float32)
        fresh = self._constant(f"{node.name}_b", corrected)
        if len(node.input) > 2:
            node.input[2] = fresh
        else:
            node.input.append(fresh)
        return corrected

    def _constant(self, name: str, value: Any) -> str:
        name = f"{self._prefix}{name}"
        if name not in self._new:
            self._new[name] = numpy_helper.from_array(np.asarray(value), name)
        return name

    def finish(self) -> Model:
        graph = self.model.graph
        del graph.node[:], graph.value_info[:]
        for n in self.nodes:
            if n.op_type not in WEIGHTED:
                n.name = ""
        graph.node.extend(self.nodes)
        used = {t for n in self.nodes for t in n.input}
        kept = [i for i in self._old if i.name in used]
        graph.initializer.extend([*kept, *(v for k, v in self._new.items() if k in used)])
        return self.model
