"""The network as an ONNX file of plain layers, written node by node: free input size, nothing left to simplify."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from uav_perception.detect.families import FAMILIES
from uav_perception.errors import InputError, WorkFailed

from .model import CLASSES, LEVEL_AFTER, UavDet

OPSET = 13  # the oldest with per-channel Q/DQ: every TensorRT from 8.6 reads it
NMS_GROUPS = [["car", "truck", "bus"]]  # one vehicle is one of these


class _Graph:
    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.values: list[onnx.TensorProto] = []

    def add(self, op: str, inputs: list[str], name: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def value(self, name: str, array: np.ndarray) -> str:
        self.values.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def layers(self, module: nn.Module, x: str, name: str) -> str:
        """Convolutions and ReLUs of a (nested) sequence; residual blocks add their input."""
        if isinstance(module, nn.Conv2d):
            weight = self.value(f"{name}.weight", module.weight.detach().float().numpy())
            bias = self.value(f"{name}.bias", module.bias.detach().float().numpy())
            return self.add("Conv", [x, weight, bias], name, kernel_shape=list(module.kernel_size),
                            strides=list(module.stride), pads=list(module.padding) * 2, group=module.groups)
        if isinstance(module, nn.ReLU):
            return self.add("Relu", [x], name)
        inner = module.conv if hasattr(module, "conv") else module
        y = x
        for i, layer in enumerate(inner):
            y = self.layers(layer, y, f"{name}.{i}")
        return self.add("Add", [x, y], f"{name}.sum") if getattr(module, "residual", False) else y


def to_onnx(model: UavDet, extra: dict[str, str]) -> onnx.ModelProto:
    """Input ``image`` (1, 3, height, width), output ``points`` (1, classes + 4, number of points)."""
    g = _Graph()
    x = g.layers(model.stem, "image", "stem")
    levels = []
    for i, block in enumerate(model.blocks):
        x = g.layers(block, x, f"block{i}")
        if i in LEVEL_AFTER:
            levels.append(x)
    scales = g.value("twice", np.array([1, 1, 2, 2], np.float32))
    shape = g.value("flat", np.array([1, model.classes + 4, -1], np.int64))
    top = g.layers(model.lateral[3], levels[3], "lateral3")
    flat = []
    for i in (2, 1, 0):
        up = g.add("Resize", [top, "", scales], f"up{i}", mode="nearest", nearest_mode="floor",
                   coordinate_transformation_mode="asymmetric")
        top = g.add("Add", [g.layers(model.lateral[i], levels[i], f"lateral{i}"), up], f"merge{i}")
        top = g.layers(model.smooth[i], top, f"smooth{i}")
        head = g.layers(model.head[i], g.layers(model.tower[i], top, f"tower{i}"), f"head{i}")
        flat.append(g.add("Reshape", [head, shape], f"level{i}"))
    g.add("Concat", flat[::-1], "points", axis=2)
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, "height", "width"])
    out = helper.make_tensor_value_info("points", TensorProto.FLOAT, [1, model.classes + 4, "n"])
    proto = helper.make_model(helper.make_graph(g.nodes, "uav_detector", [image], [out], g.values),
                              opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8,
                              producer_name="uav_perception training")
    metadata = {"family": "uavdet", "classes": json.dumps(CLASSES), "nms_groups": json.dumps(NMS_GROUPS),
                "preprocess": FAMILIES["uavdet"].preprocess.to_json(), **extra}
    helper.set_model_props(proto, metadata)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    """State dict of ``UavDet`` from an FP32 file that ``export`` wrote: how training goes on from shipped weights.

    Raises:
        InputError: the file cannot be read or holds another network.
    """
    try:
        proto = onnx.load(path)
    except Exception as e:
        raise InputError(f"{path}: {str(e).splitlines()[0]}", "an ONNX file", "check the path given to --start") from e
    state = {}
    for value in proto.graph.initializer:
        name = re.sub(r"^block(\d+)\.", r"blocks.\1.conv.", value.name)
        name = re.sub(r"^(lateral|smooth|tower|head)(\d+)\.", r"\1.\2.", name)
        state[name] = torch.from_numpy(numpy_helper.to_array(value).copy())
    wanted = UavDet().state_dict()
    missing = [n for n, v in wanted.items() if n not in state or state[n].shape != v.shape]
    if missing:
        raise InputError(f"{path}: no weights for {missing[0]}", "an FP32 detector that `train detector` exported",
                         "give that file, not its INT8 form")
    return {n: state[n] for n in wanted}


def export(model: UavDet, path: Path, extra: dict[str, str]) -> float:
    """Write ``path`` and return the largest difference of its outputs to PyTorch's on noise.

    Raises:
        WorkFailed: the file computes something else.
    """
    import onnxruntime

    proto = to_onnx(model.eval(), extra)
    noise = np.random.default_rng(0).uniform(-114, 141, (1, 3, 96, 160)).astype(np.float32)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        wanted = model(torch.from_numpy(noise)).numpy()
    difference = float(np.abs(session.run(None, {"image": noise})[0] - wanted).max())
    if difference > 1e-2:
        raise WorkFailed(f"exported network differs from PyTorch's by {difference:.3g}", "at most 0.01",
                         "check training/detector/export.py against model.py")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_bytes(proto.SerializeToString())
    os.replace(partial, path)
    return difference
