"""What a tracker looks at: HOG and colour maps of a window, at one cell a few pixels.

HOG follows Felzenszwalb et al., "Object detection with discriminatively trained part-based models" (PAMI 2010),
section 6: 18 signed and 9 unsigned orientations, block normalisation (here one, over 3 x 3 cells), truncation at 0.2.
Colour maps are soft memberships to eleven basic colours (Berlin and Kay), computed here from their sRGB centres in Lab.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]

ORIENTATIONS = 18
BINS = ORIENTATIONS + 2  # angle 2 pi by rounding, and its upper neighbour
_BASIC_COLOURS_RGB = ((15, 15, 15), (50, 80, 200), (120, 75, 35), (128, 128, 128), (40, 160, 60), (245, 140, 30),
                      (250, 150, 190), (130, 50, 150), (210, 30, 35), (245, 245, 245), (245, 225, 40))


def hog(image: U8, cell_px: int) -> F32:
    """(28, H/cell, W/cell) maps of a BGR or grey image: 18 signed and 9 unsigned orientations, and gradient energy."""
    grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    rows, cols = grey.shape[0] // cell_px, grey.shape[1] // cell_px
    grey = grey[: rows * cell_px, : cols * cell_px]
    gx = cv2.Sobel(grey, cv2.CV_32F, 1, 0, ksize=1)
    gy = cv2.Sobel(grey, cv2.CV_32F, 0, 1, ksize=1)
    magnitude, position = cv2.cartToPolar(gx, gy)
    position *= ORIENTATIONS / (2 * np.pi)
    low = np.floor(position)
    position -= low
    share = (magnitude * position).ravel()
    cell = _cell_index(rows, cols, cell_px)
    bins = rows * cols * BINS
    index = cell + low.ravel().astype(np.int32)
    histogram = np.bincount(index, magnitude.ravel() - share, bins)
    index += 1
    histogram += np.bincount(index, share, bins)
    wide = histogram.reshape(rows, cols, BINS).astype(np.float32)
    wide[..., 0] += wide[..., ORIENTATIONS]  # a full turn is orientation 0, and 18 + 1 is 1
    wide[..., 1] += wide[..., ORIENTATIONS + 1]
    soft = cv2.GaussianBlur(wide[..., :ORIENTATIONS], (3, 3), 0.7)  # soft spatial binning
    signed = np.ascontiguousarray(soft.reshape(rows * cols, ORIENTATIONS).T).reshape(ORIENTATIONS, rows, cols)
    out = np.empty((ORIENTATIONS + 9 + 1, rows, cols), np.float32)
    unsigned = np.add(signed[:9], signed[9:], out=out[18:27])
    energy = np.einsum("khw,khw->hw", unsigned, unsigned)
    norm = 2.0 / np.sqrt(cv2.blur(energy, (3, 3), borderType=cv2.BORDER_REPLICATE) * 4.0 + 1.0)
    np.multiply(signed, norm, out=out[:18])
    unsigned *= norm
    capped = out[:27].reshape(27, -1)
    cv2.threshold(capped, 0.4, 0, cv2.THRESH_TRUNC, dst=capped)  # np.minimum takes six times as long
    np.multiply(out[:18].sum(axis=0), 0.2357, out=out[27])
    return out


@cache
def _cell_index(rows: int, cols: int, cell_px: int) -> NDArray[np.int32]:
    y, x = np.arange(rows * cell_px) // cell_px, np.arange(cols * cell_px) // cell_px
    return ((y[:, None] * cols + x) * BINS).astype(np.int32).ravel()


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
    soft = _colour_table()[index.ravel()].reshape(rows, 2, cols, 2, 11)
    mean = 0.25 * (soft[:, 0, :, 0] + soft[:, 0, :, 1] + soft[:, 1, :, 0] + soft[:, 1, :, 1])
    return np.ascontiguousarray(mean.transpose(2, 0, 1))


def feature_window(rows: int, cols: int, power: float = 0.25) -> F32:
    """Hann window to a power (LSART uses 1/4: flat in the middle, zero at the rim)."""
    return (np.outer(np.hanning(rows + 2)[1:-1], np.hanning(cols + 2)[1:-1]) ** power).astype(np.float32)
