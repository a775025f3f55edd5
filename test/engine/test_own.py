"""Finding the package's own models."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from uav_perception.engine.own import own_engine


def test_a_name_that_is_nowhere_is_none() -> None:
    assert own_engine("no_such_model") is None


def test_an_installation_s_file_and_its_built_folder_are_found(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_conv: Callable[..., Path]) -> None:
    folder = tmp_path / "share" / "uav_perception" / "engines" / "mine"
    folder.mkdir(parents=True)
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    make_conv(folder / "mine.onnx")
    assert own_engine("mine") == folder / "mine.onnx"
    (folder / "manifest.json").write_text("{}")
    assert own_engine("mine") == folder
    shutil.rmtree(folder)
    assert own_engine("mine") is None
