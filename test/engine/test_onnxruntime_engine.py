"""The ONNX Runtime engine: results, allocation, refusals."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from uav_perception.engine.onnxruntime import OnnxRuntimeEngine
from uav_perception.errors import InputError, ModelError, WorkFailed


def test_equals_the_mathematics(conv_onnx: Path) -> None:
    engine = OnnxRuntimeEngine(conv_onnx, threads=1)
    x = np.random.default_rng(1).normal(size=(1, 3, 32, 32)).astype(np.float32)
    weight = np.random.default_rng(0).normal(size=(4, 3, 1, 1)).astype(np.float32)[:, :, 0, 0]
    y = engine.infer({"x": x})["y"]
    assert np.allclose(y[0], np.tensordot(weight, x[0], 1) + 0.5, atol=1e-5)
    assert engine.metadata["names"] == "a,b"
    assert engine.info.backend == "onnxruntime" and engine.info.precision == "fp32"


def test_outputs_belong_to_the_engine_and_are_overwritten(conv_onnx: Path) -> None:
    engine = OnnxRuntimeEngine(conv_onnx, threads=1)
    first = engine.infer({"x": np.zeros((1, 3, 32, 32), np.float32)})["y"]
    second = engine.infer({"x": np.ones((1, 3, 32, 32), np.float32)})["y"]
    assert first is second


def test_a_view_that_is_not_contiguous_gives_the_same(conv_onnx: Path) -> None:
    engine = OnnxRuntimeEngine(conv_onnx, threads=1)
    hwc = np.random.default_rng(2).random((32, 32, 3), np.float32)
    view = hwc.transpose(2, 0, 1)[None]
    a = engine.infer({"x": view})["y"].copy()
    assert np.array_equal(a, engine.infer({"x": np.ascontiguousarray(view)})["y"])


@pytest.mark.parametrize("contiguous", [True, False])
def test_no_frame_sized_allocation_after_warm_up(tmp_path: Path, make_conv: Callable[..., Path],
                                                 contiguous: bool) -> None:
    engine = OnnxRuntimeEngine(make_conv(tmp_path / "big.onnx", (1, 3, 256, 256)), threads=1)
    x = np.zeros((1, 3, 256, 256), np.float32) if contiguous else np.zeros((1, 256, 256, 3), np.float32).transpose(
        0, 3, 1, 2)
    for _ in range(3):
        engine.infer({"x": x})
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    for _ in range(5):
        engine.infer({"x": x})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak - before < 16 * 1024  # a frame is 768 KiB


def test_symbolic_batch_is_one_other_dynamic_sizes_stay_open(tmp_path: Path, make_conv: Callable[..., Path]) -> None:
    fixed = OnnxRuntimeEngine(make_conv(tmp_path / "n.onnx", ("n", 3, 16, 16)), threads=1)
    assert fixed.inputs[0].shape == (1, 3, 16, 16)
    free = OnnxRuntimeEngine(make_conv(tmp_path / "hw.onnx", (1, 3, "h", "w")), threads=1)
    assert free.inputs[0].shape == (1, 3, None, None)
    for side in (8, 12):
        out = free.infer({"x": np.ones((1, 3, side, side), np.float32)})
        assert out["y"].shape == (1, 4, side, side) and out["z"].shape == (1, 4, 1, 1)
        assert np.allclose(out["y"].mean(axis=(2, 3), keepdims=True), out["z"], atol=1e-5)


@pytest.mark.parametrize("feeds", [
    {}, {"y": np.zeros((1, 3, 32, 32), np.float32)}, {"x": np.zeros((1, 3, 32, 31), np.float32)},
    {"x": np.zeros((1, 3, 32, 32), np.float64)}, {"x": np.zeros((3, 32, 32), np.float32)}])
def test_wrong_feeds_are_named(conv_onnx: Path, feeds: dict[str, np.ndarray]) -> None:
    engine = OnnxRuntimeEngine(conv_onnx, threads=1)
    with pytest.raises(InputError, match="conv"):
        engine.infer(feeds)
    assert engine.infer({"x": np.zeros((1, 3, 32, 32), np.float32)})["y"].shape == (1, 4, 32, 32)


def test_missing_truncated_and_unsupported_models(tmp_path: Path, conv_onnx: Path) -> None:
    with pytest.raises(ModelError, match="existing"):
        OnnxRuntimeEngine(tmp_path / "none.onnx")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(conv_onnx.read_bytes()[:-40])
    with pytest.raises(ModelError, match="broken"):
        OnnxRuntimeEngine(broken)
    graph = helper.make_graph([helper.make_node("Warp", ["x"], ["y"], domain="nowhere")], "g",
                              [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1,))],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1,))])
    odd = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("nowhere", 1)],
                            ir_version=8)
    onnx.save(odd, str(tmp_path / "odd.onnx"))
    with pytest.raises(ModelError, match="Warp"):
        OnnxRuntimeEngine(tmp_path / "odd.onnx")


def test_closed_engine_says_so(conv_onnx: Path) -> None:
    engine = OnnxRuntimeEngine(conv_onnx)
    engine.close()
    with pytest.raises(WorkFailed, match="closed"):
        engine.infer({"x": np.zeros((1, 3, 32, 32), np.float32)})
