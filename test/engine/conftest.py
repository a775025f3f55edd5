"""Small ONNX models for the engine room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper


def save_conv(path: Path, shape: tuple[object, ...] = (1, 3, 32, 32), bias: float = 0.5, big: bool = False) -> Path:
    """x -> Conv(1x1, 3 -> 4) -> y and its mean z."""
    weight = np.random.default_rng(0).normal(size=(4, 3, 1, 1)).astype(np.float32)
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["y"], "conv"),
             helper.make_node("GlobalAveragePool", ["y"], ["z"], "mean")]
    out = (shape[0], 4, *shape[2:])
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, out),
         helper.make_tensor_value_info("z", TensorProto.FLOAT, (shape[0], 4, 1, 1))],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(np.full(4, bias, np.float32), "b")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    entry = model.metadata_props.add()
    entry.key, entry.value = "names", "a,b"
    onnx.save(model, str(path))
    return path


@pytest.fixture
def conv_onnx(tmp_path: Path) -> Path:
    return save_conv(tmp_path / "conv.onnx")


@pytest.fixture
def make_conv() -> Callable[..., Path]:
    return save_conv
