from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uav_perception.detect.preprocess import Preprocessor, PreprocessSpec, placement, shaped_size
from uav_perception.errors import InputError, ModelError

sides = st.integers(8, 2000)


@given(sides, sides, st.sampled_from(["letterbox", "stretch"]), st.sampled_from(["top-left", "centre"]),
       st.lists(st.floats(0, 1, allow_subnormal=False), min_size=4, max_size=4))
def test_placement_inverse_is_exact(w: int, h: int, fit: str, align: str, unit: list[float]) -> None:
    place, (x, y, inner_w, inner_h) = placement(PreprocessSpec(416, 320, fit=fit, align=align), w, h)
    a, b, c, d = unit
    box = np.array([[min(a, c) * w, min(b, d) * h, max(a, c) * w, max(b, d) * h]], np.float32)
    assert np.allclose(place.to_source(place.to_network(box)), box, atol=1e-3 * max(w, h) / 100)
    corners = place.to_network(np.array([[0, 0, w, h]], np.float32))[0]
    assert np.allclose(corners, [x, y, x + inner_w, y + inner_h], atol=1e-3)
    assert x >= 0 and y >= 0 and x + inner_w <= 416 and y + inner_h <= 320


@settings(max_examples=25)
@given(st.integers(60, 400), st.integers(60, 400), st.sampled_from(["top-left", "centre"]), st.data())
def test_a_square_lands_where_the_placement_says(w: int, h: int, align: str, data: st.DataObject) -> None:
    """Pixels and boxes go the same way: the bright blob's box in the input maps back onto the square."""
    left, top = data.draw(st.integers(10, w - 40)), data.draw(st.integers(10, h - 40))
    image = np.zeros((h, w, 3), np.uint8)
    image[top : top + 30, left : left + 30] = 255
    prepare = Preprocessor(PreprocessSpec(256, 256, align=align, pad_value=0))
    blob, place = prepare(image)
    y, x = np.nonzero(blob[0, 0] > 127)
    found = place.to_source(np.array([[x.min(), y.min(), x.max() + 1, y.max() + 1]], np.float32))[0]
    assert np.allclose(found, [left, top, left + 30, top + 30], atol=1.0 / place.scale_x + 0.51)


def test_values_order_and_buffer() -> None:
    spec = PreprocessSpec(32, 32, color="rgb", mean=(10, 20, 30), scale=(1, 0.5, 0.25))
    prepare = Preprocessor(spec)
    image = np.empty((32, 32, 3), np.uint8)
    image[...] = (30, 60, 90)  # B, G, R
    blob, _ = prepare(image)
    assert blob.dtype == np.float32 and blob.shape == (1, 3, 32, 32) and blob.flags.c_contiguous
    assert np.allclose(blob[0, :, 5, 5], [(90 - 10) * 1, (60 - 20) * 0.5, (30 - 30) * 0.25])
    assert prepare(image)[0] is blob


def test_padding_is_fresh_when_the_source_changes_size() -> None:
    prepare = Preprocessor(PreprocessSpec(64, 64, pad_value=7))
    prepare(np.full((64, 64, 3), 200, np.uint8))
    blob, _ = prepare(np.full((16, 64, 3), 200, np.uint8))
    assert (blob[0, :, :16] == 200).all() and (blob[0, :, 16:] == 7).all()


def test_mean_shrinking_does_not_alias() -> None:
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::4] = 255  # mean 64; a bilinear sample every 8 px sees a single phase of it
    linear = Preprocessor(PreprocessSpec(64, 64))(stripes)[0].copy()
    mean = Preprocessor(PreprocessSpec(64, 64, shrink="mean"))(stripes)[0]
    assert abs(mean.mean() - 63.75) < 1 < abs(linear.mean() - 63.75)


def test_hash_follows_what_matters_and_survives_metadata() -> None:
    spec = PreprocessSpec(512, 512, mean=(114,) * 3)
    assert spec.hash == spec.sized(640, 480).hash != PreprocessSpec(512, 512, mean=(113,) * 3).hash
    assert PreprocessSpec.from_metadata({"preprocess": spec.to_json()}) == spec
    assert PreprocessSpec.from_metadata({}) is None
    for broken in ("{", '{"widht_px": 3}', json.dumps({"fit": "crop"}), "3"):
        with pytest.raises(ModelError):
            PreprocessSpec.from_metadata({"preprocess": broken})


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32),
                                   np.zeros((0, 4, 3), np.uint8)])
def test_wrong_images_are_refused(image: np.ndarray) -> None:
    with pytest.raises(InputError):
        Preprocessor(PreprocessSpec(32, 32))(image)


@given(sides, sides, st.integers(64, 1280))
def test_shaped_size_keeps_area_and_shape(w: int, h: int, side: int) -> None:
    width, height = shaped_size(w, h, side)
    assert width % 32 == height % 32 == 0
    zoom = min(1.0, side / (w * h) ** 0.5)
    assert abs(width - w * zoom) <= 32 and abs(height - h * zoom) <= 32


def test_linear_preprocessing_is_cv2_resize() -> None:
    image = np.random.default_rng(0).integers(0, 255, (90, 160, 3), np.uint8)
    blob, _ = Preprocessor(PreprocessSpec(80, 80))(image)
    assert np.array_equal(blob[0, :, :45].transpose(1, 2, 0), cv2.resize(image, (80, 45)).astype(np.float32))
