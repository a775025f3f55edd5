"""Whether a detector's silence speaks against a lock."""

from __future__ import annotations

import numpy as np

from uav_perception.track.corroboration import Corroboration

BOX = np.array([100.0, 100, 140, 120])
NONE = np.zeros((0, 4))


def looks(corroboration: Corroboration, hits: str) -> None:
    """Looks at the box, x: with a detection of it."""
    for k, hit in enumerate(hits):
        corroboration.look(k, BOX, BOX[None], NONE, BOX[None] if hit == "x" else NONE)


def test_looks_that_missed_a_target_before_it_was_lost_count_when_it_is_found_again() -> None:
    silent = []
    for before in ("xxxxxxxxxxxx", "x.x.x......."):
        corroboration = Corroboration(0.3)
        looks(corroboration, before)
        corroboration.found_again(0)
        n = 0
        while not corroboration.refuted and n < 50:
            looks(corroboration, ".")
            n += 1
        silent.append(n)
    assert silent[0] < silent[1] < 50  # who is seldom seen is not missed so soon
    corroboration.start()
    looks(corroboration, "." * 50)
    assert not corroboration.refuted  # who was never seen is not missed at all
