"""Whether a thing is plainly of another colour than the target."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uav_perception.records import U8
from uav_perception.track.paint import SIDE_PX, Paint, contrast

GROUND = np.random.default_rng(5).integers(90, 130, (240, 320, 3)).astype(np.uint8)
BOX = np.array([100.0, 80, 148, 108])


def picture(colour: tuple[int, int, int], box: np.ndarray = BOX, light: float = 1.0) -> U8:
    """A thing with a dark window on the ground."""
    image = GROUND.copy()
    x1, y1, x2, y2 = (int(v) for v in box)
    image[y1:y2, x1:x2] = colour
    middle = (x1 + x2) // 2
    image[y1:y2, middle - (x2 - x1) // 16:middle + (x2 - x1) // 16] = 20
    return np.clip(cv2.GaussianBlur(image, (0, 0), 0.7) * light, 0, 255).astype(np.uint8)


def known(colour: tuple[int, int, int]) -> Paint:
    paint = Paint()
    for _ in range(5):
        paint.remember(picture(colour), BOX)
    return paint


DARK, WHITE, RED = (50, 45, 45), (225, 225, 225), (40, 40, 190)


@pytest.mark.parametrize("colour", [DARK, WHITE, RED])
@given(light=st.floats(0.65, 1.0), dx=st.integers(-40, 40), dy=st.integers(-40, 40))
def test_the_same_in_another_light_at_another_place_does_not_differ(colour, light: float, dx: int, dy: int) -> None:
    box = BOX + np.tile([dx, dy], 2)
    assert not known(colour).differs(picture(colour, box, light), box)


def test_shade_makes_things_and_ground_more_alike() -> None:
    veiled = np.asarray(0.5 * picture(DARK) + 40, np.uint8)
    assert np.abs(contrast(veiled, BOX) - contrast(picture(DARK), BOX)).max() > 0.35
    assert not known(DARK).differs(veiled, BOX)


@pytest.mark.parametrize(("colour", "other"), [(DARK, WHITE), (WHITE, DARK), (RED, WHITE), (DARK, RED), (RED, DARK)])
def test_another_colour_differs(colour, other) -> None:
    assert known(colour).differs(picture(other), BOX)


def test_where_nothing_can_be_compared_nothing_differs() -> None:
    assert not Paint().differs(picture(RED), BOX)
    for box in ([-60, -60, -20, -20], [400, 80, 440, 108], [-100, -100, 420, 340]):  # outside; no ground around it
        assert contrast(picture(RED), box) is None and not known(DARK).differs(picture(RED), box)


def test_large_things_are_looked_at_in_steps_with_about_the_same_answer() -> None:
    box = np.array([60.0, 40, 60 + 4 * SIDE_PX, 200])
    image = picture(RED, box)
    small = cv2.resize(image, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(contrast(image, box), contrast(np.asarray(small), box / 4), atol=0.1)


def test_how_far_off_colours_are_is_one_where_they_differ() -> None:
    white = known(WHITE)
    off = [white.off(picture(colour), BOX) for colour in (WHITE, (150, 150, 150), DARK)]
    assert off[0] == 0.0 < off[1] < off[2]
    assert white.off(picture(DARK), BOX) > 1 and white.differs(picture(DARK), BOX)
