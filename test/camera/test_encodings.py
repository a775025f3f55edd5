"""Every encoding against a conversion done pixel by pixel."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uav_perception.camera.encodings import LAYOUTS, bgr_from_array, bgr_from_compressed, bgr_from_raw, is_picture
from uav_perception.errors import SourceError

RNG = np.random.default_rng(1)
BGR = cv2.resize(np.array([[[30, 60, 200], [200, 90, 40]], [[90, 220, 70], [60, 120, 160]]], np.uint8), (32, 24))


def raw(encoding: str, pixels: np.ndarray, pad: int = 0, big_endian: bool = False) -> np.ndarray:
    height, width = 24, 32
    data = pixels.astype(pixels.dtype.newbyteorder(">")) if big_endian else pixels
    rows = data.reshape(pixels.shape[0], -1).view(np.uint8)
    rows = np.hstack([rows, np.full((len(rows), pad), 170, np.uint8)])
    return bgr_from_raw(encoding, width, height, rows.shape[1], big_endian, rows.tobytes())


def test_channel_orders() -> None:
    gray = BGR[:, :, 1]
    assert np.array_equal(raw("bgr8", BGR), BGR)
    assert np.array_equal(raw("rgb8", np.ascontiguousarray(BGR[:, :, ::-1])), BGR)
    alpha = np.dstack([BGR, gray])
    assert np.array_equal(raw("bgra8", alpha), BGR)
    assert np.array_equal(raw("rgba8", np.ascontiguousarray(alpha[:, :, [2, 1, 0, 3]])), BGR)
    assert np.array_equal(raw("mono8", gray), np.dstack([gray] * 3))


@pytest.mark.parametrize("big_endian", [False, True])
def test_sixteen_bits_use_their_full_range(big_endian: bool) -> None:
    wide = BGR.astype(np.uint16) * 257
    assert np.array_equal(raw("bgr16", wide, big_endian=big_endian), BGR)
    assert np.array_equal(raw("mono16", wide[:, :, 0].copy(), big_endian=big_endian)[:, :, 2], BGR[:, :, 0])
    thermal = (3000 + 10 * BGR[:, :, 0].astype(np.uint16))  # 14-bit counts in a narrow band
    seen = raw("16UC1", thermal, big_endian=big_endian)[:, :, 0]
    assert seen.min() == 0 and seen.max() == 255
    assert (np.diff(seen.ravel()[np.argsort(thermal.ravel(), kind="stable")].astype(int)) >= 0).all()


@pytest.mark.parametrize(("pattern", "at"), [("rggb", {(0, 0): 2, (0, 1): 1, (1, 0): 1, (1, 1): 0}),
                                             ("bggr", {(0, 0): 0, (0, 1): 1, (1, 0): 1, (1, 1): 2}),
                                             ("gbrg", {(0, 0): 1, (0, 1): 0, (1, 0): 2, (1, 1): 1}),
                                             ("grbg", {(0, 0): 1, (0, 1): 2, (1, 0): 0, (1, 1): 1})])
def test_bayer_patterns(pattern: str, at: dict[tuple[int, int], int]) -> None:
    """A mosaic of a flat colour comes back as that colour: a wrong pattern would swap red and blue."""
    colour = (30, 120, 220)
    mosaic = np.zeros((24, 32), np.uint8)
    for (y, x), channel in at.items():
        mosaic[y::2, x::2] = colour[channel]
    assert np.array_equal(raw(f"bayer_{pattern}8", mosaic)[12, 16], colour)
    assert np.array_equal(raw(f"bayer_{pattern}16", mosaic.astype(np.uint16) * 257)[12, 16], colour)


@pytest.mark.parametrize("encoding", ["yuv422", "uyvy", "yuv422_yuy2", "yuyv"])
def test_yuv422_against_bt601(encoding: str) -> None:
    b, g, r = (BGR[:, :, i].astype(float) for i in range(3))
    y = np.clip(16 + 0.257 * r + 0.504 * g + 0.098 * b, 0, 255)
    u, v = 128 - 0.148 * r - 0.291 * g + 0.439 * b, 128 + 0.439 * r - 0.368 * g - 0.071 * b
    packed = np.zeros((24, 32, 2), np.uint8)
    luma = 0 if "yuy" in encoding else 1
    packed[:, :, luma] = y.round()
    packed[:, 0::2, 1 - luma] = ((u[:, 0::2] + u[:, 1::2]) / 2).round()
    packed[:, 1::2, 1 - luma] = ((v[:, 0::2] + v[:, 1::2]) / 2).round()
    assert np.abs(raw(encoding, packed).astype(int) - BGR).mean() < 4


def test_nv12() -> None:
    flat = np.full((24, 32), 120, np.uint8)
    chroma = np.tile(np.array([90, 200], np.uint8), (12, 16))
    data = np.vstack([flat, chroma])
    bgr = bgr_from_raw("nv12", 32, 24, 32, False, data.tobytes())
    assert np.array_equal(bgr, cv2.cvtColor(data, cv2.COLOR_YUV2BGR_NV12)) and bgr.shape == (24, 32, 3)
    assert bgr[0, 0, 2] > bgr[0, 0, 0]  # V above 128 is red


@given(st.integers(0, 40), st.sampled_from(["bgr8", "mono8", "rgba8"]))
@settings(max_examples=20)
def test_row_padding_changes_nothing(pad: int, encoding: str) -> None:
    channels = LAYOUTS[encoding][1]
    pixels = RNG.integers(0, 256, (24, 32, channels), dtype=np.uint8)
    assert np.array_equal(raw(encoding, pixels, pad), raw(encoding, pixels))


@pytest.mark.parametrize("encoding", ["32FC1", "", "hsv8"])
def test_no_picture_is_refused(encoding: str) -> None:
    assert not is_picture(encoding)
    with pytest.raises(SourceError, match="expected one of"):
        bgr_from_raw(encoding, 4, 4, 16, False, bytes(64))


def test_compressed() -> None:
    assert np.array_equal(bgr_from_compressed(cv2.imencode(".png", BGR)[1].tobytes()), BGR)
    assert np.abs(bgr_from_compressed(cv2.imencode(".jpg", BGR)[1].tobytes()).astype(int) - BGR).mean() < 3
    assert bgr_from_compressed(cv2.imencode(".png", BGR[:, :, 0].astype(np.uint16) * 9)[1].tobytes()).dtype == np.uint8
    for bad in (b"", b"\xff\xd8\xff", b"nonsense" * 9):
        with pytest.raises(SourceError, match="complete JPEG"):
            bgr_from_compressed(bad)
    with pytest.raises(SourceError, match="float32"):
        bgr_from_array(np.zeros((4, 4), np.float32))
    assert is_picture("rgb8; jpeg compressed bgr8") and is_picture("png")
    assert not is_picture("16UC1; compressedDepth png")
