"""The float model a build starts from: checked, upgraded, folded; and small helpers over ONNX graphs."""

from __future__ import annotations

import copy
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper, shape_inference, version_converter

from ..errors import ModelError, WorkFailed

OPSET = 17  # Q/DQ per channel needs 13; every TensorRT >= 8.6 and ONNX Runtime >= 1.14 reads 17
LARGEST_BYTES = 1 << 31
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
Model = Any  # onnx.ModelProto: the onnx package ships no complete type information
Node = Any


def load_float_model(path: str | Path, size: tuple[int, int] | None = None) -> Model:
    """Read, check and simplify a float ONNX: opset 17, static shapes, constants folded, batch norms in their layers.

    Args:
        size: (height, width) in which a model of open size is calibrated. Nothing that depends on it is folded, so
            ``reopen`` can make the result fit every size again.

    Raises:
        ModelError: missing, broken, already quantised, dynamic shapes, or an operator ONNX Runtime cannot run.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"model {path}", "an existing ONNX file", "check the path")
    try:
        model = onnx.load(str(path))
        onnx.checker.check_model(model)
    except Exception as e:  # protobuf, checker and file errors share no base
        raise ModelError(f"model {path}: {_first_line(e)}", "a valid ONNX file", "export it again") from e
    if model.ByteSize() >= LARGEST_BYTES:
        raise ModelError(f"model {path} of {model.ByteSize() / 1e9:.1f} GB", "less than 2 GB (a limit of ONNX files)",
                         "quantise its parts")
    if any(n.op_type in ("QuantizeLinear", "QLinearConv", "ConvInteger") for n in model.graph.node):
        raise ModelError(f"model {path} is quantised already", "a float model", "give the float ONNX it was made from")
    _drop_weight_inputs(model)
    _fix_batch(model)
    for value in model.graph.input:
        dims = [d.dim_value if d.HasField("dim_value") else 0 for d in value.type.tensor_type.shape.dim]
        if any(d <= 0 for d in dims) and (size is None or len(dims) != 4 or min(dims[:2]) <= 0):
            shown = [d.dim_value or d.dim_param or "?" for d in value.type.tensor_type.shape.dim]
            raise ModelError(f"input {value.name} of model {path} has the dynamic shape {shown}",
                             "fixed sizes (a symbolic batch is taken as 1)",
                             "export it with fixed height and width, or name them in its preprocessing")
    version = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    try:
        if version < OPSET:
            model = version_converter.convert_version(model, OPSET)
    except Exception as e:
        raise ModelError(f"model {path} of opset {version}: {_first_line(e)}", f"one that converts to opset {OPSET}",
                         "export it again with opset 17") from e
    from .ort_tools import fold

    folded = fold(model, str(path))
    for value in folded.graph.input:
        for dim, n in zip(value.type.tensor_type.shape.dim[2:], size or (), strict=False):
            dim.dim_value = dim.dim_value or n
    if size is not None:  # what was inferred for an open size would contradict
        del folded.graph.value_info[:]
        for value in folded.graph.output:
            value.type.tensor_type.ClearField("shape")
    return infer_shapes(folded)


def reopen(model: Model, original: Model) -> None:
    """Give ``model`` the open input and output sizes of ``original`` again; does nothing where those are fixed."""
    for mine, theirs in ((model.graph.input, original.graph.input), (model.graph.output, original.graph.output)):
        shapes_of = {v.name: v for v in theirs}
        for value in mine:
            dims = shapes_of[value.name].type.tensor_type.shape.dim
            if not all(d.dim_value > 0 for d in dims):
                value.CopyFrom(shapes_of[value.name])


def infer_shapes(model: Model) -> Model:
    """The model with shapes of all tensors it can tell."""
    return shape_inference.infer_shapes(model)


def clone(model: Model) -> Model:
    """A copy that can be edited."""
    return copy.deepcopy(model)


def skeleton(model: Model) -> Model:
    """A copy without weights (which may be most of a gigabyte)."""
    graph = onnx.GraphProto(name=model.graph.name)
    for field in ("node", "input", "output", "value_info"):
        getattr(graph, field).extend(getattr(model.graph, field))
    out = onnx.helper.make_model(graph, opset_imports=list(model.opset_import), ir_version=model.ir_version)
    out.metadata_props.extend(model.metadata_props)
    return out


def constants(model: Model) -> dict[str, NDArray[Any]]:
    """Initialisers by name."""
    return {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}


def producers(model: Model) -> dict[str, Node]:
    """Nodes by the tensors they make."""
    return {t: n for n in model.graph.node for t in n.output}


def consumers(model: Model) -> dict[str, list[Node]]:
    """Nodes by the tensors they read."""
    table: dict[str, list[Node]] = defaultdict(list)
    for n in model.graph.node:
        for t in n.input:
            if t:
                table[t].append(n)
    return table


def shapes(model: Model) -> dict[str, tuple[int, ...]]:
    """Static shapes of float32 tensors (others, and unknown ones, are left out)."""
    found = {}
    for v in [*model.graph.value_info, *model.graph.input, *model.graph.output]:
        t = v.type.tensor_type
        if t.elem_type == onnx.TensorProto.FLOAT and t.HasField("shape"):
            dims = tuple(d.dim_value for d in t.shape.dim)
            if all(d > 0 for d in dims):
                found[v.name] = dims
    return found


def attribute(node: Node, name: str, default: Any = None) -> Any:
    """Value of a node's attribute."""
    return next((onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def weighted_layers(model: Model) -> list[Node]:
    """Nodes with a constant float weight as second input, in graph order."""
    weights = {i.name for i in model.graph.initializer if i.data_type == onnx.TensorProto.FLOAT}
    return [n for n in model.graph.node if n.op_type in WEIGHTED and len(n.input) > 1 and n.input[1] in weights]


def channel_axis(node: Node, weight: NDArray[Any]) -> int:
    """Output-channel axis of a layer's weight."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1
    if node.op_type == "Gemm" and attribute(node, "transB", 0):
        return 0
    return weight.ndim - 1


def head_layers(model: Model) -> set[str]:
    """Names of the layers with no other layer downstream: they feed boxes, scores or depth and stay in float."""
    layers = {n.name for n in weighted_layers(model)}
    reads = consumers(model)
    beyond: dict[str, bool] = {}  # tensor -> is a weighted layer downstream of it
    for node in reversed(model.graph.node):
        after = any(beyond.get(t, False) for t in node.output)
        for t in node.input:
            beyond[t] = beyond.get(t, False) or after or node.name in layers
    return {n.name for n in weighted_layers(model)
            if n.name in layers and not any(beyond.get(t, False) for t in n.output) and reads}


def set_weight(model: Model, name: str, value: NDArray[Any]) -> None:
    """Replace one initialiser."""
    for i in model.graph.initializer:
        if i.name == name:
            i.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value), name))
            return
    raise WorkFailed(f"no initialiser {name}", "one of the model's", "report this model")


def name_nodes(model: Model) -> None:
    """Give every node a unique name: layers are referred to by it in manifests and reports."""
    seen: set[str] = set()
    for i, n in enumerate(model.graph.node):
        if not n.name or n.name in seen:
            n.name = f"{n.op_type}_{i}"
        seen.add(n.name)


def _drop_weight_inputs(model: Model) -> None:
    """Old exporters list weights as inputs too; as such they could not be folded or quantised."""
    weights = {i.name for i in model.graph.initializer}
    model.ir_version = max(model.ir_version, 4)  # the first in which initialisers need not be inputs
    real = [v for v in model.graph.input if v.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(real)


def _fix_batch(model: Model) -> None:
    """A symbolic first dimension of an input becomes 1 everywhere."""
    symbols = set()
    for v in model.graph.input:
        dims = v.type.tensor_type.shape.dim
        if len(dims) and not dims[0].dim_value:
            symbols.add(dims[0].dim_param)
            dims[0].dim_value = 1
    for v in model.graph.output:
        for d in v.type.tensor_type.shape.dim[:1]:
            if d.dim_param and d.dim_param in symbols:
                d.dim_value = 1
    if symbols:
        del model.graph.value_info[:]


def _first_line(e: Exception) -> str:
    return (str(e).strip().splitlines() or [type(e).__name__])[0][:300]
