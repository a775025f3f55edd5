"""Quick procedural scenes with exact depth and motion: rooms, streets and views from the air, made of textured boxes.

They teach general cues (ground planes, walls, occlusion, perspective) to a network that has seen nothing else; ray-box
intersection in numpy, a few tens of milliseconds a view. World: z up, metres.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from uav_perception.geometry import BODY_FROM_OPTICAL, se3, se3_inverse, so3_exp
from uav_perception.records import F32, F64, U8

FAR_M = 1000.0
TEXTURE = 256


@dataclass(frozen=True)
class Box:
    """An upright box; ``inside`` boxes are seen from within (rooms). ``texel_m``: size of one texel on its faces."""

    centre: F64
    half: F64
    yaw: float
    texture: int
    texel_m: float
    inside: bool = False


@dataclass(frozen=True)
class Scene:
    boxes: tuple[Box, ...]
    textures: tuple[tuple[F32, ...], ...]  # mip levels, (S, S, 3)
    sky: F64
    haze_m: float


def make_texture(rng: np.random.Generator) -> tuple[F32, ...]:
    """A picture and its mip levels: noise of several octaves, sometimes bricks, stripes or a printed page."""
    image = np.zeros((TEXTURE, TEXTURE, 3), np.float32)
    base = rng.uniform(20, 235) + rng.normal(0, 18, 3)
    for octave in range(1, 7):
        n = 2 ** (octave + 1)
        amplitude = rng.uniform(0, 28) * 0.8**octave * rng.uniform(0.3, 1.6)
        noise = rng.normal(0, amplitude, (n, n, 1)) + rng.normal(0, amplitude * 0.3, (n, n, 3))
        image += cv2.resize(noise.astype(np.float32), (TEXTURE, TEXTURE), interpolation=cv2.INTER_CUBIC)
    kind = rng.integers(6)
    if kind == 0:  # bricks, tiles, windows
        px, py, gap = rng.integers(12, 64), rng.integers(12, 64), rng.integers(1, 6)
        y, x = np.mgrid[:TEXTURE, :TEXTURE]
        joint = ((x + (y // py % 2) * (px // 2) * rng.integers(2)) % px < gap) | (y % py < gap)
        image[joint] += rng.normal(0, 45)
    elif kind == 1:  # grain, stripes
        wave = np.sin(np.arange(TEXTURE) * rng.uniform(0.05, 0.6) + rng.normal(0, 1)) * rng.uniform(5, 40)
        image += wave[:, None, None] if rng.random() < 0.5 else wave[None, :, None]
    elif kind == 2:  # patches
        for _ in range(rng.integers(3, 25)):
            a, b = rng.integers(0, TEXTURE, 2), rng.integers(8, 90, 2)
            corner, opposite = (int(a[0]), int(a[1])), (int(a[0] + b[0]), int(a[1] + b[1]))
            cv2.rectangle(image, corner, opposite, (base + rng.normal(0, 60, 3)).tolist(), -1)
    image = np.clip(image + (base if kind != 2 else base * 0.6), 0, 255).astype(np.float32)
    levels = [image]
    while levels[-1].shape[0] > 4:
        levels.append(cv2.resize(levels[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    return tuple(levels)


def _box(rng: np.random.Generator, centre: list[float], half: list[float], yaw: float, texel: float,
         inside: bool = False, textures: int = 12) -> Box:
    return Box(np.array(centre), np.array(half), yaw, int(rng.integers(textures)), texel, inside)


def make_scene(rng: np.random.Generator) -> tuple[Scene, F64, float]:
    """A random scene, a camera in it ``world_from_camera`` (4, 4), and the size of a typical step there in metres."""
    textures = tuple(make_texture(rng) for _ in range(12))
    sky = np.array([rng.uniform(150, 255), rng.uniform(150, 240), rng.uniform(130, 230)])
    kind = rng.choice(["room", "street", "air"], p=[0.45, 0.25, 0.3])
    boxes: list[Box] = []
    if kind == "room":
        size = np.array([rng.uniform(1.5, 4.5), rng.uniform(1.5, 4.5), rng.uniform(1.2, 1.7)])
        boxes.append(_box(rng, [0, 0, size[2]], size.tolist(), 0, rng.uniform(0.004, 0.02), True))
        for _ in range(rng.integers(2, 9)):  # cupboards and shelves along the walls
            side, h = rng.integers(2), rng.uniform(0.2, 1.2)
            c = rng.uniform(-1, 1, 2) * size[:2]
            c[side] = np.sign(c[side]) * (size[side] - rng.uniform(0, 0.3))
            z = h if rng.random() < 0.7 else rng.uniform(1, 2 * size[2] - 0.3)
            size_here = [rng.uniform(0.15, 1.0), rng.uniform(0.15, 1.0), h if z == h else 0.3]
            boxes.append(_box(rng, [c[0], c[1], z], size_here, 0, rng.uniform(0.003, 0.01)))
        eye = np.array([*(rng.uniform(-0.8, 0.8, 2) * size[:2]), rng.uniform(0.9, min(2.0, 2 * size[2] - 0.3))])
        heading = np.arctan2(-eye[1], -eye[0]) + rng.normal(0, 0.6)
        ahead = np.array([np.cos(heading), np.sin(heading)])
        for _ in range(rng.integers(1, 5)):  # tables with things on them, in view
            at = eye[:2] + ahead * rng.uniform(0.7, 2.5) + rng.normal(0, 0.6, 2)
            top, half, yaw = rng.uniform(0.4, 0.95), rng.uniform(0.3, 1.2, 2), rng.uniform(-1.6, 1.6)
            under = top / 2 if rng.random() < 0.6 else 0.03
            boxes.append(_box(rng, [at[0], at[1], top - under], [half[0], half[1], under], yaw,
                              rng.uniform(0.002, 0.01)))
            for _ in range(rng.integers(0, 8)):
                h = rng.uniform(0.01, 0.2)
                p = at + rng.uniform(-1, 1, 2) * half * 0.8
                boxes.append(_box(rng, [p[0], p[1], top + h], [rng.uniform(0.03, 0.25), rng.uniform(0.03, 0.2), h],
                                  rng.uniform(0, 3), rng.uniform(0.001, 0.004)))
        pitch, haze, step = rng.uniform(-5, 45), 1e4, rng.uniform(0.01, 0.1)
    else:
        boxes.append(_box(rng, [0, 0, -5], [900, 900, 5], rng.uniform(0, 3), rng.uniform(0.01, 0.08)))
        air = kind == "air"
        height = rng.uniform(6, 60) if air else rng.uniform(1.2, 2.6)
        eye, heading = np.array([0.0, 0.0, height]), rng.normal(0, 0.1)
        width = rng.uniform(4, 12)
        if not air:
            boxes.append(_box(rng, [0, 0, -4.99], [400, width, 5], 0, rng.uniform(0.01, 0.05)))
        span = height * 3 if air else 60.0
        for _ in range(rng.integers(4, 22)):
            h = rng.uniform(1.0, min(7.0, height * 0.4)) if air else rng.uniform(1, 8)
            side = rng.choice([-1, 1]) * (width + rng.uniform(0, 10)) if not air else rng.uniform(-span, span)
            boxes.append(_box(rng, [rng.uniform(-0.3, 1) * span, side, h], [*rng.uniform(0.5, 9, 2), h],
                              rng.normal(0, 0.1) if not air else rng.uniform(0, 3), rng.uniform(0.02, 0.1)))
        for _ in range(rng.integers(2, 16)):  # vehicles, bushes, posts
            p = [rng.uniform(2, span), rng.normal(0, width * 0.8) if not air else rng.uniform(-span, span) * 0.7]
            h = rng.uniform(0.6, 1.3)
            half = [rng.uniform(1.8, 2.6), 0.9, h] if rng.random() < 0.6 else [0.15, 0.15, rng.uniform(0.8, 3)]
            yaw = rng.choice([0, 0, 1.57, rng.uniform(0, 3)])
            boxes.append(_box(rng, [*p, half[2]], half, yaw, rng.uniform(0.01, 0.05)))
        pitch = rng.choice([rng.uniform(20, 60), 90 + rng.normal(0, 4)]) if air else rng.normal(3, 4)
        haze, step = rng.uniform(150, 2000), (rng.uniform(0.01, 0.08) * height if air else rng.uniform(0.2, 1.4))
    turn = so3_exp([0, 0, heading]) @ so3_exp([0, np.radians(pitch), 0]) @ so3_exp([np.radians(rng.normal(0, 5)), 0, 0])
    boxes = [b for b in boxes if b.inside or not _contains(b, eye, 0.25)]
    return Scene(tuple(boxes), textures, sky, haze), se3(turn @ BODY_FROM_OPTICAL, eye), step


def _contains(box: Box, point: F64, margin: float) -> bool:
    local = so3_exp([0, 0, -box.yaw]) @ (point - box.centre)
    return bool((np.abs(local) < box.half + margin).all())


def render(scene: Scene, world_from_camera: F64, K: F64, width: int, height: int) -> tuple[U8, F32]:
    """Image (H, W, 3) BGR and depth along the optical axis (H, W) in metres; the sky is ``FAR_M`` away."""
    u, v = np.meshgrid((np.arange(width) + 0.5 - K[0, 2]) / K[0, 0], (np.arange(height) + 0.5 - K[1, 2]) / K[1, 1])
    rays = (np.stack([u, v, np.ones_like(u)], -1) @ world_from_camera[:3, :3].T).astype(np.float32)
    eye = world_from_camera[:3, 3]
    depth = np.full((height, width), FAR_M, np.float32)
    image = np.empty((height, width, 3), np.float32)
    image[:] = scene.sky
    pixel_rad = 1.0 / np.sqrt(K[0, 0] * K[1, 1])
    camera_from_world = se3_inverse(world_from_camera)
    for box in scene.boxes:
        turn = so3_exp([0, 0, -box.yaw])
        rows, columns = _extent(box, camera_from_world, K, width, height)
        if rows.start >= rows.stop or columns.start >= columns.stop:
            continue
        d = rays[rows, columns] @ turn.T.astype(np.float32)
        o = (turn @ (eye - box.centre)).astype(np.float32)
        with np.errstate(divide="ignore", invalid="ignore"):
            t0, t1 = (-box.half.astype(np.float32) - o) / d, (box.half.astype(np.float32) - o) / d
        near, far = np.minimum(t0, t1), np.maximum(t0, t1)
        axis = far.argmin(-1) if box.inside else near.argmax(-1)
        enter, leave = near.max(-1), far.min(-1)
        t = leave if box.inside else enter
        hit = (leave > enter) & (t > 0.05) & (t < depth[rows, columns])
        if not hit.any():
            continue
        t, axis = t[hit], axis[hit]
        p = o + d[hit] * t[:, None]
        others = np.array([[1, 2], [0, 2], [0, 1]])[axis]
        texel = np.take_along_axis(p, others, 1) / box.texel_m
        levels = scene.textures[box.texture]
        level = np.clip(np.log2(np.maximum(t * pixel_rad / box.texel_m, 1e-6)) + 0.3, 0, len(levels) - 1).astype(int)
        colour = np.empty((len(t), 3), np.float32)
        for k in np.unique(level):
            m, size = level == k, levels[k].shape[0]
            i = (texel[m] / 2**k).astype(int) % size
            colour[m] = levels[k][i[:, 1], i[:, 0]]
        side = np.sign(np.take_along_axis(p, axis[:, None], 1)[:, 0])
        shade = np.array([0.8, 0.62, 1.0], np.float32)[axis] * (0.9 + 0.1 * side)
        fog = np.exp(-t / scene.haze_m)[:, None]
        image[rows, columns][hit] = colour * shade[:, None] * fog + scene.sky.astype(np.float32) * (1 - fog)
        depth[rows, columns][hit] = t
    return np.clip(image, 0, 255).astype(np.uint8), depth


def _extent(box: Box, camera_from_world: F64, K: F64, width: int, height: int) -> tuple[slice, slice]:
    """Pixels a box can cover; all of them when it reaches behind the camera."""
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * box.half
    world = corners @ so3_exp([0, 0, box.yaw]).T + box.centre
    c = world @ camera_from_world[:3, :3].T + camera_from_world[:3, 3]
    if box.inside or (c[:, 2] < 0.05).any():
        if not box.inside and (c[:, 2] < 0.05).all():
            return slice(0, 0), slice(0, 0)
        return slice(0, height), slice(0, width)
    x, y = c[:, 0] / c[:, 2] * K[0, 0] + K[0, 2], c[:, 1] / c[:, 2] * K[1, 1] + K[1, 2]
    return (slice(max(0, int(y.min()) - 1), min(height, int(y.max()) + 2)),
            slice(max(0, int(x.min()) - 1), min(width, int(x.max()) + 2)))


def random_pair(rng: np.random.Generator, width: int, height: int) -> tuple[U8, U8, F32, F32, F64, F64]:
    """Two views of one scene: images, depths, second-from-first (4, 4), and K of the picture."""
    scene, world_from_camera, step = make_scene(rng)
    focal = rng.uniform(0.55, 1.0) * width
    K = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])
    move = se3(so3_exp(rng.normal(0, np.radians(0.8), 3)), rng.normal(0, 1, 3) * step * [0.5, 0.3, 1.0])
    second = world_from_camera @ move
    a, da = render(scene, world_from_camera, K, width, height)
    b, db = render(scene, second, K, width, height)
    noise, gain = rng.uniform(0, 5), rng.uniform(0.75, 1.25)

    def sensor(image: U8) -> U8:
        x = image.astype(np.float32) * gain + rng.normal(0, 1, image.shape).astype(np.float32) * noise
        return np.clip(cv2.GaussianBlur(x, (0, 0), 0.4 + rng.uniform(0, 0.8)), 0, 255).astype(np.uint8)

    return sensor(a), sensor(b), da, db, se3_inverse(move), K
