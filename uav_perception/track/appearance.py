"""A cheap description of what is inside a box: colour layout and gradient directions, some 60 µs a box."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..records import F32, F64, U8

PATCH_PX = 32
CELLS = 4
BINS = 8


def describe(image: U8, xyxy_px: ArrayLike) -> F32:
    """(N, D) descriptions of boxes in a BGR image, each of unit length; a box outside the image gives zeros.

    Half of the length is the colour layout (Lab means of 4x4 cells about the box's mean, and that mean's hue), half
    the histogram of gradient directions of 4x4 cells (Dalal and Triggs 2005, unsigned, soft magnitude).
    """
    boxes = np.asarray(xyxy_px, dtype=np.float64).reshape(-1, 4)
    h, w = image.shape[:2]
    corners = np.clip(np.rint(boxes), 0, [w, h, w, h]).astype(int)
    out = np.zeros((len(boxes), CELLS * CELLS * (3 + BINS) + 3), np.float32)
    for row, (x1, y1, x2, y2) in zip(out, corners, strict=True):
        if x2 - x1 < 2 or y2 - y1 < 2:
            continue
        patch = cv2.resize(image[y1:y2, x1:x2], (PATCH_PX, PATCH_PX), interpolation=cv2.INTER_AREA)
        lab = cv2.cvtColor(patch, cv2.COLOR_BGR2LAB)
        row[:] = np.concatenate([_colour(np.asarray(lab)), _gradients(np.asarray(lab[:, :, 0]))])
    return out


def _colour(lab: NDArray[Any]) -> F32:
    cells = cv2.resize(lab, (CELLS, CELLS), interpolation=cv2.INTER_AREA).astype(np.float32) - 128.0
    mean = cells.mean(axis=(0, 1))
    layout = np.concatenate([(cells - mean).ravel() / 4, mean * [1.0, 3.0, 3.0]])  # hue says more than shade
    return np.asarray(layout / max(float(np.linalg.norm(layout)), 1e-6) * np.sqrt(0.5), dtype=np.float32)


def _gradients(grey: NDArray[Any]) -> F32:
    gx = cv2.Sobel(grey, cv2.CV_32F, 1, 0, ksize=3)
    gy = cv2.Sobel(grey, cv2.CV_32F, 0, 1, ksize=3)
    strength = np.sqrt(np.hypot(gx, gy))
    angle = np.arctan2(gy, gx) % np.pi
    direction = np.minimum((angle * (BINS / np.pi)).astype(int), BINS - 1)
    cell = np.arange(PATCH_PX) * CELLS // PATCH_PX
    index = (cell[:, None] * CELLS + cell[None]) * BINS + direction
    hist = np.bincount(index.ravel(), strength.ravel(), CELLS * CELLS * BINS)
    hist -= hist.mean()
    return np.asarray(hist / max(float(np.linalg.norm(hist)), 1e-6) * np.sqrt(0.5), dtype=np.float32)


def distance(a: F32, b: F32) -> F64:
    """(N, M) distances 1 - cosine of (N, D) and (M, D) descriptions; unknown ones (zeros) get the neutral 0.5."""
    d: F64 = 1.0 - a.astype(np.float64) @ b.T.astype(np.float64)
    d[~a.any(axis=1)] = 0.5
    d[:, ~b.any(axis=1)] = 0.5
    return d
