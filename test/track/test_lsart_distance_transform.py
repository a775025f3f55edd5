from __future__ import annotations

import numpy as np
import pytest

from uav_perception.track.distance_transform import pool


def brute_force(maps, stiffness, lean, radius):
    k, h, w = maps.shape
    out = np.full(maps.shape, -np.inf)
    for c in range(k):
        for y in range(h):
            for x in range(w):
                for ty in range(max(0, y - radius), min(h, y + radius + 1)):
                    for tx in range(max(0, x - radius), min(w, x + radius + 1)):
                        dy, dx = y - ty, x - tx
                        price = stiffness[c] * (dy * dy + dx * dx) + lean[c, 0] * dy + lean[c, 1] * dx
                        out[c, y, x] = max(out[c, y, x], maps[c, ty, tx] - price)
    return out


@pytest.mark.parametrize(("shape", "radius"), [((3, 9, 12), 3), ((1, 5, 4), 5), ((2, 7, 7), 1)])
def test_pooling_equals_brute_force(shape, radius):
    rng = np.random.default_rng(radius)
    maps = rng.normal(size=shape).astype(np.float32)
    stiffness = rng.uniform(0, 0.5, shape[0]).astype(np.float32)
    lean = rng.normal(0, 0.1, (shape[0], 2)).astype(np.float32)
    np.testing.assert_allclose(pool(maps, stiffness, lean, radius), brute_force(maps, stiffness, lean, radius),
                               rtol=1e-5, atol=1e-5)


def test_very_stiff_pooling_changes_nothing_and_soft_pooling_spreads_the_maximum():
    maps = np.random.default_rng(0).normal(size=(1, 8, 8)).astype(np.float32)
    none = np.zeros((1, 2), np.float32)
    np.testing.assert_array_equal(pool(maps, np.array([1e6], np.float32), none, 3), maps)
    assert (pool(maps, np.zeros(1, np.float32), none, 8) == maps.max()).all()
