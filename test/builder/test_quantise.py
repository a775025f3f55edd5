"""Placement and Q/DQ: what runs in INT8, for both targets, and that ONNX Runtime and TensorRT agree that it does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from uav_perception.builder import search
from uav_perception.builder.accuracy import layer_snr_db, output_error_percent, run
from uav_perception.builder.graph import head_layers, load_float_model, name_nodes, weighted_layers
from uav_perception.builder.placement import float_by_rule, place
from uav_perception.builder.plan import build_plan
from uav_perception.builder.quantiser import calibrate
from uav_perception.builder.search import Calibrated, channel_noise, fronts, sensitivity_percent
from uav_perception.engine.tensorrt import load_tensorrt
from uav_perception.errors import InputError, MissingDependency, ModelError

ROOT = Path(__file__).resolve().parents[2]
FEEDS = [{"x": np.random.default_rng(i).normal(size=(1, 3, 32, 32)).astype(np.float32)} for i in range(4)]


@pytest.fixture
def calibrated(toy: Path) -> Calibrated:
    model = load_float_model(toy)
    name_nodes(model)
    return calibrate(model, FEEDS, "onnxruntime")


def names(model: onnx.ModelProto, kind: str) -> list[str]:
    return [n.name for n in weighted_layers(model) if n.op_type == kind]


def test_folding_keeps_the_function_and_removes_batch_norm(toy: Path) -> None:
    model = load_float_model(toy)
    assert "BatchNormalization" not in {n.op_type for n in model.graph.node}
    original = onnx.load(str(toy))
    assert output_error_percent(run(original, FEEDS), run(model, FEEDS)) < 1e-3
    assert max(o.version for o in model.graph.node and model.opset_import) == 17


def test_cpu_placement(calibrated: Calibrated) -> None:
    model = calibrated.model
    assert head_layers(model) == {"head"} == float_by_rule(model, "tensorrt")
    assert float_by_rule(model, "onnxruntime") == {"stem", "depthwise", "head"}
    with_float_head = place(model, "onnxruntime", {"head"})
    assert with_float_head.layers == ["stem", "depthwise", "point", "point2"]
    assert {"cat", "pool"} <= set(with_float_head.tensors) and "head" not in with_float_head.tensors
    placement = place(model, "onnxruntime", set())
    stem = next(n for n in model.graph.node if n.name == "stem")
    assert stem.output[0] not in placement.tensors  # the Relu behind it is absorbed
    assert {"x", "r0", "c1", "s1", "a1", "c2", "add", "c3", "cat", "pool"} <= set(placement.tensors)
    assert "y" not in placement.tensors
    assert any({"cat", "pool"} <= set(g) for g in placement.same_range)


def test_tensorrt_placement_quantises_inputs_and_the_shortcut_alone(calibrated: Calibrated) -> None:
    placement = place(calibrated.model, "tensorrt", {"head"})
    assert placement.tensors == ["x", "r0", "a1", "add"]
    assert ("r0", "residual") in placement.readers and ("c2", "residual") not in placement.readers


@pytest.mark.parametrize("target", ["onnxruntime", "tensorrt"])
def test_int8_is_close_and_checked(calibrated: Calibrated, target: str) -> None:
    int8 = Calibrated(calibrated.model, calibrated.stats, calibrated.rounder, target).quantised("minmax", ["head"])
    onnx.checker.check_model(int8, full_check=True)
    assert output_error_percent(run(calibrated.model, FEEDS), run(int8, FEEDS)) < 4.0
    weights = {i.name: i for i in int8.graph.initializer}
    dequantised = {n.input[0]: n for n in int8.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in weights}
    stored = [n for n in dequantised if weights[n].data_type == onnx.TensorProto.INT8]
    assert len(stored) == 4  # weights lie in the file as INT8
    zeros = {i.name: onnx.numpy_helper.to_array(i) for i in int8.graph.initializer}
    activations = [n for n in int8.graph.node if n.op_type == "QuantizeLinear"]
    assert activations and all((zeros[n.input[2]].dtype == np.int8) == (target == "tensorrt") for n in activations)
    if target == "tensorrt":
        assert all(not zeros[n.input[2]].any() for n in activations)  # symmetric


def test_onnx_runtime_runs_the_layers_in_int8(calibrated: Calibrated, tmp_path: Path) -> None:
    import onnxruntime as ort

    onnx.save(calibrated.quantised("minmax", []), str(tmp_path / "q.onnx"))
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "o.onnx")
    options.log_severity_level = 4
    ort.InferenceSession(str(tmp_path / "q.onnx"), options, providers=["CPUExecutionProvider"])
    kinds = [n.op_type for n in onnx.load(str(tmp_path / "o.onnx")).graph.node]
    assert kinds.count("QLinearConv") == 5 and kinds.count("Relu") == 0
    assert {"QLinearSigmoid", "QLinearMul", "QLinearAdd", "QLinearConcat"} <= set(kinds)


def test_layers_left_in_float_are_float(calibrated: Calibrated) -> None:
    every = [n.name for n in weighted_layers(calibrated.model)]
    kept = calibrated.quantised("minmax", every)
    assert not [n for n in kept.graph.node if n.op_type == "QuantizeLinear"]
    assert output_error_percent(run(calibrated.model, FEEDS), run(kept, FEEDS)) < 0.2  # weights in half precision


def test_sensitivity_finds_the_layer_with_one_wide_channel(calibrated: Calibrated, tmp_path: Path,
                                                           make_toy: Callable[..., onnx.ModelProto]) -> None:
    onnx.save(make_toy(wide=200.0), str(tmp_path / "wide.onnx"))
    model = load_float_model(tmp_path / "wide.onnx")
    name_nodes(model)
    wide = calibrate(model, FEEDS, "onnxruntime")
    noise, usual = (channel_noise(c, "minmax", ["head"]) for c in (wide, calibrated))
    assert max(noise, key=lambda n: noise[n]) in ("stem", "depthwise")
    assert noise["stem"] > 10 * usual["stem"]
    measured = sensitivity_percent(wide, "minmax", ["stem", "point2"], FEEDS, run(model, FEEDS))
    assert 0 < measured["point2"] < measured["stem"] < 20
    snr = layer_snr_db(wide.model, wide.quantised("minmax", ["head"]),
                       {n.name: n.output[0] for n in weighted_layers(wide.model)}, FEEDS[:1])
    assert min(snr.values()) > 0 and set(snr) == {n.name for n in weighted_layers(wide.model)}


def test_timed_plans_grow_from_the_front_and_need_a_plain_gain(calibrated: Calibrated,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    found = fronts(calibrated, ["head"])
    assert found == [["stem"], ["stem", "depthwise"], ["stem", "depthwise", "point"]]  # the whole network is no front
    models = [calibrated.quantised("minmax", ["head", *f]) for f in ([], found[0])]
    for cpu, chosen in (([1.0, 0.995], 0), ([1.0, 0.9], 1), ([1.0, 1.1], 0)):
        monkeypatch.setattr(search, "latency_ms", lambda engines, *_, t=cpu: {n: {"cpu": t[int(n)]} for n in engines})
        assert search.fastest(models, FEEDS[0], 3) == chosen


def test_bad_models(tmp_path: Path, toy: Path) -> None:
    with pytest.raises(ModelError, match="existing"):
        load_float_model(tmp_path / "none.onnx")
    (tmp_path / "t.onnx").write_bytes(toy.read_bytes()[:500])
    with pytest.raises(ModelError, match="valid ONNX"):
        load_float_model(tmp_path / "t.onnx")
    model = onnx.load(str(toy))
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    onnx.save(model, str(tmp_path / "d.onnx"))
    with pytest.raises(ModelError, match="height"):
        load_float_model(tmp_path / "d.onnx")
    model = onnx.load(str(toy))
    model.graph.node[2].op_type, model.graph.node[2].domain = "Warp", "nowhere"
    model.opset_import.append(onnx.helper.make_opsetid("nowhere", 1))
    onnx.save(model, str(tmp_path / "u.onnx"))
    with pytest.raises(ModelError, match="Warp"):
        load_float_model(tmp_path / "u.onnx")


def test_quantised_input_is_refused(calibrated: Calibrated, tmp_path: Path) -> None:
    onnx.save(calibrated.quantised("minmax", ["head"]), str(tmp_path / "q.onnx"))
    with pytest.raises(ModelError, match="quantised already"):
        load_float_model(tmp_path / "q.onnx")


def test_the_same_numbers_without_vnni(calibrated: Calibrated, tmp_path: Path) -> None:
    """ONNX Runtime in a process that sees AVX2 only: its 16-bit sums must not saturate with our weights."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux" or os.uname().machine != "x86_64":
        pytest.skip("needs a C compiler on x86 Linux")
    onnx.save(calibrated.quantised("minmax", ["head"]), str(tmp_path / "q.onnx"))
    np.save(tmp_path / "x.npy", np.where(FEEDS[0]["x"] > 0, 3.0, -3.0).astype(np.float32))  # extremes
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", str(ROOT / "bench" / "avx2_only.c"), "-o",
                    str(tmp_path / "avx2.so")], check=True)
    script = ("import numpy as np, onnxruntime as o\n"
              "s = o.InferenceSession('q.onnx', providers=['CPUExecutionProvider'])\n"
              "np.save('{0}', s.run(None, {{'x': np.load('x.npy')}})[0])")
    for name, preload in (("here.npy", ""), ("avx2.npy", str(tmp_path / "avx2.so"))):
        subprocess.run([sys.executable, "-c", script.format(name)], cwd=tmp_path, check=True,
                       env={**os.environ, "LD_PRELOAD": preload})
    here, avx2 = np.load(tmp_path / "here.npy"), np.load(tmp_path / "avx2.npy")
    assert np.abs(here - avx2).max() <= 0.02 * np.abs(here).max()  # float layers differ in the last bits


def rtx() -> None:
    try:
        load_tensorrt("tensorrt_rtx_bindings")
    except MissingDependency as e:
        pytest.skip(f"TensorRT for RTX is not installed: {e.value}")


def test_tensorrt_rtx_builds_and_keeps_int8(calibrated: Calibrated, tmp_path: Path) -> None:
    rtx()
    model = Calibrated(calibrated.model, calibrated.stats, calibrated.rounder, "tensorrt").quantised("minmax", ["head"])
    onnx.save(model, str(tmp_path / "q.onnx"))
    options = {"sm": "8.9", "timing_cache": str(tmp_path / "timing")}
    path, device = build_plan(tmp_path / "q.onnx", tmp_path / "q.plan", "tensorrt-rtx", "int8", [], options)
    report = device["layers"]
    assert path.stat().st_size > 1000 and (tmp_path / "timing").is_file() and device["sm"] == "8.9"
    assert report["network_int8"] == 4 and report["network_float"] == ["head"]
    assert sum(n for kind, n in report["built"].items() if kind.endswith("Int8")) == 4
    with pytest.raises(InputError, match=r"8\.7"):
        build_plan(tmp_path / "q.onnx", tmp_path / "q2.plan", "tensorrt-rtx", "int8", [], {"sm": "8.7"})
    (tmp_path / "bad.onnx").write_bytes(b"nonsense")
    with pytest.raises(ModelError):
        build_plan(tmp_path / "bad.onnx", tmp_path / "q3.plan", "tensorrt-rtx", "int8", [], {})


LIGHT = ("squeezenet", "shufflenet", "bvlc_alexnet", "zfnet512", "vgg19", "inception_v1", "inception_v2", "resnet50",
         "densenet121")
QUICK = ("squeezenet",)


@pytest.mark.parametrize("name", LIGHT)
def test_the_networks_of_the_onnx_wheel(name: str, tmp_path: Path) -> None:
    """Calibrate, Q/DQ, ONNX Runtime, TensorRT for RTX. Constant weights: the path is tested, not the accuracy."""
    if name not in QUICK and not os.environ.get("UAV_PERCEPTION_ALL_NETWORKS"):
        pytest.skip("takes a minute and 2 GB: set UAV_PERCEPTION_ALL_NETWORKS=1")
    path = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / f"light_{name}.onnx"
    model = load_float_model(path)
    name_nodes(model)
    value = model.graph.input[0]
    shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
    feeds = [{value.name: np.random.default_rng(0).random(shape, np.float32)}]
    found = calibrate(model, feeds, "onnxruntime")
    kept = float_by_rule(found.model, "onnxruntime")
    assert output_error_percent(run(model, feeds), run(found.quantised("minmax", kept), feeds)) < 5.0
    rtx()
    symmetric = Calibrated(found.model, found.stats, found.rounder, "tensorrt")
    kept = float_by_rule(found.model, "tensorrt")
    onnx.save(symmetric.quantised("minmax", kept), str(tmp_path / "q.onnx"))
    _, device = build_plan(tmp_path / "q.onnx", tmp_path / "q.plan", "tensorrt-rtx", "int8", feeds, {})
    assert device["layers"]["network_int8"] == len(place(found.model, "tensorrt", kept).layers)
    assert sum(n for kind, n in device["layers"]["built"].items() if kind.endswith("Int8")) > 0
