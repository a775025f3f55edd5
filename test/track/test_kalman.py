"""The batched filters against one written out by the book, and their geometry."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uav_perception.track import kalman
from uav_perception.track.kalman import BoxNoise

NOISE = BoxNoise(centre=0.07, size=0.12, velocity_s=1.5, acceleration=0.3, growth=0.1)
PIXELS = replace(NOISE, pixel_px=0.5)
RNG = np.random.default_rng(3)


def some_states(n: int) -> tuple[np.ndarray, np.ndarray]:
    mean = np.column_stack([RNG.uniform(50, 500, (n, 2)), RNG.uniform(10, 90, (n, 2)), RNG.normal(0, 30, (n, 2))])
    a = RNG.normal(size=(n, 6, 6))
    return mean, a @ a.transpose(0, 2, 1) + np.eye(6)


def test_update_is_the_information_form():
    """Posterior precision = prior precision + H' R^-1 H (Bar-Shalom eq. 7.2), one state at a time; what surprises
    by more than its four components account for widens the prior."""
    mean, cov = some_states(9)
    boxes = kalman.centre_to_box(mean) + np.tile(RNG.normal(0, 1, (9, 2)), 2) * np.linspace(1, 12, 9)[:, None]
    got_mean, got_cov = kalman.update(mean, cov, boxes, PIXELS)
    H = np.eye(4, 6)
    faded = []
    for k in range(9):
        w, h = mean[k, 2:4]
        R = np.diag(np.array([0.07 * w, 0.07 * h, 0.12 * w, 0.12 * h]) ** 2 + np.array([0.5, 0.5, 2, 2]) * 0.5**2)
        R_inv = np.linalg.inv(R)
        z = kalman.box_to_centre(boxes[k])[0]
        surprise = (z - mean[k, :4]) @ np.linalg.inv(cov[k, :4, :4] + R) @ (z - mean[k, :4])
        faded.append(surprise > 4)
        fade = np.full(6, max(1.0, surprise / 4))
        fade[4:] = [min(f, max(1.0, w * h * 1.5**2 / v)) for f, v in zip(fade[4:], np.diag(cov[k])[4:], strict=True)]
        prior = np.linalg.inv(np.diag(fade**0.5) @ cov[k] @ np.diag(fade**0.5))
        P = np.linalg.inv(prior + H.T @ R_inv @ H)
        x = P @ (prior @ mean[k] + H.T @ R_inv @ z)
        assert np.allclose(got_cov[k], P, rtol=1e-6, atol=1e-8)
        assert np.allclose(got_mean[k], x, rtol=1e-6)
    assert 0 < sum(faded) < 9


def test_predict_in_one_step_or_many_is_the_same():
    """White acceleration: ten steps of 0.1 s leave what one step of 1 s leaves (sizes held constant)."""
    mean, cov = some_states(4)
    one = kalman.predict(mean, cov, 1.0, NOISE)
    m, c = mean, cov
    for _ in range(10):
        m, c = kalman.predict(m, c, 0.1, NOISE)
    assert np.allclose(one[0], m) and np.allclose(one[1], c)
    assert np.array_equal(kalman.predict(mean, cov, 0.0, NOISE)[0], mean)


def test_constant_velocity_is_learnt_at_any_rate():
    for rate_hz in (2.0, 30.0):
        speed = np.array([40.0, -25.0])
        box = np.array([100.0, 300, 140, 330])
        mean, cov = kalman.initiate(box, NOISE)
        for _ in range(int(4 * rate_hz)):
            box = box + np.tile(speed / rate_hz, 2)
            mean, cov = kalman.update(*kalman.predict(mean, cov, 1 / rate_hz, NOISE), box, NOISE)
        assert np.allclose(mean[0, 4:], speed, atol=1.0), rate_hz
        assert np.allclose(kalman.centre_to_box(mean)[0], box, atol=1.0)


@given(st.floats(-0.6, 0.6), st.floats(0.7, 1.4), st.floats(-80, 80), st.floats(-80, 80), st.floats(-2e-4, 2e-4))
@settings(max_examples=60)
def test_warp_is_the_homography_and_its_derivative(angle, scale, tx, ty, perspective):
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    H = np.array([[c, -s, tx], [s, c, ty], [perspective, -perspective / 2, 1.0]])
    mean, cov = some_states(3)

    def through(p: np.ndarray) -> np.ndarray:
        q = np.append(p, 1.0) @ H.T
        return q[:2] / q[2]

    got, got_cov = kalman.warp(mean, cov, H)
    for k in range(3):
        p, v = mean[k, :2], mean[k, 4:]
        h = 1e-3
        J = np.column_stack([(through(p + h * np.eye(2)[0]) - through(p - h * np.eye(2)[0])) / (2 * h),
                             (through(p + h * np.eye(2)[1]) - through(p - h * np.eye(2)[1])) / (2 * h)])
        assert np.allclose(got[k, :2], through(p), rtol=1e-9)
        assert np.allclose(got[k, 4:], J @ v, rtol=1e-5, atol=1e-5)
        assert np.allclose(got_cov[k, :2, :2], J @ cov[k, :2, :2] @ J.T, rtol=1e-4, atol=1e-4)
        assert got[k, 2] / mean[k, 2] == pytest.approx(np.sqrt(abs(np.linalg.det(J))), rel=1e-5)


@given(st.lists(st.tuples(st.floats(0, 500), st.floats(0, 500), st.floats(2, 300), st.floats(2, 300)), min_size=1,
                max_size=20), st.floats(0, 5))
@settings(max_examples=50)
def test_covariances_stay_positive(boxes, dt):
    mean, cov = kalman.initiate([[400, 400, 440, 420]], NOISE)
    for x, y, w, h in boxes:
        mean, cov = kalman.predict(mean, cov, dt, NOISE)
        mean, cov = kalman.update(mean, cov, [[x, y, x + w, y + h]], NOISE)
        assert (np.linalg.eigvalsh(cov[0]) > 0).all() and (mean[0, 2:4] > 0).all()


def test_boxes_and_centres_are_inverse():
    boxes = np.array([[10.0, 20, 30, 60], [0, 0, 1, 1]])
    assert np.allclose(kalman.centre_to_box(kalman.box_to_centre(boxes)), boxes)
