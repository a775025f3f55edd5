"""Dense depth: a network's relative disparity, corrected by the sparse points that odometry has measured.

The network knows shapes, the points know distances: the log ratio of both is spread smoothly over the image (normalised
convolution, Knutsson and Westin 1993) and applied. Without a network the same code interpolates the points.
"""

from __future__ import annotations

import cv2
import numpy as np

from ..engine import Engine
from ..errors import ModelError
from ..records import F32, F64, U8, Bool
from .two_view import middle

FLAT: F32 = np.ones((64, 208), np.float32)  # the shape of a scene about which no network says anything


class DepthNetwork:
    """Disparity up to scale through an :class:`~uav_perception.engine.Engine`.

    The model takes one RGB image, 0..255 float32 (1, 3, h, w), and returns (1, 1, h', w') positive disparity.
    """

    def __init__(self, engine: Engine) -> None:
        shape = engine.inputs[0].shape
        if len(engine.inputs) != 1 or len(shape) != 4 or shape[1] != 3 or None in shape[2:] or len(engine.outputs) != 1:
            raise ModelError(f"depth model with inputs {[s.shape for s in engine.inputs]}",
                             "one (1, 3, h, w) image in, one disparity out", "export it with `train depth`")
        self.engine = engine
        self.height, self.width = int(shape[2] or 0), int(shape[3] or 0)

    def disparity(self, image: U8) -> F32:
        """(h', w') disparity of a BGR image (H, W, 3) of any size; the array is the caller's."""
        feed = planes(image, self.width, self.height)
        found = self.engine.infer({self.engine.inputs[0].name: feed})[self.engine.outputs[0].name]
        return np.array(found[0, 0], np.float32)


class PoseNetwork:
    """Motion between two images: translation in units of the median depth, rotation vector (6,)."""

    def __init__(self, engine: Engine) -> None:
        if len(engine.inputs) != 2 or len(engine.inputs[0].shape) != 4 or engine.outputs[0].shape[-1] != 6:
            raise ModelError(f"pose model with inputs {[s.shape for s in engine.inputs]}",
                             "two (1, 3, h, w) images in, six numbers out", "export it with `train depth`")
        self.engine = engine
        self.height, self.width = (int(v or 0) for v in engine.inputs[0].shape[2:])

    def motion(self, first: U8, second: U8) -> F64:
        """(6,) motion from ``first`` to ``second``, BGR images (H, W, 3)."""
        a, b = self.engine.inputs
        feeds = {a.name: planes(first, self.width, self.height), b.name: planes(second, self.width, self.height)}
        return np.array(self.engine.infer(feeds)[self.engine.outputs[0].name].reshape(6), np.float64)


def planes(image: U8, width: int, height: int) -> F32:
    """(1, 3, height, width) RGB float32 0..255 of a BGR image: the networks' only preprocessing."""
    if image.shape[:2] != (height, width):
        how = cv2.INTER_AREA if image.shape[1] > width else cv2.INTER_LINEAR
        image = np.asarray(cv2.resize(image, (width, height), interpolation=how), np.uint8)
    return np.asarray(cv2.dnn.blobFromImage(image, swapRB=True), np.float32)


def fuse(disparity: F32, uv: F64, rho: F64, rho_sigma: F64, *, reach: float = 0.02) -> F32:
    """Disparity (h, w) in the unit of ``rho``: the network's shape drawn through the measured points.

    Where nothing else is known the scene goes on as the plane that most points lie on (ground, a wall). How much of the
    network's shape is used (0..1) is decided by the points themselves: half of them predict the others with and without
    it. So a network that is strange to the scene does no harm.

    Args:
        disparity: (h, w) positive, any unit.
        uv: (N, 2) points in 0..1 of width and height, N >= 12.
        rho: (N,) their inverse depths > 0; rho_sigma: (N,) standard deviations.
        reach: radius of a point's influence, as a share of the image's width.
    """
    h, w = disparity.shape
    x, y = np.clip((uv[:, 0] * w).astype(int), 0, w - 1), np.clip((uv[:, 1] * h).astype(int), 0, h - 1)
    weight = 0.15**2 / ((rho_sigma / rho) ** 2 + 0.15**2)
    plane, share = _plane(uv, rho, weight, w, h)
    weight = weight * _standing(uv * [w / h, 1.0], np.log(rho) - plane[y, x], share)
    detail = np.log(np.maximum(disparity, 1e-6)) - plane  # what the network says beyond the plane
    own = detail[y, x].astype(np.float64)
    usual = middle(own)
    values = np.column_stack([np.clip(np.log(rho) - plane[y, x], -2.5, 2.5), own - usual])
    grid = (max(4, h // 4), max(4, w // 4))
    half = np.arange(len(rho)) % 2 == 0
    left = np.empty_like(values)  # what half of the points cannot say about the other half
    for a, b in ((half, ~half), (~half, half)):
        field = _spread(values[a], uv[a], weight[a], grid, reach)
        left[b] = values[b] - field[np.clip((uv[b, 1] * grid[0]).astype(int), 0, grid[0] - 1),
                                    np.clip((uv[b, 0] * grid[1]).astype(int), 0, grid[1] - 1)]
    limit = 3.0 * float(np.median(np.abs(left[:, 0]))) + 1e-3
    left[:, 0] = np.clip(left[:, 0], -limit, limit)
    shape = float(np.clip((weight * left[:, 0] * left[:, 1]).sum() / max((weight * left[:, 1] ** 2).sum(), 1e-9), 0, 1))
    field = _spread(values, uv, weight, grid, reach)
    smooth = cv2.resize(field[..., 0] - shape * field[..., 1], (w, h), interpolation=cv2.INTER_LINEAR)
    return np.asarray(np.exp(plane + shape * (detail - usual) + np.asarray(smooth)), np.float32)


def _plane(uv: F64, rho: F64, weight: F64, width: int, height: int) -> tuple[F32, float]:
    """(height, width) log inverse depth of the plane most points lie on, and the share of them that does.

    Inverse depth is linear in the image of a plane; it is kept within about what the points themselves reach.
    """
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
    u = ((np.arange(width) + 0.5) / width * plane[0]).astype(np.float32)
    v = ((np.arange(height) + 0.5) / height * plane[1] + plane[2]).astype(np.float32)
    centre = np.log(_weighted_median(rho, weight))
    beyond = np.log(np.clip(u[None] + v[:, None], 0.8 * low, 1.25 * high)) - centre
    return np.asarray(centre + np.clip((share - 0.3) / 0.2, 0, 1) * beyond, np.float32), share


def _standing(xy: F64, off: F64, share: float) -> F64:
    """(N,) weights: over open ground, a few points off the plane that no others support are things that move on it.

    What moves along with the camera's motion looks nearer or farther than it is, and nothing in two views tells. But
    what stands on the ground is large and holds many points. ``xy`` (N, 2) in image heights, ``off`` (N,) log distance
    from the plane that ``share`` of the points lie on; ground is a plane that holds four fifths of them.
    """
    weight = np.ones(len(off))
    odd = np.flatnonzero(np.abs(off) > 0.15)
    doubt = 4.0 * float(np.clip((share - 0.75) / 0.05, 0, 1))
    if doubt and len(odd):
        near = np.exp(-((xy[odd, None] - xy[None]) ** 2).sum(2) / (2 * 0.07**2))
        friends = (near * (np.abs(off[odd, None] - off[None]) < 0.1)).sum(1) - 1.0
        weight[odd] = (friends**2 + 0.1) / (friends**2 + 0.1 + doubt**2)
    return weight


def _spread(values: F64, uv: F64, weight: F64, grid: tuple[int, int], reach: float) -> F32:
    """(gh, gw, K) fields through ``values`` (N, K) at ``uv``: normalised convolution from coarse to fine."""
    gh, gw = grid
    x, y = np.clip((uv[:, 0] * gw).astype(int), 0, gw - 1), np.clip((uv[:, 1] * gh).astype(int), 0, gh - 1)
    sums = np.zeros((gh, gw, values.shape[1] + 1), np.float32)
    np.add.at(sums, (y, x), np.column_stack([values, np.ones(len(values))]) * weight[:, None])
    field = np.zeros((gh, gw, values.shape[1]), np.float32)
    for times, prior in ((8.0, 0.02), (3.0, 0.05), (1.0, 0.1)):  # each refines the coarser
        sigma = times * reach * gw
        blurred = np.asarray(cv2.GaussianBlur(sums, (0, 0), sigma, borderType=cv2.BORDER_REFLECT))
        unit = prior / (2 * np.pi * sigma**2)  # as much as `prior` points at this place
        field = (blurred[..., :-1] + unit * field) / (blurred[..., -1:] + unit)
    return np.asarray(field, np.float32)


def supported(uv: F64, width: int, height: int) -> Bool:
    """(height, width) True near the points ``uv`` (N, 2) in 0..1, where interpolation alone may be believed."""
    near = np.zeros((48, 64), np.uint8)
    near[np.clip((uv[:, 1] * 48).astype(int), 0, 47), np.clip((uv[:, 0] * 64).astype(int), 0, 63)] = 1
    near = cv2.dilate(near, np.ones((9, 9), np.uint8)).astype(np.uint8)
    return np.asarray(cv2.resize(near, (width, height), interpolation=cv2.INTER_NEAREST) > 0)


def _weighted_median(values: F64, weights: F64) -> float:
    order = np.argsort(values)
    cumulative = np.cumsum(weights[order])
    return float(values[order[np.searchsorted(cumulative, 0.5 * cumulative[-1])]])
