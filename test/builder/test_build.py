"""Whole builds: what is written, what is proven, and that a failure leaves nothing behind."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest

from uav_perception.builder import build as builder
from uav_perception.builder.data import draw, preprocess_of
from uav_perception.builder.inspect import compare, inspect
from uav_perception.builder.quantiser import Request
from uav_perception.cli.main import main
from uav_perception.config import BuilderConfig
from uav_perception.engine.manifest import read_manifest, sha256_of
from uav_perception.engine.onnxruntime import OnnxRuntimeEngine
from uav_perception.engine.select import open_engine
from uav_perception.errors import EngineMismatch, WorkFailed


def command(*words: object) -> int:
    return main([str(w) for w in words])


@pytest.fixture(autouse=True)
def steady_clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Processor time as the builds of this module measure it: of so small a network the real one says nothing."""
    cpu = {"fp32": 2.0, "int8": 1.0}
    monkeypatch.setattr(builder, "latency_ms",
                        lambda engines, *_: {n: {"best": 1.0, "p50": 1.0, "p95": 1.0, "cpu": cpu[n]} for n in engines})
    return cpu


@pytest.fixture
def built(toy: Path, pictures: Path, tmp_path: Path) -> Path:
    out = tmp_path / "engine"
    assert command("engine", "build", toy, "--calib", pictures, "--out", out, "--gate", 20, "--plan", "fixed") == 0
    return out


def test_build_inspect_compare(built: Path, toy: Path, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sorted(p.name for p in built.iterdir()) == ["manifest.json", "report.html", "toy.int8.onnx", "toy.onnx"]
    manifest = read_manifest(built)
    assert manifest.source["sha256"] == sha256_of(toy) and manifest.calibration["drawn"] == 12
    assert manifest.precision_per_layer["point"] == "int8" and manifest.precision_per_layer["head"] == "fp32"
    assert manifest.accuracy["output_error_percent"] <= 20 and manifest.preprocess["hash"]
    engine = open_engine(built, preprocess_hash=manifest.preprocess["hash"])
    assert engine.info.precision == "int8" and "preprocess" in engine.metadata
    page = (built / "report.html").read_text()
    assert "<svg" in page and "Noise by layer" in page and "http" not in page.split("<style>")[0]
    found = inspect(built)
    assert found["runs"] and found["layers"] == {"int8": 2, "fp16": 0, "fp32": 3}
    difference = compare(built / "toy.onnx", built, pictures, "", {})
    assert 0 < difference["output_error_percent"] <= 20
    assert command("engine", "compare", built / "toy.onnx", built, "--data", pictures, "--json") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["pictures"] == 12


def test_builds_are_reproducible(built: Path, toy: Path, pictures: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    assert command("engine", "build", toy, "--calib", pictures, "--out", again, "--gate", 20, "--plan", "fixed") == 0
    assert sha256_of(again / "toy.int8.onnx") == sha256_of(built / "toy.int8.onnx")


def test_where_int8_is_slower_the_float_engine_runs_and_says_why(toy: Path, pictures: Path, tmp_path: Path,
                                                                 steady_clock: dict[str, float],
                                                                 capsys: pytest.CaptureFixture[str]) -> None:
    steady_clock["int8"] = 2.5
    out = tmp_path / "engine"
    assert command("engine", "build", toy, "--calib", pictures, "--out", out, "--gate", 20, "--plan", "fixed") == 0
    assert "gains nothing" in capsys.readouterr().out
    engine = open_engine(out)
    assert engine.info.precision == "fp32" and "INT8 took 1.25 of float's time" in engine.info.why
    assert open_engine(out / "toy.int8.onnx").info.precision == "int8"  # asked for by name


def test_missed_gate_keeps_float_in_use_and_exits_one(toy: Path, pictures: Path, tmp_path: Path,
                                                      capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "engine"
    assert command("engine", "build", toy, "--calib", pictures, "--out", out, "--gate", 0.0001) == 1
    assert "GateMissed" in capsys.readouterr().err
    assert sorted(p.name for p in out.iterdir()) == ["manifest.json", "report.html", "toy.onnx"]
    assert open_engine(out).info.precision == "fp32"


def test_float_builds_and_edited_source(toy: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "engine"
    assert command("engine", "build", toy, "--calib", pictures, "--precision", "fp32", "--out", out) == 0
    model = onnx.load(str(out / "toy.onnx"))
    model.doc_string = "edited"
    onnx.save(model, str(out / "toy.onnx"))
    with pytest.raises(EngineMismatch, match="changed"):
        open_engine(out)
    assert command("engine", "inspect", out) == 0  # says that it does not run, and why


def test_open_sizes_stay_open(pictures: Path, tmp_path: Path, make_toy: Callable[..., onnx.ModelProto]) -> None:
    model = make_toy()
    for value, axes in ((model.graph.input[0], (2, 3)), (model.graph.output[0], (3,))):
        for axis in axes:
            value.type.tensor_type.shape.dim[axis].dim_param = f"n{axis}"
    onnx.save(model, str(tmp_path / "open.onnx"))
    out = tmp_path / "engine"
    assert command("engine", "build", tmp_path / "open.onnx", "--calib", pictures, "--out", out, "--gate", 20) == 0
    engines = open_engine(out / "open.onnx"), open_engine(out)
    assert engines[1].info.precision == "int8" and engines[1].inputs[0].shape == (1, 3, None, None)
    for size in ((32, 32), (48, 64)):
        x = np.random.default_rng(0).normal(size=(1, 3, *size)).astype(np.float32)
        a, b = (e.infer({"x": x})["y"].copy() for e in engines)
        assert a.shape == b.shape and np.linalg.norm(a - b) < 0.1 * np.linalg.norm(a)


class Points:
    """A task whose float model scores ``float_points``, and whose INT8 loses ``each`` a layer that is in INT8."""

    def __init__(self, float_points: float, each: float) -> None:
        self.float_points, self.each = float_points, each

    def score(self, model: Path) -> dict[str, Any]:
        weights = {i.name for i in onnx.load(str(model)).graph.initializer if len(i.dims) == 4 and i.data_type == 3}
        return {"ap50": self.float_points - self.each * len(weights), "sets": {}}


@pytest.mark.parametrize(("task", "gate", "in_float", "lost"), [
    (Points(50.0, 0.4), 1.0, 3, 0.8),  # two INT8 layers cost less than the gate
    (Points(50.0, 0.7), 1.0, 4, 0.7),  # two cost more: one goes back to float
    (Points(5.0, 0.4), 1.0, 3, 0.8),  # a set that says nothing: the output error chooses, the loss is told
])
def test_the_gate_in_points_of_a_task(toy: Path, pictures: Path, tmp_path: Path, task: Points, gate: float,
                                      in_float: int, lost: float) -> None:
    drawn = draw([pictures], 8, 1)
    request = Request(toy, tmp_path / "out", drawn, ("pictures",), preprocess_of(OnnxRuntimeEngine(toy)), gate=gate,
                      task=task, config=BuilderConfig(plan="fixed", max_float_share=1.0))
    manifest = builder.build(request)
    assert len(manifest.accuracy["layers_float"]) == in_float
    assert manifest.accuracy["ap50_drop_points"] == pytest.approx(lost)


@pytest.mark.parametrize(("words", "message"), [
    (["TOY", "--calib", "PICTURES", "--eval", "BROKEN"], "COCO file"),
    (["missing.onnx", "--calib", "PICTURES"], "existing ONNX"),
    (["TOY", "--calib", "nowhere"], "image folder or a bag"),
    (["TOY", "--calib", "EMPTY"], "without pictures"),
    (["TOY", "--calib", "PICTURES", "TORN"], "cannot be decoded"),
    (["TOY", "--calib", "PICTURES", "DEEP"], "16 bits"),
    (["OPEN", "--calib", "PICTURES"], "(1, 3, H, W)"),
    (["ODD", "--calib", "PICTURES"], "Warp"),
    (["TOY", "--calib", "PICTURES", "--gate", "-1"], ">= 0"),
    (["TOY", "--calib", "PICTURES", "--precision", "fp16"], "int8 or fp32"),
    (["TOY", "--calib", "PICTURES", "--pictures", "0"], "from 1"),
    (["TOY", "--calib", "PICTURES", "--eval", "nowhere"], "annotations.json"),
    (["TOY", "--calib", "PICTURES", "--preprocess", "colour=rgb"], "key=value"),
])
def test_bad_input_is_one_line_and_two(toy: Path, pictures: Path, tmp_path: Path, words: list[str], message: str,
                                       capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    model = onnx.load(str(toy))
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "channels"
    onnx.save(model, str(tmp_path / "open.onnx"))
    model = onnx.load(str(toy))
    model.graph.node[2].op_type = "Warp"
    onnx.save(model, str(tmp_path / "odd.onnx"))
    for name, data in (("torn", (pictures / "000.png").read_bytes()[:60]),
                       ("deep", cv2.imencode(".png", np.zeros((8, 8), np.uint16))[1].tobytes())):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(data)
    (tmp_path / "broken" / "images").mkdir(parents=True)
    (tmp_path / "broken" / "annotations.json").write_text('{"images": 3}')
    table = {"TOY": toy, "PICTURES": pictures, "OPEN": tmp_path / "open.onnx", "ODD": tmp_path / "odd.onnx",
             **{n: tmp_path / n.lower() for n in ("TORN", "DEEP", "BROKEN", "EMPTY")}}
    assert command("engine", "build", *(table.get(w, w) for w in words), "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_nan_weights(toy: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = onnx.load(str(toy))
    weight = next(i for i in model.graph.initializer if i.name == "w2")
    values = onnx.numpy_helper.to_array(weight).copy()
    values[0, 0] = np.nan
    weight.CopyFrom(onnx.numpy_helper.from_array(values, "w2"))
    onnx.save(model, str(tmp_path / "nan.onnx"))
    assert command("engine", "build", tmp_path / "nan.onnx", "--calib", pictures, "--out", tmp_path / "out") == 1
    assert "NaN" in capsys.readouterr().err
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


@pytest.mark.parametrize("where", ["write", "replace"])
def test_full_disk_leaves_the_older_engine(built: Path, toy: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch,
                                           where: str) -> None:
    before = {p.name: sha256_of(p) for p in built.iterdir()}

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(*((builder, "save_quantised") if where == "write" else (builder.os, "replace")), full)
    request = Request(toy, built, draw([pictures], 4, 1), ("pictures",), preprocess_of(OnnxRuntimeEngine(toy)))
    with pytest.raises(WorkFailed, match="No space left"):
        builder.build(request)
    monkeypatch.undo()
    assert {p.name: sha256_of(p) for p in built.iterdir()} == before
    assert not list(built.parent.glob(".engine*"))
    assert open_engine(built).info.precision == "int8"
