"""Views of a picture and the fusion of what they show."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uav_perception.detect.views import VIEWS, from_view, fuse, view_of

GROUP = np.array([0, 1, 1], np.int32)


@pytest.mark.parametrize("view", range(VIEWS))
@given(box=st.tuples(st.integers(0, 40), st.integers(0, 20), st.integers(1, 12), st.integers(1, 8)))
def test_a_box_found_in_a_view_comes_back_to_where_it_is(view: int, box: tuple[int, int, int, int]) -> None:
    x, y, w, h = box
    image = np.zeros((30, 60, 3), np.uint8)
    image[y : y + h, x : x + w] = 255
    shown = view_of(image, view)
    rows, columns = np.nonzero(shown[..., 0])
    seen = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], np.float32)
    visible = [x, y, min(x + w, 60), min(y + h, 30)]
    np.testing.assert_array_equal(from_view(seen, view, 60, 30), [visible])
    assert shown.flags.c_contiguous


def found(*rows: tuple[list[float], float, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return (np.array([r[0] for r in rows], np.float32).reshape(-1, 4), np.array([r[1] for r in rows], np.float32),
            np.array([r[2] for r in rows], np.int32))


def test_boxes_of_two_views_become_their_weighted_mean() -> None:
    xyxy, score, class_id = fuse([found(([0, 0, 10, 10], 0.9, 1)), found(([0, 0, 12, 10], 0.3, 2))], GROUP, 0.5, 10)
    np.testing.assert_allclose(xyxy, [[0, 0, 10.5, 10]])
    np.testing.assert_allclose(score, [0.6])
    assert class_id.tolist() == [1]


def test_what_one_view_saw_alone_counts_less_than_what_all_saw() -> None:
    agreed, alone = ([0, 0, 10, 10], 0.5, 1), ([50, 0, 60, 10], 0.8, 1)
    xyxy, score, _ = fuse([found(agreed), found(agreed, alone)], GROUP, 0.5, 10)
    assert xyxy[:, 0].tolist() == [0, 50]
    np.testing.assert_allclose(score, [0.5, 0.4])


def test_other_groups_neighbours_and_second_boxes_of_a_view_stay_apart() -> None:
    first = found(([0, 0, 10, 10], 0.9, 0), ([0, 0, 10, 10], 0.8, 1), ([8, 0, 18, 10], 0.7, 1))
    xyxy, score, class_id = fuse([first, first], GROUP, 0.5, 10)
    assert class_id.tolist() == [0, 1, 1] and xyxy[:, 0].tolist() == [0, 0, 8]
    np.testing.assert_allclose(score, [0.9, 0.8, 0.7])
    doubled = found(([0, 0, 10, 10], 0.9, 1), ([0, 0, 10, 11], 0.6, 1))  # one object, a view must not count twice
    np.testing.assert_allclose(fuse([doubled, found()], GROUP, 0.5, 10)[1], [0.45])


def test_nothing_seen_and_the_limit() -> None:
    xyxy, score, class_id = fuse([found(), found()], GROUP, 0.5, 10)
    assert xyxy.shape == (0, 4) and len(score) == 0 and class_id.dtype == np.int32
    many = found(*(([20.0 * i, 0, 20.0 * i + 10, 10], 0.1 * (i + 1), 1) for i in range(5)))
    np.testing.assert_allclose(fuse([many], GROUP, 0.5, 2)[1], [0.5, 0.4])
