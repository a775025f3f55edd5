"""Windows of a picture, resampled with exact geometry. Large ones are cut from a halved picture, made once a frame."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

U8 = NDArray[np.uint8]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


@dataclass(frozen=True)
class Crop:
    """A resampled window of the image. ``scale`` is crop pixels per source pixel (x, y); ``centre_px`` is where the
    middle of the crop lies in the source (less than a pixel of the crop from what was asked)."""

    image: U8
    centre_px: tuple[float, float]
    scale: tuple[float, float]

    def to_source(self, dx: float, dy: float) -> tuple[float, float]:
        """Source position of an offset from the crop's middle, given in crop pixels."""
        return self.centre_px[0] + dx / self.scale[0], self.centre_px[1] + dy / self.scale[1]


class Pyramid:
    """An (H, W, 3) BGR picture and its halves, quarters, … where they are needed.

    Positions are continuous: pixel i of the picture covers [i, i + 1). Outside, its border is repeated. A pixel of the
    result that is wider than two pixels is the mean of four samples, taken so densely that no pixel is skipped.
    """

    def __init__(self, image: U8) -> None:
        self._levels = [image]

    @property
    def image(self) -> U8:
        """The picture itself."""
        return self._levels[0]

    def crop(self, centre_px: ArrayLike, size_px: ArrayLike, out_px: tuple[int, int]) -> Crop:
        """Cut ``size_px`` (w, h) pixels around ``centre_px`` (x, y) and resample to ``out_px`` (w, h)."""
        cx, cy = np.asarray(centre_px, dtype=np.float64).tolist()
        w, h = np.maximum(np.asarray(size_px, dtype=np.float64), 1.0).tolist()
        ratio = max(w / out_px[0], h / out_px[1])
        if ratio > 2:
            return self._shrunk(np.array([cx, cy]), np.array([w, h]), out_px, ratio)
        patch = cv2.warpAffine(self._levels[0], _from_crop(cx, cy, w, h, out_px, 1), out_px,
                               flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE)
        return Crop(np.asarray(patch, dtype=np.uint8), (cx, cy), (out_px[0] / w, out_px[1] / h))

    def _shrunk(self, centre: F64, size: F64, out_px: tuple[int, int], ratio: float) -> Crop:
        """A crop of whole pixels (resizing takes half of warping's time): four samples a pixel of the result."""
        level, shrunk = self._level(ratio / 2)
        low = np.rint((centre - size / 2) / shrunk).astype(int)
        high = np.maximum(np.rint((centre + size / 2) / shrunk).astype(int), low + 1)
        fine = cv2.resize(_window(level, low, high), (2 * out_px[0], 2 * out_px[1]), interpolation=cv2.INTER_LINEAR)
        patch = cv2.resize(fine, out_px, interpolation=cv2.INTER_AREA)
        (cx, cy), (sx, sy) = ((low + high) / 2 * shrunk).tolist(), (out_px / ((high - low) * shrunk)).tolist()
        return Crop(np.asarray(patch, dtype=np.uint8), (cx, cy), (sx, sy))

    def grey_crops(self, centre_px: ArrayLike, sizes_px: ArrayLike, side_px: int) -> U8:
        """Grey windows of ``sizes_px`` (N, 2) around one centre: (N * side, side), one below the other.

        All are made of two by two samples a pixel where one is more than two pixels wide, so that all are as sharp.
        """
        sizes = np.maximum(np.asarray(sizes_px, dtype=np.float64), 1.0)
        widest = float(sizes.max()) / side_px
        k = 2 if widest > 2 else 1
        level, shrunk = self._level(widest / k)
        centre, reach = np.asarray(centre_px, dtype=np.float64), sizes.max(axis=0) / 2 + 2 * shrunk
        limit = np.array(level.shape[1::-1])
        low = np.clip(np.floor((centre - reach) / shrunk).astype(int), 0, limit - 1)
        high = np.clip(np.ceil((centre + reach) / shrunk).astype(int), low + 1, limit)
        grey = cv2.cvtColor(level[low[1] : high[1], low[0] : high[0]], cv2.COLOR_BGR2GRAY)
        cx, cy = (centre - low * shrunk).tolist()
        side = k * side_px
        strip = np.empty((len(sizes), side, side), np.uint8)
        for one, (w, h) in zip(strip, sizes.tolist(), strict=True):
            cv2.warpAffine(grey, _from_crop(cx, cy, w, h, (side, side), shrunk), (side, side), dst=one,
                           flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE)
        stacked = strip.reshape(-1, side)
        if k == 1:
            return stacked
        return np.asarray(cv2.resize(stacked, (side_px, len(sizes) * side_px), interpolation=cv2.INTER_AREA), np.uint8)

    def _level(self, ratio: float) -> tuple[U8, int]:
        """The level to resample at ``ratio`` picture pixels a pixel from, and how many times it is shrunk."""
        n = 0
        while ratio > 2 and min(self._levels[n].shape[:2]) >= 2:
            ratio, n = ratio / 2, n + 1
            if n == len(self._levels):
                last = self._levels[-1]
                h, w = last.shape[0] // 2, last.shape[1] // 2
                half = cv2.resize(last[: 2 * h, : 2 * w], (w, h), interpolation=cv2.INTER_AREA)
                self._levels.append(np.asarray(half, dtype=np.uint8))
        return self._levels[n], 2**n


def _from_crop(cx: float, cy: float, w: float, h: float, out_px: tuple[int, int], shrunk: int) -> NDArray[np.float64]:
    """(2, 3) from pixel centres of the result to pixel centres of the level."""
    sx, sy = w / out_px[0] / shrunk, h / out_px[1] / shrunk
    return np.array([[sx, 0, (cx - w / 2) / shrunk + 0.5 * sx - 0.5], [0, sy, (cy - h / 2) / shrunk + 0.5 * sy - 0.5]])


def _window(image: U8, low: I64, high: I64) -> U8:
    """``image[low y : high y, low x : high x]`` with the border repeated outside."""
    limit = np.array(image.shape[1::-1])
    a = np.clip(low, 0, limit - 1)
    b = np.clip(high, a + 1, limit)
    inside = image[a[1] : b[1], a[0] : b[0]]
    (left, top), (right, bottom) = np.maximum(a - low, 0).tolist(), np.maximum(high - b, 0).tolist()
    if left or top or right or bottom:
        inside = np.asarray(cv2.copyMakeBorder(inside, top, bottom, left, right, cv2.BORDER_REPLICATE), dtype=np.uint8)
    return inside[: high[1] - low[1], : high[0] - low[0]]
