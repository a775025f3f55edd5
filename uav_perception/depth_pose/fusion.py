"""Dense depth: the sparse points that odometry has measured, drawn out over ground and over what stands on it.

Two layers are interpolated, each by its own points (normalised convolution, Knutsson and Westin 1993): the plane that
most points lie on, with what the ground rises and falls; and all else. A network's disparity gives the shape between
the points, and a vote of the nearest points says which layer is seen. So ground goes on to the horizon behind what
stands on it, and does not bend up to it. Without a network the same code interpolates the points.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..records import F32, F64, Bool, CameraModel
from .products import cells
from .two_view import middle

WIDTH = 156  # columns that depth is drawn in
HORIZON = 0.02  # of the smallest measured inverse depth: ground is not believed farther
ON_GROUND = 0.12  # log distance from the plane, one standard deviation
FOR_GROUND = 0.3  # where no point is near, ground is likelier than something on it
SHARP = 4.0  # how soon a vote of -1 (stands) to 1 (ground) is decided


@dataclass(frozen=True)
class _Ground:
    """The plane most points lie on."""

    log: F32  # (h, w) log inverse depth, kept within what is believed
    here: Bool  # (h, w) not beyond its horizon
    share: float  # of the points that lie on it

    @property
    def trust(self) -> float:
        """0..1: enough points lie on it."""
        return float(np.clip((self.share - 0.3) / 0.2, 0, 1))


def drawn_shape(camera: CameraModel) -> tuple[int, int]:
    """Rows and columns that depth of this camera is drawn in, of square cells."""
    return max(8, round(WIDTH * camera.height_px / camera.width_px)), WIDTH


def fuse(disparity: F32, uv: F64, rho: F64, rho_sigma: F64, *, shape: tuple[int, int] | None = None,
         reach: float = 0.02) -> F32:
    """Inverse depth in the unit of ``rho``, drawn through the measured points.

    How much of the network's shape is used (0..1) is decided by the points themselves: half of them predict the others
    with and without it. So a network that is strange to the scene does no harm.

    Args:
        disparity: (h', w') positive, any unit.
        uv: (N, 2) points in 0..1 of width and height, N >= 12.
        rho: (N,) their inverse depths > 0; rho_sigma: (N,) standard deviations.
        shape: (h, w) of the result; None = that of ``disparity``.
        reach: radius of a point's influence, as a share of the image's width.
    """
    h, w = shape or disparity.shape
    shown = _enlarged(np.log(np.maximum(disparity, 1e-6)), h, w)
    weight = 0.15**2 / ((rho_sigma / rho) ** 2 + 0.15**2)
    ground = _ground(uv, rho, weight, h, w)
    off = np.where(_at(ground.here, uv), np.log(rho) - _at(ground.log, uv), np.inf)
    weight = weight * _standing(uv * [w / h, 1.0], off, ground.share)
    on = ground.trust * np.exp(-0.5 * (off / ON_GROUND) ** 2)
    grid = (max(4, h // 4), max(4, w // 4))
    wanted = np.column_stack([np.clip(off, -0.5, 0.5), np.log(rho)])
    layers = _shaped(np.dstack([shown - ground.log, shown]), uv, wanted,
                     weight[:, None] * np.column_stack([on, 1 - on]) + 1e-6, grid, reach)
    rise, above = layers[..., 0], layers[..., 1]
    vote = _spread((2 * on - 1)[:, None], uv, weight[:, None], grid, reach)[..., 0]
    decided = SHARP * (_enlarged(vote, h, w) + FOR_GROUND * ground.trust)
    is_ground = np.sqrt(ground.trust) * ground.here / (1 + np.exp(-decided))
    return np.asarray(np.exp(above + is_ground * (ground.log + rise - above)), np.float32)


def _ground(uv: F64, rho: F64, weight: F64, h: int, w: int) -> _Ground:
    """Inverse depth is linear in the image of a plane."""
    a = np.column_stack([uv, np.ones(len(uv))])
    low, high = np.percentile(rho, [2, 98])
    plane = np.array([0.0, 0.0, _weighted_median(rho, weight)])
    scale = 0.3
    for _ in range(5):  # relative errors, reweighted (Cauchy), from coarse to fine
        error = a @ plane / rho - 1
        scale = max(0.05, min(scale, 1.5 * middle(np.abs(error))))
        row = np.sqrt(weight / (1 + (error / scale) ** 2)) / rho
        plane = np.linalg.lstsq(a * row[:, None], rho * row, rcond=1e-6)[0]
    share = float((np.abs(a @ plane / rho - 1) < 0.1).mean())
    u = ((np.arange(w) + 0.5) / w * plane[0]).astype(np.float32)
    v = ((np.arange(h) + 0.5) / h * plane[1] + plane[2]).astype(np.float32)
    inverse = u[None] + v[:, None]
    return _Ground(np.log(np.clip(inverse, HORIZON * low, 1.25 * high)), np.asarray(inverse > HORIZON * low),
                   share)


def _standing(xy: F64, off: F64, share: float) -> F64:
    """(N,) weights: over open ground, a few points off the plane that no others support are things that move on it.

    What moves along with the camera's motion looks nearer or farther than it is, and nothing in two views tells. But
    what stands on the ground is large and holds many points. ``xy`` (N, 2) in image heights, ``off`` (N,) log distance
    from the plane that ``share`` of the points lie on (infinite beyond its horizon); ground is a plane that holds four
    fifths of them.
    """
    weight = np.ones(len(off))
    off = np.clip(off, -2.0, 2.0)
    odd = np.flatnonzero(np.abs(off) > 0.15)
    doubt = 4.0 * float(np.clip((share - 0.75) / 0.05, 0, 1))
    if doubt and len(odd):
        near = np.exp(-((xy[odd, None] - xy[None]) ** 2).sum(2) / (2 * 0.07**2))
        friends = (near * (np.abs(off[odd, None] - off[None]) < 0.1)).sum(1) - 1.0
        weight[odd] = (friends**2 + 0.1) / (friends**2 + 0.1 + doubt**2)
    return weight


def _shaped(shown: F32, uv: F64, wanted: F64, weight: F64, grid: tuple[int, int], reach: float) -> F32:
    """(h, w, L) layers drawn through ``wanted`` (N, L) at ``uv``, each with as much of its shape ``shown`` (h, w, L) as
    the points agree to; ``weight`` (N, L)."""
    h, w, count = shown.shape
    own = _at(shown, uv).astype(np.float64)
    usual = np.median(own, axis=0)
    centre = np.array([_weighted_median(v, k) for v, k in zip(wanted.T, weight.T, strict=True)])
    values, weights = np.column_stack([wanted - centre, own - usual]), np.tile(weight, 2)
    half = np.arange(len(wanted)) % 2 == 0
    left = np.empty_like(values)  # what half of the points cannot say about the other half
    for a, b in ((half, ~half), (~half, half)):
        left[b] = values[b] - _at(_spread(values[a], uv[a], weights[a], grid, reach), uv[b])
    off, unlike = left[:, :count], left[:, count:]
    limit = 3.0 * np.median(np.abs(off), axis=0) + 1e-3
    agreed = (weight * np.clip(off, -limit, limit) * unlike).sum(axis=0)
    share = np.clip(agreed / np.maximum((weight * unlike**2).sum(axis=0), 1e-9), 0, 1).astype(np.float32)
    field = _spread(values, uv, weights, grid, reach)
    drawn = _enlarged(field[..., :count] - share * field[..., count:], h, w)
    return np.asarray(drawn + share * shown + (centre - share * usual).astype(np.float32))


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
