"""Two pictures of the same scene: how one flows to the other, how that looks from the one, by how much both differ."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from ..records import F32, U8


def dense_flow(grey: U8, other: U8, finest_scale: int = 1, patch_stride: int = 4, iterations: int = 12) -> F32:
    """(H, W, 2) px from ``grey`` (H, W) to where ``other`` shows the same (DIS, Kroeger et al., ECCV 2016): by patches
    of 8 px of pictures of 1 / 2**``finest_scale`` the size. As it stands, of half the pixels: movers may be small."""
    dense = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    dense.setFinestScale(finest_scale)
    dense.setPatchStride(patch_stride)
    dense.setGradientDescentIterations(iterations)
    return np.asarray(dense.calc(grey, other, np.empty(0, np.float32)), np.float32)


def displaced(x_px: F32, y_px: F32, *pictures: Any) -> list[Any]:
    """Each of ``pictures`` (H, W) or (H, W, 3), as seen from where each pixel goes by ``x_px`` and ``y_px`` (H, W)."""
    h, w = x_px.shape
    x, y = x_px + np.arange(w, dtype=np.float32), y_px + np.arange(h, dtype=np.float32)[:, None]
    return [cv2.remap(p, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) for p in pictures]


def most(difference: Any) -> U8:
    """(H, W) the most of the three colours of a ``difference`` (H, W, 3)."""
    b, g, r = cv2.split(difference)
    return np.asarray(cv2.max(cv2.max(b, g), r), np.uint8)
