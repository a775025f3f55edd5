"""Dense depth set right by parallax: the shape that was drawn between the measured points is measured as well.

A picture from elsewhere, laid over the present one by depth and motion, fits where depth is right. Where it does not,
dense flow (DIS, Kroeger et al., ECCV 2016) along the line on which wrong depth shifts things tells by how much it is
wrong, as well as the shift and the texture let it know. Flow that tells of something else is left out: where it runs
across that line or does not make the pictures fit, on what moves, and where that has been.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ..records import F32, F64, U8, Bool, CameraModel
from .compare import dense_flow, displaced
from .features import match_brightness
from .fusion import near_ground, plane_inverse
from .motion_mask import grown
from .past import Past
from .products import depth_line, scaled_camera, source_pixels

WANTED = 0.05  # of the width, by which half of what is seen should shift for a unit of log depth
EVERY_S, OLDEST_S = 0.09, 0.8  # pictures that are kept; older ones have errors of their own, of motion and of light
COMMON = 0.5  # share of the present picture that another must show
FLOW_PX = 0.4  # one standard deviation of flow where there is texture
DRAWN, LEVEL = 0.3, 0.05  # one of log depth before: of a drawn shape, and of level ground that is known
MOST = 0.7  # of log depth: what is said to be off by more is something else
TEXTURE, NOISE = 1.5, 3.0  # grey levels a pixel from which flow can be seen; grey levels by which what fits may differ
REACH = 0.005  # of the width: differences are averaged and corrections spread over so much
STEP = 16  # px between the places by which a picture is chosen


@dataclass(frozen=True)
class View:
    """Another picture of the scene: grey (h, w), ``view_from_cur`` (4, 4), what moves in it, of any size, if known."""

    grey: U8
    from_cur: F64
    moving: Bool | None = None


class Parallax:
    """What it takes in flight: earlier pictures, of this run."""

    def __init__(self) -> None:
        self.past = Past[tuple[U8, Bool | None]](EVERY_S, OLDEST_S)

    def __call__(self, stamp_ns: int, grey: U8, depth: F32, camera: CameraModel, ground: F64 | None, moving: Bool | None
                 ) -> F32:
        """``corrected`` by the best of them."""
        views = [View(seen, pose, moved) for _, (seen, moved), pose in self.past.before(stamp_ns)
                 if seen.shape == grey.shape]
        return corrected(depth, grey, best(views, depth, camera), camera, ground, moving)


def best(views: Sequence[View], depth: F32, camera: CameraModel) -> list[View]:
    """The view in which half of what is seen shifts by nearest to ``WANTED``; none where all show something else, or
    the lens distorts: pictures are laid over each other as an ideal pinhole would see them."""
    if camera.distortion.any():
        return []
    coarse = np.ascontiguousarray(np.float32(1) / depth[::STEP, ::STEP])
    h, w = coarse.shape
    small = scaled_camera(camera, w, h)
    shifts = list[tuple[float, View]]()
    for view in views:
        u, v = source_pixels(coarse, small, view.from_cur)
        if ((u > 0) & (v > 0) & (u < w - 1) & (v < h - 1)).mean() >= COMMON:
            shift = np.median(np.hypot(*depth_line(coarse, u, v, small, view.from_cur)))
            shifts.append((abs(float(np.log(shift / w + 1e-9)) - np.log(WANTED)), view))
    return [min(shifts, key=lambda s: s[0])[1]] if shifts else []


def corrected(depth: F32, grey: U8, views: Sequence[View], camera: CameraModel, ground: F64 | None, moving: Bool | None
              ) -> F32:
    """``depth`` (h, w), in the unit of the views' motions, as it fits them.

    Args:
        grey: (h, w) the picture; ``camera`` belongs to both.
        ground: (3,) where level ground is known: its inverse depth is ``ground @ (u, v, 1)``, u and v in 0..1. What
            lies on it hardly changes, and nothing is set below it.
        moving: (H, W) of any size, what moves by itself, if known: it stays as it is.
    """
    if not views:
        return depth
    h, w = grey.shape
    told, weight = np.zeros((h, w), np.float32), np.zeros((h, w), np.float32)
    for view in views:
        off, known = _off(np.float32(1) / depth, grey, view, camera)
        told += known * off
        weight += known
    if moving is not None:
        rests = np.float32(1) - _around(moving, h, w)
        told, weight = told * rests, weight * rests
    belief, lowest = np.full((h, w), DRAWN**-2, np.float32), np.full((h, w), -np.inf, np.float32)
    if ground is not None:
        log_rho = -np.log(depth)
        plane = np.log(np.maximum(plane_inverse(ground, h, w), np.float32(1e-6)))
        level = near_ground(log_rho, plane)
        belief = level * np.float32(LEVEL**-2) + (1 - level) * belief
        lowest = np.minimum(plane - log_rho, 0)
    change = np.maximum(_mean(told) / (_mean(weight) + belief), lowest)
    return np.asarray(depth * np.exp(-change), np.float32)


def _off(rho: F32, grey: U8, view: View, camera: CameraModel) -> tuple[F32, F32]:
    """(h, w) by how much log inverse depth is too small, by one view, and the weight of that: 1 / variance."""
    h, w = grey.shape
    u, v = source_pixels(rho, camera, view.from_cur)
    x, y = depth_line(rho, u, v, camera, view.from_cur)
    there = cv2.remap(match_brightness(view.grey, grey), u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    flow = dense_flow(grey, np.asarray(there), finest_scale=0, patch_stride=6, iterations=5)
    size = np.maximum(np.sqrt(x * x + y * y), np.float32(1e-6))  # cv2.magnitude differs by where arrays lie in memory
    x, y = x / size, y / size
    along, aside = flow[..., 0] * x + flow[..., 1] * y, flow[..., 1] * x - flow[..., 0] * y
    fits, = displaced(along * x, along * y, there)
    before, after = (_mean(cv2.absdiff(grey, np.asarray(seen)).astype(np.float32)) for seen in (there, fits))
    slope_x, slope_y = cv2.Sobel(grey, cv2.CV_32F, 1, 0, scale=0.125), cv2.Sobel(grey, cv2.CV_32F, 0, 1, scale=0.125)
    texture = _mean(np.abs(slope_x * x + slope_y * y))
    off = along / size
    misfit = np.square(after / (texture + np.float32(NOISE)))
    trust = texture / (texture + np.float32(TEXTURE)) * np.exp(-np.square(aside)) / (1 + np.square(misfit))
    trust *= np.clip(before - after + np.float32(0.5), 0, 1) * np.maximum(1 - np.square(off / np.float32(MOST)), 0)
    shown = (u >= 2) & (v >= 2) & (u <= w - 3) & (v <= h - 3)
    if view.moving is not None:
        shown &= cv2.remap(_around(view.moving, h, w), u, v, cv2.INTER_NEAREST) == 0
    return off, np.asarray(trust * shown * np.square(size / np.float32(FLOW_PX)), np.float32)


def _around(moving: Bool, h: int, w: int) -> U8:
    """(h, w) 1 on what moves and a pixel around it."""
    return grown(np.asarray(cv2.resize(moving.astype(np.uint8), (w, h), interpolation=cv2.INTER_NEAREST)) > 0, 1
                 ).astype(np.uint8)


def _mean(field: F32) -> F32:
    side = 2 * max(1, round(1.7 * REACH * field.shape[1])) + 1
    return np.asarray(cv2.blur(field, (side, side)), np.float32)
