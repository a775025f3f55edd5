"""Camera motion on pictures warped by a known homography, and its bookkeeping."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from uav_perception.track.camera_motion import CameraMotion, CameraStep, MotionHistory, local, mapped

RNG = np.random.default_rng(0)
WORLD = cv2.GaussianBlur(RNG.integers(0, 255, (900, 1200, 3)).astype(np.uint8), (0, 0), 2.5)
WORLD = cv2.normalize(WORLD, None, 0, 255, cv2.NORM_MINMAX)
NOTHING = np.zeros((0, 4))


def view(image_from_world: np.ndarray, size: tuple[int, int] = (640, 480)) -> np.ndarray:
    return cv2.warpPerspective(WORLD, image_from_world, size)


def motion(angle: float, scale: float, tx: float, ty: float, perspective: float = 0.0) -> np.ndarray:
    """About the middle of a 640x480 image."""
    to_middle = np.array([[1, 0, -320.0], [0, 1, -240], [0, 0, 1]])
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    return np.linalg.inv(to_middle) @ np.array([[c, -s, tx], [s, c, ty], [perspective, 0, 1]]) @ to_middle


def worst_px(got: np.ndarray, true: np.ndarray) -> float:
    grid = np.array([[x, y, 1.0] for x in (60, 320, 580) for y in (40, 240, 440)])
    a, b = grid @ got.T, grid @ true.T
    return float(np.linalg.norm(a[:, :2] / a[:, 2:] - b[:, :2] / b[:, 2:], axis=1).max())


BASE = np.array([[1, 0, -250.0], [0, 1, -200], [0, 0, 1]])


@pytest.mark.parametrize("H", [motion(0, 1, 0, 0), motion(0.02, 1.01, 6, -4), motion(-0.05, 0.97, -20, 11),
                               motion(0.01, 1.0, 4, 3, 5e-5), motion(0, 1, 70, -45)], ids=str)
def test_known_homography_is_found(H):
    camera = CameraMotion(400, 110)
    assert not camera.step(view(BASE), NOTHING).reliable  # the first frame has no motion
    step = camera.step(view(H @ BASE), NOTHING)
    assert step.reliable and worst_px(step.cur_from_prev, H) < 1.0


def test_moving_objects_are_no_background():
    """A third of the picture moves on its own; told so or not, the background decides."""
    H = motion(0, 1, 5, 2)
    before, after = view(BASE), view(H @ BASE)
    patch = WORLD[600:800, 900:1100]
    before[100:300, 100:300] = patch
    after[125:325, 60:260] = patch
    for told in (np.array([[100.0, 100, 300, 300]]), NOTHING):
        camera = CameraMotion(400, 110)
        camera.step(before, told)
        step = camera.step(after, told)
        assert step.reliable and worst_px(step.cur_from_prev, H) < 1.0


@pytest.mark.parametrize("picture", [np.zeros((480, 640, 3), np.uint8), np.full((480, 640, 3), 255, np.uint8)])
def test_blank_pictures_say_unknown(picture):
    camera = CameraMotion(400, 110)
    camera.step(view(BASE), NOTHING)
    for image in (picture, picture, view(BASE)):
        step = camera.step(image, NOTHING)
        assert not step.reliable and np.array_equal(step.cur_from_prev, np.eye(3))


def test_another_scene_is_not_believed():
    camera = CameraMotion(400, 110)
    camera.step(view(BASE), NOTHING)
    other = cv2.GaussianBlur(np.random.default_rng(9).integers(0, 255, (480, 640, 3)).astype(np.uint8), (0, 0), 2.5)
    assert not camera.step(other, NOTHING).reliable


def test_frozen_picture_is_no_motion():
    camera = CameraMotion(400, 110)
    camera.step(view(BASE), NOTHING)
    step = camera.step(view(BASE), NOTHING)
    assert step.reliable and worst_px(step.cur_from_prev, np.eye(3)) < 0.05


@given(st.floats(-6, 6), st.floats(-6, 6), st.floats(-0.2, 0.2), st.floats(0.5, 1.5), st.floats(100, 540),
       st.floats(220, 460))
@settings(max_examples=60)
def test_what_a_homography_does_near_a_place(ahead_m, aside_m, turn, pitch, x_px, y_px):
    """The camera flies over level ground, 30 m high: small steps by finite differences, sizes by depth."""
    K = np.array([[500, 0, 320.0], [0, 500, 240], [0, 0, 1]])
    down, turning = (cv2.Rodrigues(np.array(r))[0] for r in ([pitch - np.pi / 2, 0, 0], [0, turn, 0]))
    normal = down @ [0, 0, 1.0]  # of the ground in the camera's frame (x right, y down, z ahead): away from the camera
    shift = -turning @ down @ [aside_m, ahead_m, 0]
    H = K @ (turning + np.outer(shift, normal) / 30) @ np.linalg.inv(K)
    ray = np.linalg.inv(K) @ [x_px, y_px, 1]
    assume(normal @ ray > 0.2)
    here = 30 / (normal @ ray) * ray
    there = turning @ here + shift
    assume(there[2] > 5)
    (place,), (steps,), (larger,) = local(H / H[2, 2], np.array([[x_px, y_px]]))
    np.testing.assert_allclose(place, (K @ there / there[2])[:2], rtol=1e-6, atol=1e-6)
    assert larger == pytest.approx(here[2] / there[2], rel=1e-6)
    around = np.array([[x_px, y_px]]) + 1e-3 * np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])
    to = mapped(H, around)
    np.testing.assert_allclose(steps.T, [(to[0] - to[1]) / 2e-3, (to[2] - to[3]) / 2e-3], rtol=1e-4, atol=1e-6)


def history(shifts: list[float], reliable: bool = True) -> MotionHistory:
    """Frames at 0, 100, 200, ... ns; each step shifts x by its number."""
    h = MotionHistory()
    h.append(0, CameraStep(np.eye(3), False, 0))
    for k, shift in enumerate(shifts, 1):
        h.append(100 * k, CameraStep(np.array([[1, 0, shift], [0, 1, 0], [0, 0, 1.0]]), reliable, 50))
    return h


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=12), st.integers(0, 1200), st.integers(0, 1200))
@settings(max_examples=80)
def test_history_adds_up_between_any_two_stamps(shifts, a, b):
    a, b = sorted((min(a, 100 * len(shifts)), min(b, 100 * len(shifts))))
    H, reliable = history(shifts).between(a, b)
    positions = np.concatenate([[0], np.cumsum(shifts)])
    at = np.interp([a, b], 100 * np.arange(len(positions)), positions)
    assert H[0, 2] == pytest.approx(at[1] - at[0], abs=1e-9) and reliable


def test_history_outside_is_unknown_and_forgets():
    h = history([5, 5, 5])
    assert h.between(0, 400)[1] is False  # the future
    h.forget_before(150)
    assert h.between(0, 300)[1] is False
    H, reliable = h.between(150, 300)
    assert H[0, 2] == pytest.approx(7.5) and reliable
    assert history([5, 5], reliable=False).between(0, 200)[1] is False
    assert history([5]).between(70, 70) [1] is True
