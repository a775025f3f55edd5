"""Fixtures shared by the whole suite."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("any machine", deadline=None)  # a busy machine is slow, not wrong
settings.load_profile("any machine")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real development data beside the repository; tests that need it are skipped without it."""
    if not (SHARED / "data" / "INDEX.md").is_file():
        pytest.skip("real development data (../shared) is not on this machine")
    return SHARED
