"""What a tracker looks at: crops of exact geometry, and HOG and colour maps of them at one cell a few pixels.

HOG follows Felzenszwalb et al., "Object detection with discriminatively trained part-based models" (PAMI 2010),
section 6: 18 signed and 9 unsigned orientations, four block normalisations, truncation at 0.2. Colour maps are soft
memberships to eleven basic colours (Berlin and Kay), computed here from their sRGB centres in Lab space.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]

ORIENTATIONS = 18
_BASIC_COLOURS_RGB = ((15, 15, 15), (50, 80, 200), (120, 75, 35), (128, 128, 128), (40, 160, 60), (245, 140, 30),
                      (250, 150, 190), (130, 50, 150), (210, 30, 35), (245, 245, 245), (245, 225, 40))


@dataclass(frozen=True)
class Crop:
    """A resampled window of the image. ``scale`` is crop pixels per source pixel (x, y); ``centre_px`` is where the
    middle of the crop really lies in the source (it may differ from what was asked by less than a pixel)."""

    image: U8
    centre_px: tuple[float, float]
    scale: tuple[float, float]

    def to_source(self, dx: float, dy: float) -> tuple[float, float]:
        """Source position of an offset from the crop's middle, given in crop pixels."""
        return self.centre_px[0] + dx / self.scale[0], self.centre_px[1] + dy / self.scale[1]


def crop(image: U8, centre_px: ArrayLike, size_px: ArrayLike, out_px: tuple[int, int]) -> Crop:
    """Cut ``size_px`` (w, h) source pixels around ``centre_px`` (x, y) and resample to ``out_px`` (w, h).

    Outside the image its border is repeated. Positions are continuous: pixel i covers [i, i + 1).
    """
    cx, cy = np.asarray(centre_px, dtype=np.float64)
    w, h = np.maximum(np.asarray(size_px, dtype=np.float64), 1.0)
    sx, sy = out_px[0] / w, out_px[1] / h
    if min(sx, sy) < 0.75:  # shrinking: average whole source pixels, no aliasing
        x0, y0, x1, y1 = round(cx - w / 2), round(cy - h / 2), round(cx + w / 2), round(cy + h / 2)
        patch = cv2.resize(_window(image, x0, y0, x1, y1), out_px, interpolation=cv2.INTER_AREA)
        return Crop(patch, ((x0 + x1) / 2, (y0 + y1) / 2), (out_px[0] / (x1 - x0), out_px[1] / (y1 - y0)))
    to_source = np.array([[1 / sx, 0, cx - w / 2 + 0.5 / sx - 0.5], [0, 1 / sy, cy - h / 2 + 0.5 / sy - 0.5]])
    patch = cv2.warpAffine(image, to_source, out_px, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                           borderMode=cv2.BORDER_REPLICATE)
    return Crop(patch, (float(cx), float(cy)), (float(sx), float(sy)))


def _window(image: U8, x0: int, y0: int, x1: int, y1: int) -> U8:
    """``image[y0:y1, x0:x1]`` with the border repeated outside."""
    height, width = image.shape[:2]
    xa, xb = min(max(x0, 0), width - 1), max(min(x1, width), 1)
    ya, yb = min(max(y0, 0), height - 1), max(min(y1, height), 1)
    xb, yb = max(xb, xa + 1), max(yb, ya + 1)
    inside = image[ya:yb, xa:xb]
    pad = (max(0, ya - y0), max(0, y1 - yb), max(0, xa - x0), max(0, x1 - xb))
    if any(pad):
        inside = np.asarray(cv2.copyMakeBorder(inside, *pad, borderType=cv2.BORDER_REPLICATE), dtype=np.uint8)
    return inside[: y1 - y0, : x1 - x0]


def hog(image: U8, cell_px: int) -> F32:
    """(31, H/cell, W/cell) maps of a BGR image: 18 signed, 9 unsigned orientations and 4 gradient energies."""
    rows, cols = image.shape[0] // cell_px, image.shape[1] // cell_px
    gx = cv2.Sobel(image, cv2.CV_16S, 1, 0, ksize=1)
    gy = cv2.Sobel(image, cv2.CV_16S, 0, 1, ksize=1)
    if image.ndim == 3:  # the strongest of the three colour gradients
        energy = gx.astype(np.int32) ** 2 + gy.astype(np.int32) ** 2
        best = energy.argmax(axis=2)[..., None]
        gx, gy = np.take_along_axis(gx, best, 2)[..., 0], np.take_along_axis(gy, best, 2)[..., 0]
    magnitude, angle = cv2.cartToPolar(gx.astype(np.float32), gy.astype(np.float32))
    position = angle * (ORIENTATIONS / (2 * np.pi))
    low = position.astype(np.int32)
    share = magnitude * (position - low)
    low %= ORIENTATIONS
    cell = _cell_index(image.shape[0], image.shape[1], cell_px)
    bins = rows * cols * ORIENTATIONS + 1  # the last bin takes what lies outside whole cells
    histogram = np.bincount((cell + low * (cell < bins - 1)).ravel(), (magnitude - share).ravel(), bins + ORIENTATIONS)
    low = (low + 1) % ORIENTATIONS
    histogram += np.bincount((cell + low * (cell < bins - 1)).ravel(), share.ravel(), bins + ORIENTATIONS)
    signed = histogram[: bins - 1].reshape(rows, cols, ORIENTATIONS).astype(np.float32)
    signed = np.asarray(cv2.GaussianBlur(signed, (3, 3), 0.7), dtype=np.float32)  # soft spatial binning
    unsigned = signed[..., :9] + signed[..., 9:]
    energy = (unsigned**2).sum(axis=2)
    block = cv2.boxFilter(energy, -1, (2, 2), normalize=False, anchor=(0, 0), borderType=cv2.BORDER_REPLICATE)
    padded = cv2.copyMakeBorder(block, 1, 0, 1, 0, cv2.BORDER_REPLICATE)
    out = np.zeros((rows, cols, ORIENTATIONS + 9 + 4), np.float32)
    for k, (dy, dx) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
        norm = 1.0 / np.sqrt(padded[dy : dy + rows, dx : dx + cols, None] + 1e-4)
        s, u = np.minimum(signed * norm, 0.2), np.minimum(unsigned * norm, 0.2)
        out[..., :18] += 0.5 * s
        out[..., 18:27] += 0.5 * u
        out[..., 27 + k] = 0.2357 * s.sum(axis=2)
    return np.ascontiguousarray(out.transpose(2, 0, 1))


@cache
def _cell_index(height: int, width: int, cell_px: int) -> NDArray[np.int64]:
    rows, cols = height // cell_px, width // cell_px
    y, x = np.arange(height) // cell_px, np.arange(width) // cell_px
    index = (y[:, None] * cols + x) * ORIENTATIONS
    return np.asarray(np.where((y[:, None] < rows) & (x < cols), index, rows * cols * ORIENTATIONS))


@cache
def _colour_table() -> F32:
    """(32768, 11) memberships of colours quantised to 5 bits a channel, index b + 32 g + 1024 r; zero mean."""
    axis = (np.arange(32) * 8 + 4).astype(np.uint8)
    r, g, b = np.meshgrid(axis, axis, axis, indexing="ij")
    bgr = np.stack([b, g, r], axis=-1).reshape(1, -1, 3)
    lab = cv2.cvtColor(bgr.astype(np.float32) / 255, cv2.COLOR_BGR2LAB)[0]
    centres = np.array(_BASIC_COLOURS_RGB, np.float32)[None, :, ::-1] / 255
    lab_centres = cv2.cvtColor(centres, cv2.COLOR_BGR2LAB)[0]
    distance = ((lab[:, None] - lab_centres) ** 2).sum(axis=2)
    weight = np.exp(-(distance - distance.min(axis=1, keepdims=True)) / (2 * 18.0**2))
    table = weight / weight.sum(axis=1, keepdims=True)
    return np.ascontiguousarray((table - table.mean(axis=0)).astype(np.float32))


def colours(image: U8, cell_px: int) -> F32:
    """(11, H/cell, W/cell) mean memberships of the cells' pixels to eleven basic colours, BGR image."""
    rows, cols = image.shape[0] // cell_px, image.shape[1] // cell_px
    small = np.asarray(cv2.resize(image, (cols * 2, rows * 2), interpolation=cv2.INTER_AREA), dtype=np.uint8) >> 3
    index = small[..., 0] + (small[..., 1].astype(np.int32) << 5) + (small[..., 2].astype(np.int32) << 10)
    soft = _colour_table()[index.ravel()].reshape(rows, 2, cols, 2, 11).mean(axis=(1, 3))
    return np.ascontiguousarray(soft.transpose(2, 0, 1))


def feature_window(rows: int, cols: int, power: float = 0.25) -> F32:
    """Hann window to a power (LSART uses 1/4: flat in the middle, zero at the rim)."""
    return (np.outer(np.hanning(rows + 2)[1:-1], np.hanning(cols + 2)[1:-1]) ** power).astype(np.float32)
