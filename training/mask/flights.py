"""Rendered flights for the mask: pictures some time apart with depth, pose and what moves, a file a flight."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from uav_perception.errors import InputError
from uav_perception.records import F64, U8, Bool
from uav_perception.sim.flight import SCENES, Flight, FlightOptions

FPS = 20.0
EVERY = 4  # frames of the flight from picture to picture
PICTURES = 9  # of one flight
WALKED = ("street", "junction", "park", "plaza", "low-oblique", "night")  # scenes to which more people come
CROWD = 6.0  # up to so many times as many
FIRST_SEED = 100  # of the places; measurements use seeds from 870 on


@dataclass(frozen=True)
class Clip:
    """One flight: pictures (N, H, W, 3) BGR, depth (N, H, W) m (0 = sky), ``speed_m_s`` (N, H, W) of what is seen over
    the ground, ``things`` (N, H, W) that move or could, world from camera (N, 4, 4), intrinsics (3, 3), degrees the
    camera looks down."""

    images: U8
    depth: NDArray[np.float16]
    speed_m_s: NDArray[np.float16]
    things: Bool
    world_from_camera: F64
    K: F64
    look_down_deg: float

    def backwards(self) -> Clip:
        """The same flight run the other way: what moves still moves."""
        return replace(self, images=self.images[::-1], depth=self.depth[::-1], speed_m_s=self.speed_m_s[::-1],
                       things=self.things[::-1], world_from_camera=self.world_from_camera[::-1])


def render(index: int) -> Clip:
    """Flight number ``index``: scenes in turn, each over a place of its own; every other one filmed otherwise, and more
    people in some, for walkers are small and hard to outline."""
    rng = np.random.default_rng([index, 97])
    name = list(SCENES)[index % len(SCENES)]
    spec = SCENES[name]
    options = FlightOptions(seed=FIRST_SEED + index, fps=FPS)
    if rng.random() < 0.5:
        altitude_m = float(np.clip(spec.altitude_m * rng.uniform(0.6, 1.3), 8, 140))
        options = FlightOptions(
            seed=FIRST_SEED + index, fps=FPS, altitude_m=altitude_m,
            look_down_deg=float(np.clip(spec.look_down_deg + rng.uniform(-15, 15), 15, 90)),
            fov_deg=float(rng.uniform(50, 80)), noise=float(rng.uniform(0.004, 0.02)))
    first = int(rng.integers(1, 60))
    if name in WALKED:
        options = replace(options, walkers=round(spec.density.walkers * rng.uniform(1, CROWD)))
    flight = Flight(name, options)
    frames = flight.frames(first, EVERY)
    shots = [next(frames) for _ in range(PICTURES)]
    return Clip(np.stack([s.frame.image for s in shots]),
                np.stack([np.where(s.depth.valid, s.depth.depth, 0).astype(np.float16) for s in shots]),
                np.stack([s.speed_m_s.astype(np.float16) for s in shots]), np.stack([s.id_mask > 0 for s in shots]),
                np.stack([s.world_from_camera for s in shots]), flight.camera.K,
                options.look_down_deg or spec.look_down_deg)


def rendered(folder: Path, count: int) -> Iterator[Path]:
    """The files of ``count`` flights in ``folder``; those not there are rendered first."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        path = folder / f"{index:05d}.npz"
        if not path.exists():
            clip = render(index)
            partial = path.with_suffix(".partial.npz")
            np.savez_compressed(partial, **{name: getattr(clip, name) for name in Clip.__dataclass_fields__})
            os.replace(partial, path)
        yield path


def read(path: Path) -> Clip:
    """One flight's file.

    Raises:
        InputError: it is none, or another version's.
    """
    names = Clip.__dataclass_fields__
    try:
        with np.load(path) as file:
            found = {name: file[name] for name in names}
    except (KeyError, OSError, ValueError, zipfile.BadZipFile) as e:
        raise InputError(f"{path}: {e}", f"a flight with {', '.join(names)}",
                         "remove the file: it is rendered anew") from e
    return Clip(**{**found, "look_down_deg": float(found["look_down_deg"])})
