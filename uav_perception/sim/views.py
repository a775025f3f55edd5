"""Single randomised views for training: every seed is another picture of another kind of place."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from ..records import F32, F64, I32, U8, Bool
from .actors import Crowd, Density
from .layout import Place
from .look import Sensor, compress, develop, develop_thermal, random_light, random_sensor
from .places import PLACES
from .rays import Object, View
from .render import Rendered, Renderer
from .trajectories import look_at
from .world import renderer_types

VIEWS_PER_PLACE = 40  # building a place costs about as much as a few views of it
_MIX = {
    "street": 0.22,
    "junction": 0.22,
    "roundabout": 0.14,
    "parking": 0.12,
    "town": 0.10,
    "park": 0.05,
    "plaza": 0.08,
    "field": 0.04,
    "avenue": 0.03,
}
_MIX_THERMAL = {
    "street": 0.12,
    "junction": 0.10,
    "roundabout": 0.06,
    "parking": 0.2,
    "town": 0.08,
    "park": 0.10,
    "plaza": 0.3,
    "field": 0.04,
}


def camera_matrix(width_px: int, height_px: int, horizontal_fov_rad: float) -> F64:
    """K of an ideal pinhole with square pixels and a centred principal point."""
    f = width_px / 2 / np.tan(horizontal_fov_rad / 2)
    return np.array([[f, 0, (width_px - 1) / 2], [0, f, (height_px - 1) / 2], [0, 0, 1]])


def visible_boxes(rendered: Rendered, count: int) -> tuple[F32, I32]:
    """Boxes (count, 4) around each object's visible pixels, and their number of pixels (0: the box is all zero)."""
    w = rendered.owner.shape[1]
    flat = rendered.owner.ravel()
    seen = np.flatnonzero(flat >= 0)
    boxes = np.zeros((count, 4), np.float32)
    pixels = np.bincount(flat[seen], minlength=count).astype(np.int32)
    y, x = np.divmod(seen, w)
    lo, hi = np.full((count, 2), 1 << 30), np.full((count, 2), -1)
    np.minimum.at(lo, flat[seen], np.stack([x, y], 1))
    np.maximum.at(hi, flat[seen], np.stack([x, y], 1))
    some = pixels > 0
    boxes[some] = np.concatenate([lo, hi + 1], 1)[some]
    return boxes, pixels


@lru_cache(maxsize=2)
def _place(index: int, thermal: bool) -> tuple[Place, Renderer]:
    rng = np.random.default_rng([index, 71, int(thermal)])
    mix = _MIX_THERMAL if thermal else _MIX
    name = str(rng.choice(list(mix), p=np.array(list(mix.values())) / sum(mix.values())))
    place = PLACES[name](rng)
    return place, Renderer(place.world)


def random_view(
    seed: int,
    width_px: int = 512,
    height_px: int = 512,
    altitude_m: tuple[float, float] = (12.0, 130.0),
    down_rad: tuple[float, float] = (0.35, 1.5708),
    thermal: bool = False,
    min_side_px: float = 4.0,
    min_visible: float = 0.25,
) -> tuple[U8, F32, I32]:
    """One picture drawn from ``seed``: consecutive seeds share a place, so count upwards for speed.

    Returns:
        image (H, W, 3) uint8 BGR, boxes (N, 4) float32 xyxy px, class ids (N,) int32 into ``actors.CLASS_NAMES``.
        Objects smaller than ``min_side_px`` (longer side) or less than ``min_visible`` visible are left out.

    Raises:
        MissingDependency: without the extra ``sim``.
    """
    image, rendered, objects = _drawn(seed, (width_px, height_px), altitude_m, down_rad, thermal)
    boxes, pixels = visible_boxes(rendered, len(objects))
    keep = _labelled(boxes, pixels, rendered.outline_px[:, 4], min_side_px, min_visible)
    classes = np.array([o.class_id for o in objects], np.int32).reshape(-1)
    return image, boxes[keep], classes[keep]


def random_depth_view(
    seed: int,
    width_px: int,
    height_px: int,
    altitude_m: tuple[float, float] = (2.5, 130.0),
    down_rad: tuple[float, float] = (0.0, 1.5708),
) -> tuple[U8, F32]:
    """A picture (H, W, 3) uint8 BGR as of ``random_view``, and its depth (H, W) in metres, infinite at the sky.

    Raises:
        MissingDependency: without the extra ``sim``.
    """
    image, rendered, _ = _drawn(seed, (width_px, height_px), altitude_m, down_rad, thermal=False)
    return image, rendered.depth_m


def _drawn(
    seed: int, size_px: tuple[int, int], altitude_m: tuple[float, float], down_rad: tuple[float, float], thermal: bool
) -> tuple[U8, Rendered, list[Object]]:
    renderer_types()
    place, renderer = _place(seed // VIEWS_PER_PLACE, thermal)
    rng = np.random.default_rng([seed, 72, int(thermal)])
    night = thermal and bool(rng.random() < 0.5)
    crowd = Crowd(
        place,
        rng,
        Density(
            rng.choice([10, 25, 50, 90]), rng.choice([0.3, 0.6, 0.9]), int(rng.integers(5, 70)), rng.uniform(0.2, 0.9)
        ),
        night,
    )
    world_rng = np.random.default_rng([seed, 73])
    light = random_light(world_rng)
    if night:
        light = replace(light, sun=light.sun * 0)
    objects = crowd.objects()
    spots = [(o.world_from_object[0, 3], o.world_from_object[1, 3]) for o in objects]
    view = _random_camera(rng, place, spots, *size_px, altitude_m, down_rad)
    rendered = renderer.render(view, objects, light, thermal)
    sensor = random_sensor(rng)
    if thermal:
        image = develop_thermal(rendered.color, _soft(sensor), rng, rng.uniform(1.3, 2.6), rng.uniform(-0.15, 0.15))
    else:
        image = develop(rendered.color, sensor, light, rng)
    if rng.random() < 0.7:
        image = compress(image, int(rng.integers(40, 96)))
    return image, rendered, objects


def _labelled(boxes: F32, pixels: I32, whole: F64, min_side_px: float, min_visible: float) -> Bool:
    side = np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
    return np.asarray((side >= min_side_px) & (pixels >= min_visible * np.maximum(whole, 1)))


def _soft(sensor: Sensor) -> Sensor:
    """Thermal optics are softer."""
    return replace(sensor, blur_px=sensor.blur_px + 0.3, shake_px=(0.0, 0.0))


def _random_camera(
    rng: np.random.Generator,
    place: Place,
    spots: list[tuple[float, float]],
    width_px: int,
    height_px: int,
    altitude_m: tuple[float, float],
    down_rad: tuple[float, float],
) -> View:
    """Aimed near a random object (or anywhere), so that most views hold something."""
    altitude = float(np.exp(rng.uniform(np.log(altitude_m[0]), np.log(altitude_m[1]))))
    nadir = down_rad[1] > 1.3 and rng.random() < 0.45
    down = float(rng.uniform(max(1.3, down_rad[0]), down_rad[1]) if nadir else rng.uniform(*down_rad))
    fov = np.radians(rng.uniform(35, 85))
    middle = [s for s in spots if max(abs(s[0]), abs(s[1])) < place.world.ground.size_m * 0.42]
    aim = np.array(middle[rng.integers(len(middle))] if middle and rng.random() < 0.8 else rng.uniform(-70, 70, 2))
    aim = aim + rng.normal(0, 0.25, 2) * altitude
    yaw = rng.uniform(0, 2 * np.pi)
    back = altitude / np.tan(max(down, 0.2))
    position = np.array([*(aim - back * np.array([np.cos(yaw), np.sin(yaw)])), 0.0])
    position[2] = place.world.ground.height_m(position[0], position[1]) + altitude
    return View(
        camera_matrix(width_px, height_px, fov), width_px, height_px, look_at(position, yaw, down, rng.normal(0, 0.04))
    )
