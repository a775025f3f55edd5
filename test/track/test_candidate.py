"""A candidate is evidence when it has been followed long enough, and none when it cannot have come to where it is."""

from __future__ import annotations

import numpy as np
import pytest

from uav_perception.track.candidate import HELD_S, OUT_S, PART_OUT_S, Candidate
from uav_perception.track.sought import Sought

SIDE, STEP_S = 30.0, 1 / 15
STANDING, WHOLE = np.zeros(2), np.full(2, SIDE)


def sought(velocity=STANDING, unseen_s=1.0):
    return Sought(np.array([200.0, 200.0]), np.full(2, SIDE), velocity, unseen_s)


@pytest.mark.parametrize("sizes", [0.2, 1.5, 2.4, 3.9])
def test_the_farther_away_the_longer_it_is_followed_before_it_counts(sizes):
    candidate, place = Candidate(), np.array([200.0 + sizes * SIDE, 200.0])
    answers = [candidate.seen(sought(unseen_s=5.0), place, WHOLE, STANDING, STEP_S) for _ in range(8)]
    waits = int(np.ceil(max(OUT_S, HELD_S * sizes) / STEP_S - 1e-9))
    assert answers == [True, *[k >= waits for k in range(1, 8)]]  # one frame alone decides nothing
    candidate.forget()
    assert not candidate.there
    candidate.seen(sought(unseen_s=5.0), place, WHOLE, STANDING, STEP_S)
    assert candidate.seen(sought(unseen_s=5.0), place, WHOLE, STANDING, STEP_S) is False


def test_a_part_is_waited_for_until_the_rest_has_come_out():
    candidate, place = Candidate(), np.array([200.0, 200.0])
    parts = [candidate.seen(sought(), place, WHOLE * [1.0, 0.5], STANDING, STEP_S) for _ in range(6)]
    assert parts == [True, *[False] * 5]
    assert candidate.seen(sought(), place, WHOLE, STANDING, STEP_S) is True  # there is the rest
    parts = [candidate.seen(sought(), place, WHOLE * [1.0, 0.5], STANDING, STEP_S) for _ in range(10)]
    assert parts[-1] is True and PART_OUT_S < 16 * STEP_S  # it stays a part


def test_who_cannot_have_come_there_is_not_the_target():
    candidate, far = Candidate(), np.array([300.0, 200.0])
    assert candidate.seen(sought(), far, WHOLE, STANDING, STEP_S) is True  # how it moves is not known yet
    assert candidate.seen(sought(), far, WHOLE, STANDING, STEP_S) is None and not candidate.there
    moving = np.array([200.0, 0.0])  # it may have set out and be on its way
    assert [candidate.seen(sought(), far, WHOLE, moving, STEP_S) for _ in range(6)][-1] is True


@pytest.mark.parametrize(("speed", "taken"), [(120.0, False), (30.0, True)])
def test_who_was_swift_does_not_turn_round(speed, taken):
    candidate, there = Candidate(), np.array([215.0, 200.0])
    was = sought(np.array([speed, 0.0]), 0.4)
    answers = [candidate.seen(was, there, WHOLE, np.array([-speed, 0.0]), STEP_S) for _ in range(2)]
    assert (answers[-1] is not None) is taken
