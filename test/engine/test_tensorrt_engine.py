"""The TensorRT engine against a double that knows only the names of NVIDIA's stubs; and on a GPU where there is one."""

from __future__ import annotations

import sys
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trt_double import PLAN, Device, make_cudart, make_pycuda, make_tensorrt

from uav_perception.builder import plan as plan_builder
from uav_perception.engine.manifest import MANIFEST, EngineFile, Manifest, sha256_of
from uav_perception.engine.select import open_engine
from uav_perception.engine.tensorrt import TensorRTEngine, load_tensorrt
from uav_perception.errors import EngineMismatch, InputError, MissingDependency, ModelError, WorkFailed

VERSIONS = ("8.6.1", "10.13.0", "11.0.0")


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Device]:
    def _install(version: str = "10.13.0", binding: str = "pycuda", **kind: Any) -> Device:
        device = Device()
        monkeypatch.setitem(sys.modules, "tensorrt", make_tensorrt(version, device, **kind))
        empty = types.ModuleType("absent")
        if binding == "pycuda":
            package = types.ModuleType("pycuda")
            package.driver = make_pycuda(device)  # type: ignore[attr-defined]
            monkeypatch.setitem(sys.modules, "pycuda", package)
            monkeypatch.setitem(sys.modules, "pycuda.driver", package.driver)
            monkeypatch.setitem(sys.modules, "cuda", empty)
        else:
            monkeypatch.setitem(sys.modules, "pycuda", None)
            bindings = types.ModuleType("cuda.bindings")
            bindings.runtime = make_cudart(device)  # type: ignore[attr-defined]
            monkeypatch.setitem(sys.modules, "cuda", types.ModuleType("cuda"))
            monkeypatch.setitem(sys.modules, "cuda.bindings", bindings)
        return device

    return _install


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "m.plan"
    path.write_bytes(PLAN)
    return path


X = np.arange(48, dtype=np.float32).reshape(1, 3, 4, 4)


@pytest.mark.parametrize("binding", ["pycuda", "cuda-python"])
@pytest.mark.parametrize("version", VERSIONS)
def test_runs_on_every_version_and_binding(install: Callable[..., Device], plan: Path, version: str,
                                           binding: str) -> None:
    device = install(version, binding)
    engine = TensorRTEngine(plan, metadata={"names": "a"})
    first = engine.infer({"x": X})["y"]
    assert np.array_equal(first, 2 * X + 1)
    assert engine.infer({"x": X[..., ::-1]})["y"] is first  # a view is fine, the buffer is reused
    assert np.array_equal(first, 2 * X[..., ::-1] + 1)
    assert engine.info.backend == "tensorrt" and engine.metadata["names"] == "a"
    engine.close()
    engine.close()
    assert device.freed >= 2
    with pytest.raises(WorkFailed, match="closed"):
        engine.infer({"x": X})


@pytest.mark.parametrize("binding", ["pycuda", "cuda-python"])
def test_another_thread_may_infer(install: Callable[..., Device], plan: Path, binding: str) -> None:
    install("10.13.0", binding)
    engine = TensorRTEngine(plan)
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(engine.infer({"x": X})["y"].copy()))
    thread.start()
    thread.join()
    assert np.array_equal(found[0], 2 * X + 1)


def test_refusals(install: Callable[..., Device], plan: Path) -> None:
    install(shape=(1, 3, -1, -1))
    with pytest.raises(ModelError, match="fixed sizes"):
        TensorRTEngine(plan)
    install(works=False)
    engine = TensorRTEngine(plan)
    with pytest.raises(WorkFailed, match="refused"):
        engine.infer({"x": X})
    with pytest.raises(InputError):
        engine.infer({"x": X.astype(np.float64)})
    plan.write_bytes(PLAN[:-3])
    with pytest.raises(EngineMismatch, match="can read"):
        TensorRTEngine(plan)


def test_wrong_device_plan_is_named_and_never_loaded(install: Callable[..., Device], plan: Path) -> None:
    install("10.13.0")
    right = {"tensorrt": "10.13.0", "sm": "8.7", "name": "Orin", "cuda": "12.6"}
    for key, value in (("tensorrt", "10.3.0"), ("sm", "8.9"), ("name", "RTX"), ("cuda", "11.4")):
        entry = EngineFile(plan.name, sha256_of(plan), "tensorrt", "int8", {**right, key: value})
        manifest = Manifest("m", {}, (entry,), metadata={"names": "a,b"})
        (plan.parent / MANIFEST).write_text(manifest.to_json())
        if key == "cuda":  # recorded, but a plan is not tied to it
            engine = open_engine(plan)
            assert engine.metadata["names"] == "a,b"
            continue
        with pytest.raises(EngineMismatch, match=value):
            open_engine(plan)


def test_type_stubs_are_no_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", types.ModuleType("tensorrt"))
    with pytest.raises(MissingDependency, match="stubs"):
        load_tensorrt()


def test_the_double_fails_on_unknown_names(install: Callable[..., Device]) -> None:
    device = Device()
    trt = make_tensorrt("10.13.0", device)
    with pytest.raises(AttributeError):
        trt.Rumtime  # noqa: B018
    engine = trt.Runtime(None).deserialize_cuda_engine(PLAN)
    with pytest.raises(AttributeError):
        engine.num_bindings  # noqa: B018
    assert not hasattr(make_tensorrt("11.0.0", device).BuilderFlag, "INT8")


class Config:
    """A builder configuration that notes its flags."""

    def __init__(self) -> None:
        self.flags: list[str] = []

    def set_flag(self, flag: Any) -> None:
        self.flags.append(flag.name)


@pytest.mark.parametrize(("version", "flags"), [("8.6.1", ["INT8", "FP16"]), ("10.13.0", ["INT8", "FP16"]),
                                                ("11.0.0", [])])
def test_typing_by_version(install: Callable[..., Device], version: str, flags: list[str]) -> None:
    trt = make_tensorrt(version, Device())
    config = Config()
    plan_builder._allow_precisions(trt, config, "int8")
    assert config.flags == flags
    kind = trt.NetworkDefinitionCreationFlag
    wanted = kind.STRONGLY_TYPED if version == "11.0.0" else kind.EXPLICIT_BATCH
    assert plan_builder._network_flags(trt) == 1 << int(wanted)


def test_implicit_calibrator_feeds_everything_once_and_keeps_its_cache(install: Callable[..., Device],
                                                                       tmp_path: Path) -> None:
    device = install("10.13.0")
    trt = make_tensorrt("10.13.0", device)
    feeds = [{"x": X + i} for i in range(3)]
    calibrator = plan_builder.implicit_calibrator(trt, "entropy", feeds, tmp_path / "m.calibration")
    seen = []
    while (batch := calibrator.get_batch(["x"])) is not None:
        seen.append(device.memory[batch[0]].view(np.float32).reshape(X.shape).copy())
    assert len(seen) == 3 and all(np.array_equal(s, f["x"]) for s, f in zip(seen, feeds, strict=True))
    assert calibrator.read_calibration_cache() is None
    calibrator.write_calibration_cache(b"scales")
    assert calibrator.read_calibration_cache() == b"scales"
    with pytest.raises(InputError, match="up to 10"):
        plan_builder.implicit_calibrator(make_tensorrt("11.0.0", device), "minmax", feeds, tmp_path / "c")


@pytest.mark.gpu
def test_on_a_gpu(tmp_path: Path, conv_onnx: Path) -> None:
    try:
        trt = load_tensorrt()
    except MissingDependency as e:
        pytest.skip(f"no GPU with TensorRT here: {e.value}")
    out, device = plan_builder.build_plan(conv_onnx, tmp_path / "m.plan", "tensorrt", "fp32", [], {})
    assert device["tensorrt"] == trt.__version__
    from uav_perception.engine.onnxruntime import OnnxRuntimeEngine

    x = np.random.default_rng(0).random((1, 3, 32, 32), np.float32)
    wanted = OnnxRuntimeEngine(conv_onnx).infer({"x": x})["y"]
    assert np.allclose(TensorRTEngine(out).infer({"x": x})["y"], wanted, atol=1e-2)
