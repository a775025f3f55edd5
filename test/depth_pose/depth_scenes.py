"""Rendered sequences with exact depth and motion for the depth/pose tests."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from training.depth.scenes import Box, Scene, make_texture, render
from uav_perception.geometry import BODY_FROM_OPTICAL, se3, se3_inverse, so3_exp
from uav_perception.records import F32, F64, U8, Bool, CameraModel, Frame

WIDTH, HEIGHT = 256, 192
CAMERA = CameraModel(np.array([[200.0, 0, 127.5], [0, 200.0, 95.5], [0, 0, 1]]), np.zeros(5), WIDTH, HEIGHT)


@dataclass(frozen=True)
class Rendered:
    """Frames 0.1 s apart, depth in metres and world_from_camera of each."""

    frames: tuple[Frame, ...]
    depth: tuple[F32, ...]
    world_from_camera: tuple[F64, ...]

    def motion(self, k: int) -> F64:
        """Frame k from frame k - 1."""
        return se3_inverse(self.world_from_camera[k]) @ self.world_from_camera[k - 1]


def _half_pixel(K: F64) -> F64:
    shifted = K.copy()
    shifted[:2, 2] += 0.5  # the renderer's pixel i covers [i, i + 1), a CameraModel's pixel i is centred at i
    return shifted


def render_path(scene: Scene, path: list[F64]) -> Rendered:
    frames, depths = [], []
    for k, pose in enumerate(path):
        image, depth = render(scene, pose, _half_pixel(CAMERA.K), WIDTH, HEIGHT)
        frames.append(Frame(k, 10**9 + k * 10**8, image, CAMERA))
        depths.append(depth)
    return Rendered(tuple(frames), tuple(depths), tuple(path))


def look(position: list[float], heading: float, pitch_deg: float) -> F64:
    """world_from_camera of a camera at ``position`` looking along ``heading``, ``pitch_deg`` below the horizon."""
    turn = so3_exp([0, 0, heading]) @ so3_exp([0, np.radians(pitch_deg), 0])
    return se3(turn @ BODY_FROM_OPTICAL, np.array(position))


def over_ground(seed: int = 4) -> Scene:
    """Flat ground at z = 0 with a few blocks on it."""
    rng = np.random.default_rng(seed)
    textures = tuple(make_texture(rng) for _ in range(6))
    boxes = [Box(np.array([0.0, 0, -5]), np.array([300.0, 300, 5]), 0.3, 0, 0.05)]
    for k in range(14):
        at = rng.uniform(-12, 25, 2)
        middle, half = np.array([at[0], at[1] - 6, 0.6]), np.array([0.8, 0.6, 0.6])
        boxes.append(Box(middle, half, rng.uniform(0, 3), 1 + k % 5, 0.02))
    return Scene(tuple(boxes), textures, np.array([220.0, 210, 200]), 1e4)


def with_image(frame: Frame, image: U8, stamp_ns: int | None = None) -> Frame:
    return Frame(frame.seq, frame.stamp_ns if stamp_ns is None else stamp_ns, image, frame.camera)


def _texture(seed: int, shape: tuple[int, int]) -> U8:
    noise = np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 2.0) * 2.0 - 128).clip(0, 255).astype(np.uint8)


PASSED, _THING = _texture(1, (96, 128)), _texture(2, (24, 32))


def passing(x: int) -> tuple[U8, Bool]:
    """A thing whose left edge is at column ``x`` goes over the ground ``PASSED``: the picture, and where it is."""
    image, moves = PASSED.copy(), np.zeros(PASSED.shape[:2], bool)
    image[40:64, x:x + 32], moves[40:64, x:x + 32] = _THING, True
    return image, moves
