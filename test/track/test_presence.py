"""Does the refinement go on seeing the target?"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from uav_perception.track.presence import KNOWN, OVER_S, Presence

STEP_NS = 40_000_000


def presence(*answers: float) -> Presence:
    """After these, one a frame."""
    seen = Presence(0.9, 0)
    for k, answer in enumerate(answers):
        seen.seen(answer, (k + 1) * STEP_NS)
    return seen


def test_what_is_not_seen_for_a_while_is_gone_and_a_few_frames_decide_nothing() -> None:
    gone = [presence(*[1.0] * 20, *[0.0] * k).gone(False) for k in range(30)]
    assert not any(gone[:5]) and gone[round(2 * OVER_S * 1e9) // STEP_NS:] == [True] * 10
    assert not presence(*[1.0, 1.0, 0.0] * 20).gone(False)
    assert presence(*[1.0] * 20, *[0.0] * 20, *[1.0] * 20).gone(False) is False


def test_it_is_known_when_it_was_last_plain() -> None:
    assert presence(*[1.0] * 7, *[0.6] * 9).plain_ns == 7 * STEP_NS
    assert presence(0.2, 0.3).plain_ns == 0


def test_who_rests_at_once_is_gone_where_it_is_not_plain() -> None:
    assert presence(*[1.0] * 9, 0.8).gone(stopped=True) and not presence(*[1.0] * 9, 0.8).gone(stopped=False)
    assert not presence(*[1.0] * 10).gone(stopped=True)


@given(st.lists(st.floats(0, 0.89), max_size=60), st.booleans())
def test_things_that_the_refinement_never_knew_are_not_judged_by_it(answers: list[float], stopped: bool) -> None:
    assert not presence(*[1.0] * (KNOWN - 1), *answers).gone(stopped)
    assert not presence(*answers).sure


def test_who_has_been_plain_for_some_time_is_sure() -> None:
    assert presence(*[0.99] * 30).sure and not presence(1.0).sure
    assert not presence(*[0.99] * 30, *[0.3] * 8).sure
