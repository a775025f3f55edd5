"""Vehicles cut out of training pictures, and grounds to paste them on: cheap variety where real pictures are few."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .model import CLASSES
from .pictures import F64, IGNORE, OUTLINE, U8, Objects, Picture

_PERSON = CLASSES.index("person")


@dataclass
class Sprite:
    """``bgr`` (H, W, 3), ``alpha`` (H, W) 0..1, ``outline`` (OUTLINE, 2) in its pixels; ``length_px`` its long side."""

    bgr: U8
    alpha: NDArray[np.float32]
    outline: F64
    label: int
    length_px: float


def outline_of_mask(mask: U8) -> F64:
    """The mask's extreme points in ``OUTLINE`` directions: boxes of it are exact for 16 rotations, close between."""
    y, x = np.nonzero(mask)
    points = np.stack([x, y], 1).astype(np.float64) + 0.5
    angle = np.arange(OUTLINE) * 2 * np.pi / OUTLINE
    direction = np.stack([np.cos(angle), np.sin(angle)], 1)
    return np.asarray(points[(points @ direction.T).argmax(0)] + 0.5 * direction)


def cut_vehicles(picture: Picture, upscale: int = 2) -> list[Sprite]:
    """Segment every labelled vehicle (GrabCut inside its box); where that works the picture's outline improves too."""
    sprites = []
    h, w = picture.image.shape[:2]
    for i, (x1, y1, x2, y2) in enumerate(picture.objects.xyxy):
        label = int(picture.objects.label[i])
        side = max(x2 - x1, y2 - y1)
        if label in (IGNORE, _PERSON) or min(x2 - x1, y2 - y1) < 14 or x1 < 2 or y1 < 2 or x2 > w - 2 or y2 > h - 2:
            continue
        m = int(0.35 * side)
        left, top = max(0, int(x1) - m), max(0, int(y1) - m)
        crop = picture.image[top : int(y2) + m, left : int(x2) + m]
        big = cv2.resize(crop, None, fx=upscale, fy=upscale, interpolation=cv2.INTER_CUBIC)
        rect = [round((v - o) * upscale) for v, o in ((x1, left), (y1, top), (x2, left), (y2, top))]
        mask = np.zeros(big.shape[:2], np.uint8)
        cv2.setRNGSeed(0)
        cv2.grabCut(big, mask, (rect[0], rect[1], rect[2] - rect[0], rect[3] - rect[1]), np.zeros((1, 65)),
                    np.zeros((1, 65)), 4, cv2.GC_INIT_WITH_RECT)
        solid = _largest_blob(np.asarray(mask & 1, np.uint8), upscale)
        if solid is None:
            continue
        outline = outline_of_mask(solid)
        box = np.concatenate([outline.min(0), outline.max(0)])
        inter = np.prod(np.clip(np.minimum(box[2:], rect[2:]) - np.maximum(box[:2], rect[:2]), 0, None))
        area = (rect[2] - rect[0]) * (rect[3] - rect[1])
        if inter / (area + np.prod(box[2:] - box[:2]) - inter) < 0.75 or solid.sum() < 0.38 * area:
            continue
        picture.objects.outline[i] = outline / upscale + [left, top]
        alpha = cv2.GaussianBlur(solid.astype(np.float32), (0, 0), 0.5 * upscale)
        (_, (long, short), _) = cv2.minAreaRect(outline.astype(np.float32))
        sprites.append(Sprite(np.asarray(big, np.uint8), np.asarray(alpha, np.float32), outline, label,
                              float(max(long, short))))
    return sprites


def _largest_blob(mask: U8, upscale: int) -> U8 | None:
    mask = np.asarray(cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((2 * upscale + 1,) * 2, np.uint8)), np.uint8)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return None
    return np.asarray(cv2.drawContours(np.zeros_like(mask), [max(contours, key=cv2.contourArea)], -1, 1, -1), np.uint8)


def paste(image: U8, sprite: Sprite, matrix: F64, gain: float, shadow: F64, darkness: float) -> None:
    """Blend ``sprite`` into ``image`` in place; ``matrix`` (2, 3) maps sprite to image pixels; ``shadow`` (2,) px."""
    outline = sprite.outline @ matrix[:, :2].T + matrix[:, 2]
    reach = np.abs(shadow) + 4
    low = np.floor(outline.min(0) - reach).astype(int).clip(0)
    high = np.ceil(outline.max(0) + reach).astype(int).clip(None, (image.shape[1], image.shape[0]))
    if (high - low < 2).any():
        return
    m = np.column_stack([matrix[:, :2], matrix[:, 2] - low])
    size = (int(high[0] - low[0]), int(high[1] - low[1]))
    shrink = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    bgr, alpha = sprite.bgr, sprite.alpha
    if shrink < 0.6:
        k = 1 / (2.0 * shrink)
        bgr, alpha = cv2.blur(bgr, (int(k) * 2 + 1,) * 2), cv2.blur(alpha, (int(k) * 2 + 1,) * 2)  # type: ignore[assignment]
    colour = cv2.warpAffine(bgr, m, size, borderMode=cv2.BORDER_REPLICATE).astype(np.float32) * gain
    a = cv2.warpAffine(alpha, m, size)[..., None]
    view = image[low[1] : high[1], low[0] : high[0]]
    ground = view.astype(np.float32)
    if darkness > 0:
        moved = m.copy()
        moved[:, 2] += shadow
        s = cv2.GaussianBlur(cv2.warpAffine(alpha, moved, size), (0, 0), 1.0)[..., None]
        ground *= 1 - darkness * s
    view[...] = np.clip(ground * (1 - a) + colour * a, 0, 255).astype(np.uint8)


def procedural_ground(rng: np.random.Generator, size_px: int) -> U8:
    """Asphalt, grass and pavement with markings, joints, covers and shadows: roads without vehicles."""
    tone = rng.uniform(50, 190)
    image = np.full((size_px, size_px, 3), tone, np.float32) * (1 + rng.normal(0, 0.04, 3)).astype(np.float32)
    angle, step = rng.uniform(0, np.pi), rng.uniform(25, 120)
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    middle = rng.uniform(0, size_px, 2)

    def strip(offset: float, width: float, colour: F64, dash: float = 0.0) -> None:
        for t in np.arange(-size_px * 1.5, size_px * 1.5, 2 * dash) if dash else [-size_px * 1.5]:
            end = t + (dash if dash else 3 * size_px)
            corners = [middle + across * (offset + e * width / 2) + along * u
                       for e, u in ((-1, t), (1, t), (1, end), (-1, end))]
            cv2.fillConvexPoly(image, np.round(np.array(corners) * 16).astype(np.int32), tuple(map(float, colour)),
                               cv2.LINE_AA, 4)

    for side in (-1, 1):
        if rng.random() < 0.7:
            green = rng.uniform(0.5, 1.3) * np.array([55, 95, 80]) * (1 + rng.normal(0, 0.15, 3))
            stone = np.full(3, rng.uniform(80, 220))
            strip(side * (step * rng.uniform(1.5, 4) + size_px), 2 * size_px, green if rng.random() < 0.5 else stone)
    paint = np.full(3, rng.uniform(180, 250)) * (1, 1, rng.uniform(0.95, 1.0))
    for lane in range(-3, 4):
        if rng.random() < 0.6:
            strip(lane * step, rng.uniform(1, 5), paint if rng.random() < 0.8 else paint * (0.4, 0.85, 1),
                  rng.choice([0.0, rng.uniform(12, 60)]))
    for _ in range(rng.integers(0, 6)):  # joints, patches, covers, posts: things that are not vehicles
        centre = rng.uniform(0, size_px, 2)
        level = tuple([float(rng.uniform(30, 230))] * 3)
        if rng.random() < 0.5:
            cv2.circle(image, tuple(int(v) for v in centre), int(rng.uniform(2, 14)), level, -1, cv2.LINE_AA)
        else:
            rect = (centre, (rng.uniform(4, 90), rng.uniform(2, 30)), float(np.degrees(angle) + rng.choice([0, 90])))
            cv2.fillConvexPoly(image, cv2.boxPoints(rect).astype(np.int32), level, cv2.LINE_AA)
    for _ in range(rng.integers(0, 3)):
        _repeated(image, rng)
    coarse = cv2.resize(rng.normal(0, 1, (size_px // 16, size_px // 16, 1)).astype(np.float32), (size_px, size_px),
                        interpolation=cv2.INTER_CUBIC)[..., None]
    fine = cv2.resize(rng.random((size_px // 2, size_px // 2), np.float32) - 0.5, (size_px, size_px))
    image *= 1 + 0.05 * coarse + rng.uniform(0.05, 0.5) * fine[..., None]
    if rng.random() < 0.4:  # the shadow of something tall
        shape = cv2.GaussianBlur((cv2.resize(rng.random((6, 6)).astype(np.float32), (size_px, size_px),
                                             interpolation=cv2.INTER_CUBIC) > 0.6).astype(np.float32), (0, 0), 2)
        image *= 1 - rng.uniform(0.2, 0.6) * shape[..., None]
    return np.asarray(np.clip(image, 0, 255), np.uint8)


def _repeated(image: NDArray[np.float32], rng: np.random.Generator) -> None:
    """A row, ring or grid of equal bright or dark shapes, some framed: kerbs, planters, windows, paving, roofs."""
    size = image.shape[0]
    long = float(np.exp(rng.uniform(np.log(4), np.log(40))))
    short = long * float(rng.uniform(0.25, 1.0))
    turn, pitch = rng.uniform(0, 2 * np.pi), long * rng.uniform(1.1, 2.5)
    start, kind = rng.uniform(0, size, 2), rng.integers(3)
    fill, frame = (tuple(rng.uniform(20, 245) * rng.uniform(0.85, 1.15, 3)) for _ in range(2))
    if kind == 0:
        n = int(rng.integers(3, 16))
        where = [(start + np.array([np.cos(turn), np.sin(turn)]) * pitch * i, turn) for i in range(n)]
    elif kind == 1:
        radius = pitch * rng.uniform(1.5, 5)
        angles = np.arange(0, 2 * np.pi, pitch / radius)
        where = [(start + radius * np.array([np.cos(a), np.sin(a)]), a) for a in angles]
    else:
        axes = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) * pitch
        n, m = rng.integers(2, 6, 2)
        turned = rng.choice([0.0, np.pi / 4])
        where = [(start + i * axes[0] + j * axes[1], turn + turned) for i in range(n) for j in range(m)]
    framed = rng.random() < 0.4
    for centre, angle in where:
        for share, colour in ((1.0, frame), (0.6, fill)) if framed else ((1.0, fill),):
            middle = (float(centre[0]), float(centre[1]))
            corners = cv2.boxPoints((middle, (long * share, short * share), float(np.degrees(angle))))
            cv2.fillConvexPoly(image, np.round(corners * 16).astype(np.int32), colour, cv2.LINE_AA, 4)


def decoy(sprite: Sprite, image: U8, rng: np.random.Generator) -> Sprite:
    """The vehicle's silhouette, or a plain shape, filled with ground or paint: pasted like a vehicle, but none.

    Without these the edges of pasting and "a small thing with a shadow" become what a vehicle is known by.
    """
    h, w = sprite.alpha.shape
    if rng.random() < 0.5:
        side = rng.integers(8, image.shape[0] // 2, 2)
        y, x = rng.integers(0, image.shape[0] - side[0]), rng.integers(0, image.shape[1] - side[1])
        fill = cv2.resize(image[y : y + side[0], x : x + side[1]], (w, h), interpolation=cv2.INTER_LINEAR)
    else:
        fill = np.full((h, w, 3), rng.uniform(20, 245) * rng.uniform(0.7, 1.3, 3).clip(0, 1), np.uint8)
        for _ in range(rng.integers(0, 3)):  # panes, lids, frames
            low, high = np.sort(rng.uniform(0.05, 0.95, (2, 2)), 0) * (w, h)
            colour = rng.uniform(10, 245, 3).tolist()
            cv2.rectangle(fill, low.astype(int).tolist(), high.astype(int).tolist(), colour, -1)
    alpha = sprite.alpha
    if rng.random() < 0.5:
        alpha = np.zeros((h, w), np.float32)
        middle, span = (w / 2, h / 2), rng.uniform(0.35, 0.95, 2) * (w, h)
        rect = (middle, (float(span[0]), float(span[1])), float(rng.uniform(0, 180)))
        if rng.random() < 0.3:
            cv2.ellipse(alpha, rect, 1.0, -1)
        else:
            cv2.fillConvexPoly(alpha, cv2.boxPoints(rect).astype(np.int32), 1.0)
        alpha = cv2.GaussianBlur(alpha, (0, 0), 1.0)
    return Sprite(np.asarray(fill, np.uint8), np.asarray(alpha, np.float32), sprite.outline, IGNORE, sprite.length_px)


def paste_traffic(image: U8, taken: Objects, sprites: list[Sprite], rng: np.random.Generator,
                  length_px: float) -> Objects:
    """Paste vehicles of about ``length_px`` (a car's length), and decoys, where nothing is; returns the vehicles."""
    size = image.shape[0]
    sun, darkness = rng.normal(0, 0.16, 2) * length_px, rng.choice([0.0, rng.uniform(0.15, 0.7)])
    lanes = rng.random() < 0.5
    heading = rng.uniform(0, 2 * np.pi)
    boxes = list(taken.xyxy)
    outlines, labels = [], []
    decoys = int(rng.integers(0, 8)) if rng.random() < 0.6 else 0
    vehicles = int(rng.integers(1, 1 + int(np.clip(900 / length_px, 3, 12))))
    for i in range(decoys + vehicles):
        sprite = sprites[rng.integers(len(sprites))]
        if i < decoys:
            sprite = decoy(sprite, image, rng)
        own = 2.4 if sprite.label == CLASSES.index("bus") else rng.uniform(0.25, 1.2) if i < decoys else 1.0
        scale = length_px * own * rng.uniform(0.85, 1.2) / sprite.length_px
        angle = (heading + rng.choice([0, np.pi]) + rng.normal(0, 0.05)) if lanes else rng.uniform(0, 2 * np.pi)
        spokes = sprite.outline - sprite.outline.mean(0)
        long = spokes[np.argmax((spokes**2).sum(1))]
        turn = angle - np.arctan2(long[1], long[0])
        c, s = scale * np.cos(turn), scale * np.sin(turn)
        m = np.array([[c, -s], [s, c]]) @ np.diag([rng.choice([-1.0, 1.0]), 1.0])
        matrix = np.column_stack([m, rng.uniform(-0.05, 1.05, 2) * size - m @ sprite.outline.mean(0)])
        outline = sprite.outline @ m.T + matrix[:, 2]
        box = np.concatenate([outline.min(0), outline.max(0)])
        if any((np.minimum(box[2:], b[2:]) - np.maximum(box[:2], b[:2]) > 1).all() for b in boxes):
            continue
        boxes.append(box)
        paste(image, sprite, matrix, float(np.exp(rng.uniform(-1.0, 0.37))), sun, float(darkness))
        if sprite.label != IGNORE:
            outlines.append(outline)
            labels.append(sprite.label)
    return Objects(np.array(outlines).reshape(-1, OUTLINE, 2), np.array(labels, np.int64))
