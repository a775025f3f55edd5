"""An endless, seeded stream of samples: a template crop and crops to refine, with the true edges.

Three kinds: boxes of one picture seen twice under other geometry (``still``), objects of rendered flights at different
times (``flight``), and things pasted on grounds (``pasted``: another ground, true masks, neighbours that move along or
not, covers). All get a believed box that is off, a box that may be looser than the thing by a constant share, the
resolution of far objects, and weather and lens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from training.detector.pictures import F64, U8, Picture
from training.detector.stream import photographed

from .network import BINS, SIDE_PX
from .things import Thing

SEARCHES = 2  # crops to refine a sample, for the same template
CROPS = 1 + SEARCHES
KINDS = {"still": 0.25, "flight": 0.3, "pasted": 0.45}
ABSENT = 0.1  # share of crops without the target


@dataclass(frozen=True)
class Sample:
    """``crops`` (CROPS, SIDE, SIDE, 3): the template, then crops to refine. For the latter ``edges`` (SEARCHES, 4)
    left, top, right, bottom in believed box sides from the middle, ``present``, and ``mask`` (SEARCHES, BINS, BINS)
    0..1, negative where it is not known."""

    crops: U8
    edges: F64
    present: NDArray[np.bool_]
    mask: NDArray[np.float32]
    kind: str


@dataclass(frozen=True)
class Flight:
    """Pictures of a rendered flight and, per object, the frames in which it is fully seen with its boxes there."""

    pictures: list[U8]
    tracks: list[tuple[NDArray[np.int64], F64]] = field(default_factory=list)


class Stream:
    """``sample(index)`` depends on the seed and the index alone, so that an interrupted run goes on where it was."""

    def __init__(self, pictures: Sequence[Picture], flights: Sequence[Flight], things: Sequence[Thing],
                 grounds: Sequence[U8], seed: int) -> None:
        self.objects = [(p, i) for p in pictures for i, b in enumerate(p.objects.xyxy) if _usable(p, b)]
        domains = sorted({p.domain for p, _ in self.objects})
        self.of_domain = [[k for k, (p, _) in enumerate(self.objects) if p.domain == d] for d in domains]
        self.seed = seed
        self.tracks = [(f, *t) for f in flights for t in f.tracks]
        self.things, self.grounds = list(things), list(grounds)
        have = {"still": bool(self.objects), "flight": bool(self.tracks), "pasted": bool(self.things)}
        share = {k: v * have[k] for k, v in KINDS.items()}
        self.kinds, self.share = list(share), [v / sum(share.values()) for v in share.values()]

    def sample(self, index: int, kind: str = "") -> Sample:
        rng = np.random.default_rng([self.seed, index])
        kind = kind or self.kinds[rng.choice(len(self.kinds), p=self.share)]
        crops, edges, present, mask, thermal = getattr(self, f"_{kind}")(rng)
        tall = photographed(np.concatenate(list(crops)), rng, thermal)
        crops = np.stack([_varied(c, rng) for c in tall.reshape(CROPS, SIDE_PX, SIDE_PX, 3)])
        if rng.random() < 0.5:  # mirrored
            crops, mask = crops[:, :, ::-1], mask[:, :, ::-1]
            edges = edges[:, [2, 1, 0, 3]] * [-1, 1, -1, 1]
        if rng.random() < 0.2:  # turned: down is not always down from the air
            crops, mask = crops.transpose(0, 2, 1, 3), mask.transpose(0, 2, 1)
            edges = edges[:, [1, 0, 3, 2]]
        return Sample(np.ascontiguousarray(crops), edges, present, np.ascontiguousarray(mask, np.float32), kind)

    def _still(self, rng: np.random.Generator) -> tuple[U8, F64, NDArray[np.bool_], NDArray[np.float32], bool]:
        domain = self.of_domain[rng.integers(len(self.of_domain))]
        picture, i = self.objects[domain[rng.integers(len(domain))]]
        outline, base, loose = picture.objects.outline[i], rng.integers(4) * np.pi / 2 + rng.normal(0, 0.1), _loose(rng)
        crops, edges, present, masks = [], [], [], []
        for k in range(CROPS):
            m = _view(rng, base, 0.0 if k == 0 else 1.0)
            box = _loosened(_box(outline @ m.T), loose)
            believed = _believed(rng, box, k)
            gone = k > 0 and rng.random() < ABSENT
            if gone:
                believed = believed + np.tile(rng.choice([-1, 1], 2) * rng.uniform(0.9, 3, 2) * _sides(box), 2)
            crops.append(_cut(picture.image, m, believed))
            edges.append(_relative(box, believed))
            present.append(not gone)
            masks.append(np.full((BINS, BINS), -1, np.float32))
        return (np.stack(crops), np.array(edges[1:]), np.array(present[1:]), np.stack(masks[1:]),
                picture.domain == "thermal")

    def _flight(self, rng: np.random.Generator) -> tuple[U8, F64, NDArray[np.bool_], NDArray[np.float32], bool]:
        flight, frames, boxes = self.tracks[rng.integers(len(self.tracks))]
        loose = _loose(rng)
        picks = rng.integers(0, len(frames), CROPS)
        crops, edges, present = [], [], []
        for k, j in enumerate(picks):
            box = _loosened(boxes[j], loose)
            believed = _believed(rng, box, k)
            gone = k > 0 and rng.random() < ABSENT
            if gone:
                believed = believed + np.tile(rng.choice([-1, 1], 2) * rng.uniform(0.9, 3, 2) * _sides(box), 2)
            crops.append(_cut(flight.pictures[frames[j]], np.eye(2), believed))
            edges.append(_relative(box, believed))
            present.append(not gone)
        unknown = np.full((SEARCHES, BINS, BINS), -1, np.float32)
        return np.stack(crops), np.array(edges[1:]), np.array(present[1:]), unknown, False

    def _pasted(self, rng: np.random.Generator) -> tuple[U8, F64, NDArray[np.bool_], NDArray[np.float32], bool]:
        thing, other = (self.things[rng.integers(len(self.things))] for _ in range(2))
        if rng.random() < 0.3:
            other = thing  # a twin
        base, loose, aspect = rng.uniform(0, 2 * np.pi), _loose(rng), float(np.exp(rng.normal(0, 0.25)))
        ground, place = self.grounds[rng.integers(len(self.grounds))], rng.uniform(0.1, 0.9, 2)
        zoom, roll = float(np.exp(rng.uniform(-1.2, 0.7))), rng.uniform(0, 2 * np.pi)
        side = float(np.exp(rng.uniform(np.log(11), np.log(64))))  # of the target in the camera's picture, px
        gain, beside = rng.uniform(0.5, 1.3), rng.random() < 0.5
        spot, spot_turn, spot_size = rng.uniform(0, 2 * np.pi), rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 1.6)
        along, elsewhere = rng.random() < 0.5, rng.random() < 0.4
        crops, edges, present, masks = [], [], [], []
        for k in range(CROPS):
            if elsewhere and k == 1:
                ground, place = self.grounds[rng.integers(len(self.grounds))], rng.uniform(0.1, 0.9, 2)
            shape = thing.poses[rng.integers(len(thing.poses))]
            turn = np.diag([aspect, 1.0]) @ _view(rng, base, 0.0 if k == 0 else 1.0)
            outline = _outline(shape[..., 3])
            turn = turn * (100 / np.sqrt(np.prod(_sides(_box(outline @ turn.T)))))  # a side of 100 px, whatever it is
            turn = turn * np.exp(rng.normal(0, 0.05))
            box = _box(outline @ turn.T)
            wanted = _loosened(box, loose)
            believed = _believed(rng, wanted, k)
            gone = k > 0 and rng.random() < ABSENT
            canvas = _ground(ground, place * ground.shape[1::-1] + rng.normal(0, 20, 2), zoom, roll)
            if beside:
                away = spot if along else rng.uniform(0, 2 * np.pi)
                twist = spot_turn + (base if along else rng.uniform(0, 7))
                m = _rotation(twist) * spot_size * 100 / max(other.poses[0].shape[:2])
                reach = 0.5 * _sides(box) + 45 * spot_size * rng.uniform(0.7, 1.5)
                middle = (box[:2] + box[2:]) / 2 + reach * [np.cos(away), np.sin(away)]
                _paste(canvas, other.poses[0], m, middle - m @ _middle(other.poses[0]), believed, gain)
            seen = np.zeros((SIDE_PX, SIDE_PX), np.float32)
            if not gone:
                seen = _paste(canvas, shape, turn, np.zeros(2), believed, gain * np.exp(rng.normal(0, 0.08)))
            if k > 0 and not gone and rng.random() < 0.15:
                _cover(canvas, seen, rng)
            crops.append(_coarse(canvas, side * np.exp(rng.normal(0, 0.1)), _sides(believed)))
            edges.append(_relative(wanted, believed))
            present.append(not gone)
            masks.append(cv2.resize(seen, (BINS, BINS), interpolation=cv2.INTER_AREA))
        return np.stack(crops), np.array(edges[1:]), np.array(present[1:]), np.stack(masks[1:]), False


def _usable(picture: Picture, box: F64) -> bool:
    h, w = picture.image.shape[:2]
    side = box[2:] - box[:2]
    return bool(side.min() >= 8 and (box[:2] > 1).all() and (box[2:] < [w - 1, h - 1]).all())


def _rotation(angle: float) -> F64:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s], [s, c]])


def _view(rng: np.random.Generator, base: float, change: float) -> F64:
    """Picture to view: turned by ``base``, and by a little more, stretched and sheared, where ``change`` is 1."""
    wild = 2.0 if rng.random() < 0.25 else 1.0
    stretch = np.exp(change * wild * rng.normal(0, 0.07, 2))
    shear = np.array([[1, change * wild * rng.normal(0, 0.05)], [change * wild * rng.normal(0, 0.05), 1]])
    return np.asarray(np.diag(stretch) @ shear @ _rotation(base + change * wild * rng.normal(0, 0.13)))


def _loose(rng: np.random.Generator) -> F64:
    """Shares of the sides by which the annotator's box exceeds the thing's at left, top, right, bottom."""
    return rng.normal(0.03, 0.06, 4).clip(-0.1, 0.25) if rng.random() < 0.5 else np.zeros(4)


def _loosened(box: F64, loose: F64) -> F64:
    return box + loose * np.tile(_sides(box), 2) * [-1, -1, 1, 1]


def _believed(rng: np.random.Generator, box: F64, k: int) -> F64:
    """The tracker's idea of the true ``box``: exact for the template, else off."""
    if k == 0:
        return box
    wild = rng.choice([0.6, 1.0, 1.8])
    size = _sides(box) * np.exp(wild * (rng.normal(0, 0.11) + rng.normal(0, 0.07, 2)))
    centre = (box[:2] + box[2:]) / 2 + wild * rng.normal(0, 0.07, 2) * _sides(box)
    return np.concatenate([centre - size / 2, centre + size / 2])


def _sides(box: F64) -> F64:
    return np.asarray(box[2:] - box[:2])


def _box(points: F64) -> F64:
    return np.concatenate([points.min(0), points.max(0)])


def _relative(box: F64, believed: F64) -> F64:
    middle = np.tile((believed[:2] + believed[2:]) / 2, 2)
    return np.asarray((box - middle) / np.tile(_sides(believed), 2))


def _to_crop(believed: F64) -> F64:
    """(2, 3) from view to crop: the believed box becomes the middle half."""
    scale = SIDE_PX / 2 / _sides(believed)
    return np.column_stack([np.diag(scale), SIDE_PX / 2 - scale * (believed[:2] + believed[2:]) / 2])


def _warp(image: U8, m: F64, border: int) -> U8:
    """Crop by a (2, 3) map of continuous positions (pixel i covers [i, i + 1)); shrinks without aliasing."""
    shrink = float(np.sqrt(abs(np.linalg.det(m[:, :2]))))
    k = 2 if shrink < 0.5 else 1
    shift = m.copy() * k
    shift[:, 2] += shift[:, :2] @ [0.5, 0.5] - 0.5
    fine = cv2.warpAffine(image, shift, (k * SIDE_PX, k * SIDE_PX), flags=cv2.INTER_LINEAR, borderMode=border)
    return np.asarray(fine if k == 1 else cv2.resize(fine, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA), np.uint8)


def _cut(image: U8, view: F64, believed: F64) -> U8:
    m = _to_crop(believed)
    return _warp(image, np.column_stack([m[:, :2] @ view, m[:, 2]]), cv2.BORDER_REPLICATE)


def _ground(image: U8, place: F64, zoom: float, roll: float) -> U8:
    m = _rotation(roll) * zoom
    return _warp(image, np.column_stack([m, SIDE_PX / 2 - m @ place]), cv2.BORDER_REFLECT_101)


def _outline(alpha: U8) -> F64:
    """Corners of the pixels on the outside of what is opaque."""
    contours, _ = cv2.findContours(np.asarray(alpha > 127, np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    points = np.concatenate([c[:, 0] for c in contours]).astype(np.float64)
    return np.concatenate([points + d for d in ((0, 0), (1, 0), (0, 1), (1, 1))])


def _middle(shape: U8) -> F64:
    return np.array(shape.shape[1::-1]) / 2


def _paste(canvas: U8, shape: U8, view: F64, offset: F64, believed: F64, gain: float) -> NDArray[np.float32]:
    """Blend a pose into ``canvas`` in place; returns its alpha there."""
    m = _to_crop(believed)
    placed = _warp(shape, np.column_stack([m[:, :2] @ view, m[:, :2] @ offset + m[:, 2]]), cv2.BORDER_CONSTANT)
    soft = cv2.GaussianBlur(placed, (3, 3), 0.6).astype(np.float32)
    alpha = soft[..., 3:] / 255
    canvas[...] = np.clip(canvas * (1 - alpha) + soft[..., :3] * gain, 0, 255).astype(np.uint8)
    return np.asarray(alpha[..., 0])


def _cover(canvas: U8, seen: NDArray[np.float32], rng: np.random.Generator) -> None:
    """Something in front of part of the target."""
    side = rng.uniform(0.1, 0.3, 2) * SIDE_PX
    at = SIDE_PX / 2 + rng.normal(0, 0.18, 2) * SIDE_PX
    rect = ((float(at[0]), float(at[1])), (float(side[0]), float(side[1])), float(rng.uniform(0, 180)))
    corners = np.round(cv2.boxPoints(rect)).astype(np.int32)
    mask = cv2.fillConvexPoly(np.zeros((SIDE_PX, SIDE_PX), np.uint8), corners, 1)
    roll = np.roll(canvas, tuple(int(v) for v in rng.integers(20, 60, 2)), (0, 1))
    np.copyto(canvas, roll if rng.random() < 0.5 else np.asarray(rng.integers(0, 255, 3), np.uint8),
              where=mask[..., None] > 0)
    seen[mask > 0] = 0


def _coarse(crop: U8, target_px: float, sides: F64) -> U8:
    """As if the target had measured ``target_px`` in the camera's picture."""
    per_side = target_px * sides / np.sqrt(np.prod(sides)) * 2  # pixels of the picture that the crop spans
    low = np.round(np.clip(per_side, 6, SIDE_PX)).astype(int)
    if (low >= SIDE_PX).all():
        return crop
    small = cv2.resize(crop, (int(low[0]), int(low[1])), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_LINEAR), np.uint8)


def _varied(crop: U8, rng: np.random.Generator) -> U8:
    """Exposure, blur and noise that change between two frames."""
    out = cv2.convertScaleAbs(crop, alpha=float(np.exp(rng.normal(0, 0.07))), beta=float(rng.normal(0, 5)))
    if rng.random() < 0.2:
        out = cv2.blur(out, (int(rng.integers(1, 6)), int(rng.integers(1, 6))))
    return np.asarray(out, np.uint8)
