"""Pictures with exact depth for the supervised start: half of the simulator's places, half of rooms made of boxes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from uav_perception.records import F32, U8
from uav_perception.sim.views import VIEWS_PER_PLACE, random_depth_view

from .scenes import FAR_M, random_pair

WIDTH = 416
ASPECTS = (4 / 3, 16 / 9, 4 / 3, 3.25)  # of the cameras; all pictures of one place have the same


def view(seed: int, height: int) -> tuple[U8, F32]:
    """Picture (height, WIDTH, 3) BGR, and depth (height, WIDTH) in metres, ``FAR_M`` at the sky."""
    rng = np.random.default_rng([seed, 61])
    steepest = np.pi / 2 if rng.random() < 0.25 else 1.2  # straight down there is little to learn
    image, depth = random_depth_view(seed, WIDTH, height, down_rad=(0.0, steepest))
    return image, np.minimum(depth, FAR_M)


def chunk(index: int) -> tuple[U8, F32]:
    """One place of the simulator and as many pictures of boxes: (N, H, W, 3), (N, H, W)."""
    height = round(WIDTH / ASPECTS[index % len(ASPECTS)])
    drawn = [view(index * VIEWS_PER_PLACE + k, height) for k in range(VIEWS_PER_PLACE)]
    rng = np.random.default_rng([index, 62])
    for _ in range(VIEWS_PER_PLACE // 2):
        first, second, first_depth, second_depth, _, _ = random_pair(rng, WIDTH, height)
        drawn += [(first, first_depth), (second, second_depth)]
    return np.stack([image for image, _ in drawn]), np.stack([depth for _, depth in drawn])


def render_chunks(folder: Path, indices: range) -> Iterator[Path]:
    """The files of places ``indices`` in ``folder``; those not there are rendered first."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in indices:
        path = folder / f"{index:05d}.npz"
        if not path.exists():
            image, depth = chunk(index)
            partial = path.with_suffix(".partial")
            with partial.open("wb") as file:
                np.savez(file, image=image, depth=depth.astype(np.float16))
            os.replace(partial, path)
        yield path
