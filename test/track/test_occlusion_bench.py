"""The occlusions that the benchmark of the lock draws: of a target's whole way, and told truly."""

from __future__ import annotations

import numpy as np

from bench._hidden import HIDDEN, MAX_S, MIN_S, Footage, _gaps, _shown_until, drawn_cases

RNG = np.random.default_rng(1)


def test_a_drawn_cover_hides_the_target_for_as_long_as_is_said():
    ground, n = RNG.integers(90, 110, (240, 320, 3)).astype(np.uint8), 105
    left = 20.0 + 2.5 * np.arange(n)
    box = np.stack([left, np.full(n, 100.0), left + 24, np.full(n, 116.0)], axis=1)
    images = [ground.copy() for _ in range(n)]
    for image, (x1, y1, x2, y2) in zip(images, box.astype(int), strict=True):
        image[y1:y2, x1:x2] = (20, 20, 240)
    stamps = [round(k * 1e9 / 15) for k in range(n)]
    footage = Footage("car", stamps, [lambda i=i: i for i in images], [np.eye(3)] * n, box, np.ones(n, bool),
                      [np.array([[5.0, 5, 20, 15]])] * n)
    cases = list(drawn_cases(footage))
    assert cases
    for case in cases:
        hidden = case.visibility <= HIDDEN
        assert case.hidden == (np.flatnonzero(hidden)[0], np.flatnonzero(hidden)[-1])
        assert MIN_S <= hidden.sum() / 15 <= MAX_S and case.visibility[0] == case.visibility[-1] == 1
        for image, (x1, y1, x2, y2), share in zip(case.images, case.box.astype(int), case.visibility, strict=True):
            red = (image[y1:y2, x1:x2] == (20, 20, 240)).all(axis=2).mean()
            assert abs(red - share) < 0.15


def test_what_is_put_elsewhere_at_a_stroke_is_no_occlusion():
    t = np.arange(80) / 20
    slid = np.concatenate([np.ones(20), [0.6], np.zeros(30), np.ones(29)])
    assert list(_gaps(slid, t, MIN_S)) == [(21, 51)]
    assert list(_gaps(slid[::-1], t, MIN_S)) == [(29, 59)]
    put = np.concatenate([np.ones(20), np.zeros(30), np.ones(30)])
    assert list(_gaps(put, t, MIN_S)) == []


def test_a_case_ends_before_its_target_is_hidden_anew():
    out = np.concatenate([np.ones(5), np.zeros(20), [0.3, 0.6, 0.8], np.ones(20)])
    assert _shown_until(out, 25) == len(out)
    dips = np.concatenate([out, [0.4, 0.2], np.ones(5)])
    assert _shown_until(dips, 25) == len(dips)
    again = np.concatenate([out, [0.75, 0.4, 0.05, 0.0], np.ones(5)])
    assert _shown_until(again, 25) == len(out) + 1
    assert _shown_until(np.zeros(30), 25) == 30
