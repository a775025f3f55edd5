"""Where a target is expected that moved evenly over level ground and then is hidden, seen by a moving camera."""

from __future__ import annotations

import numpy as np
import pytest

from uav_perception.track.expected import SIDES_PX, Expected

STEP_S, HIGH_M = 0.05, 30.0
K = np.array([[500, 0, 320.0], [0, 500, 240], [0, 0, 1]])
DOWN = np.array([[1, 0, 0], [0, 0.5, np.sqrt(0.75)], [0, -np.sqrt(0.75), 0.5]]).T  # looks down by 60 degrees
NORMAL = DOWN @ [0, 1, 0]  # of the ground, down, in the camera's frame


def seen_from(camera_m: np.ndarray, point_m: np.ndarray) -> tuple[np.ndarray, float]:
    """Pixel, and depth, of a point on the ground; both (right, down, ahead) m of a level frame."""
    ray = DOWN @ (point_m - camera_m)
    return (K @ ray / ray[2])[:2], float(ray[2])


def homography(shift_m: np.ndarray) -> np.ndarray:
    """What the camera's ``shift_m`` between two frames does to the ground."""
    H = K @ (np.eye(3) - np.outer(DOWN @ shift_m, NORMAL) / HIGH_M) @ np.linalg.inv(K)
    return H / H[2, 2]


@pytest.mark.parametrize("flown", [(0, 0, 0), (0, 0, 6), (4, 0, -3)], ids=str)
@pytest.mark.parametrize("driven", [(0, 0, 9), (7, 0, 0), (-3, 0, -6)], ids=str)
def test_an_even_way_over_ground_is_foreseen_through_a_moving_camera(flown, driven):
    """Velocities in m/s. Seen for 1.5 s, then hidden for 2 s, in which the camera flies on."""
    flown, driven = np.array(flown, float), np.array(driven, float)
    middle = np.array([0, HIGH_M, 20.0])

    def at(k):
        return seen_from(flown * k * STEP_S, middle + driven * k * STEP_S)

    def size(k):
        return np.array([4.0, 3.0]) * 500 / at(k)[1]

    H, expected = homography(flown * STEP_S), Expected(at(-30)[0], size(-30), np.zeros(2))
    for k in range(-29, 1):
        expected.move(H, STEP_S, unseen=False)
        own = (at(k)[0] - at(k - 1)[0]) / STEP_S  # what an update would tell
        expected.seen(round(k * STEP_S * 1e9), at(k)[0], size(k), own, 0.3)
    expected.lost(0, 0)
    for _ in range(40):
        expected.move(H, STEP_S, unseen=True)
    assert np.linalg.norm(expected.place - at(40)[0]) < 0.15 * np.sqrt(size(40).prod())
    np.testing.assert_allclose(expected.size, size(40), rtol=0.1)
    as_if_even = at(0)[0] + 2.0 * (at(0)[0] - at(-20)[0])  # at the velocity of the last second, in the picture
    assert flown.any() or driven[2] <= 0 or np.linalg.norm(as_if_even - at(40)[0]) > np.sqrt(size(40).prod())


@pytest.mark.parametrize("recedes", [-3.0, 3.0])
def test_nothing_is_expected_to_vanish_or_to_fill_the_sky(recedes):
    expected = Expected(np.array([300.0, 200.0]), np.array([40.0, 30.0]), np.array([20.0, 0.0]))
    expected._recedes = recedes
    for _ in range(2000):
        expected.move(np.eye(3), STEP_S, unseen=True)
        assert SIDES_PX[0] < np.sqrt(expected.size.prod()) < SIDES_PX[1]
        assert np.isfinite(expected.place).all() and np.isfinite(expected.velocity).all()


def test_what_is_seen_again_goes_on_as_it_is_seen():
    expected = Expected(np.array([300.0, 200.0]), np.array([40.0, 30.0]), np.array([20.0, 0.0]))
    expected._recedes = 0.3
    expected.found(np.array([320.0, 210.0]), np.array([-5.0, 1.0]))
    way_px, share = expected.move(np.eye(3), 1.0, unseen=False)
    np.testing.assert_allclose(way_px, [-5, 1])
    assert share == 1 and expected.sought(0.0).recedes == 0
    expected.resize(np.array([2.0, 0.5]))
    np.testing.assert_allclose(expected.place, [630, 105.5])
    np.testing.assert_allclose(expected.velocity, [-10, 0.5])


def test_what_came_towards_the_camera_and_is_hidden_for_long_stays_a_place():
    """It would have passed the camera before it is said to be lost; then the camera turns, for minutes."""
    expected = Expected(np.array([300.0, 200.0]), np.array([40.0, 30.0]), np.array([20.0, 0.0]))
    for k in range(-30, 1):
        nearness = 1 - 0.4 * k * STEP_S
        expected.seen(round(k * STEP_S * 1e9), np.array([300.0 + 60 * k * STEP_S * nearness, 200]),
                      np.array([40.0, 30.0]) / nearness, None, 0.3)
    expected.lost(0, 4_000_000_000)
    assert (expected.size > 0).all()
    turning = np.array([[1, 0.02, 9.0], [-0.02, 1, 5.0], [3e-5, 0, 1]])
    for _ in range(6000):
        expected.move(turning, STEP_S, unseen=True)
    sought = expected.sought(300.0)
    assert np.isfinite([*sought.centre, *sought.size, *sought.velocity]).all() and (sought.size > 0).all()
    assert 0 <= sought.astray(np.array([320.0, 240.0]), np.zeros(2)) <= 4
    expected.lost(0, 4_000_000_000)
    assert np.isfinite([*expected.place, *expected.size]).all()
