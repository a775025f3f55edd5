"""Boxes are read from bytes by our own code: it must agree with the message library on every message."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uav_perception.camera.bagfile import typestore
from uav_perception.errors import BagError
from uav_perception.offline import messages as msg

TEXT = st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), max_size=9)
BOX = st.tuples(*[st.floats(-2000, 2000, width=32)] * 4, TEXT, TEXT, st.floats(0, 1))


@settings(max_examples=40)
@given(rows=st.lists(BOX, max_size=5), frame=TEXT, little=st.booleans(), stamp_ns=st.integers(0, 2**31 * 10**9 - 1))
def test_boxes_from_bytes_are_those_of_the_message(rows, frame, little, stamp_ns):
    boxes = np.array([r[:4] for r in rows]).reshape(-1, 4)
    message = msg.boxes(boxes, [r[4] for r in rows], [r[5] for r in rows], [r[6] for r in rows], stamp_ns, frame)
    data = typestore().serialize_cdr(message, msg.BOXES, little_endian=little)
    stamp, (corners, ids, names, scores) = msg.read_boxes(data)
    assert stamp == stamp_ns
    assert ids == [r[4] for r in rows] and names == [r[5] for r in rows] and scores.tolist() == [r[6] for r in rows]
    np.testing.assert_allclose(corners, boxes, atol=1e-9)


def test_the_surest_of_several_results_is_taken_and_none_means_sure():
    message = msg.boxes(np.array([[0, 0, 2, 2], [1, 1, 3, 3]]), ["a", "b"], ["car", "bus"], [0.4, 0.7], 5, "camera")
    first, second = message.detections
    first.results.append(second.results[0])
    second.results.clear()
    _, (_, ids, names, scores) = msg.read_boxes(bytes(typestore().serialize_cdr(message, msg.BOXES)))
    assert (ids, names, scores.tolist()) == (["a", "b"], ["bus", ""], [0.7, 1.0])


def test_every_shortened_message_is_an_error_of_one_line():
    message = msg.boxes(np.array([[0, 0, 2, 2], [1, 1, 3, 3]]), ["1", "2"], ["car", "bus"], [0.4, 0.7], 5, "camera")
    data = bytes(typestore().serialize_cdr(message, msg.BOXES))
    for length in range(len(data) - 2):  # the last text's end may be missing
        with pytest.raises(BagError):
            msg.read_boxes(data[:length])
