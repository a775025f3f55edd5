"""Dense depth set right, over a rendered scene with exact depth and motion."""

from __future__ import annotations

import cv2
import numpy as np
from depth_scenes import CAMERA, HEIGHT, WIDTH, Rendered
from hypothesis import given
from hypothesis import strategies as st

from uav_perception.config import DepthPoseConfig
from uav_perception.depth_pose.estimator import make_depth_pose
from uav_perception.depth_pose.fusion import plane_inverse
from uav_perception.depth_pose.parallax import Parallax, View, best, corrected
from uav_perception.depth_pose.products import depth_line, source_pixels
from uav_perception.geometry import se3_exp, se3_inverse
from uav_perception.records import F32, F64, U8, CameraModel

NOW, THEN = 12, 8
INNER = (slice(20, -20), slice(20, -20))


def grey(flight: Rendered, k: int) -> U8:
    return np.asarray(cv2.cvtColor(flight.frames[k].image, cv2.COLOR_BGR2GRAY), np.uint8)


def pose(flight: Rendered, k: int) -> F64:
    """Frame k from frame ``NOW``."""
    return se3_inverse(flight.world_from_camera[k]) @ flight.world_from_camera[NOW]


def error(depth: F32, flight: Rendered) -> float:
    return float(np.abs(np.log(depth / flight.depth[NOW]))[INNER].mean())


def bent(flight: Rendered) -> F32:
    """Its depth as a network may draw it: edges washed out, and up to a seventh off in slow waves."""
    log = cv2.GaussianBlur(np.log(flight.depth[NOW]), (0, 0), 6)
    wave = np.sin(np.arange(WIDTH) / 25)[None] * np.cos(np.arange(HEIGHT) / 30)[:, None]
    return np.exp(log + 0.15 * wave).astype(np.float32)


def test_wrong_depth_is_set_right_and_right_depth_stays(flight: Rendered) -> None:
    views = [View(grey(flight, k), pose(flight, k)) for k in (THEN, 15)]
    before = error(bent(flight), flight)
    one = error(corrected(bent(flight), grey(flight, NOW), views[:1], CAMERA, None, None), flight)
    both = error(corrected(bent(flight), grey(flight, NOW), views, CAMERA, None, None), flight)
    assert one < 0.45 * before and both < one
    assert error(corrected(flight.depth[NOW], grey(flight, NOW), views, CAMERA, None, None), flight) < 0.01


def test_another_exposure_does_not_matter(flight: Rendered) -> None:
    darker = np.asarray(cv2.convertScaleAbs(grey(flight, THEN), alpha=0.7, beta=10), np.uint8)
    found = corrected(bent(flight), grey(flight, NOW), [View(darker, pose(flight, THEN))], CAMERA, None, None)
    assert error(found, flight) < 0.5 * error(bent(flight), flight)


def test_what_nothing_can_tell_stays(flight: Rendered) -> None:
    """Blank pictures, none, and one from the same place."""
    blank, wrong = np.full((HEIGHT, WIDTH), 120, np.uint8), bent(flight)
    for views, seen in (([View(blank, pose(flight, THEN))], blank), ([], grey(flight, NOW)),
                        ([View(grey(flight, NOW), np.eye(4))], grey(flight, NOW))):
        np.testing.assert_allclose(corrected(wrong, seen, views, CAMERA, None, None), wrong, rtol=2e-3)


def test_what_moves_and_where_it_was_is_left_alone(flight: Rendered) -> None:
    """A patch that goes the way the scene goes, but farther, looks as if it were nearer."""
    patch = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 255, (36, 36), dtype=np.uint8), (0, 0), 1.5)
    now, then, moves, moved = grey(flight, NOW), grey(flight, THEN), *np.zeros((2, HEIGHT, WIDTH), bool)
    u, v = source_pixels((1.3 / flight.depth[NOW]).astype(np.float32), CAMERA, pose(flight, THEN))
    was = round(float(u[108, 128])), round(float(v[108, 128]))
    for image, mask, (x, y) in ((now, moves, (128, 108)), (then, moved, was)):
        image[y - 18:y + 18, x - 18:x + 18] = patch
        mask[y - 18:y + 18, x - 18:x + 18] = True

    def change(told: bool) -> float:
        view = View(then, pose(flight, THEN), moved if told else None)
        found = corrected(flight.depth[NOW], now, [view], CAMERA, None, moves if told else None)
        return float(np.abs(np.log(found / flight.depth[NOW]))[moves].mean())

    assert change(told=True) < 0.03 and change(told=False) > 0.15


def test_nothing_is_set_below_ground_that_is_known(flight: Rendered) -> None:
    """The picture then is that of a place farther off."""
    ground = np.array([0.0, 0.11, 0.045])
    level = (1 / plane_inverse(ground, HEIGHT, WIDTH)).astype(np.float32)
    lower = (1.35 * level).astype(np.float32)
    motion = pose(flight, THEN)
    u, v = source_pixels(1 / lower, CAMERA, motion)
    then = grey(flight, THEN)
    now = np.asarray(cv2.remap(then, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT), np.uint8)
    free = corrected(level, now, [View(then, motion)], CAMERA, None, None)
    assert np.median((free / level)[INNER]) > 1.15
    held = corrected(level, now, [View(then, motion)], CAMERA, ground, None)
    assert (held / level)[INNER].max() < 1.001


def test_the_view_with_enough_shift_is_taken_unless_it_shows_another_place(flight: Rendered) -> None:
    depth, picture = flight.depth[NOW], grey(flight, NOW)
    steps = {share: View(picture, se3_exp([share * float(np.median(depth)), 0, 0, 0, 0, 0]))
             for share in (0.001, 0.03, 0.06, 0.3)}  # shift by 200 / 256 of it, in widths
    assert best(list(steps.values()), depth, CAMERA) == [steps[0.06]]
    away = View(picture, se3_exp([0, 0, 0, 0, 1.0, 0]))
    assert best([away], depth, CAMERA) == [] == best([], depth, CAMERA)
    lens = CameraModel(CAMERA.K, np.array([-0.2, 0.05, 0, 0, 0]), WIDTH, HEIGHT)
    assert best(list(steps.values()), depth, lens) == []


@given(st.lists(st.floats(-0.3, 0.3), min_size=6, max_size=6))
def test_the_line_of_depth_is_the_derivative_of_where_things_are_seen(twist: list[float]) -> None:
    rho = (0.5 + 0.3 * np.sin(np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) / 999)).astype(np.float32)
    motion, step = se3_exp(twist), np.float32(1e-2)
    there = source_pixels(rho, CAMERA, motion)
    line = depth_line(rho, *there, CAMERA, motion)
    farther, nearer = (source_pixels(rho * np.exp(sign * step), CAMERA, motion) for sign in (-1, 1))
    for axis in (0, 1):
        slope = (nearer[axis] - farther[axis]) / (2 * step)
        np.testing.assert_allclose(line[axis], slope, rtol=2e-2, atol=0.1)


def test_pictures_of_another_size_are_not_compared(flight: Rendered) -> None:
    parallax, depth = Parallax(), bent(flight)
    parallax.past.keep(0, (np.zeros((48, 64), np.uint8), None))
    np.testing.assert_array_equal(parallax(10**8, grey(flight, NOW), depth, CAMERA, None, None), depth)


def test_the_stage_sets_depth_right_unless_it_is_told_not_to(flight: Rendered) -> None:
    errors = []
    for asked in (True, False):
        stage = make_depth_pose(DepthPoseConfig(camera_pitch_deg=50.0, depth_model="none", parallax=asked))
        for frame in flight.frames[:NOW + 1]:
            result = stage.update(frame, 10.0)
        assert result.depth is not None
        errors.append(error(result.depth.depth, flight))
    assert errors[0] < 0.95 * errors[1]  # of what little is wrong
