"""Depth errors of Eigen et al. (2014), per image and averaged over images; scaled by the median and as it is."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
Bool = NDArray[np.bool_]
MIN_PIXELS = 100  # of common valid pixels, for an image to count


def depth_errors(depth: F32, valid: Bool, truth: F32, truth_valid: Bool,
                 range_m: tuple[float, float]) -> dict[str, float]:
    """Errors of one image; empty when too few pixels are known in both. The estimate is resized to the truth.

    ``abs_rel, sq_rel, rmse, rmse_log, d1, d2, d3`` after scaling with median(truth)/median(estimate) (``scale``), the
    same with the suffix ``_metric`` without scaling; ``coverage``: share of truth pixels that have an estimate.
    """
    if depth.shape != truth.shape:
        size = (truth.shape[1], truth.shape[0])
        depth = np.asarray(cv2.resize(depth, size, interpolation=cv2.INTER_NEAREST_EXACT), np.float32)
        valid = cv2.resize(valid.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST_EXACT).astype(bool)
    wanted = truth_valid & (truth >= range_m[0]) & (truth <= range_m[1])
    both = wanted & valid
    if np.count_nonzero(both) < MIN_PIXELS:
        return {}
    t, d = truth[both].astype(np.float64), depth[both].astype(np.float64)
    scale = float(np.median(t) / np.median(d))
    out = {"coverage": float(both.sum() / wanted.sum()), "scale": scale, **_errors(np.clip(d * scale, *range_m), t)}
    return {**out, **{f"{k}_metric": v for k, v in _errors(np.clip(d, *range_m), t).items()}}


def _errors(d: NDArray[np.float64], t: NDArray[np.float64]) -> dict[str, float]:
    ratio = np.maximum(d / t, t / d)
    return {"abs_rel": float(np.mean(np.abs(d - t) / t)), "sq_rel": float(np.mean((d - t) ** 2 / t)),
            "rmse": float(np.sqrt(np.mean((d - t) ** 2))),
            "rmse_log": float(np.sqrt(np.mean((np.log(d) - np.log(t)) ** 2))),
            **{f"d{i}": float(np.mean(ratio < 1.25**i)) for i in (1, 2, 3)}}


class DepthScores:
    """Mean over images in constant memory."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = defaultdict(float)
        self.images = 0

    def add(self, errors: dict[str, float]) -> None:
        """One image's ``depth_errors`` (an empty one is not counted)."""
        if errors:
            self.images += 1
            for name, value in errors.items():
                self._sums[name] += value

    def summary(self, metric: bool) -> dict[str, Any]:
        """Means; the unscaled errors only where depth claims to be in metres."""
        return {"images": self.images, **{k: v / self.images for k, v in self._sums.items()
                                          if metric or not k.endswith("_metric")}}
