"""The first depths of a run over level ground with much traffic."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("embreex", reason="the renderer (extra `sim`) is not installed")

from uav_perception.config import DepthPoseConfig
from uav_perception.depth_pose.estimator import make_depth_pose
from uav_perception.geometry import se3_inverse
from uav_perception.sim.flight import Flight, FlightOptions


def test_trucks_that_drive_ahead_do_not_set_the_ground_on_edge() -> None:
    """They move along the way, as points at other depths would, and fit best to a motion that turns, over a wall."""
    flight = Flight("street", FlightOptions(seed=1011))
    stage = make_depth_pose(DepthPoseConfig(camera_pitch_deg=flight.spec.look_down_deg, motion_mask=False))
    before = None
    for k, f in zip(range(9), flight, strict=False):
        stage.update(f.frame, f.height_agl_m)
        if k == 8:
            assert before is not None and stage.last_step is not None and stage.last_step.cur_from_prev is not None
            true = (se3_inverse(f.world_from_camera) @ before)[:3, 3]
            found = stage.last_step.cur_from_prev[:3, 3]
            assert found @ true > 0.95 * np.linalg.norm(found) * np.linalg.norm(true)
        before = f.world_from_camera
