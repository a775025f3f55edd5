"""What every engine must do, whatever runs it."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from uav_perception.engine import Engine
from uav_perception.engine.onnxruntime import OnnxRuntimeEngine
from uav_perception.engine.select import Candidate, FallbackEngine
from uav_perception.engine.tensorrt import TensorRTEngine
from uav_perception.errors import InputError, WorkFailed

SHAPE = (1, 3, 4, 4)
X = np.arange(48, dtype=np.float32).reshape(SHAPE)


def onnx_file(folder: Path) -> Path:
    """y = 2 x + 1, as the TensorRT double computes."""
    nodes = [helper.make_node("Mul", ["x", "two"], ["t"]), helper.make_node("Add", ["t", "one"], ["y"])]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, SHAPE)],
                              [numpy_helper.from_array(np.float32(v), n) for n, v in (("two", 2), ("one", 1))])
    path = folder / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


@pytest.fixture(params=["onnxruntime", "tensorrt", "fallback"])
def engine(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    if request.param == "onnxruntime":
        return OnnxRuntimeEngine(onnx_file(tmp_path))
    if request.param == "fallback":
        path = onnx_file(tmp_path)
        candidates = [Candidate(n, lambda why: OnnxRuntimeEngine(path, why=why)) for n in ("first", "second")]
        return FallbackEngine.open(candidates, [])
    spec = importlib.util.spec_from_file_location("trt_double_of_contract",
                                                  Path(__file__).parents[1] / "engine" / "trt_double.py")
    assert spec is not None and spec.loader is not None
    double: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(double)
    device = double.Device()
    package = types.ModuleType("pycuda")
    package.driver = double.make_pycuda(device)  # type: ignore[attr-defined]
    for name, module in (("tensorrt", double.make_tensorrt("10.13.0", device)), ("pycuda", package),
                         ("pycuda.driver", package.driver)):  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, name, module)
    (tmp_path / "m.plan").write_bytes(double.PLAN)
    return TensorRTEngine(tmp_path / "m.plan")


def test_is_an_engine_and_says_what_it_is(engine: Engine) -> None:
    assert isinstance(engine, Engine)
    assert [s.name for s in engine.inputs] == ["x"] and [s.name for s in engine.outputs] == ["y"]
    assert engine.inputs[0].shape == SHAPE and engine.inputs[0].dtype == np.float32
    assert engine.info.why and engine.info.name == "m" and dict(engine.metadata) == {}


def test_infers_again_and_again_into_its_own_arrays(engine: Engine) -> None:
    for k in range(4):
        out = engine.infer({"x": X + k})
        assert set(out) == {"y"} and np.array_equal(out["y"], 2 * (X + k) + 1)
    assert engine.infer({"x": X})["y"] is out["y"]


def test_leaves_feeds_alone_and_takes_read_only_and_strided_ones(engine: Engine) -> None:
    x = X.copy()
    x.flags.writeable = False
    engine.infer({"x": x})
    assert np.array_equal(x, X)
    assert np.array_equal(engine.infer({"x": X[:, :, ::-1]})["y"], 2 * X[:, :, ::-1] + 1)


@pytest.mark.parametrize("feeds", [{}, {"z": X}, {"x": X[:, :2]}, {"x": X.astype(np.int32)}, {"x": X, "z": X}])
def test_refuses_wrong_feeds_and_lives_on(engine: Engine, feeds: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        engine.infer(feeds)
    assert np.array_equal(engine.infer({"x": X})["y"], 2 * X + 1)


def test_closed_is_closed(engine: Engine) -> None:
    engine.infer({"x": X})
    engine.close()
    engine.close()
    with pytest.raises(WorkFailed):
        engine.infer({"x": X})
