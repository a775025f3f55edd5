from __future__ import annotations

import numpy as np
import pytest

from uav_perception.errors import InputError
from uav_perception.records import Detections, Frame
from uav_perception.track.intake import Intake

S = 10**9


def frame(stamp_s: float, grey: int = 0, side: int = 32) -> Frame:
    return Frame(0, round(stamp_s * S), np.full((side, side, 3), grey, np.uint8))


def detections(stamp_s: float) -> Detections:
    return Detections(round(stamp_s * S), np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))


@pytest.fixture
def intake() -> Intake:
    new = Intake(backwards_s=1.0, history_s=0.5)
    for k in range(11):
        new.take(frame(10 + 0.1 * k, grey=k))
    return new


def test_frames_are_kept_for_as_long_as_detections_may_be_late(intake: Intake) -> None:
    assert intake.newest().stamp_ns == 11 * S
    assert intake.at(round(10.5 * S)) is not None and intake.at(round(10.4 * S)) is None
    intake.reset()
    with pytest.raises(InputError, match="before the first frame"):
        intake.newest()


@pytest.mark.parametrize(("new", "late", "another"), [
    (frame(11.1), False, ""), (frame(10.2), True, ""), (frame(9.9), False, "backwards by 1.1 s"),
    (frame(11.1, side=64), False, "from 32x32 to 64x64 px"), (frame(10.9, side=64), False, "backwards by 0.1 s"),
])
def test_a_late_frame_is_refused_and_another_stream_told(intake: Intake, new: Frame, late: bool, another: str) -> None:
    assert intake.refuses(new) is late and intake.refused["frame out of order"] == int(late)
    if not late:
        why = intake.another_stream(new)
        assert another in why if another else not why


@pytest.mark.parametrize(("stamp_s", "look_s", "why"), [
    (11.0, 10.9, ""), (10.6, None, ""), (10.9, 10.9, "not newer than the last"), (10.4, None, "too old")])
def test_detections_are_used_once_and_not_too_late(intake: Intake, stamp_s: float, look_s: float | None, why: str
                                                   ) -> None:
    given = detections(stamp_s)
    used = intake.usable(given, None if look_s is None else round(look_s * S))
    assert (used is given) == (not why) and (not why or why in next(iter(intake.refused)))


def test_detections_of_a_frame_to_come_wait_for_it_and_a_frozen_picture_has_none(intake: Intake) -> None:
    ahead = detections(11.1)
    assert intake.usable(ahead, None) is None
    intake.take(frame(11.1, grey=10))  # the picture of 11.0 again
    assert intake.usable(None, None) is None and intake.refused["detections of a frozen picture"] == 1
    assert intake.usable(None, None) is None
