"""What is taken for a target that was out of sight: by how sure it is, how near, and what else there is."""

from __future__ import annotations

import cv2
import numpy as np

from uav_perception.track.pyramid import Pyramid
from uav_perception.track.refine import BoxRefinement, Measured
from uav_perception.track.regain import LIKELY, PATIENCE, SURE, Regain, moving_places
from uav_perception.track.sought import Sought

RNG = np.random.default_rng(3)
GROUND = cv2.GaussianBlur(RNG.integers(60, 200, (480, 640, 3)).astype(np.uint8), (0, 0), 3)
SIZE = np.array([40.0, 24.0])
HOME = np.array([300.0, 200.0])
NOBODY = np.zeros((0, 4))


def around(*centres):
    return np.array([np.concatenate([c - SIZE / 2, c + SIZE / 2]) for c in np.asarray(centres, np.float64)])


class Sees(BoxRefinement):
    """Sees things at known places within half a size, each with its probability of being the target."""

    def __init__(self, things):
        self.things = things

    def measure(self, picture, centre, size):
        for place, present in self.things:
            if (np.abs(np.array(place) - centre) < size / 2).all():
                return Measured(around(place)[0], np.full(4, 0.1), present)
        return Measured(around(centre)[0], np.full(4, 0.1), 0.0)


def looks(things, times=1, moving=(), others=NOBODY, unseen_s=2.0):
    """What is found in each of so many looks; everything looks alike to the eye."""
    picture = Pyramid(np.full((480, 640, 3), 90, np.uint8))
    regain = Regain(Sees(things))
    regain.remember(picture, around(HOME)[0])
    sought = Sought(HOME, SIZE, np.zeros(2), unseen_s)
    moving = [np.array(m, np.float64) for m in moving]
    return [regain.found(picture, sought, sought.centre, moving, others) for _ in range(times)]


NEAR = (330.0, 215.0)


def test_what_moves_within_reach_is_recognised():
    (found,) = looks([(NEAR, 0.9999)], moving=[NEAR])
    np.testing.assert_allclose(found.centre, NEAR)
    np.testing.assert_allclose(found.size, SIZE)
    assert found.odds > SURE
    assert looks([(NEAR, 0.9999)]) == [None]  # where nothing points, nobody looks
    assert looks([(NEAR, 0.3)], moving=[NEAR]) == [None]
    assert looks([(NEAR, 0.9999)], moving=[NEAR], others=around(NEAR)) == [None]  # it is known to be another


def test_of_many_moving_things_the_most_alike_are_judged():
    elsewhere = [HOME + np.array([dx, -60.0]) for dx in (-80, -40, 0, 40)]
    image = np.full((480, 640, 3), 90, np.uint8)
    for place, colour in ((HOME, (30, 30, 220)), (NEAR, (30, 30, 220)), *((p, (220, 30, 30)) for p in elsewhere)):
        x, y = np.rint(np.array(place) - SIZE / 2).astype(int)
        image[y:y + 24, x:x + 40] = colour
    regain = Regain(Sees([(NEAR, 0.9999)]))
    regain.remember(Pyramid(image), around(HOME)[0])
    sought = Sought(HOME, SIZE, np.zeros(2), 2.0)
    found = regain.found(Pyramid(image), sought, sought.centre, [*elsewhere, np.array(NEAR)], NOBODY)
    np.testing.assert_allclose(found.centre, NEAR)


def test_what_is_much_larger_is_something_else():
    class Larger(Sees):
        def measure(self, picture, centre, size):
            seen = super().measure(picture, centre, size)
            out = np.tile(0.5 * (self.times - 1) * SIZE, 2) * [-1, -1, 1, 1]
            return Measured(seen.edges + out, seen.sigma, seen.present)

    for times, taken in ((1.0, True), (1.3, True), (1.8, False)):
        sees = Larger([(NEAR, 0.9999)])
        sees.times = times
        regain = Regain(sees)
        picture = Pyramid(np.full((480, 640, 3), 90, np.uint8))
        regain.remember(picture, around(HOME)[0])
        sought = Sought(HOME, SIZE, np.zeros(2), 2.0)
        assert (regain.found(picture, sought, sought.centre, [np.array(NEAR)], NOBODY) is not None) == taken


def test_nothing_beyond_reach_is_the_target():
    far = HOME + np.array([400.0, 0.0])
    assert looks([(far, 0.9999)], moving=[far]) == [None]
    (found,) = looks([(far, 0.9999)], moving=[far], unseen_s=60.0)
    assert found is not None


def test_of_two_that_are_as_likely_neither_is_taken():
    other = (285.0, 240.0)
    assert looks([(NEAR, 0.9999), (other, 0.9999)], times=9, moving=[NEAR, other]) == [None] * 9
    found = looks([(NEAR, 0.9999), (other, 0.6)], moving=[NEAR, other])
    np.testing.assert_allclose(found[0].centre, NEAR)


def test_what_is_only_likely_is_taken_when_it_stays_so():
    found = looks([(NEAR, 0.99)], times=PATIENCE, moving=[NEAR])
    assert [f is not None for f in found] == [False] * (PATIENCE - 1) + [True]
    assert LIKELY < found[-1].odds < SURE
    assert looks([(NEAR, 0.5)], times=2 * PATIENCE, moving=[NEAR]) == [None] * 2 * PATIENCE


def test_motion_is_found_against_a_background_that_moves_with_the_camera():
    camera = np.array([[1.0, 0, 7], [0, 1, -4], [0, 0, 1]])

    def scene(H, place):
        image = cv2.warpPerspective(GROUND, H, (640, 480), borderMode=cv2.BORDER_REFLECT)
        x, y = np.rint(np.array(place) - SIZE / 2).astype(int)
        image[y:y + 24, x:x + 40] = (30, 30, 220)
        return image

    before, now = scene(np.eye(3), (310, 205)), scene(camera, (330, 211))
    sought = Sought(HOME, SIZE, np.zeros(2), 1.0)
    places = moving_places(before, now, camera, sought)
    assert len(places) <= 2 and np.linalg.norm(places[0] - [330, 211]) < 15
    still = cv2.warpPerspective(before, camera, (640, 480), borderMode=cv2.BORDER_REFLECT)
    assert moving_places(before, still, camera, sought) == []
    assert moving_places(before, now, camera, Sought(HOME - np.array([180, 90]), SIZE, np.zeros(2), 0.5)) == []
