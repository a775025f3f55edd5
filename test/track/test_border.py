"""Boxes at the picture's border: what is cut is known to be cut."""

from __future__ import annotations

import numpy as np
import pytest

from uav_perception.geometry import box_iou, clip_boxes
from uav_perception.track import border, kalman
from uav_perception.track.kalman import BoxNoise

NOISE = BoxNoise(centre=0.07, size=0.12, velocity_s=1.5, acceleration=0.3, growth=0.2, pixel_px=0.5)
VIEW = np.array([0.0, 0, 640, 480])


def test_view_is_the_image_and_what_a_detector_draws_beyond_it():
    assert border.view_of((640, 480), np.zeros((0, 4))).tolist() == [0, 0, 640, 480]
    assert border.view_of((640, 480), np.array([[-7.0, 5, 20, 20], [600, 400, 650, 470]])).tolist() == [-7, 0, 650, 480]


def test_visible_part():
    boxes = np.array([[-10.0, 20, 30, 60], [600, 460, 660, 500], [50, 50, 70, 90], [-50, 0, -10, 20]])
    assert np.allclose(border.visible(boxes, VIEW), [[15, 40, 30, 40], [620, 470, 40, 20], [60, 70, 20, 40],
                                                     [-5, 10, -10, 20]])
    assert np.allclose(border.visible(boxes, border.EVERYWHERE), kalman.box_to_centre(boxes))


def test_cut_edges_and_their_doubt():
    boxes = np.array([[-10.0, 20, 30, 60], [0.5, 100, 40, 120], [5, 100, 40, 120], [600, 460, 640, 480]])
    assert border.cut(boxes, VIEW).tolist() == [[True, False, False, False], [True, False, False, False],
                                                [False] * 4, [False, False, True, True]]
    edges = np.linalg.inv(border.FROM_EDGES)
    for box, cov in zip(boxes, border.doubt(boxes, VIEW), strict=True):
        longer = max(box[2] - box[0], box[3] - box[1])
        assert np.allclose(edges @ cov @ edges.T, np.diag(border.cut(box[None], VIEW)[0] * longer**2))
    assert not border.doubt(boxes, border.EVERYWHERE).any()


def test_a_sliver_is_completed_beyond_the_border_only():
    boxes = np.array([[100.0, 0, 120, 5], [635, 50, 640, 90], [100, 100, 120, 105], [0, 60, 640, 70], [0, 0, 5, 20]])
    want = [[100, -15, 120, 5], [635, 50, 675, 90], [100, 100, 120, 105], [0, 60, 640, 70], [-15, 0, 5, 20]]
    assert np.allclose(border.completed(boxes, VIEW), want)


@pytest.mark.parametrize("way", [1, -1])
def test_what_drives_in_or_out_keeps_its_size_and_speed(way):
    """A car of 60x30 px crosses the left border at 120 px/s, seen at 20 Hz as a detector sees it: cut."""
    starts = np.arange(40) * 6.0 - 60 + 3
    boxes = np.array([[x, 100, x + 60, 130] for x in starts[::way]])
    seen = clip_boxes(boxes, 640, 480)
    states = {}
    for name, view in (("cut", VIEW), ("whole", border.EVERYWHERE)):
        mean, cov = kalman.initiate(seen[:1], NOISE, view)
        fits = []
        for box in seen[1:]:
            mean, cov = kalman.predict(mean, cov, 0.05, NOISE)
            shown = clip_boxes(kalman.centre_to_box(mean), 640, 480)
            fits.append(float(box_iou(shown, box[None])[0, 0]) if box[2] - box[0] > 6 else 1.0)
            mean, cov = kalman.update(mean, cov, box[None], NOISE, view)
        states[name] = min(fits[2:]), mean[0, 2], mean[0, 4]
    assert states["cut"][0] > 0.7 and states["cut"][0] > states["whole"][0] + 0.05
    assert states["cut"][1] == pytest.approx(60, rel=0.15) and states["cut"][2] == pytest.approx(120 * way, rel=0.15)
