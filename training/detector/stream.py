"""An endless, seeded stream of training samples: real crops, pasted traffic, mosaics, weather and lenses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from .model import CLASSES
from .pictures import IGNORE, U8, Objects, Picture, Sample, finish, similarity, warp
from .sprites import Sprite, paste_traffic, procedural_ground


@dataclass(frozen=True)
class Mix:
    """Shares of what a sample is made of (they need not add up to one) and the range of sizes."""

    thermal: float = 0.36
    rgb: float = 0.12
    pasted: float = 0.34
    rendered: float = 0.18
    mosaic: float = 0.15  # of all samples: four smaller ones in one
    car_px: tuple[float, float] = (14.0, 240.0)  # length of pasted cars
    thermal_scale: tuple[float, float] = (0.65, 1.55)
    rgb_object_px: tuple[float, float] = (14.0, 190.0)  # side of the object a crop of a real picture is centred on


class Stream:
    """``sample(index)`` depends on the seed and the index alone, so that an interrupted run goes on where it was."""

    def __init__(self, pictures: Sequence[Picture], grounds: Sequence[U8], sprites: Sequence[Sprite], size_px: int,
                 seed: int, mix: Mix = Mix()) -> None:
        self.thermal = [p for p in pictures if p.domain == "thermal"]
        self.rgb = [p for p in pictures if p.domain == "rgb"]
        self.rendered = [p for p in pictures if p.domain == "rendered"]
        self.classes = {domain: _classes(getattr(self, domain)) for domain in ("thermal", "rgb", "rendered")}
        self.grounds, self.sprites = list(grounds), list(sprites)
        self.size_px, self.seed, self.mix = size_px, seed, mix
        share = {"thermal": mix.thermal * bool(self.thermal), "rgb": mix.rgb * bool(self.rgb),
                 "pasted": mix.pasted * bool(self.sprites), "rendered": mix.rendered * bool(self.rendered)}
        total = sum(share.values())
        self.kinds, self.share = list(share), [v / total for v in share.values()]

    def sample(self, index: int) -> Sample:
        """One augmented sample."""
        rng = np.random.default_rng([self.seed, index])
        if rng.random() >= self.mix.mosaic:
            return self._one(rng, self.size_px)
        half = self.size_px // 2
        image = np.empty((self.size_px, self.size_px, 3), np.uint8)
        parts = [self._one(rng, half) for _ in range(4)]
        boxes = []
        for part, (x, y) in zip(parts, ((0, 0), (half, 0), (0, half), (half, half)), strict=True):
            image[y : y + half, x : x + half] = part.image
            boxes.append(part.xyxy + np.array([x, y, x, y]))
        common = np.logical_and.reduce([p.labelled for p in parts])
        return Sample(image, np.concatenate(boxes), np.concatenate([p.label for p in parts]), common)

    def _one(self, rng: np.random.Generator, size_px: int) -> Sample:
        kind = self.kinds[rng.choice(len(self.kinds), p=self.share)]
        if kind == "pasted":
            image, objects, labelled = self._pasted(rng, size_px)
        else:
            image, objects, labelled = self._crop(*self._subject(kind, rng), rng, size_px)
        return finish(photographed(image, rng, thermal=kind == "thermal"), objects, labelled)

    def _subject(self, domain: str, rng: np.random.Generator) -> tuple[Picture, int | None]:
        """A picture and the object in it to look at; 15 % of the crops aim at nothing.

        Classes are drawn by the root of their number of objects: rare ones more often than they occur.
        """
        source: list[Picture] = getattr(self, domain)
        classes, share, holding = self.classes[domain]
        if not classes or rng.random() < 0.15:
            return source[rng.integers(len(source))], None
        label = classes[rng.choice(len(classes), p=share)]
        picture = holding[label][rng.integers(len(holding[label]))]
        return picture, int(rng.choice(np.flatnonzero(picture.objects.label == label)))

    def _crop(self, picture: Picture, subject: int | None, rng: np.random.Generator,
              size_px: int) -> tuple[U8, Objects, NDArray[np.bool_]]:
        h, w = picture.image.shape[:2]
        centre = rng.uniform(0, 1, 2) * (w, h)
        side = 40.0
        if subject is not None:
            box = picture.objects.xyxy[subject]
            side = float(np.sqrt((box[2:] - box[:2]).prod()))
            centre = (box[:2] + box[2:]) / 2
        if picture.domain == "thermal":
            scale = _log_uniform(rng, *self.mix.thermal_scale)
            angle = rng.integers(4) * np.pi / 2 + rng.normal(0, 0.06)
        else:
            low, high = self.mix.rgb_object_px
            scale = float(np.clip(_log_uniform(rng, low, high) / max(side, 4.0), 0.3, 3.5))
            angle = rng.uniform(0, 2 * np.pi) if rng.random() < 0.6 else rng.integers(4) * np.pi / 2
        centre = centre + rng.uniform(-0.42, 0.42, 2) * size_px / scale
        margin = np.minimum(0.45 * size_px / scale, np.array([w, h]) / 2)
        centre = np.clip(centre, margin, np.array([w, h]) - margin)  # little of what is outside the picture
        image, objects = warp(picture, similarity(scale, angle, rng.random() < 0.5, centre, size_px), size_px)
        return image, objects, picture.labelled

    def _pasted(self, rng: np.random.Generator, size_px: int) -> tuple[U8, Objects, NDArray[np.bool_]]:
        kind = rng.random()
        labelled = np.ones(len(CLASSES), bool)
        objects = Objects()
        if kind < 0.4 or not self.rgb:
            image = procedural_ground(rng, size_px)
        elif kind < 0.65 and self.grounds:
            ground = self.grounds[rng.integers(len(self.grounds))]
            scale = _log_uniform(rng, 0.5, 1.6)
            m = similarity(scale, rng.uniform(0, 2 * np.pi), False, rng.uniform(0.2, 0.8, 2) * ground.shape[1::-1],
                           size_px)
            image = np.asarray(cv2.warpAffine(ground, m, (size_px, size_px), borderMode=cv2.BORDER_REFLECT), np.uint8)
        else:
            image, objects, labelled = self._crop(*self._subject("rgb", rng), rng, size_px)
        length = _log_uniform(rng, *self.mix.car_px) * min(1.0, 1.5 * size_px / self.size_px)
        return image, objects + paste_traffic(image, objects, self.sprites, rng, length), labelled


def _classes(pictures: Sequence[Picture]) -> tuple[list[int], NDArray[np.float64], dict[int, list[Picture]]]:
    """Class indices that occur, the share of crops each gets, and the pictures showing it."""
    count = np.zeros(len(CLASSES))
    for p in pictures:
        np.add.at(count, p.objects.label[p.objects.label != IGNORE], 1)
    classes = [int(c) for c in np.flatnonzero(count)]
    root = np.sqrt(count[classes])
    return classes, root / max(root.sum(), 1.0), {c: [p for p in pictures if (p.objects.label == c).any()]
                                                  for c in classes}


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


@lru_cache(maxsize=1)
def _noise_bank() -> NDArray[np.int16]:
    """Unit noise x 16, (1024, 1024, 3): a random window of it is far cheaper than fresh noise."""
    return np.round(np.random.default_rng(0).normal(0, 16, (1024, 1024, 3))).astype(np.int16)


def shadowed(image: U8, rng: np.random.Generator) -> U8:
    """Shade of trees and roofs, over ground and vehicles alike."""
    cells, size = int(rng.integers(4, 24)), image.shape[1::-1]
    field = cv2.resize(rng.random((cells, cells), np.float32), size, interpolation=cv2.INTER_CUBIC)
    shade = cv2.GaussianBlur((field > rng.uniform(0.45, 0.7)).astype(np.float32), (0, 0), rng.uniform(0.8, 3))
    return np.asarray(image * (1 - rng.uniform(0.2, 0.65) * shade[..., None]), np.uint8)


def photographed(image: U8, rng: np.random.Generator, thermal: bool) -> U8:
    """Exposure, contrast, colour cast, haze, blur, noise, JPEG; thermal pictures may be inverted (black is hot)."""
    x = image
    tone = np.repeat(np.arange(256, dtype=np.float32)[:, None], 3, 1)
    if thermal:
        if rng.random() < 0.15:
            tone = 255 - tone
    else:
        tone = tone * rng.normal(1, 0.06, 3).astype(np.float32)
        if rng.random() < 0.6:
            colour = 0.0 if rng.random() < 0.2 else rng.uniform(0.3, 1.6)
            x = cv2.transform(x, colour * np.eye(3) + (1 - colour) / 3)
    tone = (tone - 114) * rng.uniform(0.6, 1.4) + 114 + rng.normal(0, 22)
    if rng.random() < 0.3:
        tone = 255 * (np.clip(tone, 0, 255) / 255) ** np.exp(rng.normal(0, 0.3))
    if not thermal and rng.random() < 0.15:
        tone += (rng.uniform(170, 230) - tone) * rng.uniform(0.1, 0.5)  # haze
    x = cv2.LUT(x, np.clip(tone, 0, 255).astype(np.uint8)[None])
    if not thermal and rng.random() < 0.2:
        x = shadowed(x, rng)
    blur = rng.random()
    if blur < 0.2:
        x = cv2.GaussianBlur(x, (0, 0), rng.uniform(0.4, 1.4 if not thermal else 0.9))
    elif blur < 0.3:
        kernel = np.zeros((7, 7), np.float32)
        angle = rng.uniform(0, np.pi)
        d = np.array([np.cos(angle), np.sin(angle)]) * rng.uniform(1, 3)
        cv2.line(kernel, tuple(np.round(3 - d).astype(int).tolist()), tuple(np.round(3 + d).astype(int).tolist()), 1.0)
        x = cv2.filter2D(x, -1, kernel / kernel.sum())
    if rng.random() < 0.4:
        h, w = x.shape[:2]
        v, u = rng.integers(0, 1024 - h), rng.integers(0, 1024 - w)
        noise = _noise_bank()[v : v + h, u : u + w]
        noise = noise[..., :1].repeat(3, 2) if thermal else noise
        x = cv2.addWeighted(x.astype(np.int16), 1.0, noise, rng.uniform(1, 9) / 16, 0.0).clip(0, 255).astype(np.uint8)
    if rng.random() < 0.2:
        _, code = cv2.imencode(".jpg", x, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(35, 90))])
        x = cv2.imdecode(code, cv2.IMREAD_COLOR)
    return np.asarray(x, np.uint8)
