"""Whether the target's tracker holds the whole target."""

from __future__ import annotations

import numpy as np

from uav_perception.track.fit import Fit, near_border

SIZE_PX = (640, 480)
WHOLE = np.array([100.0, 100, 160, 140])
PART = np.array([100.0, 100, 130, 140])  # half of it
OTHER = np.array([300.0, 100, 360, 140])


def test_a_part_that_is_known_to_be_one_is_exchanged_for_the_whole_after_some_looks() -> None:
    fit = Fit(0.3, looks=3)
    fit.begin(of_part=True)
    answers = [fit.larger(PART, [OTHER, WHOLE], SIZE_PX) for _ in range(3)]
    assert answers[:2] == [None, None]
    np.testing.assert_array_equal(answers[2], WHOLE)


def test_a_box_that_somebody_drew_around_a_part_is_left_as_it_is() -> None:
    fit = Fit(0.3, looks=3)
    assert [fit.larger(PART, [WHOLE], SIZE_PX) for _ in range(9)] == [None] * 9


def test_looks_that_fit_or_see_nothing_there_decide_nothing() -> None:
    fit = Fit(0.3, looks=2)
    fit.begin(of_part=True)
    for seen in (np.zeros((0, 4)), [OTHER], [PART - 15], np.zeros((0, 4))):
        assert fit.larger(PART, seen, SIZE_PX) is None
    assert fit.larger(PART, [WHOLE], SIZE_PX) is None  # the first of two
    assert fit.larger(WHOLE, [WHOLE + 2], SIZE_PX) is None and fit.of_part  # whole, it seems
    assert fit.larger(PART, [WHOLE], SIZE_PX) is None  # the first of two again: more of it has come out since
    for _ in range(2):
        assert fit.larger(WHOLE, [WHOLE + 2], SIZE_PX) is None
    assert not fit.of_part  # it is whole
    assert [fit.larger(PART, [WHOLE], SIZE_PX) for _ in range(5)] == [None] * 5


def test_a_detection_of_a_part_is_not_taken_for_the_whole() -> None:
    """The target, found again, still comes out from behind something, and the detector sees what is out."""
    fit = Fit(0.3, looks=2)
    fit.begin(of_part=True)
    assert [fit.larger(WHOLE, [PART], SIZE_PX) for _ in range(5)] == [None] * 5 and fit.of_part


def test_at_the_border_more_may_come_in() -> None:
    fit = Fit(0.3, looks=2)
    fit.begin(of_part=True)
    at_border = WHOLE - [95, 0, 95, 0]
    assert near_border(at_border, SIZE_PX) and near_border([600, 440, 630, 478], SIZE_PX)
    assert not near_border(WHOLE, SIZE_PX)
    assert fit.larger(at_border, [at_border], SIZE_PX) is None and fit.of_part
