"""The first depths of a run over level ground."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("embreex", reason="the renderer (extra `sim`) is not installed")

from uav_perception.config import DepthPoseConfig
from uav_perception.depth_pose.bootstrap import View, first_structure
from uav_perception.depth_pose.estimator import make_depth_pose
from uav_perception.geometry import se3_inverse
from uav_perception.records import CameraModel, Frame
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


@pytest.mark.parametrize(("step_m", "starts"), [(13.5, True), (1.5, False)])
def test_rough_matches_over_trees_start_a_run_where_parallax_is_ample(step_m: float, starts: bool) -> None:
    """Straight down from 40 m, crowns up to 12 m high, and corners that fit to a pixel or so."""
    rng, focal = np.random.default_rng(3), 780.0
    wood = np.column_stack([rng.uniform(-25, 25, 60), rng.uniform(-8, 20, 60), 40 - rng.uniform(0, 12, 60)])
    views = []
    for k in range(2):
        seen = wood - [0.0, step_m * k, 0.0]
        xy = seen[:, :2] / seen[:, 2:] + rng.normal(0, 0.7 / focal, (60, 2))
        views.append(View(np.eye(3), np.zeros(3), np.arange(60), xy))
    found = first_structure(views[0], [], views[1], focal, 0.35, 3.0, np.array([0.0, 0.0, -1.0]))
    assert (found is not None) == starts
    if found is not None:
        true = wood[found[0], 2]
        assert np.median(np.abs(np.log(found[1][:, 2] * true / np.median(found[1][:, 2] * true)))) < 0.05


def test_a_real_survey_of_stills_over_trees_is_followed(shared: Path) -> None:
    """Six frames straight down, 60 to 65 % overlap, by navigation 13.5 m apart along the picture's upper edge."""
    folder = shared / "data" / "depth_pose" / "uav_brighton_beach"
    with (folder / "poses.csv").open() as file:
        rows = list(csv.DictReader(file))[:6]
    stage, steps = make_depth_pose(DepthPoseConfig(camera_pitch_deg=90.0, motion_mask=False)), []
    camera = CameraModel(np.array([[780.0, 0, 639.5], [0, 780.0, 359.5], [0, 0, 1]]), np.zeros(5), 1280, 720)
    for k, row in enumerate(rows):
        image = np.asarray(cv2.imread(str(folder / "images" / row["file"].replace(".jpg", ".webp"))), np.uint8)
        stage.update(Frame(k, k * 10**8, image, camera), float(row["alt_rel"]))
        assert stage.last_step is not None
        steps.append(stage.last_step.cur_from_prev)
    assert steps[0] is None
    for step in steps[1:]:
        assert step is not None and step[1, 3] > 0.95 * np.linalg.norm(step[:3, 3]) > 0
