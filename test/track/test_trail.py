"""The way of a target before it slid behind something."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uav_perception.track.trail import COVERING_NS, Trail

STEP_NS = 50_000_000
speeds = st.tuples(st.floats(-9, 9), st.floats(-9, 9)).map(np.array)  # px a frame


def pan(shift: np.ndarray) -> np.ndarray:
    return np.array([[1, 0, shift[0]], [0, 1, shift[1]], [0, 0, 1.0]])


@given(speeds, speeds, st.integers(0, COVERING_NS // STEP_NS))
def test_the_way_is_that_before_it_was_covered(own: np.ndarray, camera: np.ndarray, covered: int) -> None:
    """For the last frames the tracker hangs on to the cover, which stands still on the ground."""
    trail, place = Trail(), np.array([300.0, 200.0])
    for k in range(40):
        if k:
            trail.carry(pan(camera))
            place = place + camera + (own if k < 40 - covered else 0)
        shown = np.array([30.0, 20.0 if k < 40 - covered else 20.0 - k + 39 - covered])
        trail.add(k * STEP_NS, place, shown)
    way = trail.before(39 * STEP_NS) or pytest.fail("no way")
    np.testing.assert_allclose(way.velocity, own / (STEP_NS * 1e-9), atol=1e-6)
    seconds = (39 * STEP_NS - way.stamp_ns) * 1e-9
    np.testing.assert_allclose(way.place + way.velocity * seconds, place + covered * own, atol=1e-6)
    np.testing.assert_array_equal(way.size, [30, 20])


def test_what_was_seen_for_a_moment_has_no_way() -> None:
    trail = Trail()
    assert trail.before(0) is None
    trail.carry(np.eye(3))
    for k in range(3):
        trail.add(k * STEP_NS, np.array([10.0 * k, 0]), np.array([9.0, 9.0]))
    assert trail.before(2 * STEP_NS) is None
