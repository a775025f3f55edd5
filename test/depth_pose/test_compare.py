"""How one picture flows to another, how that looks from it, and by how much both differ."""

from __future__ import annotations

import cv2
import numpy as np
from depth_scenes import PASSED, passing

from uav_perception.depth_pose.compare import dense_flow, displaced, most


def test_flow_is_that_of_the_thing_on_it_and_none_beside_it() -> None:
    (now, moves), (before, _) = passing(46), passing(43)
    grey, grey_before = (np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)) for picture in (now, before))
    flow = dense_flow(grey, grey_before)
    inside = cv2.erode(moves.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    outside = cv2.dilate(moves.astype(np.uint8), np.ones((25, 25), np.uint8)) == 0
    np.testing.assert_allclose(np.median(flow[inside], axis=0), [-3, 0], atol=0.3)
    np.testing.assert_allclose(np.median(flow[outside], axis=0), [0, 0], atol=0.1)


def test_what_is_displaced_is_seen_where_it_went_and_the_rim_goes_on() -> None:
    x, y = np.full((96, 128), 3.0, np.float32), np.full((96, 128), -2.0, np.float32)
    seen, half = displaced(x, y, PASSED, PASSED[..., 0])
    np.testing.assert_array_equal(seen[2:, :-3], PASSED[:-2, 3:])
    np.testing.assert_array_equal(half, seen[..., 0])
    np.testing.assert_array_equal(seen[:2], np.tile(seen[2], (2, 1, 1)))


def test_most_is_that_of_the_three_colours() -> None:
    np.testing.assert_array_equal(most(PASSED), PASSED.max(axis=2))
