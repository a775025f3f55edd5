"""What moves by itself, over a rendered scene with exact depth and motion."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from depth_scenes import CAMERA, Rendered

from uav_perception.depth_pose.motion_mask import NEARER, PX, MaskNetwork, MotionMask, near_moving, residual_motion
from uav_perception.depth_pose.products import source_pixels
from uav_perception.engine import TensorSpec
from uav_perception.errors import ModelError
from uav_perception.geometry import se3_inverse
from uav_perception.records import F32, Bool


def masks(flight: Rendered, speed_px: float) -> tuple[list[Bool | None], list[Bool]]:
    """A patch goes over the picture by ``speed_px`` a frame; what is said of each frame, and the truth."""
    patch = np.random.default_rng(1).integers(0, 255, (24, 32, 3), dtype=np.uint8)
    patch = cv2.GaussianBlur(patch, (0, 0), 1.5)
    mask, found, truths = MotionMask(), [], []
    for k, frame in enumerate(flight.frames):
        if k:
            mask.move(flight.motion(k))
        image, truth = frame.image.copy(), np.zeros(frame.image.shape[:2], bool)
        x = round(60 + speed_px * k)
        image[80:104, x:x + 32], truth[80:104, x:x + 32] = patch, True
        found.append(mask(frame.stamp_ns, image, flight.depth[k], CAMERA))
        truths.append(truth)
    return found, truths


@pytest.mark.parametrize("speed_px", [4.0, 7.0])
def test_what_moves_is_masked_and_nothing_else(flight: Rendered, speed_px: float) -> None:
    found, truths = masks(flight, speed_px)
    pairs = [(f, t) for f, t in zip(found, truths, strict=True) if f is not None]
    both, either = sum((f & t).sum() for f, t in pairs), sum((f | t).sum() for f, t in pairs)
    assert len(pairs) >= 4 and both / either > 0.6


def test_a_resting_scene_is_not_masked_even_if_depth_is_a_little_wrong(flight: Rendered) -> None:
    mask = MotionMask()
    for k, frame in enumerate(flight.frames):
        if k:
            mask.move(flight.motion(k))
        found = mask(frame.stamp_ns, frame.image, flight.depth[k] * np.float32(1.03), CAMERA)
    assert found is not None and found.mean() < 0.005


def test_after_a_reset_nothing_is_said_until_enough_was_seen(flight: Rendered) -> None:
    mask = MotionMask()
    for k, frame in enumerate(flight.frames[:15]):
        if k == 13:
            mask.reset()
        found = mask(frame.stamp_ns, frame.image, flight.depth[k], CAMERA)
        assert (found is None) == (k < 11 or k >= 13)


def test_places_on_and_beside_what_moves_are_told_from_those_away_from_it() -> None:
    mask = np.zeros((100, 200), bool)
    mask[40:60, 100:140] = True
    uv = np.array([[120, 50], [98.5, 50], [95, 50], [120, 61.5], [120, 66], [199.9, 99.9], [200, 100]]) / [200, 100]
    assert near_moving(uv, mask).tolist() == [True, True, False, True, False, False, False]


class _Everything:
    """An engine that sees everything move, and remembers what it was shown."""

    def __init__(self, channels: int = MaskNetwork.CHANNELS) -> None:
        self.inputs = (TensorSpec("seen", (1, channels, None, None), np.float32),)
        self.outputs = (TensorSpec("moving", (1, 1, None, None), np.float32),)
        self.shown: list[tuple[int, ...]] = []

    def infer(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.shown.append(feeds["seen"].shape)
        return {"moving": np.ones((1, 1, *feeds["seen"].shape[2:]), np.float32)}


def test_a_network_is_asked_at_its_step_and_its_answer_has_the_wanted_size(flight: Rendered) -> None:
    engine = _Everything()
    mask, found = MotionMask(network=MaskNetwork(engine)), None
    for k, frame in enumerate(flight.frames):
        if k:
            mask.move(flight.motion(k))
        h, w = frame.image.shape[:2]
        found = mask(frame.stamp_ns, frame.image, flight.depth[k], CAMERA, (2 * w, 2 * h + 1))
    assert found is not None and found.shape == (2 * h + 1, 2 * w) and found.all()
    assert engine.shown[0][2] % 32 == engine.shown[0][3] % 32 == 0 and engine.shown[0][2] - h < 32
    assert mask.asks_network
    asked, mask.careful = len(engine.shown), False
    mask.move(np.eye(4))
    again = mask(flight.frames[-1].stamp_ns + 33_000_000, flight.frames[-1].image, flight.depth[-1], CAMERA)
    assert again is not None and not again.all() and len(engine.shown) == asked


def test_residual_motion_is_along_the_line_of_wrong_depth_or_across_it(flight: Rendered) -> None:
    now, past = 9, 6
    h, w = flight.depth[now].shape
    past_from_cur = se3_inverse(flight.world_from_camera[past]) @ flight.world_from_camera[now]
    true = flight.depth[now]
    u, v = source_pixels(1 / true, CAMERA, past_from_cur)
    nothing = (u < 2) | (v < 2) | (u > w - 3) | (v > h - 3)
    middle = np.s_[..., h // 4:-h // 4, w // 4:-w // 4]

    def motion(depth: F32, shift_px: tuple[float, float] = (0, 0)) -> list[float]:
        """What is seen where the scene has another depth than held, or has moved by ``shift_px``: pixels."""
        u, v = source_pixels(1 / depth, CAMERA, past_from_cur)
        there = cv2.remap(flight.frames[past].image, u - np.float32(shift_px[0]), v - np.float32(shift_px[1]), 1)
        nearer = source_pixels(np.float32(1 + NEARER) / depth, CAMERA, past_from_cur)
        maps = residual_motion(flight.frames[now].image, there, nothing, (nearer[0] - u, nearer[1] - v))
        assert all(m.dtype == np.uint8 and m.shape == (h, w) for m in maps)
        return [float(np.median(m[middle])) / PX for m in maps]

    assert max(motion(true)) < 0.3
    far = source_pixels(np.float32(1 / 1.3) / true, CAMERA, past_from_cur)
    line = np.stack([u - far[0], v - far[1]])[middle]
    shift_px = float(np.median(np.hypot(*line)))
    nearer, farther, across = motion(np.float32(1.3) * true)  # held to be farther than it is
    assert nearer == pytest.approx(shift_px, rel=0.35) and max(farther, across) < 0.35 * shift_px
    nearer, farther, across = motion(np.float32(1 / 1.3) * true)
    assert farther > 0.5 * shift_px and max(nearer, across) < 0.35 * shift_px
    aside = np.median(np.abs(line[1]) / np.hypot(*line))  # of a shift to the right, the share that is across the line
    assert motion(true, (3.0, 0.0))[2] == pytest.approx(3.0 * aside, rel=0.15)


def test_a_network_of_other_inputs_is_refused() -> None:
    with pytest.raises(ModelError, match="train mask"):
        MaskNetwork(_Everything(channels=7))
