"""What the refinement and the remembered look say of a place."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from uav_perception.track.pyramid import Pyramid
from uav_perception.track.refine import BoxRefinement, Measured
from uav_perception.track.regain import Regain
from uav_perception.track.search import Peak
from uav_perception.track.sight import LEAP, Sight, Witness

SIZE, LAST = np.array([40.0, 24.0]), np.array([200.0, 150.0])
SIGHT = Sight(LAST + 5.0, SIZE, Peak((0.0, 0.0), 0.2, 0.1), 0.1)
SIDE = float(np.sqrt(SIZE.prod()))


class Sees(BoxRefinement):
    """Sees an object, three quarters as high as the box, ``beside`` its middle (px); ``present``: surely the target."""

    def __init__(self, present=0.99, beside=0.0):
        self.present, self.beside = present, np.array([beside, 0.0])

    def measure(self, picture, centre, size):
        half = size / 2 * [1.0, 0.75]
        return Measured(np.concatenate([centre + self.beside - half, centre + self.beside + half]), np.full(4, 0.1),
                        self.present)


@pytest.fixture
def picture():
    patches = np.random.default_rng(3).integers(0, 256, (6, 8, 3), np.uint8)
    return Pyramid(np.asarray(cv2.resize(patches, (400, 300))))


def witness(picture, refinement):
    regain = Regain(refinement)
    regain.remember(picture, np.concatenate([LAST - SIZE / 2, LAST + SIZE / 2]))
    return Witness(refinement, regain, 0.9)


def test_where_it_is_plainly_seen_no_peak_is_needed(picture):
    found = witness(picture, Sees(beside=-5.0)).vouched(picture, SIGHT, LAST, 0.4, None)
    assert found is not None and found.vouched and found.quality == 0.4
    np.testing.assert_allclose(found.centre, LAST + np.array([0.0, 5.0]))


@pytest.mark.parametrize("why", ["doubtful", "leapt", "strange", "another"])
def test_nobody_vouches_for_what_may_be_something_else(picture, why):
    there = np.concatenate([SIGHT.centre - SIZE / 2, SIGHT.centre + SIZE / 2])
    refinement = Sees(0.89) if why == "doubtful" else Sees(beside=(LEAP + 0.1) * SIDE) if why == "leapt" else Sees()
    known = witness(picture, refinement)
    shown = Pyramid(np.full_like(picture.image, 90)) if why == "strange" else picture
    assert known.vouched(shown, SIGHT, LAST, 0.4, there[None] if why == "another" else None) is None


def test_of_what_is_present_it_is_told_how_much_shows(picture):
    found = witness(picture, Sees()).present(picture, SIGHT)
    assert found is not None and found.quality == SIGHT.quality and not found.vouched
    np.testing.assert_allclose(found.shown, SIZE * [1.0, 0.75])
    assert witness(picture, Sees(0.89)).present(picture, SIGHT) is None
