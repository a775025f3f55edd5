from __future__ import annotations

import numpy as np
import pytest
from depth_scenes import CAMERA, Rendered

from uav_perception.config import DepthPoseConfig
from uav_perception.depth_pose.estimator import make_depth_pose
from uav_perception.depth_pose.sequence import depth_of, lay_out, observe, run_scale, smooth
from uav_perception.geometry import se3
from uav_perception.records import Scale


@pytest.mark.parametrize("mounting_known", [True, False])
def test_metres_and_ground_are_found_anew_from_the_smoothed_points(flight: Rendered, mounting_known: bool) -> None:
    stage = make_depth_pose(DepthPoseConfig(camera_pitch_deg=50.0, expect_level=mounting_known, depth_model="none"))
    heights = {f.stamp_ns: float("nan") if f.seq == 9 else 10.0 for f in flight.frames}
    sightings = list(observe(stage, flight.frames, heights))
    kept = sightings[9].metres_per_unit
    assert kept is not None
    smooth(sightings, 200.0)
    for s in sightings:
        s.points[:, 2:] *= 2.0  # as if it had halved the run: the metres of before are worth nothing then
        if s.world_from_camera is not None:
            s.world_from_camera = se3(s.world_from_camera[:3, :3], s.world_from_camera[:3, 3] / 2)
    lay_out(sightings, stage, CAMERA)
    state, factor = run_scale(sightings)
    assert state is Scale.METRIC and sightings[9].metres_per_unit == kept  # no height, nothing to go by
    depth = depth_of(sightings, 12, CAMERA, 0.015)
    assert depth is not None
    seen = np.isfinite(depth)
    assert np.median(depth[seen] * factor / flight.depth[12][seen]) == pytest.approx(1.0, abs=0.05)
    ground = sightings[12].ground
    assert (ground is not None) == mounting_known
    if ground is not None:  # straight below the middle of the picture's lower edge
        row = np.argmin(np.abs(flight.depth[12][-1] - np.median(flight.depth[12][-1])))
        told = 1.0 / (ground @ [(row + 0.5) / CAMERA.width_px, (CAMERA.height_px - 0.5) / CAMERA.height_px, 1.0])
        assert told * factor == pytest.approx(float(flight.depth[12][-1, row]), rel=0.05)
