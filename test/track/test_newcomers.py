"""Who of the things that came into sight is the target: the one that can have come there, and that looks like one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uav_perception.records import Track, TrackState
from uav_perception.track.newcomers import LOOKED_AT_S, LOOKS, Newcomers, strays
from uav_perception.track.paint import Paint
from uav_perception.track.pyramid import Pyramid
from uav_perception.track.refine import BoxRefinement, Measured
from uav_perception.track.sought import Sought

SIZE, STEP_S = np.array([40.0, 24.0]), 0.1
START, VELOCITY = np.array([200.0, 200.0]), np.array([60.0, 0.0])
PICTURE = Pyramid(np.zeros((480, 640, 3), np.uint8))


class Sees(BoxRefinement):
    """Sees an object everywhere; ``present`` says how surely the target."""

    def __init__(self, present=0.99):
        self.present = present

    def measure(self, picture, centre, size):
        return Measured(np.concatenate([centre - size / 2, centre + size / 2]), np.full(4, 0.1), self.present)


def sought(t, velocity=VELOCITY):
    """A target last seen at START with this velocity, t seconds ago, predicted as the target tracker does it."""
    return Sought(START + velocity * t, SIZE, velocity, t)


def newcomer(centre, velocity, track_id=7, size=SIZE):
    box = np.concatenate([centre - size / 2, centre + size / 2])
    return Track(0, track_id, TrackState.TRACKED, box, velocity, 1.0, 2, 0)


def turned(t, acceleration):
    """Place and velocity after an even acceleration since START."""
    return START + VELOCITY * t + acceleration * t**2 / 2, VELOCITY + acceleration * t


@given(st.floats(0.3, 3.0), st.tuples(st.floats(-40, 40), st.floats(-40, 40)))
def test_an_even_turn_is_no_straying_and_every_other_place_is(t, acceleration):
    place, velocity = turned(t, np.array(acceleration))
    assert sought(t).astray(place, velocity) < 1e-3
    beside = place + np.array([0.0, 1.5 * np.sqrt(SIZE.prod())])
    assert sought(t).astray(beside, velocity) == pytest.approx(1.5 / (0.5 + 0.5 * t), abs=1e-3)


def test_what_has_come_nearer_than_expected_may_be_farther_on_its_way():
    """It has moved by more pixels than one that stayed as far away; what is smaller is not excused so."""
    place, velocity = turned(1.0, np.zeros(2))
    beside, side = place + np.array([0.0, 30.0]), float(np.sqrt(SIZE.prod()))
    as_expected = sought(1.0).astray(beside, velocity)
    assert sought(1.0).astray(beside, velocity, 1.5 * side) == pytest.approx(as_expected / 1.5)
    assert sought(1.0).astray(beside, velocity, 0.5 * side) == as_expected
    large = newcomer(beside, velocity, size=1.5 * SIZE)
    assert strays(sought(1.0), large) == pytest.approx(as_expected / 1.5, rel=1e-5)


def looks(judge, tracks_at, times=8, first_s=1.0):
    """Ids found in so many looks at what ``tracks_at`` (seconds) gives."""
    found = [judge.found(PICTURE, sought(first_s + k * STEP_S), tracks_at(first_s + k * STEP_S)) for k in range(times)]
    return [None if f is None else f.id for f in found]


def test_who_comes_out_where_the_target_can_be_is_taken_after_a_few_looks():
    acceleration = np.array([-20.0, 25.0])
    found = looks(Newcomers(Sees(), Paint()), lambda t: [newcomer(*turned(t, acceleration))])
    first = found.index(7)
    assert first + 1 >= LOOKS and first * STEP_S >= LOOKED_AT_S - 1e-9 and set(found[first:]) == {7}
    assert set(looks(Newcomers(Sees(0.01), Paint()), lambda t: [newcomer(*turned(t, acceleration))])) == {None}


@pytest.mark.parametrize("wrong", ["stands", "is far", "is large", "is a line", "comes in at the border"])
def test_who_cannot_be_the_target_is_not_taken(wrong):
    def tracks(t):
        place, velocity = turned(t, np.zeros(2))
        if wrong == "stands":  # a moving target would have had to stop at once
            return [newcomer(START + np.array([140.0, 40.0]), np.zeros(2))]
        if wrong == "is far":
            return [newcomer(place + np.array([0.0, 150.0]), velocity)]
        if wrong == "is large":
            return [newcomer(place, velocity, size=3 * SIZE)]
        if wrong == "is a line":
            return [newcomer(place, velocity, size=np.array([640.0, 1.5]))]
        return [newcomer(np.array([20.0, place[1]]), velocity)]

    judge = Newcomers(Sees(), Paint())
    assert set(looks(judge, tracks)) == {None}
    if wrong == "stands":
        assert len(judge.dismissed(tracks(2.0))) == 1 and judge.unlikely(tracks(2.0)[0])
        judge.forget()
        assert judge.dismissed(tracks(2.0)) == [] and not judge.unlikely(tracks(2.0)[0])


def test_of_two_that_may_be_the_target_neither_is_taken():
    def two(t):
        (a, v), (b, w) = turned(t, np.array([0.0, 15.0])), turned(t, np.array([0.0, -15.0]))
        return [newcomer(a, v, 7), newcomer(b, w, 8)]

    assert set(looks(Newcomers(Sees(), Paint()), two)) == {None}
    judge = Newcomers(Sees(), Paint())
    assert looks(judge, lambda t: two(t)[:1] if t < 1.65 else two(t))[-2:] == [7, None]


def test_a_look_that_misses_one_does_not_make_it_unknown():
    judge = Newcomers(Sees(), Paint())
    seen = looks(judge, lambda t: [newcomer(*turned(t, np.zeros(2)))] if round(t / STEP_S) % 2 else [], times=9)
    assert 7 in seen
