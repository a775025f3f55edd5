"""The target's size from filters, outline and learnt edges together."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from uav_perception.config import LsartConfig
from uav_perception.track.pyramid import Pyramid
from uav_perception.track.refine import BoxRefinement, Measured
from uav_perception.track.shape import Shape

CENTRE, SIZE = np.array([160.0, 120.0]), np.array([60.0, 40.0])


def picture(factor: float = 1.0) -> Pyramid:
    """A textured bright box on dark ground, ``factor`` times as large."""
    rng = np.random.default_rng(0)
    scene = cv2.GaussianBlur(rng.integers(20, 90, (240, 320, 3), dtype=np.uint8), (0, 0), 2.0)
    thing = cv2.GaussianBlur(rng.integers(120, 255, (40, 60, 3), dtype=np.uint8), (0, 0), 1.5)
    w, h = np.rint(SIZE * factor).astype(int).tolist()
    scene[120 - h // 2:120 - h // 2 + h, 160 - w // 2:160 - w // 2 + w] = cv2.resize(thing, (w, h))
    return Pyramid(scene)


@pytest.mark.parametrize("parts", [{}, {"figure": False}, {"scale": False, "aspect": False}])
def test_growth_is_found(parts: dict[str, bool]) -> None:
    shape = Shape(LsartConfig(**parts), None)
    shape.learn(picture(), CENTRE, SIZE)
    _, same = shape.fitted(picture(), CENTRE, SIZE)
    _, larger = shape.fitted(picture(1.1), CENTRE, SIZE)
    assert np.abs(same / SIZE - 1).max() < 0.03
    assert np.sqrt(larger.prod() / same.prod()) > 1.03


class Says(BoxRefinement):
    """Edges a tenth of a side outside the box, seen with this probability."""

    def __init__(self, present: float) -> None:
        self._present = present

    def measure(self, picture: Pyramid, centre: np.ndarray, size: np.ndarray) -> Measured:
        return Measured(np.concatenate([centre - 0.6 * size, centre + 0.6 * size]), np.full(4, 0.01), self._present)


def test_learnt_edges_are_reported_where_the_target_is_seen() -> None:
    config = LsartConfig()
    seen, missed = Shape(config, Says(0.99)), Shape(config, Says(0.0))
    box = seen.refined(picture(), CENTRE, SIZE)
    assert box is not None and not seen.gone
    outside = (box[2:] - box[:2]) / SIZE
    assert (outside > 1.05).all() and (outside <= 1.2).all()
    assert missed.refined(picture(), CENTRE, SIZE) is None and missed.gone
    assert Shape(config, None).refined(picture(), CENTRE, SIZE) is None
