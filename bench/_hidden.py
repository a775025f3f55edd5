"""Occlusions for the benchmark of the lock: as they happen in flights with truth, and drawn over footage."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from uav_perception.camera.bag import BagPictures
from uav_perception.camera.files import FolderPictures
from uav_perception.geometry import clip_boxes
from uav_perception.offline.truth import BagTruth
from uav_perception.track.camera_motion import CameraMotion, mapped

F64 = NDArray[np.float64]
HIDDEN, SEEN = 0.1, 0.7  # visibilities
WHOLE = 0.9  # one from which on nothing hides a target: from there to hidden and back at once nothing covers it
MIN_PX = 12  # size of the smallest target
LEAD_S, AFTER_S = 1.5, 2.0
MIN_S, MAX_S = 1.0, 3.2  # of the occlusions


@dataclass(frozen=True)
class Case:
    """Frames from before to after one occlusion, with the truth of the target (row per frame) and of the others."""

    name: str
    hidden: tuple[int, int]  # first and last frame of it
    stamps_ns: list[int]
    images: list[Any]
    box: F64  # (T, 4)
    visibility: F64  # (T,)
    others: list[F64]  # T arrays (N, 4) of what else a detector would see


def _recording(path: Path) -> tuple[list[int], list[Callable[[], Any]], list[dict[str, tuple[F64, float]]]]:
    """Stamps, pictures when asked for, and (box, visibility) of every object, frame by frame."""
    truth = BagTruth(path, 1_000_000)
    stamps, images, seen = [], [], []
    for picture in BagPictures(path).pictures():
        found = truth.boxes(picture.stamp_ns)
        stamps.append(picture.stamp_ns)
        images.append(functools.cache(picture.decode))
        seen.append({} if found is None else {
            i: (box, float(v)) for i, box, v in zip(found.ids, found.xyxy_px, found.visibility, strict=True)})
    return stamps, images, seen


def _others(seen: dict[str, tuple[F64, float]], target: str) -> F64:
    """(N, 4) what a detector would see beside the target."""
    return np.array([box for i, (box, v) in seen.items() if i != target and v > 0.5]).reshape(-1, 4)


def bag_cases(path: Path, min_s: float = MIN_S) -> Iterator[Case]:
    """Objects that vanish inside the image for ``min_s`` to 3 s and come back."""
    stamps, images, seen = _recording(path)
    height, width = images[0]().shape[:2]
    t = np.array(stamps) / 1e9
    for target in sorted({i for s in seen for i in s}):
        visibility = np.array([s[target][1] if target in s else 0.0 for s in seen])
        known = np.array([target in s and s[target][1] > SEEN for s in seen])
        if known.sum() < 4:
            continue
        boxes = np.array([s[target][0] if target in s else np.full(4, np.nan) for s in seen])
        at = np.flatnonzero(known)
        boxes = np.stack([np.interp(t, t[at], boxes[at, c]) for c in range(4)], axis=1)
        if np.sqrt(np.prod(boxes[at[0], 2:] - boxes[at[0], :2])) < MIN_PX:
            continue
        for a, b in _gaps(visibility, t, min_s):
            inside = (boxes[a:b, :2] > 0).all() and (boxes[a:b, 2:] < [width, height]).all()
            lead = int(np.searchsorted(t, t[a] - LEAD_S))
            tail = _shown_until(visibility[:int(np.searchsorted(t, t[b] + AFTER_S))], b)
            if not inside or not known[lead:lead + 3].all() or not known[tail - 3:tail].all():
                continue
            part = slice(lead, tail)
            others = [_others(s, target) for s in seen[part]]
            yield Case(f"{path.stem}/{target}@{a}", (a - lead, b - 1 - lead), stamps[part],
                       [d() for d in images[part]], boxes[part], visibility[part], others)


def _shown_until(visibility: F64, again: int) -> int:
    """The end of what is seen of a target that comes out from frame ``again`` on: before it is hidden anew, if it is."""
    shown = again + np.flatnonzero(visibility[again:] > SEEN)
    hidden = np.flatnonzero(visibility <= HIDDEN)
    anew = hidden[hidden > shown[0]] if len(shown) else shown
    return 1 + int(shown[shown < anew[0]][-1]) if len(anew) else len(visibility)


def _gaps(visibility: F64, t: F64, min_s: float) -> Iterator[tuple[int, int]]:
    """(first hidden, first seen again) frames of full occlusions that last ``min_s`` to 3 s. What is gone and there again
    at a stroke was put elsewhere: at the end of its road a vehicle begins it anew."""
    hidden = np.concatenate([[False], visibility <= HIDDEN, [False]])
    edges = np.flatnonzero(np.diff(hidden.astype(int)))
    for a, b in edges.reshape(-1, 2).tolist():
        if a > 0 and b < len(t) and min_s <= t[b] - t[a] <= MAX_S and min(visibility[a - 1], visibility[b]) < WHOLE:
            yield a, b


@dataclass(frozen=True)
class Footage:
    """A recording and one target in it that nothing hides (``shown``), rows per frame."""

    name: str
    stamps_ns: list[int]
    images: list[Callable[[], Any]]
    steps: list[F64]  # homographies from the frame before
    box: F64  # (T, 4)
    shown: NDArray[np.bool_]
    others: list[F64]  # T arrays (N, 4) of what else a detector would see


def folder_footage(folder: Path) -> Iterator[Footage]:
    """The target of an OTB-style sequence."""
    pictures = FolderPictures(folder, 10.0 if folder.name.startswith("uav123") else 25.0)
    images = [functools.cache(p.decode) for p in pictures.pictures()]
    xywh = np.loadtxt(folder / "groundtruth.txt", delimiter=",").reshape(-1, 4)[: len(images)]
    boxes = np.hstack([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]])
    steps = _steps(images, [boxes[max(0, k - 1)][None] for k in range(len(images))])
    yield Footage(folder.name, pictures.stamps_ns, images, steps, boxes, np.ones(len(images), bool),
                  [np.zeros((0, 4))] * len(images))


def bag_footage(path: Path) -> Iterator[Footage]:
    """Every target of a rendered flight."""
    stamps, images, seen = _recording(path)
    height, width = images[0]().shape[:2]
    steps = _steps(images, [np.array([b for b, _ in s.values()]).reshape(-1, 4) for s in [{}, *seen[:-1]]])
    for target in sorted({i for s in seen for i in s}):
        boxes = np.array([s[target][0] if target in s else np.zeros(4) for s in seen])
        inside = (boxes[:, :2] > 0).all(axis=1) & (boxes[:, 2:] < [width, height]).all(axis=1)
        clear = np.array([target in s and s[target][1] > SEEN for s in seen])
        large = np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)) >= MIN_PX
        others = [_others(s, target) for s in seen]
        yield Footage(f"{path.stem}/{target}", stamps, images, steps, boxes, inside & clear & large, others)


def drawn_cases(footage: Footage) -> Iterator[Case]:
    """A canopy or a bridge, fixed to the ground, drawn over the way that a target takes for 1 to 2.5 s."""
    t = np.array(footage.stamps_ns) / 1e9
    rng = np.random.default_rng(len(t))
    for start_s in np.arange(t[0] + LEAD_S + 0.5, t[-1] - AFTER_S - 1.5, 1.5):
        end_s = start_s + rng.uniform(1.0, 2.5)
        a, b = np.searchsorted(t, [start_s, end_s])
        lead, tail = np.searchsorted(t, [start_s - LEAD_S - 0.5, end_s + AFTER_S + 0.5])
        bridge, looks = rng.random() < 0.5, np.random.default_rng(a)
        if not footage.shown[lead:tail].all():
            continue
        ground = {int(a): np.eye(3)}  # frame a to frame k
        for k in range(a + 1, tail):
            ground[k] = footage.steps[k] @ ground[k - 1]
        for k in range(a, lead, -1):
            ground[k - 1] = np.linalg.inv(footage.steps[k]) @ ground[k]
        way = np.concatenate([mapped(np.linalg.inv(ground[k]), _corners(footage.box[k])) for k in range(a, b)])
        hull = _band(way) if bridge else cv2.convexHull(way.astype(np.float32)).reshape(-1, 2).astype(np.float64)
        hull = (hull - hull.mean(axis=0)) * 1.1 + hull.mean(axis=0)
        texture = _leaves(footage.images[a](), looks) if not bridge else _concrete(footage.images[a](), looks)
        drawn, seen, others = [], [], []
        for k in range(lead, tail):
            image, to_frame = footage.images[k](), ground[k]
            mask = np.zeros(image.shape[:2], np.uint8)
            cv2.fillConvexPoly(mask, np.rint(np.clip(mapped(to_frame, hull), -9999, 9999)).astype(np.int32), 255)
            cover = cv2.warpPerspective(texture, to_frame, (image.shape[1], image.shape[0]),
                                        borderMode=cv2.BORDER_REFLECT)
            drawn.append(np.where(mask[:, :, None] > 0, cover, image))
            seen.append(_uncovered(footage.box[k], mask))
            others.append(np.array([o for o in footage.others[k] if _uncovered(o, mask) > 0.5]).reshape(-1, 4))
        for first, again in _gaps(np.array(seen), t[lead:tail], MIN_S):
            if t[lead + first] - LEAD_S < t[lead]:
                continue
            start = int(np.searchsorted(t, t[lead + first] - LEAD_S)) - lead
            end = min(tail - lead, int(np.searchsorted(t, t[lead + again] + AFTER_S)) - lead)
            before = np.array(seen[start:first])
            if min(*seen[start:start + 3], *seen[end - 3:end]) > 0.95 and (before > HIDDEN).all():
                part, whole = slice(start, end), slice(lead + start, lead + end)
                yield Case(f"{footage.name}{'=' if bridge else '~'}{lead + first}",
                           (first - start, again - 1 - start), footage.stamps_ns[whole],
                           drawn[part], footage.box[whole], np.array(seen[part]), others[part])


def _steps(images: list[Callable[[], Any]], moving: list[F64]) -> list[F64]:
    camera = CameraMotion(400, 110)
    return [camera.step(image(), boxes).cur_from_prev for image, boxes in zip(images, moving, strict=True)]


def _uncovered(box: F64, mask: Any) -> float:
    """Share of a box that a mask does not cover."""
    x1, y1, x2, y2 = np.rint(clip_boxes(box, mask.shape[1], mask.shape[0])).astype(int)
    inside = mask[y1:y2, x1:x2]
    return 1.0 - float((inside > 0).mean()) if inside.size else 0.0


def _band(way: F64) -> F64:
    """Corners of a straight band across the way of these points."""
    along = way[-4:].mean(axis=0) - way[:4].mean(axis=0)
    along = along / max(float(np.linalg.norm(along)), 1e-6)
    across = 3000.0 * np.array([-along[1], along[0]])
    middle, reach = way.mean(axis=0), (way - way.mean(axis=0)) @ along
    near, far = middle + reach.min() * along, middle + reach.max() * along
    return np.array([near - across, near + across, far + across, far - across])


def _corners(box: F64) -> F64:
    return np.asarray(box[[0, 1, 2, 1, 2, 3, 0, 3]].reshape(4, 2))


def _leaves(image: Any, rng: np.random.Generator) -> Any:
    """Blotches of two scales about the picture's own mean shade, greenish."""
    shade = image.mean() + image.std() * (0.25 * _blotches(image, 3, rng) + 0.4 * _blotches(image, 12, rng))
    return np.clip(shade[:, :, None] * [0.75, 1.05, 0.85], 0, 255).astype(np.uint8)


def _concrete(image: Any, rng: np.random.Generator) -> Any:
    """Some grey, with a little grain."""
    shade = rng.uniform(60, 200) + 3 * _blotches(image, 1, rng) + 3 * _blotches(image, 40, rng)
    return np.clip(shade[:, :, None] * [1.02, 1.0, 0.98], 0, 255).astype(np.uint8)


def _blotches(image: Any, size_px: int, rng: np.random.Generator) -> Any:
    h, w = image.shape[:2]
    return cv2.resize(rng.normal(0, 1, (h // size_px + 1, w // size_px + 1)), (w, h))
