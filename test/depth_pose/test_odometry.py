"""Odometry by itself: what no motion explains is not reported as one."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from depth_scenes import CAMERA, HEIGHT, WIDTH, Rendered

from uav_perception.depth_pose.odometry import Odometry
from uav_perception.depth_pose.two_view import Motion
from uav_perception.geometry import se3_inverse
from uav_perception.records import U8


def torn(gray: U8, shift_px: float, tile_px: int = 32) -> U8:
    """Every tile of the picture moved its own way: corners can be followed, but not as one scene."""
    height, width = gray.shape
    shift = np.random.default_rng(3).uniform(-shift_px, shift_px, (height // tile_px, width // tile_px, 2))
    shift = cv2.resize(shift.astype(np.float32), (width, height), interpolation=cv2.INTER_NEAREST)
    u, v = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return np.asarray(cv2.remap(gray, u + shift[..., 0], v + shift[..., 1], cv2.INTER_LINEAR,
                                borderMode=cv2.BORDER_REFLECT), np.uint8)


def test_corners_that_agree_on_no_motion_are_lost_and_the_pose_stays(flight: Rendered) -> None:
    odometry = Odometry(features=250)
    grays = [np.asarray(cv2.cvtColor(f.image, cv2.COLOR_BGR2GRAY), np.uint8) for f in flight.frames]
    for gray in grays[:8]:
        before = odometry.update(gray, CAMERA)
    assert before.motion is Motion.GENERAL and before.cur_from_prev is not None
    step = odometry.update(torn(grays[7], 8.0), CAMERA)
    assert step.motion is Motion.UNKNOWN and step.cur_from_prev is None and step.inliers == 0
    assert "agree on a motion" in step.message  # followed they were
    np.testing.assert_allclose(step.world_from_cur, before.world_from_cur, atol=5e-3)
    odometry.reset()  # as the stage does
    again = [odometry.update(gray, CAMERA) for gray in grays[8:]]
    assert again[-1].motion is Motion.GENERAL and again[-1].cur_from_prev is not None


PATCH = slice(HEIGHT // 2, 3 * HEIGHT // 4), slice(3 * WIDTH // 8, 5 * WIDTH // 8)


def on_patch(odometry: Odometry) -> int:
    """Corners that are followed on a sixteenth of the image."""
    x, y = np.floor(odometry.tracks.px.T).astype(int)
    patch = np.zeros((HEIGHT, WIDTH), bool)
    patch[PATCH] = True
    return int(patch[y, x].sum())


def test_what_moves_by_itself_is_followed_no_more_until_told_anew(flight: Rendered) -> None:
    odometry = Odometry(features=250, keyframe_px=3.0)
    grays = [np.asarray(cv2.cvtColor(f.image, cv2.COLOR_BGR2GRAY), np.uint8) for f in flight.frames]
    moving = np.zeros((HEIGHT, WIDTH), bool)
    moving[PATCH] = True
    for gray in grays[:8]:
        odometry.update(gray, CAMERA)
    assert on_patch(odometry) > 5 and len(odometry.views) > 2
    before = odometry.tracks.ids.copy()
    odometry.leave_out(moving)
    gone = np.setdiff1d(before, odometry.tracks.ids)
    assert len(gone) > 5 and on_patch(odometry) == 0
    assert odometry.newest is not None
    for view in [*odometry.views, odometry.newest]:
        assert not np.isin(gone, view.ids).any() and len(view.ids) == len(view.xy)
    first = odometry.tracks.ids.max()
    for gray in grays[8:12]:
        step = odometry.update(gray, CAMERA)
        odometry.leave_out(moving)
        assert step.cur_from_prev is not None and on_patch(odometry) == 0
    assert odometry.tracks.ids.max() > first  # new ones were sought, elsewhere
    odometry.leave_out(None)
    for gray in grays[12:]:
        odometry.update(gray, CAMERA)
    assert on_patch(odometry) > 0


def test_a_mask_of_much_of_the_picture_or_of_another_size_changes_nothing(flight: Rendered) -> None:
    """What says that a fifth of all moves is more often wrong than right, and the rest may be too little to go by."""
    fifth = np.arange(WIDTH)[None] + np.zeros((HEIGHT, 1)) < WIDTH / 5
    odometry = Odometry(features=250)
    gray = np.asarray(cv2.cvtColor(flight.frames[0].image, cv2.COLOR_BGR2GRAY), np.uint8)
    odometry.leave_out(np.ones((HEIGHT, WIDTH), bool))  # before the first frame
    odometry.update(gray, CAMERA)
    before = odometry.tracks.ids.copy()
    for mask in (np.ones((HEIGHT, WIDTH), bool), fifth, np.ones((10, 10), bool)):
        odometry.leave_out(mask)
        np.testing.assert_array_equal(odometry.tracks.ids, before)
        assert odometry.tracks.avoid is None


def test_slow_movers_bend_the_path_less_when_they_are_left_out(flight: Rendered, monkeypatch: pytest.MonkeyPatch
                                                               ) -> None:
    """What creeps along fits a slightly different motion of the camera; so much of it that it shows here."""
    monkeypatch.setattr("uav_perception.depth_pose.odometry.MOVING_MAX", 0.5)
    grays = [np.asarray(cv2.cvtColor(f.image, cv2.COLOR_BGR2GRAY), np.uint8) for f in flight.frames]
    moving = np.zeros((HEIGHT, WIDTH), bool)
    moving[HEIGHT // 3:, WIDTH // 3:2 * WIDTH // 3] = True
    errors = []
    for told in (False, True):
        odometry, found = Odometry(features=250), []
        for k, gray in enumerate(grays):
            slid = cv2.warpAffine(gray, np.array([[1, 0, 0.4 * k], [0, 1, 0]]), (WIDTH, HEIGHT),
                                  borderMode=cv2.BORDER_REFLECT)
            found.append(odometry.update(np.where(moving, slid, gray).astype(np.uint8), CAMERA).world_from_cur)
            odometry.leave_out(moving if told else None)
        true = [se3_inverse(flight.world_from_camera[0]) @ w for w in flight.world_from_camera]
        a, b = (np.array([p[:3, 3] for p in path]) for path in (found, true))
        a *= (a * b).sum() / (a * a).sum()
        errors.append(float(np.linalg.norm(a - b, axis=1).mean()))
    assert errors[1] < 0.6 * errors[0]
