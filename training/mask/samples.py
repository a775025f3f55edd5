"""What the network sees of a rendered flight: true depth and motion, made as wrong as they are in flight."""

from __future__ import annotations

import cv2
import numpy as np

from uav_perception.depth_pose.motion_mask import channels, softened
from uav_perception.depth_pose.products import scaled_camera
from uav_perception.geometry import se3_exp, se3_inverse
from uav_perception.records import F32, U8, CameraModel
from uav_perception.sim.flight import MOVES_M_S, RESTS_M_S

from .flights import EVERY, FPS, Clip

WIDTHS_PX = (416, 640)  # least and most, of the pictures compared; every other one is of the most, as in flight
AGES = ((1, 2), (3,), (5, 6))  # of the pictures compared with, in pictures of the clip: about LAGS_S
FIRST = max(AGES[-1])  # picture that has them all
TURN_DEG, SHIFT = 0.03, 0.01  # errors of the motion: rotation, and translation as a share of its length
SPREAD = 3.0  # a clip's motion is up to so many times better or worse than that
assert EVERY / FPS == 0.2


def sample(clip: Clip, k: int, rng: np.random.Generator) -> tuple[U8, U8]:
    """Channels (C, h, w) of picture ``k`` >= FIRST, and for each pixel (3, h, w) 255 times the share that moves, the
    share that could, and the share of which it is said whether it does."""
    height, width = clip.images.shape[1:3]
    camera = CameraModel(clip.K, np.zeros(5), width, height)
    least, most = WIDTHS_PX
    width_px = most if rng.random() < 0.5 else 8 * int(rng.integers(least // 8, most // 8 + 1))
    small = scaled_camera(camera, width_px, round(height * width_px / width))
    size = (small.width_px, small.height_px)

    def seen(j: int) -> U8:
        return np.asarray(cv2.resize(clip.images[j], size, interpolation=cv2.INTER_AREA), np.uint8)

    earlier = []
    wrong = SPREAD ** rng.uniform(-1, 1)
    for ages in AGES:
        j = k - int(rng.choice(ages))
        motion = se3_inverse(clip.world_from_camera[j]) @ clip.world_from_camera[k]
        shift = wrong * rng.normal(0, SHIFT, 3) * np.linalg.norm(motion[:3, 3])
        turn = wrong * rng.normal(0, np.radians(TURN_DEG), 3)
        earlier.append((softened(seen(j)), motion @ se3_exp(np.concatenate([shift, turn]))))
    depth = _as_measured(clip.depth[k].astype(np.float32), size, rng)
    speed, things = clip.speed_m_s[k], clip.things[k]
    truth = np.dstack([speed > MOVES_M_S, things, (speed > MOVES_M_S) | (speed < RESTS_M_S)]).astype(np.float32)
    share = np.rint(255 * np.asarray(cv2.resize(truth, size, interpolation=cv2.INTER_AREA))).astype(np.uint8)
    now = seen(k)
    return channels(now, softened(now), earlier, depth, small), np.moveaxis(share, 2, 0)


def _as_measured(depth_m: F32, size: tuple[int, int], rng: np.random.Generator) -> F32:
    """True depth (0 = sky), blurred across edges and a little wrong everywhere."""
    far = 50 * float(np.median(depth_m[depth_m > 0]))
    depth = cv2.resize(np.where(depth_m > 0, depth_m, far), size, interpolation=cv2.INTER_NEAREST)
    log = np.log(np.clip(depth, 0.1, far)).astype(np.float32)
    blur = rng.uniform(0, 13)
    if blur > 0.5:
        log = np.asarray(cv2.GaussianBlur(log, (0, 0), blur), np.float32)
    waves = rng.normal(0, rng.uniform(0, 0.12), (5, 7)).astype(np.float32)
    return np.asarray(np.exp(log + cv2.resize(waves, size, interpolation=cv2.INTER_CUBIC)), np.float32)
