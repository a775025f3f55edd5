"""The stage as others see it: motion, depth, scale and pose on rendered truth, and what it says of bad input."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from depth_scenes import CAMERA, Rendered, with_image

from uav_perception.config import DepthPoseConfig
from uav_perception.depth_pose import DepthPoseEstimator
from uav_perception.depth_pose.estimator import DepthPose, make_depth_pose
from uav_perception.depth_pose.motion_mask import MotionMask
from uav_perception.errors import ModelError
from uav_perception.geometry import se3_inverse, so3_log
from uav_perception.records import CameraModel, DepthMap, DepthPoseResult, Frame, RelativeDepth, Scale

HEIGHT_M = 10.0


def stage(**values: object) -> DepthPose:
    defaults = {"depth_model": "none", "pose_model": "none", "features": 250, "camera_pitch_deg": 50.0}
    return make_depth_pose(DepthPoseConfig(**{**defaults, **values}))  # type: ignore[arg-type]


def run(stage: DepthPose, flight: Rendered, height: float | None = None) -> list[DepthPoseResult]:
    return [stage.update(f, height) for f in flight.frames]


def test_it_is_what_the_pipeline_expects() -> None:
    assert isinstance(stage(), DepthPoseEstimator)


def test_motion_direction_and_rotation_on_truth_without_metres(flight: Rendered) -> None:
    results = run(stage(), flight)
    for k in range(6, len(results)):
        ego = results[k].ego_motion
        assert ego is not None and ego.scale is Scale.UNIT and ego.covariance is not None
        truth = flight.motion(k)
        assert np.degrees(np.linalg.norm(so3_log(ego.to_from[:3, :3].T @ truth[:3, :3]))) < 0.15
        cosine = ego.to_from[:3, 3] @ truth[:3, 3] / np.linalg.norm(ego.to_from[:3, 3]) / np.linalg.norm(truth[:3, 3])
        assert np.degrees(np.arccos(cosine)) < 8
        assert isinstance(results[k].depth, RelativeDepth)
        assert results[k].pose is not None and results[k].pose.scale is Scale.UNIT


def test_height_above_ground_makes_depth_motion_and_pose_metric(flight: Rendered) -> None:
    results = run(stage(), flight, HEIGHT_M)
    last, k = results[-1], len(results) - 1
    assert isinstance(last.depth, DepthMap) and last.ego_motion is not None and last.pose is not None
    assert last.ego_motion.scale is Scale.METRIC and last.pose.scale is Scale.METRIC
    ratio = np.linalg.norm(last.ego_motion.to_from[:3, 3]) / np.linalg.norm(flight.motion(k)[:3, 3])
    assert ratio == pytest.approx(1.0, abs=0.05)
    v = last.depth.valid
    assert np.mean(np.abs(last.depth.depth[v] - flight.depth[k][v]) / flight.depth[k][v]) < 0.1
    # odom -> base_link: body axes of the first frame, x forward
    travelled = flight.world_from_camera[k][:3, 3] - flight.world_from_camera[0][:3, 3]
    np.testing.assert_allclose(last.pose.position_m, travelled, atol=0.12 * np.linalg.norm(travelled))
    assert last.pose.parent == "odom" and last.pose.child == "base_link"


def test_scale_arrival_and_loss_bump_the_reset_counter(flight: Rendered) -> None:
    s = stage(scale_hold_s=0.3)
    counters, states = [], []
    for k, f in enumerate(flight.frames):
        r = s.update(f, HEIGHT_M if k < 8 else None)
        assert r.pose is not None
        counters.append(r.pose.reset_counter)
        states.append(r.pose.scale)
        if r.pose.scale is Scale.UNIT:
            assert not isinstance(r.depth, DepthMap)
    assert Scale.METRIC in states and states[-1] is Scale.UNIT and states[0] is Scale.UNIT
    assert counters[-1] == 3 and counters == sorted(counters)  # first depth, metres, metres lost


def test_turning_on_the_spot_reports_rotation_and_no_translation(turning: Rendered) -> None:
    for k, r in enumerate(run(stage(), turning)):
        if k:
            assert r.ego_motion is not None
            assert np.linalg.norm(r.ego_motion.to_from[:3, 3]) == 0.0
            truth = turning.motion(k)
            assert np.degrees(np.linalg.norm(so3_log(r.ego_motion.to_from[:3, :3].T @ truth[:3, :3]))) < 0.1
            assert r.ego_motion.covariance is not None and r.ego_motion.covariance[0, 0] > 0


def test_standing_still_stays_where_it_is(flight: Rendered) -> None:
    s = stage()
    for k in range(6):
        s.update(flight.frames[k])
    before = s.update(flight.frames[6]).pose
    assert before is not None
    for k in range(5):
        r = s.update(with_image(flight.frames[6], flight.frames[6].image, 10**10 // 5 + k * 10**7))
        assert r.pose is not None and "standstill" in r.status
        np.testing.assert_allclose(r.pose.position_m, before.position_m, atol=2e-3)


def test_missing_intrinsics_are_said_and_nothing_is_invented(flight: Rendered) -> None:
    s = stage()
    r = s.update(Frame(0, 5, flight.frames[0].image, None))
    assert (r.depth, r.ego_motion, r.pose, r.prev_to_cur) == (None, None, None, None)
    assert "intrinsics" in r.status


def test_blank_frames_are_left_out_and_the_run_goes_on(flight: Rendered) -> None:
    s = stage()
    last = None
    for k, f in enumerate(flight.frames):
        blank = k in (7, 8)
        r = s.update(with_image(f, np.zeros_like(f.image)) if blank else f)
        if blank:
            assert r.ego_motion is None and "blank" in r.status
        last = r
    assert last is not None and last.pose is not None and last.pose.reset_counter == 1  # when depth was first known
    assert last.ego_motion is not None


def test_an_exposure_jump_is_not_motion(flight: Rendered) -> None:
    s = stage()
    for k, f in enumerate(flight.frames[:10]):
        r = s.update(with_image(f, cv2.convertScaleAbs(f.image, alpha=0.5, beta=10)) if k >= 6 else f)
        if k >= 4:
            assert r.ego_motion is not None
            error = so3_log(r.ego_motion.to_from[:3, :3].T @ flight.motion(k)[:3, :3])
            assert np.degrees(np.linalg.norm(error)) < 0.25


def test_stamps_going_back_are_refused_until_the_clock_has_clearly_begun_anew(flight: Rendered) -> None:
    s = stage()
    for f in flight.frames[:5]:
        s.update(f)
    straggler = s.update(flight.frames[2])
    assert straggler.ego_motion is None and straggler.pose is None and "stamp" in straggler.status
    after = s.update(flight.frames[5])
    assert after.ego_motion is not None and after.pose is not None
    before = after.pose.reset_counter
    again = [s.update(f) for f in flight.frames[:5]]
    assert again[0].pose is None and again[1].pose is None
    assert again[2].pose is not None and again[2].pose.reset_counter == before + 1


def test_another_image_size_starts_a_new_run(flight: Rendered) -> None:
    s = stage()
    for f in flight.frames[:4]:
        s.update(f)
    before = s.resets
    K = CAMERA.K.copy()
    K[:2] *= 0.5
    small = CameraModel(K, np.zeros(5), 128, 96)
    results = [s.update(Frame(f.seq, f.stamp_ns, cv2.resize(f.image, (128, 96)), small)) for f in flight.frames[4:8]]
    assert results[0].ego_motion is None and results[0].pose is not None
    assert results[0].pose.reset_counter == before + 1
    assert results[-1].ego_motion is not None
    assert results[-1].pose is not None and results[-1].pose.covariance is not None
    assert results[-1].pose.covariance[0, 0] >= 1.0  # what happened at the change is unknown


def test_a_jump_to_another_place_does_not_become_a_motion(flight: Rendered) -> None:
    s = stage()
    before = [s.update(f) for f in flight.frames[:6]][-1].pose
    assert before is not None
    rng = np.random.default_rng(0)
    other = cv2.GaussianBlur(rng.integers(0, 255, flight.frames[0].image.shape, dtype=np.uint8), (0, 0), 2)
    r = s.update(with_image(flight.frames[6], other))
    assert r.ego_motion is None and "anew" in r.status
    assert r.pose is not None and r.pose.reset_counter == before.reset_counter + 1
    s.update(flight.frames[7])
    recovered = [s.update(f) for f in flight.frames[8:]]
    assert recovered[-1].ego_motion is not None


def test_flow_is_the_motion_of_the_picture(flight: Rendered) -> None:
    results = run(stage(), flight)
    k = len(results) - 1
    flow = results[k].flow_px
    assert flow is not None and flow.shape == (192, 256, 2)
    from uav_perception.depth_pose.products import rigid_flow

    truth = rigid_flow(flight.depth[k], CAMERA, flight.motion(k))
    assert np.median(np.linalg.norm(flow - truth, axis=2)) < 0.5
    mask = results[k].motion_mask
    assert mask is not None and mask.shape == (192, 256) and mask.mean() < 0.1


def test_models_that_are_not_there_are_an_error() -> None:
    with pytest.raises(ModelError):
        make_depth_pose(DepthPoseConfig(depth_model="/nowhere/depth.onnx"))


def test_prev_to_cur_maps_ground_points(flight: Rendered) -> None:
    results = run(stage(), flight)
    h = results[8].prev_to_cur
    assert h is not None
    from uav_perception.geometry import backproject, project

    px = np.array([[60.0, 150.0], [128.0, 120.0], [200.0, 160.0]])
    z = [flight.depth[7][int(v), int(u)] for u, v in px]
    there = project(backproject(px, z, CAMERA.K) @ flight.motion(8)[:3, :3].T + flight.motion(8)[:3, 3], CAMERA.K)
    mapped = np.column_stack([px, np.ones(3)]) @ h.T
    error = np.linalg.norm(mapped[:, :2] / mapped[:, 2:] - there, axis=1)
    assert np.median(error) < 1.0
    assert se3_inverse(flight.motion(8)).shape == (4, 4)


def test_the_mask_of_an_earlier_frame_takes_no_corners_of_one_that_has_none(flight: Rendered,
                                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    moving = np.zeros((CAMERA.height_px, CAMERA.width_px), bool)
    moving[100:120, 100:130] = True
    monkeypatch.setattr(MotionMask, "__call__", lambda self, *given: moving)
    tested = stage()
    for frame in flight.frames[:10]:
        tested.update(frame)
    assert tested.odometry.tracks.avoid is not None
    monkeypatch.setattr(DepthPose, "_dense", lambda self, *given: (None, None))
    result = tested.update(flight.frames[10])
    assert result.ego_motion is not None and result.motion_mask is None
    assert tested.odometry.tracks.avoid is None
