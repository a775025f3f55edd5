"""Fixtures of the offline tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest_scene import write_scene


@pytest.fixture(scope="session")
def scene_bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scene(tmp_path_factory.mktemp("scene") / "scene", 16)
