"""A cheap description of what is inside a box: colour layout and gradient directions, some 30 µs a box."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..records import F32, F64, U8

PATCH_PX = 32
CELLS = 4
BINS = 8  # a power of two


def describe(image: U8, xyxy_px: ArrayLike) -> F32:
    """(N, D) descriptions of boxes in a BGR image, each of unit length; a box outside the image gives zeros.

    Half of the length is the colour layout (Lab of 4x4 cells about their mean, and the hue of that mean), half
    the histogram of gradient directions of 4x4 cells (Dalal and Triggs 2005, unsigned, soft magnitude).
    """
    boxes = np.asarray(xyxy_px, dtype=np.float64).reshape(-1, 4)
    h, w = image.shape[:2]
    corners = np.clip(np.rint(boxes), 0, [w, h, w, h]).astype(int)
    patches = np.zeros((len(boxes), PATCH_PX, PATCH_PX, 3), np.uint8)
    known = (corners[:, 2:] - corners[:, :2]).min(axis=1, initial=PATCH_PX) >= 2
    for patch, (x1, y1, x2, y2), usable in zip(patches, corners.tolist(), known.tolist(), strict=True):
        if usable:
            cv2.resize(image[y1:y2, x1:x2], (PATCH_PX, PATCH_PX), dst=patch, interpolation=cv2.INTER_AREA)
    if not len(boxes):
        return np.zeros((0, CELLS * CELLS * (3 + BINS) + 3), np.float32)
    stacked = patches.reshape(-1, PATCH_PX, 3)  # one picture: the means of cells do not reach across patches
    cells = cv2.resize(stacked, (CELLS, len(boxes) * CELLS), interpolation=cv2.INTER_AREA)
    lab = np.asarray(cv2.cvtColor(cells, cv2.COLOR_BGR2LAB), dtype=np.float32).reshape(-1, CELLS * CELLS, 3) - 128.0
    grey = np.asarray(cv2.cvtColor(stacked, cv2.COLOR_BGR2GRAY), dtype=np.float32).reshape(patches.shape[:3])
    described = np.concatenate([_colour(lab), _gradients(grey)], axis=1)
    return np.asarray(described * known[:, None], dtype=np.float32)


def _colour(cells: F32) -> F32:
    """(N, 51) of the Lab means (N, cells, 3)."""
    mean = cells.mean(axis=1)
    layout = (cells - mean[:, None]).reshape(len(cells), -1) / 4
    return _half_unit(np.concatenate([layout, mean * [1.0, 3.0, 3.0]], axis=1))  # hue says more than shade


def _gradients(grey: F32) -> F32:
    """(N, 128) of (N, P, P)."""
    n = len(grey)
    gx, gy = np.empty_like(grey), np.empty_like(grey)
    for slope, g in ((gx, grey), (gy.transpose(0, 2, 1), grey.transpose(0, 2, 1))):
        np.subtract(g[:, :, 2:], g[:, :, :-2], out=slope[:, :, 1:-1])
        np.subtract(g[:, :, 1], g[:, :, 0], out=slope[:, :, 0])
        np.subtract(g[:, :, -1], g[:, :, -2], out=slope[:, :, -1])
    length, angle = cv2.cartToPolar(gx.reshape(n, -1), gy.reshape(n, -1))
    turns = np.asarray(angle) * np.float32(BINS / np.pi) + np.float32(0.5)  # upright and level are centres of bins
    direction = turns.astype(np.intp) & (BINS - 1)
    cell = np.arange(PATCH_PX) * CELLS // PATCH_PX
    first = ((cell[:, None] * CELLS + cell).ravel() + CELLS**2 * np.arange(n)[:, None]) * BINS  # bin of its cell
    hist = np.bincount((first + direction).ravel(), np.sqrt(length).ravel(), n * CELLS**2 * BINS).reshape(n, -1)
    return _half_unit(hist - hist.mean(axis=1, keepdims=True))


def _half_unit(rows: NDArray[Any]) -> F32:
    """Rows of length sqrt(1/2)."""
    length = np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
    return np.asarray(rows / length * np.sqrt(0.5), dtype=np.float32)


def distance(a: F32, b: F32) -> F64:
    """(N,) distances 1 - cosine of descriptions (N or 1, D), pair by pair; unknown ones (zeros) get the neutral 0.5."""
    cosine = np.einsum("nd,nd->n", *np.broadcast_arrays(a, b))
    known = np.any(a != 0, axis=1) & np.any(b != 0, axis=1)
    return np.asarray(np.where(known, 1.0 - cosine, 0.5), dtype=np.float64)
