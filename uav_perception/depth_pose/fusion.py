"""Dense depth: a network's shape of the scene, laid through the sparse points that odometry has measured.

The points give the shape its contrast and its unit; where it then lies near the ground, or else the plane that most
points lie on, it is that plane, up to the horizon. What the points still disagree by is drawn out smoothly around them
(normalised convolution, Knutsson and Westin 1993): over the ground from points on it, over what stands there from the
others, so that a tree nearer than drawn does not pull the road behind it along. Network and points are each other's
witness: a few points that contradict the shape are things that move or matches that are wrong, many that agree with
each other are something it has not seen.
Without a network the plane is the shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..records import F32, F64, Bool, CameraModel
from .motion_mask import near_moving
from .products import FARTHEST, cells
from .two_view import middle

WIDTH = 156  # columns that depth is drawn in
HORIZON = 0.02  # of the smallest measured inverse depth: ground is not believed farther
KNOWN_SHARE = 0.2  # of the points, that must lie on ground that is told; trees and houses hold more than a bare road
ON_GROUND = 0.12  # log distance from the plane, one standard deviation, within which a shape is that plane
CONTRAST = 0.4  # as much for the network's own contrast as points that spread by this squared
AGREE = 0.075  # log distance of points from a shape up to which they agree with it
MISTAKEN = 0.2, 0.8  # of the points that look as if on the ground and are not: looks count for less, and for nothing
FRIENDS, FRIENDS_ALONE = 8.0, 4.0  # so many points together are believed against the network, against the plane alone


@dataclass(frozen=True)
class _Ground:
    """The plane the points lie on that are not on what stands there."""

    log: F32  # (h, w) log inverse depth, kept within what is believed
    here: Bool  # (h, w) not beyond its horizon
    share: float  # of the points that lie on it
    told: bool  # it was known beforehand to be level ground, not any plane

    @property
    def trust(self) -> float:
        """0..1: enough points lie on it."""
        return 1.0 if self.told else float(np.clip((self.share - 0.3) / 0.2, 0, 1))


def drawn_shape(camera: CameraModel) -> tuple[int, int]:
    """Rows and columns that depth of this camera is drawn in, of square cells."""
    return max(8, round(WIDTH * camera.height_px / camera.width_px)), WIDTH


def fuse(disparity: F32 | None, uv: F64, rho: F64, rho_sigma: F64, *, shape: tuple[int, int] | None = None,
         ground: F64 | None = None, moving: Bool | None = None, reach: float = 0.02) -> F32:
    """Inverse depth in the unit of ``rho``, drawn through the measured points.

    Args:
        disparity: (h', w') positive, any unit; None = no network.
        uv: (N, 2) points in 0..1 of width and height, N >= 12.
        rho: (N,) their inverse depths > 0; rho_sigma: (N,) standard deviations.
        shape: (h, w) of the result; None = that of ``disparity``.
        ground: (3,) where the ground is known: its inverse depth is ``ground @ (u, v, 1)``.
        moving: (H, W) what moves by itself, of any size: it stands on the ground, however near to it it looks, and its
            points look nearer or farther than it is.
        reach: radius of a point's influence, as a share of the image's width.
    """
    if shape is None and disparity is None:
        raise ValueError("neither a disparity nor a shape")
    h, w = shape or disparity.shape  # type: ignore[union-attr]
    if moving is not None:
        rho_sigma = np.where(near_moving(uv, moving), np.maximum(rho_sigma, rho), rho_sigma)
    wanted, weight = np.log(rho), 0.15**2 / ((rho_sigma / rho) ** 2 + 0.15**2)
    plane = _ground(uv, rho, weight, h, w, ground)
    shown = plane.log if disparity is None else _enlarged(np.log(np.maximum(disparity, 1e-6)), h, w)
    contrast, unit = _fitted(_at(shown, uv).astype(np.float64), wanted, weight)
    drawn = np.float32(contrast) * shown + np.float32(unit)
    level = near_ground(drawn, plane.log) * (plane.here * np.float32(plane.trust))
    if moving is not None:
        level = level * (1 - np.asarray(cv2.resize(moving.astype(np.float32), (w, h), interpolation=cv2.INTER_AREA)))
    drawn = drawn + level * (plane.log - drawn)
    off = wanted - _at(drawn, uv)
    agree = _agreeing(off)
    open_ground = float(np.clip((plane.share - 0.75) / 0.05, 0, 1))  # where alone the plane is a witness
    doubt = FRIENDS if disparity is not None else FRIENDS_ALONE * open_ground
    weight = weight * (agree + (1 - agree) * _together(uv * [w / h, 1.0], off, doubt))
    if disparity is None or ground is None:  # nothing tells what stands from what lies
        level = np.zeros_like(level)
    looks = _at(level, uv)
    lying = looks * near_ground(wanted, _at(plane.log, uv))
    kinds = np.column_stack([lying, 1 - lying, looks])  # on the ground, not on it; looking as if on it
    fields = _spread(np.column_stack([off, off, looks - lying]), uv, weight[:, None] * kinds,
                     (max(4, h // 4), max(4, w // 4)), reach)
    lower, upper, mistaken = (_enlarged(np.ascontiguousarray(fields[..., k]), h, w) for k in range(3))
    level = level * np.clip((MISTAKEN[1] - mistaken) / (MISTAKEN[1] - MISTAKEN[0]), 0, 1)
    return np.asarray(np.exp(drawn + level * lower + (1 - level) * upper), np.float32)


def laid_on_level(disparity: F32, level: F32) -> F32:
    """Inverse depth (h, w) in the unit of ``level`` (h, w), that of level ground below the camera: a network's
    ``disparity`` (h', w') fitted to it, and the ground itself where that comes near to it. For want of points."""
    h, w = level.shape
    shown, ground = _enlarged(np.log(np.maximum(disparity, 1e-6)), h, w), np.log(level)
    here = level > FARTHEST  # not beyond the horizon
    own, wanted = (a[::4, ::4][here[::4, ::4]].astype(np.float64) for a in (shown, ground))
    contrast, unit = _fitted(own, wanted, np.full(len(own), 20.0 / len(own)))  # an expectation is worth few points
    drawn = np.float32(contrast) * shown + np.float32(unit)
    return np.asarray(np.exp(drawn + near_ground(drawn, ground) * here * (ground - drawn)), np.float32)


def plane_inverse(plane: F64, h: int, w: int) -> F32:
    """(h, w) inverse depth ``plane @ (u, v, 1)`` at the middles of the cells, u and v in 0..1; negative beyond its
    horizon."""
    u = ((np.arange(w) + 0.5) / w * plane[0]).astype(np.float32)
    v = ((np.arange(h) + 0.5) / h * plane[1] + plane[2]).astype(np.float32)
    return np.asarray(u[None] + v[:, None], np.float32)


def near_ground(found: NDArray[Any], ground: NDArray[Any]) -> NDArray[Any]:
    """0..1: how far what is found lies on the ground, both log inverse depth of one shape."""
    return np.asarray(np.exp(-0.5 * ((found - ground) / np.float32(ON_GROUND)) ** 2))


def _fitted(shown: F64, wanted: F64, weight: F64) -> tuple[float, float]:
    """Contrast and offset of ``shown`` (N,) that explain ``wanted`` (N,) best: reweighted least squares (Cauchy).

    A shape that has nothing to do with the scene gets no contrast, so it does no harm.
    """
    contrast, offset = 1.0, _weighted_median(wanted - shown, weight)
    for _ in range(5):
        k = weight * _agreeing(wanted - contrast * shown - offset)
        own, aim = float(k @ shown / k.sum()), float(k @ wanted / k.sum())
        spread = shown - own
        contrast = float(np.clip((k @ (spread * (wanted - aim)) + CONTRAST) / (k @ spread**2 + CONTRAST), 0, 2))
        offset = aim - contrast * own
    return contrast, offset


def _agreeing(off: F64) -> F64:
    """(N,) 0..1: how far points that are ``off`` (N,) count, by what is usual among them."""
    return np.asarray(1.0 / (1.0 + (off / max(AGREE, 2.0 * middle(np.abs(off)))) ** 2))


def _together(xy: F64, off: F64, doubt: float) -> F64:
    """(N,) 0..1: how far points at ``xy`` (N, 2), in image heights, that are ``off`` (N,) are borne out by others near
    them, half where ``doubt`` others are off by as much. What moves holds few points, what stands there many."""
    together = np.zeros(len(off))
    odd = np.flatnonzero(np.abs(off) > 0.15)
    if len(odd):
        near = np.exp(-((xy[odd, None] - xy[None]) ** 2).sum(2) / (2 * 0.07**2))
        friends = (near * (np.abs(off[odd, None] - off[None]) < 0.1)).sum(1) - 1.0
        together[odd] = (friends**4 + 0.1) / (friends**4 + 0.1 + doubt**4)
    return together


def _ground(uv: F64, rho: F64, weight: F64, h: int, w: int, known: F64 | None) -> _Ground:
    """Inverse depth is linear in the image of a plane. ``known`` is believed where many points lie on it."""
    a = np.column_stack([uv, np.ones(len(uv))])
    low, high = np.percentile(rho, [2, 98])
    told = known if known is not None and _share(a @ known, rho) >= KNOWN_SHARE else None
    if told is not None:
        plane = told
    else:
        plane = np.array([0.0, 0.0, _weighted_median(rho, weight)])
        scale = 0.3
        for _ in range(5):  # relative errors, reweighted (Cauchy), from coarse to fine
            error = a @ plane / rho - 1
            scale = max(0.05, min(scale, 1.5 * middle(np.abs(error))))
            row = np.sqrt(weight / (1 + (error / scale) ** 2)) / rho
            plane = np.asarray(np.linalg.lstsq(a * row[:, None], rho * row, rcond=1e-6)[0], np.float64)
    share = _share(a @ plane, rho)
    inverse = plane_inverse(plane, h, w)
    return _Ground(np.log(np.clip(inverse, HORIZON * low, 1.25 * high)), np.asarray(inverse > HORIZON * low),
                   share, told is not None)


def _share(expected: F64, rho: F64) -> float:
    """Of points of inverse depth ``rho`` (N,) that are as far as ``expected`` (N,)."""
    return float((np.abs(expected / rho - 1) < 0.1).mean())


def _spread(values: F64, uv: F64, weight: F64, grid: tuple[int, int], reach: float) -> F32:
    """(gh, gw, K) fields through ``values`` (N, K), of ``weight`` (N, K), at ``uv``: normalised convolution from coarse
    to fine."""
    gh, gw = grid
    count = values.shape[1]
    sums = np.zeros((gh, gw, 2 * count), np.float32)
    np.add.at(sums, cells(uv, gh, gw), np.column_stack([values * weight, weight]))
    field = np.zeros((gh, gw, count), np.float32)
    for times, prior in ((8.0, 0.02), (3.0, 0.05), (1.0, 0.1)):  # each refines the coarser
        sigma = times * reach * gw
        blurred = np.asarray(cv2.GaussianBlur(sums, (0, 0), sigma, borderType=cv2.BORDER_REFLECT))
        unit = prior / (2 * np.pi * sigma**2)  # as much as `prior` points at this place
        field = (blurred[..., :count] + unit * field) / (blurred[..., count:] + unit)
    return np.asarray(field, np.float32)


def _at(field: NDArray[Any], uv: F64) -> NDArray[Any]:
    """Values of ``field`` (h, w, ...) at ``uv`` (N, 2) in 0..1."""
    return np.asarray(field[cells(uv, *field.shape[:2])])


def _enlarged(field: F32, h: int, w: int) -> F32:
    return np.asarray(cv2.resize(np.ascontiguousarray(field), (w, h), interpolation=cv2.INTER_LINEAR), np.float32)


def _weighted_median(values: F64, weights: F64) -> float:
    order = np.argsort(values)
    cumulative = np.cumsum(weights[order])
    return float(values[order[np.searchsorted(cumulative, 0.5 * cumulative[-1])]])
