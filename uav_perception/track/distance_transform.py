"""Distance-transform pooling of part responses.

Source: Sun et al. (CVPR 2018), section 4.3, after Felzenszwalb and Huttenlocher: a part may be found a little off its
place, at a price: D(s) = max over t of f(t) - w |s - t|^2 - theta . (s - t). A larger w trusts the map's own position
more. The price is separable, so a 2-D window of n x n costs 2 n shifted maxima.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]


def pool(maps: F32, stiffness: F32, lean: F32, radius: int) -> F32:
    """Pool (K, H, W) maps over a window of 2 radius + 1.

    Args:
        maps: part responses.
        stiffness: (K,) w >= 0, price per squared cell.
        lean: (K, 2) theta for (y, x), price per cell of displacement s - t.
        radius: half the window, cells; beyond the border nothing is found.
    """
    columns = _pool_axis(maps, stiffness, lean[:, 0], radius, axis=1)
    return _pool_axis(columns, stiffness, lean[:, 1], radius, axis=2)


def _pool_axis(maps: F32, stiffness: F32, lean: F32, radius: int, axis: int) -> F32:
    best: F32 = maps.copy()
    length = maps.shape[axis]
    for d in range(-min(radius, length - 1), min(radius, length - 1) + 1):  # s - t = d
        if d == 0:
            continue
        price = (stiffness * d * d + lean * d).astype(np.float32)[:, None, None]
        s, t = _overlap(length, d, axis)
        np.maximum(best[s], maps[t] - price, out=best[s])
    return best


def _overlap(length: int, d: int, axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Index tuples of s and t = s - d inside an axis."""
    s = slice(max(0, d), min(length, length + d))
    t = slice(max(0, -d), min(length, length - d))
    before = (slice(None),) * axis
    return (*before, s), (*before, t)
