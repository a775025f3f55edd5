"""Work is shed step by step, and taken back where there is room."""

from __future__ import annotations

import itertools

from uav_perception.track.budget import Budget


def _after(budget: Budget, ms: float, frames: int) -> list[int]:
    levels = []
    for _ in range(frames):
        budget.took(ms)
        levels.append(budget.shed)
    return levels


def test_sheds_one_level_at_a_time_and_takes_them_back() -> None:
    budget = Budget(10.0)
    rising = _after(budget, 30.0, 40)
    assert rising[0] == 0 and rising[-1] == 2 and {b - a for a, b in itertools.pairwise(rising)} == {0, 1}
    falling = _after(budget, 1.0, 40)
    assert falling[-1] == 0 and {b - a for a, b in itertools.pairwise(falling)} == {0, -1}


def test_neither_a_single_slow_frame_nor_a_load_between_changes_anything() -> None:
    budget = Budget(10.0)
    assert set(_after(budget, 7.0, 50)) == {0}
    assert set(_after(budget, 15.0, 1) + _after(budget, 7.0, 20)) == {0}


def test_without_a_budget_nothing_is_shed() -> None:
    assert set(_after(Budget(0.0), 1e6, 50)) == {0}
