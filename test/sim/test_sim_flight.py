"""Truth of rendered flights is checked by geometry, against the pictures themselves."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

pytest.importorskip("embreex", reason="the renderer (extra `sim`) is not installed")

from uav_perception.errors import InputError
from uav_perception.geometry import backproject, se3_inverse
from uav_perception.sim.actors import CLASS_NAMES
from uav_perception.sim.flight import SCENES, Flight, FlightOptions, SimFrame

SMALL = FlightOptions(width_px=240, height_px=180, fps=5, seed=5, exposure_s=0.0, noise=0.0)


@pytest.fixture(scope="module")
def frames() -> list[SimFrame]:
    flight = iter(Flight("roundabout", SMALL))
    return [next(flight) for _ in range(3)]


def _reproject(now: SimFrame, before: SimFrame) -> np.ndarray:
    """Where each pixel of ``now`` lies in ``before``, from depth and poses alone (double precision)."""
    camera = now.frame.camera
    assert camera is not None
    h, w = now.depth.depth.shape
    u, v = np.meshgrid(np.arange(w), np.arange(h))
    rays = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(camera.K).T
    points = rays * now.depth.depth[..., None].astype(np.float64)
    m = se3_inverse(before.world_from_camera) @ now.world_from_camera
    p = (points @ m[:3, :3].T + m[:3, 3]) @ camera.K.T
    return p[..., :2] / p[..., 2:]


def test_depth_and_pose_reproduce_the_other_frame(frames: list[SimFrame]) -> None:
    before, now = frames[1], frames[2]
    where = _reproject(now, before).astype(np.float32)
    warped = cv2.remap(before.frame.image, where[..., 0], where[..., 1], cv2.INTER_LINEAR)
    h, w = now.id_mask.shape
    still = cv2.dilate(((now.id_mask > 0) | (before.id_mask > 0)).astype(np.uint8), np.ones((9, 9))) == 0
    usable = (
        still
        & now.depth.valid
        & (where[..., 0] > 1)
        & (where[..., 1] > 1)
        & (where[..., 0] < w - 2)
        & (where[..., 1] < h - 2)
    )
    assert usable.mean() > 0.4
    error = np.abs(warped.astype(float) - now.frame.image).mean(-1)
    unwarped = np.abs(before.frame.image.astype(float) - now.frame.image).mean(-1)
    assert np.median(error[usable]) < 4.0
    assert error[usable].mean() < 0.6 * unwarped[usable].mean()  # geometry explains most of what changed
    shifted = cv2.remap(before.frame.image, where[..., 0] + 2, where[..., 1], cv2.INTER_LINEAR)
    off = np.abs(shifted.astype(float) - now.frame.image).mean(-1)
    assert error[usable].mean() < 0.7 * off[usable].mean()  # and two pixels off would show


def test_flow_is_depth_and_pose_outside_movers(frames: list[SimFrame]) -> None:
    now = frames[2]
    h, w = now.id_mask.shape
    grid = np.stack(np.meshgrid(np.arange(w), np.arange(h)), -1)
    rigid = grid - _reproject(now, frames[1])
    static = (now.id_mask == 0) & now.depth.valid
    np.testing.assert_allclose(now.flow_px[static], rigid[static], atol=0.02)
    assert np.isnan(frames[0].flow_px).all()


def test_movers_flow_differs_from_the_rigid_flow(frames: list[SimFrame]) -> None:
    now = frames[2]
    h, w = now.id_mask.shape
    rigid = np.stack(np.meshgrid(np.arange(w), np.arange(h)), -1) - _reproject(now, frames[1])
    residual = np.hypot(*np.moveaxis(now.flow_px - rigid, -1, 0))
    assert residual[now.id_mask > 0].max() > 1.0


def test_speed_is_that_of_who_drives_and_walks_there() -> None:
    flight = Flight("street", SMALL)
    pictures = flight.frames()
    first, now = next(pictures), next(pictures)
    assert not first.speed_m_s.any() and not now.speed_m_s[now.id_mask == 0].any()
    seen = {int(k): now.speed_m_s[now.id_mask == k] for k in np.unique(now.id_mask[now.id_mask > 0])}
    speeds = {actor.id: abs(actor.speed_m_s) * (actor.path is not None) for actor in flight.crowd.actors}
    for k, pixels in seen.items():
        np.testing.assert_allclose(pixels, speeds[k], atol=0.4, rtol=0.1)  # curves, brakes
    assert any(speeds[k] > 0.8 for k in seen) and any(speeds[k] == 0 for k in seen)


def test_boxes_enclose_the_id_mask_exactly(frames: list[SimFrame]) -> None:
    now = frames[2]
    assert len(now.object_id) == len(set(now.object_id.tolist())) > 3
    for one, box, full, visibility in zip(now.object_id, now.xyxy_px, now.full_xyxy_px, now.visibility, strict=True):
        y, x = np.nonzero(now.id_mask == one)
        if len(x) == 0:
            assert visibility == 0 and not box.any()
            continue
        np.testing.assert_array_equal(box, [x.min(), y.min(), x.max() + 1, y.max() + 1])
        assert 0 < visibility <= 1
        assert (full[:2] <= box[:2]).all() and (full[2:] >= box[2:]).all()
    assert set(now.class_id.tolist()) <= set(range(len(CLASS_NAMES)))


def test_depth_and_pose_put_the_ground_where_it_is(frames: list[SimFrame]) -> None:
    flight, now = Flight("roundabout", SMALL), frames[2]
    camera = now.frame.camera
    assert camera is not None
    v, u = np.nonzero((now.id_mask == 0) & now.depth.valid)
    world = backproject(np.stack([u, v], 1), now.depth.depth[v, u], camera.K) @ now.world_from_camera[:3, :3].T
    world += now.world_from_camera[:3, 3]
    above = world[:, 2] - flight.place.world.ground.height_m(world[:, 0], world[:, 1])
    assert np.quantile(np.abs(above), 0.4) < 0.03  # most is bare ground, the rest stands on it
    assert above.min() > -0.1
    x, y, z = now.world_from_camera[:3, 3]
    assert now.height_agl_m == pytest.approx(z - float(flight.place.world.ground.height_m(x, y)))


def test_equal_seeds_are_equal_bit_for_bit(frames: list[SimFrame]) -> None:
    again = Flight("roundabout", SMALL).frames(skip=2)
    third = next(again)
    np.testing.assert_array_equal(third.frame.image, frames[2].frame.image)
    np.testing.assert_array_equal(third.depth.depth, frames[2].depth.depth)
    np.testing.assert_array_equal(third.xyxy_px, frames[2].xyxy_px)
    assert third.frame.stamp_ns == frames[2].frame.stamp_ns == frames[0].frame.stamp_ns + 400_000_000
    other = next(iter(Flight("roundabout", FlightOptions(width_px=240, height_px=180, fps=5, seed=6))))
    assert (other.frame.image != frames[0].frame.image).mean() > 0.5


def test_rolling_shutter_bends_and_motion_blur_smears() -> None:
    fast = {"width_px": 160, "height_px": 120, "fps": 10.0, "seed": 1, "noise": 0.0, "trajectory": "survey"}
    sharp, rolling, blurred = (
        list(zip(Flight("street", FlightOptions(**fast, **extra)), range(2), strict=False))[1][0]  # type: ignore[arg-type]
        for extra in ({"exposure_s": 0.0}, {"exposure_s": 0.0, "readout_s": 0.08}, {"exposure_s": 0.08})
    )
    assert (
        np.abs(rolling.depth.depth[60] - sharp.depth.depth[60]).mean()
        < np.abs(rolling.depth.depth[2] - sharp.depth.depth[2]).mean()
    )
    detail = [cv2.Laplacian(f.frame.image, cv2.CV_32F).var() for f in (sharp, blurred)]
    assert detail[1] < 0.8 * detail[0]


def test_followed_target_disappears_under_a_bridge_and_comes_back() -> None:
    flight = Flight("underpass", FlightOptions(width_px=96, height_px=72, fps=2, seed=0, exposure_s=0.0))
    assert flight.target is not None
    seen = []
    for frame, _ in zip(flight, range(28), strict=False):
        row = np.flatnonzero(frame.object_id == flight.target.id)
        seen.append(float(frame.visibility[row[0]]) if len(row) else -1.0)
    hidden = [i for i, v in enumerate(seen) if 0 <= v < 0.1]
    assert hidden and any(v > 0.8 for v in seen[: hidden[0]]) and any(v > 0.8 for v in seen[hidden[-1] :])


@pytest.mark.parametrize("name", ["avenue", "field", "junction", "park", "town"])  # the others are used elsewhere
def test_every_place_renders(name: str) -> None:
    assert name in SCENES
    frame = next(iter(Flight(name, FlightOptions(width_px=64, height_px=48, seed=1))))
    assert frame.depth.valid.mean() > 0.5 and frame.frame.image.std() > 3


def test_as_many_people_come_as_are_asked_for() -> None:
    few, many = (Flight("plaza", FlightOptions(width_px=64, height_px=48, seed=1, walkers=n)) for n in (0, 300))
    assert not [a for a in few.crowd.actors if a.kind == "person"]
    assert len([a for a in many.crowd.actors if a.kind == "person"]) >= 300


def test_people_are_hot_in_thermal() -> None:
    hot = next(iter(Flight("plaza", FlightOptions(width_px=320, height_px=240, seed=1, thermal=True, noise=0.0))))
    person = np.isin(hot.id_mask, hot.object_id[hot.class_id == 0])
    assert person.any()
    assert hot.frame.image[person].mean() > hot.frame.image[hot.id_mask == 0].mean() + 20


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"fps": 0.0}, "fps"),
        ({"look_down_deg": 5.0}, "look-down"),
        ({"altitude_m": 500.0}, "altitude"),
        ({"trajectory": "loop"}, "trajectory"),
        ({"width_px": 4}, "width"),
        ({"walkers": -1}, "walkers"),
    ],
)
def test_bad_options_are_named(values: dict[str, float], named: str) -> None:
    with pytest.raises(InputError, match=named):
        FlightOptions(**values)  # type: ignore[arg-type]


def test_unknown_scene_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match="junction"):
        Flight("moon")
