"""Assignment against brute force; the mixture that weighs matches."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from uav_perception.track import kalman
from uav_perception.track.association import assign, motion_cost
from uav_perception.track.kalman import BoxNoise

NOISE = BoxNoise(centre=0.07, size=0.12, velocity_s=1.5, acceleration=0.3, growth=0.1)


def brute_force(cost: np.ndarray, limit: float) -> float:
    """Least sum of (cost - limit) over all partial pairings."""
    n, m = cost.shape
    best = 0.0
    for k in range(1, min(n, m) + 1):
        for rows in itertools.combinations(range(n), k):
            for columns in itertools.permutations(range(m), k):
                best = min(best, float(sum(cost[r, c] - limit for r, c in zip(rows, columns, strict=True))))
    return best


cell = st.one_of(st.floats(-20, 20), st.just(float("inf")))


@given(st.integers(1, 4), st.integers(1, 4), st.data(), st.floats(-5, 5))
@settings(max_examples=150)
def test_assignment_is_the_cheapest(n, m, data, limit):
    cost = np.array(data.draw(st.lists(st.lists(cell, min_size=m, max_size=m), min_size=n, max_size=n)))
    rows, columns = np.nonzero(np.isfinite(cost))
    pairs = list(zip(*assign(rows, columns, cost[rows, columns], limit, cost.shape), strict=True))
    assert len({r for r, _ in pairs}) == len(pairs) == len({c for _, c in pairs})
    assert all(cost[r, c] < limit for r, c in pairs)
    assert np.isclose(sum(cost[r, c] - limit for r, c in pairs), brute_force(cost, limit))


def test_motion_cost_is_the_density_written_out():
    mean, cov = kalman.initiate([[100, 100, 140, 120]], NOISE)
    box = np.array([[110.0, 98, 149, 121]])
    rows, columns, cost = motion_cost(mean, cov, [1], box, NOISE, 0.3, gate=50.0)
    s = np.sqrt(40 * 20)
    R = np.diag(np.array([0.07 * 40, 0.07 * 20, 0.12 * 40, 0.12 * 20]) ** 2)
    S = cov[0, :4, :4] + R
    z = kalman.box_to_centre(box)[0] - mean[0, :4]

    d2 = float(z @ np.linalg.inv(S) @ z)
    N = np.diag([8, 8, 2, 2]) @ R
    narrow = np.exp(-0.5 * z @ np.linalg.inv(N) @ z) / np.sqrt(np.linalg.det(N / s**2))
    wide = (1 + d2 / 4) ** -4 / np.sqrt(np.linalg.det(S / s**2))
    assert rows.tolist() == columns.tolist() == [0]
    assert np.isclose(cost[0], -np.log(0.3 * narrow + 0.7 * wide))
    for gate, pairs in ((d2 * 1.001, 1), (d2 * 0.999, 0)):
        assert len(motion_cost(mean, cov, [1], box, NOISE, 0.3, gate)[2]) == pairs


def test_neighbours_of_a_row_keep_apart_when_one_is_missed():
    """Four parked cars 1.2 lengths apart, the first is not detected: nobody shifts along."""
    row = np.array([[100.0 + 48 * k, 100, 140 + 48 * k, 120] for k in range(4)])
    mean, cov = kalman.initiate(row, NOISE)
    for _ in range(3):
        mean, cov = kalman.update(*kalman.predict(mean, cov, 1.0, NOISE), row, NOISE)
    mean, cov = kalman.predict(mean, cov, 3.0, NOISE)
    rows, columns, cost = motion_cost(mean, cov, [3] * 4, row[1:] + 1.5, NOISE, 0.5, gate=18.5)
    assert (0, 0) in zip(rows, columns, strict=True)  # by the filter's spread alone the neighbour would do
    rows, columns = assign(rows, columns, cost, 0.0, (4, 3))
    assert rows.tolist() == [1, 2, 3] and columns.tolist() == [0, 1, 2]
