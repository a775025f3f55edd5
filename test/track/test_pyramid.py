"""Windows of a picture: where their pixels lie, at every size, and outside of the picture."""

from __future__ import annotations

import numpy as np
import pytest

from uav_perception.track.pyramid import Pyramid


def ramps(height=301, width=255):
    """Blue is the column, green the row."""
    y, x = np.mgrid[0:height, 0:width].astype(np.uint8)
    return np.stack([x, y, np.zeros_like(x)], axis=-1)


def positions(centre, size, count):
    """Where the pixels' middles of a window of ``count`` pixels lie, in pixel numbers of the picture."""
    return centre - size / 2 + (np.arange(count) + 0.5) * size / count - 0.5


@pytest.mark.parametrize("size", [(12.3, 20.0), (50.5, 47.0), (75.0, 90.5), (130.0, 150.0), (200.0, 210.0)])
def test_pixels_of_a_crop_lie_where_it_says(size):
    crop = Pyramid(ramps(250)).crop((120.3, 121.7), size, (32, 24))
    assert np.abs(np.array(crop.centre_px) - (120.3, 121.7)).max() < max(size) / 32
    real = (32 / crop.scale[0], 24 / crop.scale[1])
    np.testing.assert_allclose(real, size, rtol=0.05)
    np.testing.assert_allclose(crop.image[12, :, 0], positions(crop.centre_px[0], real[0], 32), atol=1.5)
    np.testing.assert_allclose(crop.image[:, 16, 1], positions(crop.centre_px[1], real[1], 24), atol=1.5)
    np.testing.assert_allclose(crop.to_source(3, -2), [crop.centre_px[0] + 3 / crop.scale[0],
                                                       crop.centre_px[1] - 2 / crop.scale[1]])


@pytest.mark.parametrize("side", [20.0, 40.0, 60.0, 100.0, 190.0])
def test_grey_crops_lie_around_one_centre(side):
    image = np.repeat(ramps(250)[..., :1], 3, axis=2)
    sizes = np.array([[side, side], [1.1 * side, 0.9 * side]])
    strip = Pyramid(image).grey_crops((125.2, 124.8), sizes, 32)
    assert strip.shape == (64, 32)
    for k in range(2):
        np.testing.assert_allclose(strip[32 * k + 16], positions(125.2, sizes[k, 0], 32), atol=1.5)


@pytest.mark.parametrize("centre", [(-400.0, 20.0), (700.0, 900.0), (0.0, 0.0), (254.5, 300.5)])
@pytest.mark.parametrize("size", [(1.0, 1.0), (30.0, 400.0), (900.0, 900.0)])
def test_the_border_goes_on_outside(centre, size):
    image = ramps()
    crop = Pyramid(image).crop(centre, size, (16, 16))
    assert crop.image.shape == (16, 16, 3)
    nearest = np.clip(centre, 0, [254, 300])
    assert abs(float(crop.image[7:9, 7:9, 0].mean()) - nearest[0]) < max(3.0, 0.1 * max(size))
    assert Pyramid(image).grey_crops(centre, np.array([size]), 16).shape == (16, 16)


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (5, 400)])
def test_tiny_pictures_are_cropped_too(shape):
    image = np.full((*shape, 3), 77, np.uint8)
    assert (Pyramid(image).crop((0.5, 0.5), (90, 90), (16, 16)).image == 77).all()
