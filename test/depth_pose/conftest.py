"""Fixtures of the depth/pose tests."""

from __future__ import annotations

import pytest
from depth_scenes import Rendered, look, over_ground, render_path


@pytest.fixture(scope="session")
def flight() -> Rendered:
    """Ten metres up, looking 50 degrees down, forward at 4 m/s with a slow turn: sixteen frames."""
    path = [look([0.4 * k, 0.02 * k * k, 10.0], 0.012 * k, 50.0) for k in range(16)]
    return render_path(over_ground(), path)


@pytest.fixture(scope="session")
def turning() -> Rendered:
    """The same place, turning on the spot: eight frames."""
    return render_path(over_ground(), [look([0, 0, 10.0], 0.01 * k, 50.0) for k in range(8)])
