"""Ranges of activations from calibration feeds: min-max, percentile, mean squared error, entropy.

Two passes over the feeds: the first finds extremes and channel means, the second fills one histogram a tensor. Every
method then reads the same histogram, so trying all of them costs nothing more.

Sources: TensorRT's entropy calibration (Migacz, GTC 2017: KL divergence over 128 levels of |x|); percentile and MSE
after Wu et al. 2020, "Integer quantization for deep learning inference", arXiv 2004.09602, section 4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError, WorkFailed

BINS = 2048
FLAT = 1e-30  # a span below is one value
F64 = NDArray[np.float64]
Range = tuple[float, float]


@dataclass
class TensorStats:
    """What was seen of one tensor: extremes, histogram between them, mean and mean square of each channel (axis 1)."""

    low: float = np.inf
    high: float = -np.inf
    histogram: F64 = field(default_factory=lambda: np.zeros(BINS))
    channel_mean: F64 | None = None
    channel_square: F64 | None = None
    seen: int = 0

    def see_extremes(self, name: str, value: NDArray[np.float32]) -> None:
        """First pass."""
        low, high = float(value.min()), float(value.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise WorkFailed(f"tensor {name} holds NaN or infinity during calibration", "finite activations",
                             "check the model's weights and that its preprocessing is the one it was trained with")
        self.low, self.high = min(self.low, low), max(self.high, high)
        if value.ndim == 2 or (value.ndim > 2 and value.shape[0] == 1):
            rows = value.T if value.ndim == 2 else value[0].reshape(value.shape[1], -1)
            mean, square = rows.mean(axis=1), np.einsum("ij,ij->i", rows, rows) / rows.shape[1]
            if self.channel_mean is None or self.channel_square is None:
                self.channel_mean, self.channel_square = np.zeros(len(rows)), np.zeros(len(rows))
            self.channel_mean += (mean - self.channel_mean) / (self.seen + 1)
            self.channel_square += (square - self.channel_square) / (self.seen + 1)
        self.seen += 1

    def see_values(self, value: NDArray[np.float32], at_most: int) -> None:
        """Second pass: a strided sample of ``at_most`` values enters the histogram."""
        flat = value.reshape(-1)
        step = max(1, flat.size // at_most)
        flat = flat[(self.seen % step)::step]
        self.seen += 1
        width = self.high - self.low
        if width < FLAT:
            self.histogram[0] += flat.size
            return
        index = ((flat - np.float32(self.low)) * np.float32(BINS / width)).astype(np.int32)
        self.histogram += np.bincount(np.minimum(index, BINS - 1), minlength=BINS)

    @property
    def channel_variance(self) -> F64 | None:
        """Variance of each channel over pictures and positions."""
        if self.channel_mean is None or self.channel_square is None:
            return None
        return np.maximum(self.channel_square - self.channel_mean**2, 0.0)

    @property
    def centres(self) -> F64:
        return self.low + (np.arange(BINS) + 0.5) * (self.high - self.low) / BINS


def minmax(stats: TensorStats, symmetric: bool) -> Range:
    """Everything that was seen."""
    return stats.low, stats.high


def percentile(stats: TensorStats, symmetric: bool, share: float = 0.9999) -> Range:
    """The range that holds ``share`` of all values; each side loses at most half of the rest."""
    total = np.cumsum(stats.histogram) / max(1.0, stats.histogram.sum())
    edges = np.linspace(stats.low, stats.high, BINS + 1)
    cut = (1 - share) / 2
    low = edges[int(np.searchsorted(total, cut, side="right"))]
    high = edges[min(BINS, int(np.searchsorted(total, 1 - cut)) + 1)]
    return float(low), float(high)


def mse(stats: TensorStats, symmetric: bool) -> Range:
    """The clipping that minimises the expected squared error: rounding s^2/12 inside, distance to the edge outside."""
    x, p = stats.centres, stats.histogram
    levels = 255.0
    ratios = np.linspace(0.02, 1.0, 50)

    def cost(low: F64, high: F64) -> Any:
        step = (high - low) / levels
        over = np.maximum(x[None] - high[:, None], 0) + np.maximum(low[:, None] - x[None], 0)
        inside = (over == 0) @ p
        return (over**2) @ p + inside * step**2 / 12

    low, high = min(stats.low, 0.0), max(stats.high, 0.0)
    if symmetric:
        top = max(-low, high) * ratios
        best = float(top[int(cost(-top, top).argmin())])
        return -best, best
    for _ in range(2):  # one side at a time; the sides hardly depend on each other
        tops = max(stats.high, 0.0) * ratios
        high = float(tops[int(cost(np.full_like(tops, low), tops).argmin())])
        bottoms = min(stats.low, 0.0) * ratios
        low = float(bottoms[int(cost(bottoms, np.full_like(bottoms, high)).argmin())])
    return low, high


def entropy(stats: TensorStats, symmetric: bool) -> Range:
    """The threshold on |x| whose 128-level histogram loses the least information (KL divergence)."""
    reach = max(-stats.low, stats.high)
    if reach < FLAT:
        return stats.low, stats.high
    magnitude = np.zeros(BINS)
    np.add.at(magnitude, np.minimum((np.abs(stats.centres) / reach * BINS).astype(int), BINS - 1), stats.histogram)
    magnitude[0] = 0 if magnitude[1:].any() else magnitude[0]  # the mass at zero (padding, ReLU) says nothing
    best, best_loss = BINS, np.inf
    for n in range(128, BINS + 1, 16):
        reference = magnitude[:n].copy()
        reference[-1] += magnitude[n:].sum()
        edges = np.arange(129) * n // 128
        full = magnitude[:n] > 0
        counts = np.add.reduceat(magnitude[:n], edges[:-1])
        filled = np.add.reduceat(full.astype(float), edges[:-1])
        level = np.divide(counts, filled, out=np.zeros(128), where=filled > 0)
        candidate = np.repeat(level, np.diff(edges)) * full
        p, q = reference / max(reference.sum(), 1e-12), candidate / max(candidate.sum(), 1e-12)
        both = p > 0
        loss = float((p[both] * np.log(p[both] / np.maximum(q[both], 1e-9))).sum())
        if loss < best_loss:
            best, best_loss = n, loss
    top = best / BINS * reach
    return max(stats.low, -top), min(stats.high, top)


METHODS: dict[str, Callable[[TensorStats, bool], Range]] = {
    "mse": mse, "percentile": percentile, "minmax": minmax, "entropy": entropy,
}


def merged(stats: Sequence[TensorStats]) -> TensorStats:
    """One statistic of tensors that must share a range (what a copy, pooling or reshape passes on)."""
    known = [s for s in stats if s.seen]
    if not known:
        raise ModelError("a tensor without calibration values", "every tensor of the graph", "report this model")
    if len(known) == 1:
        return known[0]
    out = TensorStats(min(s.low for s in known), max(s.high for s in known), seen=1)
    for s in known:
        width = max(out.high - out.low, FLAT)
        index = np.minimum(((s.centres - out.low) / width * BINS).astype(int), BINS - 1)
        np.add.at(out.histogram, index, s.histogram)
    return out


def clamped(stats: TensorStats, low: float, high: float) -> TensorStats:
    """The statistic of ``clip(x, low, high)``."""
    if stats.low >= low and stats.high <= high:
        return stats
    out = TensorStats(max(stats.low, low), min(stats.high, high), seen=stats.seen)
    if out.high - out.low < FLAT:
        return stats
    index = ((stats.centres - out.low) / (out.high - out.low) * BINS).astype(int)
    np.add.at(out.histogram, np.clip(index, 0, BINS - 1), stats.histogram)
    return out
