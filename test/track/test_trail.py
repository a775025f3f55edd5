"""The way of a target before it slid behind something."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uav_perception.track.trail import COVERING_NS, Trail, gone

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
    np.testing.assert_allclose(way.velocity, own / (STEP_NS * 1e-9), atol=1e-2)
    seconds = (39 * STEP_NS - way.stamp_ns) * 1e-9
    np.testing.assert_allclose(way.place + way.velocity * seconds, place + covered * own, atol=1e-2)
    np.testing.assert_allclose(way.size, [30, 20], atol=1e-3)


@pytest.mark.parametrize(("speeds_px", "stopped"), [
    ([3.0] * 24 + [0.0] * 12, True), ([3.0] * 36, False), ([0.4] * 24 + [0.0] * 12, False), ([0.0] * 36, False),
    ([3.0] * 24 + list(np.linspace(3, 0, 12)), False), ([3.0] * 24 + [0.0] * 4, False)])
def test_who_was_fast_and_rests_at_once_has_stopped(speeds_px: list[float], stopped: bool) -> None:
    """Of 20 px, while the camera pans; who slows down in 0.6 s, or was slow, has not."""
    trail, place = Trail(), np.array([300.0, 200.0])
    for k, own_px in enumerate(speeds_px):
        trail.carry(pan(np.array([5.0, -2.0])))
        place = place + np.array([5.0 + own_px, -2.0])
        trail.add(k * STEP_NS, place, np.array([25.0, 16.0]))
    assert trail.stopped is stopped


def test_what_was_seen_for_a_moment_has_no_way() -> None:
    trail = Trail()
    assert trail.before(0) is None and not trail.stopped
    trail.carry(np.eye(3))
    for k in range(3):
        trail.add(k * STEP_NS, np.array([10.0 * k, 0]), np.array([9.0, 9.0]))
    assert trail.before(2 * STEP_NS) is None


@given(st.floats(-0.25, 0.5), st.floats(0.5, 3.0), st.floats(0, 6.3), st.floats(0.5, 2.0))
def test_what_goes_on_evenly_in_space_is_foreseen(recedes, speed, direction, hidden_s):
    """Seen for 1.5 s by a camera that stands, size 40 px at the end; ``speed`` in target sizes a second then."""
    velocity = 40 * speed * np.array([np.cos(direction), np.sin(direction)])
    here, size = np.array([300.0, 200.0]), np.array([50.0, 32.0])
    trail = Trail()
    for k in range(-30, 5):  # the last frames are taken for covered
        way_px, _, _, share = gone(velocity, recedes, k * STEP_NS * 1e-9)
        trail.add(k * STEP_NS, here + way_px, size * share)
    way = trail.before(4 * STEP_NS) or pytest.fail("no way")
    assert way.stamp_ns == 0
    assert abs(way.recedes - recedes) < 0.03
    true_px, then, later, share = gone(velocity, recedes, hidden_s)
    foreseen_px, _, _, foreseen_share = gone(way.velocity, way.recedes, hidden_s)
    off_px = way.place + foreseen_px - here - true_px
    assert np.linalg.norm(off_px) < 0.05 * np.linalg.norm(true_px) + 0.5
    assert abs(foreseen_share / share - 1) < 0.06
    back_px, was, earlier, _ = gone(then, later, -hidden_s)  # and back again
    np.testing.assert_allclose(back_px, -true_px, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(was, velocity, rtol=1e-9, atol=1e-9)
    assert earlier == pytest.approx(recedes)


@pytest.mark.parametrize("begins", [18, 21])
def test_what_is_covered_from_one_side_is_not_believed(begins: int) -> None:
    """From one frame on the cover hides ever more of its length, and so its middle seems to stay behind."""
    trail, own = Trail(), np.array([6.0, 0.0])
    for k in range(28):
        hidden = max(0.0, 4.0 * (k - begins))
        trail.add(k * STEP_NS, np.array([100.0, 90.0]) + k * own - [hidden / 2, 0], np.array([48.0 - hidden, 20.0]))
    way = trail.before(27 * STEP_NS) or pytest.fail("no way")
    np.testing.assert_allclose(way.velocity, own / (STEP_NS * 1e-9), atol=6)
    assert way.stamp_ns <= (begins + 2) * STEP_NS

