"""What the regressions of a target learn from a window they find again in another."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from uav_perception.config import LsartConfig
from uav_perception.track.pyramid import Pyramid
from uav_perception.track.regressions import Regressions
from uav_perception.track.search import peak_quality

SIZE = np.array([60.0, 40.0])


def ground() -> np.ndarray:
    blots = np.random.default_rng(4).integers(0, 255, (24, 32, 3), np.uint8)
    return np.asarray(cv2.resize(blots, (480, 360), interpolation=cv2.INTER_CUBIC), np.uint8)


def shown(x: int, y: int) -> Pyramid:
    """A striped plate with its middle at (x, y) over the ground."""
    image = ground()
    plate = np.full((40, 60, 3), (40, 60, 210), np.uint8)
    plate[:, 35:], plate[::6] = (200, 200, 40), (20, 20, 20)
    image[y - 20:y + 20, x - 30:x + 30] = plate
    return Pyramid(image)


@pytest.mark.parametrize("regions", [True, False])
def test_finds_the_target_where_it_went_and_is_unsure_where_there_is_none(regions: bool) -> None:
    learnt = Regressions(LsartConfig(regions=regions), SIZE)
    learnt.learn(shown(160, 120), np.array([160.0, 120.0]), SIZE, 0)
    centre, peak = learnt.place(shown(172, 111), np.array([160.0, 120.0]), SIZE)
    cell_px = np.sqrt(SIZE.prod()) * LsartConfig().search_ratio / (LsartConfig().window_px / LsartConfig().cell_px)
    assert np.abs(centre - [172, 111]).max() < 0.7 * cell_px
    none = learnt.place(Pyramid(ground()), np.array([160.0, 120.0]), SIZE)[1]
    assert peak.value > 2 * none.value and peak_quality(peak) > peak_quality(none)


def test_keeps_up_with_a_target_that_changes() -> None:
    """Half of it is repainted; what was learnt since makes the peak higher."""
    learnt, box = Regressions(LsartConfig(), SIZE), np.array([160.0, 120.0])
    learnt.learn(shown(160, 120), box, SIZE, 0)
    image = shown(160, 120).image.copy()
    image[100:140, 130:160] = (250, 250, 250)
    before = learnt.place(Pyramid(image), box, SIZE)[1].value
    for turn in range(1, 30):
        learnt.learn(Pyramid(image), box, SIZE, turn)
    assert learnt.place(Pyramid(image), box, SIZE)[1].value > 1.2 * before
