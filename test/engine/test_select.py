"""Selection, provenance and the one fall-back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uav_perception.engine import Engine, EngineInfo, TensorSpec
from uav_perception.engine.manifest import MANIFEST, EngineFile, Manifest, hash_of, read_manifest, sha256_of
from uav_perception.engine.onnxruntime import OnnxRuntimeEngine
from uav_perception.engine.select import Candidate, FallbackEngine, open_engine
from uav_perception.errors import EngineMismatch, InputError, MissingDependency, ModelError, WorkFailed

X = np.ones((1, 3, 32, 32), np.float32)


@pytest.fixture
def folder(tmp_path: Path, make_conv: Callable[..., Path]) -> Path:
    """A built folder: float, "INT8" (another bias, to tell them apart) and a plan of some other device."""
    out = tmp_path / "built"
    out.mkdir()
    fp32, int8 = make_conv(out / "m.onnx"), make_conv(out / "m.int8.onnx", bias=1.5)
    plan = out / "m.int8.plan"
    plan.write_bytes(b"plan of a Jetson")
    files = (EngineFile(fp32.name, sha256_of(fp32), "onnxruntime", "fp32"),
             EngineFile(int8.name, sha256_of(int8), "onnxruntime", "int8"),
             EngineFile(plan.name, sha256_of(plan), "tensorrt", "int8",
                        {"tensorrt": "10.3.0", "sm": "8.7", "name": "Orin"}))
    manifest = Manifest("m", {"file": fp32.name, "sha256": sha256_of(fp32)}, files, preprocess={"hash": "abc"})
    (out / MANIFEST).write_text(manifest.to_json())
    return out


def test_plan_then_int8_then_float_with_the_reason(folder: Path) -> None:
    engine = open_engine(folder)
    assert engine.info.name == "m.int8" and "m.int8.plan" in engine.info.why
    (folder / "m.int8.onnx").unlink()
    with pytest.raises(ModelError, match=r"m\.int8\.onnx"):  # listed and missing is damage, not a preference
        open_engine(folder)


def test_manifest_survives_json(folder: Path) -> None:
    manifest = read_manifest(folder)
    assert Manifest.from_json(manifest.to_json(), "") == manifest
    assert hash_of({"a": 1, "b": 2}) == hash_of({"b": 2, "a": 1})


def test_edited_onnx_under_an_old_manifest(folder: Path, make_conv: Callable[..., Path]) -> None:
    make_conv(folder / "m.int8.onnx", bias=9.0)
    for path in (folder, folder / "m.int8.onnx"):
        with pytest.raises(EngineMismatch, match="changed since"):
            open_engine(path)


def test_other_preprocessing_is_refused(folder: Path) -> None:
    assert open_engine(folder, preprocess_hash="abc").info.name == "m.int8"
    with pytest.raises(EngineMismatch, match="preprocessing"):
        open_engine(folder, preprocess_hash="abd")


def test_plan_alone_is_refused_not_tried(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "m.int8.plan", tmp_path / "stray.plan")
    with pytest.raises(EngineMismatch, match="unknown origin"):
        open_engine(tmp_path / "stray.plan")
    with pytest.raises(MissingDependency, match="TensorRT"):
        open_engine(folder, backend="tensorrt")


def test_truncated_plan(folder: Path) -> None:
    (folder / "m.int8.plan").write_bytes(b"plan")
    assert "changed since" in open_engine(folder).info.why
    with pytest.raises(EngineMismatch, match="changed since"):
        open_engine(folder / "m.int8.plan")


ELSEWHERE = {"file": "../x.onnx", "sha256": "", "backend": "onnxruntime", "precision": "fp32"}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 99}', '{"schema": 1, "files": [{}]}',
                                  json.dumps({"schema": 1, "name": "m", "source": {}, "files": [ELSEWHERE]})])
def test_broken_manifest(folder: Path, text: str) -> None:
    (folder / MANIFEST).write_text(text)
    with pytest.raises(ModelError, match="manifest"):
        open_engine(folder)


def test_bad_arguments(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="backend"):
        open_engine(tmp_path, backend="opencl")
    with pytest.raises(ModelError, match="manifest"):
        open_engine(tmp_path)
    with pytest.raises(ModelError):
        open_engine(tmp_path / "nothing.onnx")


class Failing:
    """An engine that works ``good`` times, then fails as a dying device does."""

    def __init__(self, engine: Engine, good: int) -> None:
        self._engine, self._good, self.closed = engine, good, False
        self.info = EngineInfo("failing", "tensorrt", "int8", "test")
        self.inputs: tuple[TensorSpec, ...] = engine.inputs
        self.outputs: tuple[TensorSpec, ...] = engine.outputs
        self.metadata: Mapping[str, str] = {}

    def infer(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        self._good -= 1
        if self._good < 0:
            raise WorkFailed("device lost", "a device", "reboot")
        return self._engine.infer(feeds)

    def close(self) -> None:
        self.closed = True


def test_falls_back_once_and_says_so(conv_onnx: Path) -> None:
    failing = Failing(OnnxRuntimeEngine(conv_onnx), good=2)
    engine = FallbackEngine.open([Candidate("plan", lambda _: failing),
                                  Candidate("ONNX", lambda why: OnnxRuntimeEngine(conv_onnx, why=why)),
                                  Candidate("never", lambda _: Failing(OnnxRuntimeEngine(conv_onnx), 0))], [])
    before = [engine.infer({"x": X})["y"].copy() for _ in range(2)]
    after = engine.infer({"x": X})["y"]
    assert np.array_equal(before[0], after) and failing.closed
    assert engine.info.backend == "onnxruntime" and "device lost" in engine.info.why and "once" in engine.info.why


def test_second_failure_is_raised(conv_onnx: Path) -> None:
    def make(_: str) -> Engine:
        return Failing(OnnxRuntimeEngine(conv_onnx), 0)

    engine = FallbackEngine.open([Candidate("a", make), Candidate("b", make), Candidate("c", make)], [])
    with pytest.raises(WorkFailed, match="device lost"):
        engine.infer({"x": X})


def test_wrong_feed_is_no_reason_to_fall_back(conv_onnx: Path) -> None:
    def make(why: str) -> Engine:
        return OnnxRuntimeEngine(conv_onnx, why=why)

    engine = FallbackEngine.open([Candidate("a", make), Candidate("b", make)], [])
    with pytest.raises(InputError):
        engine.infer({"x": X[:, :2]})
    assert "failed" not in engine.info.why
