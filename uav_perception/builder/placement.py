"""Where Q/DQ pairs go. Two targets want different places.

``tensorrt``: only in front of what must run in INT8 (inputs of layers with weights, the shortcut of a residual Add,
average pools); the builder fuses BN, activation and re-quantisation itself. NVIDIA, "Working with quantized types".

``onnxruntime``: its CPU kernels run in INT8 only with a pair on every side, so activations, pools and copies between
quantised layers get pairs too; Relu and Clip are absorbed by the re-quantisation of the layer before them. Copies
(pooling, resizing, slicing, concatenation) share one range with their inputs: they then move bytes and round nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from .graph import Model, Node, attribute, constants, consumers, head_layers, producers, shapes, weighted_layers

CPU_WEIGHTED = ("Conv", "Gemm", "MatMul")  # ConvTranspose has no INT8 kernel in ONNX Runtime's CPU provider
ELEMENTWISE = ("Sigmoid", "LeakyRelu", "Mul", "Add", "Concat", "AveragePool", "GlobalAveragePool")
ABSORBED = ("Relu", "Clip")
FRONT_ACTIVATIONS = ("Relu", "Clip", "LeakyRelu", "Sigmoid", "Mul")
FLOAT_OUT = ("MatMul", "Gemm")  # the INT8 kernel can give float: a head loses only what its weights do
COPIES = ("MaxPool", "Resize", "Slice", "Reshape", "Transpose", "Split", "Flatten", "Squeeze", "Unsqueeze")


@dataclass
class Placement:
    """Layers computed in INT8, tensors with a Q/DQ pair, who reads the pair, and which tensors share a range."""

    layers: list[str] = field(default_factory=list)
    tensors: list[str] = field(default_factory=list)
    readers: set[tuple[str, str]] = field(default_factory=set)  # (tensor, node) that read the dequantised tensor
    same_range: list[list[str]] = field(default_factory=list)


FEW_CHANNELS = 8  # ONNX Runtime's INT8 convolution gathers rows of channels: shorter ones cost more than float


def float_by_rule(model: Model, target: str) -> set[str]:
    """Layers that stay in float from the start: the heads, and gates that see one value a channel (squeeze-excite).

    On CPUs also the front: a first layer on the picture's three channels runs three times slower in INT8 than in float,
    and a depthwise layer behind it gains nothing that pays for quantising its large input.
    """
    size = shapes(model)
    gates = set()
    for n in weighted_layers(model):
        shape = size.get(n.input[0], ())
        if n.op_type == "Conv" and len(shape) == 4 and shape[2] * shape[3] == 1:
            gates.add(n.name)
    heads = head_layers(model) | (_front(model) if target == "onnxruntime" else set())
    heads -= {n.name for n in model.graph.node if n.op_type in FLOAT_OUT and target == "onnxruntime"}
    every = {n.name for n in weighted_layers(model)}
    return heads | gates if heads | gates != every else gates


def _front(model: Model) -> set[str]:
    weights = constants(model)
    found: set[str] = set()
    wide = {v.name for v in model.graph.input}  # tensors of the front: the input and what its float layers make of it
    for n in model.graph.node:
        if n.op_type == "Conv" and n.input[1] in weights and n.input[0] in wide:
            few, depthwise = weights[n.input[1]].shape[1] < FEW_CHANNELS, attribute(n, "group", 1) > 1
            if not few or (not depthwise and found):
                continue
            found.add(n.name)
        elif n.op_type in COPIES and n.input[0] in wide and found:
            return set()  # ONNX Runtime would move the quantisation in front of the pool, where it is slow
        elif n.op_type not in FRONT_ACTIVATIONS or not wide & set(n.input):
            continue
        wide.update(n.output)
    return found


def place(model: Model, target: str, float_layers: Collection[str]) -> Placement:
    """Choose pairs for ``target`` (``onnxruntime`` or ``tensorrt``), leaving ``float_layers`` in float."""
    return {"onnxruntime": _place_cpu, "tensorrt": _place_tensorrt}[target](model, set(float_layers))


def _place_tensorrt(model: Model, float_layers: set[str]) -> Placement:
    out, made, size = Placement(), producers(model), shapes(model)
    layers = {n.name for n in weighted_layers(model)}
    beyond = _leads_to(model, layers - float_layers)

    def pair(tensor: str, node: Node) -> None:
        if tensor in size:
            if tensor not in out.tensors:
                out.tensors.append(tensor)
            out.readers.add((tensor, node.name))

    for n in model.graph.node:
        if n.name in layers and n.name not in float_layers and n.input[0] in size:
            out.layers.append(n.name)
            pair(n.input[0], n)
        elif n.op_type == "Add" and beyond.get(n.output[0]) and all(t in size and t in made for t in n.input):
            if size[n.input[0]] == size[n.input[1]]:
                direct = [made[t].name in layers for t in n.input]
                pair(n.input[0] if direct[1] and not direct[0] else n.input[1], n)
        elif n.op_type in ("AveragePool", "GlobalAveragePool") and beyond.get(n.output[0]):
            pair(n.input[0], n)
    return out


def _place_cpu(model: Model, float_layers: set[str]) -> Placement:
    out, size, reads = Placement(), shapes(model), consumers(model)
    weights = {i.name for i in model.graph.initializer}
    layers = {n.name for n in weighted_layers(model) if n.op_type in CPU_WEIGHTED} - float_layers
    beyond = _leads_to(model, {n.name for n in weighted_layers(model)})
    outputs = {o.name for o in model.graph.output}
    paired = {v.name for v in model.graph.input if v.name in size and beyond.get(v.name)}
    made: set[str] = set()  # by an INT8 kernel; pools and copies of what was float until here run faster in float
    bare: set[str] = set()  # computed in INT8, but the pair sits behind the Relu or Clip that reads it
    ties = _Ties()

    for n in model.graph.node:
        data = [t for t in n.input if t in size and t not in weights]
        if n.name in layers and n.input[0] in size and n.output[0] in size:
            out.layers.append(n.name)
            paired.add(n.input[0])
            inside = True
        elif n.op_type in ABSORBED and data and data[0] in bare:
            paired.add(n.output[0])
            made.add(n.output[0])
            continue
        else:
            floats = [t for t in n.input if t in size]
            whole = bool(data) and data == floats and all(t in made for t in data)
            known = n.op_type in ELEMENTWISE or (n.op_type in COPIES and _copies_bytes(n))
            inside = whole and known and all(beyond.get(t) for t in n.output) and all(t in size for t in n.output)
        if not inside:
            continue
        made.update(n.output)
        out.readers.update((t, n.name) for t in data if t != (n.input[1] if n.name in layers else None))
        for t in n.output:
            if n.op_type in FLOAT_OUT and not beyond.get(t):
                made.discard(t)
                continue
            alone = reads[t][0] if len(reads[t]) == 1 and t not in outputs else None
            if alone is not None and _absorbed(alone) and n.op_type not in COPIES:
                bare.add(t)
            else:
                paired.add(t)
        if n.op_type in COPIES:
            ties.join(data[0], *n.output)
        if n.op_type == "Concat":
            ties.join(n.output[0], *data)
    used, inputs = {t for t, _ in out.readers}, {v.name for v in model.graph.input}
    out.tensors = [t for t in _in_order(model) if t in paired and (t in used or (t in reads and t not in inputs))]
    for n in model.graph.node:  # whoever reads a paired tensor reads its INT8 form: one copy of the data lives
        out.readers.update((t, n.name) for t in n.input if t in out.tensors)
    out.same_range = [[t for t in group if t in out.tensors] for group in ties.groups()]
    return out


def _absorbed(node: Node) -> bool:
    return node.op_type in ABSORBED


def _copies_bytes(node: Node) -> bool:
    if node.op_type != "Resize":
        return True
    return attribute(node, "mode", b"nearest") in (b"nearest", b"linear")


def _leads_to(model: Model, layers: Collection[str]) -> dict[str, bool]:
    """Tensor -> is one of ``layers`` downstream of it."""
    beyond: dict[str, bool] = {}
    for node in reversed(model.graph.node):
        after = node.name in layers or any(beyond.get(t, False) for t in node.output)
        for t in node.input:
            beyond[t] = beyond.get(t, False) or after
    return beyond


def _in_order(model: Model) -> list[str]:
    return [v.name for v in model.graph.input] + [t for n in model.graph.node for t in n.output]


class _Ties:
    """Union-find over tensor names."""

    def __init__(self) -> None:
        self._up: dict[str, str] = {}

    def _root(self, t: str) -> str:
        self._up.setdefault(t, t)
        while self._up[t] != t:
            t = self._up[t]
        return t

    def join(self, *tensors: str) -> None:
        for t in tensors[1:]:
            self._up[self._root(t)] = self._root(tensors[0])

    def groups(self) -> list[list[str]]:
        found: dict[str, list[str]] = {}
        for t in self._up:
            found.setdefault(self._root(t), []).append(t)
        return [g for g in found.values() if len(g) > 1]
