"""A candidate is evidence when it has been followed long enough, and none when it cannot have come to where it is."""

from __future__ import annotations

import numpy as np
import pytest

from uav_perception.track.candidate import HELD_S, Candidate
from uav_perception.track.sought import Sought

SIDE, STEP_S = 30.0, 1 / 15
STANDING = np.zeros(2)


def sought(velocity=STANDING, unseen_s=1.0):
    return Sought(np.array([200.0, 200.0]), np.full(2, SIDE), velocity, unseen_s)


@pytest.mark.parametrize("sizes", [0.2, 1.5, 2.4])
def test_the_farther_away_the_longer_it_is_followed_before_it_counts(sizes):
    candidate, place = Candidate(), np.array([200.0 + sizes * SIDE, 200.0])
    answers = [candidate.seen(sought(unseen_s=2.0), place, STANDING, STEP_S) for _ in range(8)]
    waits = int(np.ceil(HELD_S * sizes / STEP_S))
    assert answers == [True, *[k >= waits for k in range(1, 8)]]  # one frame alone decides nothing
    candidate.forget()
    assert not candidate.there
    candidate.seen(sought(unseen_s=2.0), place, STANDING, STEP_S)
    assert candidate.seen(sought(unseen_s=2.0), place, STANDING, STEP_S) is (waits <= 1)


def test_who_cannot_have_come_there_is_not_the_target():
    candidate, far = Candidate(), np.array([300.0, 200.0])
    assert candidate.seen(sought(), far, STANDING, STEP_S) is True  # how it moves is not known yet
    assert candidate.seen(sought(), far, STANDING, STEP_S) is None and not candidate.there
    moving = np.array([200.0, 0.0])  # it may have set out and be on its way
    assert [candidate.seen(sought(), far, moving, STEP_S) for _ in range(6)][-1] is True


@pytest.mark.parametrize(("speed", "taken"), [(120.0, False), (30.0, True)])
def test_who_was_swift_does_not_turn_round(speed, taken):
    candidate, there = Candidate(), np.array([215.0, 200.0])
    was = sought(np.array([speed, 0.0]), 0.4)
    answers = [candidate.seen(was, there, np.array([-speed, 0.0]), STEP_S) for _ in range(2)]
    assert (answers[-1] is not None) is taken
