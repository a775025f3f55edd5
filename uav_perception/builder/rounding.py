"""Weights rounded so that the errors of one layer cancel on the inputs it really sees.

Rounding to nearest treats all inputs of a layer alike. Here each input is rounded in turn and its error is spread over
those not yet rounded, weighted by the covariance of the layer's inputs on calibration pictures (Frantar et al. 2023,
"GPTQ", arXiv 2210.17323, section 3; the least-squares update of optimal brain surgeon).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from .calibrate import Feeds, Progress, no_progress, probe
from .graph import Model, Node, attribute, channel_axis, constants, shapes

F64 = NDArray[np.float64]
PATCHES = 1024  # positions a picture and layer
LARGEST = 1200  # inputs of a layer beyond which the covariance costs more than it gains
BLOCK = 64  # columns
DAMPING = 0.01  # share of the mean variance added to every input


def covariances(model: Model, layers: Iterable[Node], feeds: Sequence[Feeds],
                progress: Progress = no_progress) -> dict[str, F64]:
    """Covariance of the inputs of layers with weights (out, in, ...): name -> (groups, K, K), K as in the weight."""
    size, weights = shapes(model), constants(model)
    chosen = [n for n in layers if len(size.get(n.input[0], ())) == weights[n.input[1]].ndim
              and channel_axis(n, weights[n.input[1]]) == 0 and weights[n.input[1]][0].size <= LARGEST
              and set(attribute(n, "dilations", [1])) == {1}]
    engine = probe(model, sorted({n.input[0] for n in chosen}))
    count = 0
    total: dict[str, F64] = {}
    mean: dict[str, F64] = {}
    rng = np.random.default_rng(0)
    for feed in progress(feeds, "covariances"):
        values = {**engine.infer(feed), **feed}
        count += 1
        for n in chosen:
            x = _sample(n, values[n.input[0]], weights[n.input[1]].shape, rng)  # (groups, positions, K)
            second = np.matmul(x.transpose(0, 2, 1), x) / x.shape[1]
            total[n.name] = total.get(n.name, 0.0) + second
            mean[n.name] = mean.get(n.name, 0.0) + x.mean(axis=1)
    engine.close()
    return {k: total[k] / count - (m := mean[k] / count)[:, :, None] * m[:, None, :] for k in total}


def round_weight(weight: NDArray[np.float32], scale: NDArray[np.float32], covariance: F64 | None) -> NDArray[np.int8]:
    """INT8 levels of a weight (out, in / groups, ...) with one scale an output channel."""
    rows = weight.reshape(len(weight), -1).astype(np.float64) / scale.astype(np.float64)[:, None]
    if covariance is None:
        return _levels(rows).reshape(weight.shape)
    groups, k = covariance.shape[:2]
    variance = np.trace(covariance, axis1=1, axis2=2) / k
    damped = covariance + np.eye(k) * (DAMPING * np.maximum(variance, 1e-12))[:, None, None]
    upper = np.linalg.cholesky(np.linalg.inv(damped)).transpose(0, 2, 1)
    left = rows.reshape(groups, -1, k).copy()
    out, error = np.empty_like(left), np.empty_like(left)
    for start in range(0, k, BLOCK):  # within a block column by column, then the rest of the row at once
        end = min(start + BLOCK, k)
        for i in range(start, end):
            out[:, :, i] = np.clip(np.rint(left[:, :, i]), -127, 127)
            error[:, :, i] = (left[:, :, i] - out[:, :, i]) / upper[:, i, i, None]
            left[:, :, i + 1:end] -= error[:, :, i, None] * upper[:, None, i, i + 1:end]
        left[:, :, end:] -= np.matmul(error[:, :, start:end], upper[:, start:end, end:])
    return _levels(out).reshape(weight.shape)


class Rounder:
    """Rounds the weights of layers, each once for a scale: all candidates of a search share the work."""

    def __init__(self, covariances: Mapping[str, F64]) -> None:
        self._covariances = covariances
        self._done: dict[tuple[str, bytes], NDArray[np.int8]] = {}

    def __call__(self, layer: str, weight: NDArray[np.float32], scale: NDArray[np.float32]) -> NDArray[np.int8]:
        key = layer, scale.tobytes()
        if key not in self._done:
            self._done[key] = round_weight(weight, scale, self._covariances.get(layer))
        return self._done[key]


def _levels(rows: F64) -> NDArray[np.int8]:
    return np.clip(np.rint(rows), -127, 127).astype(np.int8)


def _sample(node: Node, x: NDArray[Any], shape: Sequence[int], rng: np.random.Generator) -> F64:
    """A sample of what the layer sees: (groups, positions, K)."""
    if x.ndim == 2:
        return x[None, rng.integers(0, len(x), min(PATCHES, len(x)))].astype(np.float64)
    group = attribute(node, "group", 1)
    _, channels, kh, kw = shape
    pads = attribute(node, "pads", [0, 0, 0, 0])
    sy, sx = attribute(node, "strides", [1, 1])
    padded = np.pad(x[0], ((0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
    windows = sliding_window_view(padded, (kh, kw), axis=(1, 2))[:, ::sy, ::sx]  # (C, H, W, kh, kw)
    h, w = windows.shape[1:3]
    chosen = rng.integers(0, h * w, min(PATCHES, h * w))
    picked = windows[:, chosen // w, chosen % w].astype(np.float64)  # (C, P, kh, kw)
    rows = picked.reshape(group, channels, len(chosen), kh * kw).transpose(0, 2, 1, 3).reshape(
        group, len(chosen), channels * kh * kw)
    return np.asarray(rows)

