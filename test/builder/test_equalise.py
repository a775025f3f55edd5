"""Cross-layer equalisation: the same function, fewer wasted levels, hands off where scaling does not pass through."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from uav_perception.builder.accuracy import output_error_percent, run
from uav_perception.builder.equalise import equalise, pairs
from uav_perception.builder.graph import clone, constants, load_float_model, name_nodes
from uav_perception.builder.quantiser import calibrate

FEEDS = [{"x": np.random.default_rng(i).normal(size=(1, 3, 16, 16)).astype(np.float32)} for i in range(6)]
LIMITS = [numpy_helper.from_array(np.float32(v), n) for n, v in (("zero", 0.0), ("six", 6.0))]


def separable(path: Path, activation: str, spread: float = 2.0) -> onnx.ModelProto:
    """3x3 -> depthwise -> 1x1 -> grouped 3x3, whose channels are thrown out of balance; the function has unit scale."""
    rng = np.random.default_rng(4)
    shapes = {"w0": (16, 3, 3, 3), "w1": (16, 1, 3, 3), "w2": (12, 16, 1, 1), "w3": (8, 6, 3, 3)}
    values = {k: (rng.normal(size=s) / np.sqrt(np.prod(s[1:]))).astype(np.float32) for k, s in shapes.items()}
    values |= {f"b{i}": (rng.normal(size=len(values[f"w{i}"])) / 8).astype(np.float32) for i in range(4)}
    for i, n in ((0, 16), (1, 16), (2, 12)):  # what one layer multiplies, the next divides
        s = np.exp(rng.normal(size=n) * spread).astype(np.float32)
        values[f"w{i}"] *= s[:, None, None, None]
        values[f"b{i}"] *= s
        if i == 1:
            values["w2"] /= s[None, :, None, None]
        elif i == 0:
            values["w1"] /= s[:, None, None, None]
        else:
            values["w3"] /= s.reshape(2, 1, 6, 1, 1).repeat(4, axis=1).reshape(8, 6, 1, 1)
    nodes, x = [], "x"
    for i, group in enumerate((1, 16, 1, 2)):
        pads = [0 if i == 2 else 1] * 4
        nodes.append(helper.make_node("Conv", [x, f"w{i}", f"b{i}"], [f"c{i}"], f"conv{i}", group=group, pads=pads))
        x = f"c{i}"
        if i == 3:
            break
        if activation == "silu":
            nodes += [helper.make_node("Sigmoid", [x], [f"s{i}"]), helper.make_node("Mul", [x, f"s{i}"], [f"a{i}"])]
        elif activation == "relu6":
            nodes.append(helper.make_node("Clip", [x, "zero", "six"], [f"a{i}"]))
        else:
            nodes.append(helper.make_node(activation, [x], [f"a{i}"]))
        x = f"a{i}"
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 16, 16))],
                              [helper.make_tensor_value_info(x, TensorProto.FLOAT, (1, 8, 16, 16))],
                              [*(numpy_helper.from_array(v, k) for k, v in values.items()), *LIMITS])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    model = load_float_model(path)
    name_nodes(model)
    return model


def per_tensor_error(model: onnx.ModelProto) -> float:
    """Output error, percent, when each weight has one scale for all its channels."""
    coarse = clone(model)
    for i in coarse.graph.initializer:
        w = numpy_helper.to_array(i)
        if w.ndim == 4:
            step = np.abs(w).max() / 127
            i.CopyFrom(numpy_helper.from_array((np.rint(w / step) * step).astype(np.float32), i.name))
    return output_error_percent(run(model, FEEDS), run(coarse, FEEDS))


@pytest.mark.parametrize("activation", ["Relu", "LeakyRelu"])
def test_same_function_and_fewer_wasted_levels(tmp_path: Path, activation: str) -> None:
    model = separable(tmp_path / "m.onnx", activation)
    assert [(a.name, b.name) for a, b in pairs(model)] == [("conv0", "conv1"), ("conv1", "conv2"), ("conv2", "conv3")]
    even = equalise(clone(model))
    a, b = run(model, FEEDS), run(even, FEEDS)
    for x, y in zip(a, b, strict=True):
        assert np.abs(x["c3"] - y["c3"]).max() <= 1e-5 * np.abs(x["c3"]).max()
    assert per_tensor_error(even) < 0.2 * per_tensor_error(model)
    errors = [output_error_percent(a, run(calibrate(model, FEEDS, target, equalised=e).quantised("minmax", []), FEEDS))
              for e in (False, True) for target in ("onnxruntime", "tensorrt")]
    assert errors[2] < 0.5 * errors[0] and errors[3] < 0.5 * errors[1]  # activations have one scale a tensor


def test_ranges_meet(tmp_path: Path) -> None:
    values = constants(equalise(separable(tmp_path / "m.onnx", "Relu")))
    rows = np.abs(values["w0"]).max(axis=(1, 2, 3))
    assert np.allclose(rows, np.abs(values["w1"]).max(axis=(1, 2, 3)), rtol=0.01)
    assert np.allclose(np.abs(values["w1"]).max(axis=(1, 2, 3)), np.abs(values["w2"]).max(axis=(0, 2, 3)), rtol=0.01)


@pytest.mark.parametrize("activation", ["silu", "relu6"])
def test_what_does_not_scale_is_left_alone(tmp_path: Path, activation: str) -> None:
    assert pairs(separable(tmp_path / "m.onnx", activation)) == []


def test_tensors_with_another_reader_are_left_alone(tmp_path: Path) -> None:
    model = separable(tmp_path / "m.onnx", "Relu")
    model.graph.output.append(helper.make_tensor_value_info("a1", TensorProto.FLOAT, (1, 16, 16, 16)))
    assert [(a.name, b.name) for a, b in pairs(model)] == [("conv0", "conv1"), ("conv2", "conv3")]


def test_a_dead_channel_stays_dead(tmp_path: Path) -> None:
    model = separable(tmp_path / "m.onnx", "Relu")
    weight = next(i for i in model.graph.initializer if i.name == "w0")
    values = numpy_helper.to_array(weight).copy()
    values[3] = 0
    weight.CopyFrom(numpy_helper.from_array(values, "w0"))
    even = equalise(clone(model))
    assert all(np.isfinite(v).all() for v in constants(even).values())
    assert output_error_percent(run(model, FEEDS), run(even, FEEDS)) < 1e-3
