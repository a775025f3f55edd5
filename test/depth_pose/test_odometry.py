"""Odometry by itself: what no motion explains is not reported as one."""

from __future__ import annotations

import cv2
import numpy as np
from depth_scenes import CAMERA, Rendered

from uav_perception.depth_pose.odometry import Odometry
from uav_perception.depth_pose.two_view import Motion
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
