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


def fuse(disparity: F32, uv: F64, rho: F64, rho_sigma: F64, *, reach: float = 0.05, trust: float = 0.15) -> F32:
    """Disparity (h, w) in the unit of ``rho``: the network's shape drawn through the measured points.

    Args:
        disparity: (h, w) positive, any unit.
        uv: (N, 2) points in 0..1 of width and height.
        rho: (N,) their inverse depths > 0; rho_sigma: (N,) standard deviations.
        reach: radius of a point's influence, as a share of the image's width.
        trust: relative error expected of the network's shape nearby; smaller means points bend it less.
    """
    h, w = disparity.shape
    gh, gw = max(4, h // 4), max(4, w // 4)
    x = np.clip((uv[:, 0] * gw).astype(int), 0, gw - 1)
    y = np.clip((uv[:, 1] * gh).astype(int), 0, gh - 1)
    log_disparity = np.log(np.maximum(disparity, 1e-6))
    own = log_disparity[np.clip((uv[:, 1] * h).astype(int), 0, h - 1), np.clip((uv[:, 0] * w).astype(int), 0, w - 1)]
    ratio = np.log(rho) - own
    noise2 = (rho_sigma / rho) ** 2 + 0.03**2
    centre = _weighted_median(ratio, 1.0 / noise2)
    ratio = ratio - centre
    spread = 1.5 * float(np.median(np.abs(ratio))) + 0.05
    weight = trust**2 / (noise2 + trust**2) / (1.0 + (ratio / (3 * spread)) ** 2)
    sums, weights = np.zeros((gh, gw), np.float32), np.zeros((gh, gw), np.float32)
    np.add.at(sums, (y, x), (weight * ratio).astype(np.float32))
    np.add.at(weights, (y, x), weight.astype(np.float32))
    field = np.zeros((gh, gw), np.float32)
    for radius, prior in ((6.0 * reach, 0.02), (2.0 * reach, 0.05), (reach, 0.1)):  # each refines the coarser
        sigma = radius * gw
        s, m = (cv2.GaussianBlur(v, (0, 0), sigma, borderType=cv2.BORDER_REFLECT) for v in (sums, weights))
        unit = prior / (2 * np.pi * sigma**2)  # as much as `prior` points at this place
        field = (np.asarray(s) + unit * field) / (np.asarray(m) + unit)
    smooth = cv2.resize(field, (w, h), interpolation=cv2.INTER_LINEAR)
    return np.asarray(np.exp(log_disparity + smooth + centre), np.float32)


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
