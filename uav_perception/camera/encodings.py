"""Pixels of every kind that cameras, bags and folders hold, to (H, W, 3) uint8 BGR: the one place.

Names are those of ``sensor_msgs/image_encodings``. What is no picture (depth, masks of floats) is refused.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import SourceError
from ..records import U8

# encoding -> (numpy dtype, channels in memory, cv2 colour code to BGR or None)
_BAYER = {"rggb": cv2.COLOR_BayerBG2BGR, "bggr": cv2.COLOR_BayerRG2BGR,  # OpenCV names the 2nd row's 2nd pair
          "gbrg": cv2.COLOR_BayerGR2BGR, "grbg": cv2.COLOR_BayerGB2BGR}
LAYOUTS: dict[str, tuple[str, int, int | None]] = {
    "bgr8": ("u1", 3, None), "8UC3": ("u1", 3, None), "rgb8": ("u1", 3, cv2.COLOR_RGB2BGR),
    "bgra8": ("u1", 4, cv2.COLOR_BGRA2BGR), "8UC4": ("u1", 4, cv2.COLOR_BGRA2BGR),
    "rgba8": ("u1", 4, cv2.COLOR_RGBA2BGR),
    "mono8": ("u1", 1, cv2.COLOR_GRAY2BGR), "8UC1": ("u1", 1, cv2.COLOR_GRAY2BGR),
    "mono16": ("u2", 1, cv2.COLOR_GRAY2BGR), "16UC1": ("u2", 1, cv2.COLOR_GRAY2BGR),
    "bgr16": ("u2", 3, None), "16UC3": ("u2", 3, None), "rgb16": ("u2", 3, cv2.COLOR_RGB2BGR),
    "yuv422": ("u1", 2, cv2.COLOR_YUV2BGR_UYVY), "uyvy": ("u1", 2, cv2.COLOR_YUV2BGR_UYVY),
    "yuv422_yuy2": ("u1", 2, cv2.COLOR_YUV2BGR_YUYV), "yuyv": ("u1", 2, cv2.COLOR_YUV2BGR_YUYV),
    "nv12": ("u1", 1, cv2.COLOR_YUV2BGR_NV12), "nv21": ("u1", 1, cv2.COLOR_YUV2BGR_NV21),
    **{f"bayer_{k}8": ("u1", 1, v) for k, v in _BAYER.items()},
    **{f"bayer_{k}16": ("u2", 1, v) for k, v in _BAYER.items()},
}


def is_picture(encoding: str) -> bool:
    """Whether ``Image.encoding`` or ``CompressedImage.format`` names something to look at (not depth)."""
    head = encoding.split(";")[0].strip()
    return "compressedDepth" not in encoding and (";" in encoding or head in LAYOUTS or head in
                                                  ("jpeg", "jpg", "png", "webp", "bmp", "tiff"))


def bgr_from_raw(encoding: str, width: int, height: int, step: int, big_endian: bool, data: Any) -> U8:
    """The picture of a ``sensor_msgs/Image``.

    16-bit data of a named encoding uses its full range (65535 = white); ``16UC1`` has no declared range (thermal
    cameras count 12 to 14 bits), so it is stretched between the 1st and 99th percentile of the image.

    Raises:
        SourceError: encoding that is no picture, rows or data too short for the size.
    """
    if encoding not in LAYOUTS:
        raise SourceError(f"image encoding {encoding!r}", f"one of {', '.join(sorted(LAYOUTS))}",
                          "choose another image topic or convert the recording")
    kind, channels, code = LAYOUTS[encoding]
    dtype = np.dtype(kind).newbyteorder(">" if big_endian else "<")
    rows = height * 3 // 2 if encoding in ("nv12", "nv21") else height
    row_bytes = width * channels * dtype.itemsize
    buffer = np.frombuffer(data, np.uint8)
    step = step or row_bytes
    if width < 1 or height < 1 or step < row_bytes or buffer.size < step * (rows - 1) + row_bytes:
        raise SourceError(f"{buffer.size} bytes for a {width}x{height} px {encoding} image with rows of {step} bytes",
                          f"at least {rows} rows of {row_bytes} bytes", "check what recorded this image")
    flat = np.lib.stride_tricks.as_strided(buffer, (rows, row_bytes), (step, 1), writeable=False)
    pixels: NDArray[Any] = np.ascontiguousarray(flat).view(dtype).reshape(rows, width, channels)
    if channels == 1:
        pixels = pixels[:, :, 0]
    if pixels.dtype.itemsize == 2:
        pixels = _to_8_bit(pixels, stretch=encoding in ("16UC1", "16UC3"))
    try:
        return np.asarray(pixels if code is None else cv2.cvtColor(pixels, code), dtype=np.uint8)
    except cv2.error as e:
        raise SourceError(f"{width}x{height} px {encoding} image: {str(e).splitlines()[-1]}",
                          "an even size for bayer and yuv", "check what recorded this image") from e


def bgr_from_compressed(data: Any, name: str = "compressed image") -> U8:
    """The picture in JPEG, PNG, WebP or any other file OpenCV reads; EXIF rotation is not applied.

    Raises:
        SourceError: not a picture, or cut short.
    """
    buffer = np.frombuffer(data, np.uint8)
    try:
        image = cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED) if buffer.size else None
    except cv2.error:
        image = None
    if image is None:
        raise SourceError(f"{name} of {buffer.size} bytes", "a complete JPEG, PNG or WebP picture",
                          "leave it out or record it again")
    return bgr_from_array(image)


def bgr_from_array(image: NDArray[Any]) -> U8:
    """(H, W), (H, W, 1|3|4) of 8 or 16 bits, OpenCV channel order, to (H, W, 3) uint8 BGR."""
    if image.dtype == np.uint16:
        image = _to_8_bit(image, stretch=image.ndim == 2)
    if image.dtype != np.uint8:
        raise SourceError(f"picture of {image.dtype}", "8 or 16 bits a channel", "choose pictures, not depth or masks")
    if image.ndim == 2 or image.shape[2] == 1:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR), dtype=np.uint8)
    if image.shape[2] == 4:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGRA2BGR), dtype=np.uint8)
    return np.asarray(image, dtype=np.uint8)


def _to_8_bit(pixels: NDArray[Any], stretch: bool) -> U8:
    if not stretch:
        return np.asarray(pixels >> 8, dtype=np.uint8)
    low, high = np.percentile(pixels, (1, 99))
    scaled = (pixels.astype(np.float32) - low) * (255.0 / max(high - low, 1.0))
    return np.asarray(np.clip(scaled, 0, 255), dtype=np.uint8)
