"""The first depths of a run over level ground."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("embreex", reason="the renderer (extra `sim`) is not installed")

from uav_perception.config import DepthPoseConfig
from uav_perception.depth_pose.bootstrap import View, first_structure
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


@pytest.mark.parametrize("mounting_known", [True, False])
def test_level_ground_straight_below_is_told_early_where_down_is_known(mounting_known: bool) -> None:
    """From 120 m at 10 m/s, where shifting looks like turning: 4 px of parallax after 25 frames of 20 a second."""
    rng, focal = np.random.default_rng(0), 500.0
    ground = np.column_stack([rng.uniform(-75, 75, 300), rng.uniform(-55, 55, 300), np.full(300, 120.0)])
    views = []
    for k in range(26):
        seen = ground - [0.5 * k, 0.0, 0.0]
        xy = seen[:, :2] / seen[:, 2:] + rng.normal(0, 0.05 / focal, (300, 2))
        views.append(View(np.eye(3), np.zeros(3), np.arange(300), xy))
    up = np.array([0.0, 0.0, -1.0]) if mounting_known else None
    found = first_structure(views[0], views[20:25], views[25], focal, 0.35, 3.0, up)
    assert (found is not None) == mounting_known
    if found is not None:
        rho = found[1][:, 2]
        assert np.std(rho) < 0.03 * np.mean(rho)  # level
