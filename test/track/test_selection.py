"""Which track the operator means."""

from __future__ import annotations

import numpy as np
import pytest

from uav_perception.errors import InputError
from uav_perception.records import Track, TrackState
from uav_perception.track import selection


def _track(track_id: int, box: tuple[float, ...], state: TrackState = TrackState.TRACKED, score: float = 0.5) -> Track:
    return Track(5, track_id, state, np.array(box, np.float32), np.zeros(2, np.float32), score, 0, 5)


BUS = _track(1, (0, 0, 100, 50))
MAN = _track(2, (40, 20, 50, 40), score=0.9)
GONE = _track(3, (40, 20, 45, 30), TrackState.LOST, score=0.99)
NEW = _track(4, (200, 20, 220, 40), TrackState.TENTATIVE, score=0.95)
ALL = (BUS, MAN, GONE, NEW)


def test_by_id_finds_what_is_in_view_and_says_what_else_there_is() -> None:
    assert selection.by_id(ALL, 2) is MAN
    for wrong in (3, 7):
        with pytest.raises(InputError, match=rf"track id {wrong}.*1, 2, 4"):
            selection.by_id(ALL, wrong)
    with pytest.raises(InputError, match="none"):
        selection.by_id((), 1)


def test_by_box_takes_the_best_covered_and_none_that_is_lost() -> None:
    assert selection.by_box(ALL, np.array([38.0, 18, 50, 42]), 0.3) is MAN
    assert selection.by_box(ALL, np.array([2.0, 0, 98, 52]), 0.3) is BUS
    assert selection.by_box(ALL, np.array([300.0, 200, 320, 220]), 0.3) is None
    assert selection.by_box((GONE,), GONE.xyxy_px.astype(float), 0.3) is None


def test_by_point_takes_the_smallest_under_it() -> None:
    assert selection.by_point(ALL, 42, 25, (320, 240)) is MAN
    assert selection.by_point(ALL, 10, 10, (320, 240)) is BUS
    with pytest.raises(InputError, match="track under the point"):
        selection.by_point(ALL, 150, 10, (320, 240))
    for x, y in ((-1, 5), (320, 5), (5, 240), (float("nan"), 5)):
        with pytest.raises(InputError, match="inside the 320x240"):
            selection.by_point(ALL, x, y, (320, 240))


def test_surest_is_a_confirmed_one() -> None:
    assert selection.surest(ALL) is MAN
    assert selection.surest((GONE, NEW)) is None
