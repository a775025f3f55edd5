"""From camera pixels to network input and back: one function for calibration, run time and evaluation.

What a network was fed with is part of the model: ``PreprocessSpec`` travels in the model's metadata, and its hash
stands in the manifest of every engine built from it, so an engine can never run with another preprocessing.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, ModelError
from ..records import F32, U8

METADATA_KEY = "preprocess"


@dataclass(frozen=True)
class PreprocessSpec:
    """How a frame becomes a network input of (1, 3, height_px, width_px) float32: ``(pixel - mean) * scale``."""

    width_px: int = 640
    height_px: int = 640
    color: str = "bgr"  # bgr | rgb: order of the channels the network sees
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)  # in that order, subtracted first
    scale: tuple[float, ...] = (1.0, 1.0, 1.0)
    fit: str = "letterbox"  # letterbox (keep the aspect) | stretch
    align: str = "top-left"  # where the picture lies in the letterbox: top-left | centre
    pad_value: int = 114
    shrink: str = "linear"  # how pictures shrink: linear (as most training code does) | mean (no aliasing)

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", tuple(float(v) for v in self.mean))
        object.__setattr__(self, "scale", tuple(float(v) for v in self.scale))
        good = (self.color in ("bgr", "rgb") and self.fit in ("letterbox", "stretch")
                and self.align in ("top-left", "centre") and self.shrink in ("linear", "mean")
                and len(self.mean) == len(self.scale) == 3
                and min(self.width_px, self.height_px) >= 1 and 0 <= self.pad_value <= 255)
        if not good:
            raise ModelError(f"preprocessing {asdict(self)}", "fields as PreprocessSpec documents them",
                             "correct the model's metadata")

    @property
    def hash(self) -> str:
        """Identity of this preprocessing (16 hexadecimal digits of SHA-256); the input size does not enter it."""
        body = asdict(replace(self, width_px=1, height_px=1))
        return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """The value of the metadata key ``preprocess``."""
        return json.dumps({**asdict(self), "hash": self.hash}, sort_keys=True)

    @staticmethod
    def from_metadata(metadata: Mapping[str, str]) -> PreprocessSpec | None:
        """The specification a model carries, or None.

        Raises:
            ModelError: it is there and broken.
        """
        if METADATA_KEY not in metadata:
            return None
        try:
            tree: dict[str, Any] = json.loads(metadata[METADATA_KEY])
            tree.pop("hash", None)
            return PreprocessSpec(**tree)
        except (ValueError, TypeError, AttributeError) as e:
            raise ModelError(f"metadata {METADATA_KEY}: {e}", "a JSON object with the fields of PreprocessSpec",
                             "export the model again") from e

    def sized(self, width_px: int, height_px: int) -> PreprocessSpec:
        """The same preprocessing for another input size."""
        return replace(self, width_px=width_px, height_px=height_px)


@dataclass(frozen=True)
class Placement:
    """Where a source image lies in the network input; pixel edges, not centres, so the inverse is exact."""

    scale_x: float  # network pixels per source pixel
    scale_y: float
    left_px: float
    top_px: float
    source_width_px: int
    source_height_px: int

    def to_source(self, xyxy: F32) -> F32:
        """Boxes (N, 4) in network pixels to source pixels, clipped to the source image."""
        out = (xyxy - np.array([self.left_px, self.top_px] * 2, np.float32)) / np.array(
            [self.scale_x, self.scale_y] * 2, np.float32)
        limit = np.array([self.source_width_px, self.source_height_px] * 2, np.float32)
        return np.asarray(np.clip(out, 0, limit), np.float32)

    def to_network(self, xyxy: F32) -> F32:
        """Boxes (N, 4) in source pixels to network pixels."""
        scale, shift = [self.scale_x, self.scale_y] * 2, [self.left_px, self.top_px] * 2
        return np.asarray(xyxy * np.array(scale) + shift, np.float32)


class Preprocessor:
    """Applies one specification; all buffers are made once, so a frame costs no allocation of frame size.

    Call it with an image (H, W, 3) uint8 BGR. The returned blob is overwritten by the next call.
    """

    def __init__(self, spec: PreprocessSpec) -> None:
        self.spec = spec
        h, w = spec.height_px, spec.width_px
        self.blob: F32 = np.zeros((1, 3, h, w), np.float32)
        self._canvas: U8 = np.full((h, w, 3), spec.pad_value, np.uint8)
        self._plane: U8 = np.empty((h, w), np.uint8)
        self._halved: dict[tuple[int, int], U8] = {}
        self._placed: tuple[int, int, int, int] | None = None
        levels = np.arange(256, dtype=np.float64)[:, None]
        self._table = ((levels - np.array(spec.mean)) * np.array(spec.scale)).astype(np.float32)

    def __call__(self, image: U8) -> tuple[F32, Placement]:
        """Returns (1, 3, height_px, width_px) float32 and where the image lies in it."""
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
            raise InputError(f"image {image.dtype}{list(image.shape)}", "uint8 (H, W, 3) BGR", "convert the image")
        h, w = image.shape[:2]
        place, (x, y, inner_w, inner_h) = placement(self.spec, w, h)
        if self._placed != (x, y, inner_w, inner_h):  # another source size: what lay around it is stale
            self._canvas[...] = self.spec.pad_value
            self._placed = (x, y, inner_w, inner_h)
        self._resize(image, self._canvas[y : y + inner_h, x : x + inner_w])
        for channel in range(3):
            source = channel if self.spec.color == "bgr" else 2 - channel
            cv2.extractChannel(self._canvas, source, self._plane)
            cv2.LUT(self._plane, self._table[:, channel], self.blob[0, channel])
        return self.blob, place

    def _resize(self, image: U8, target: NDArray[np.uint8]) -> None:
        """Bilinear; with ``mean``, exact 2 x 2 means come first where a picture shrinks by two or more."""
        h, w = image.shape[:2]
        while self.spec.shrink == "mean" and w >= 2 * target.shape[1] and h >= 2 * target.shape[0]:
            w, h = w // 2, h // 2
            half = self._halved.setdefault((w, h), np.empty((h, w, 3), np.uint8))
            cv2.resize(image, (w, h), half, interpolation=cv2.INTER_AREA)
            image = half
        cv2.resize(image, target.shape[1::-1], target, interpolation=cv2.INTER_LINEAR)


def placement(spec: PreprocessSpec, width_px: int, height_px: int) -> tuple[Placement, tuple[int, int, int, int]]:
    """Where an image of that size lies in the input, exactly and as (x, y, width, height) of whole pixels."""
    if spec.fit == "stretch":
        inner_w, inner_h = spec.width_px, spec.height_px
    else:
        ratio = min(spec.width_px / width_px, spec.height_px / height_px)
        inner_w = min(spec.width_px, max(1, round(width_px * ratio)))
        inner_h = min(spec.height_px, max(1, round(height_px * ratio)))
    x = (spec.width_px - inner_w) // 2 if spec.align == "centre" else 0
    y = (spec.height_px - inner_h) // 2 if spec.align == "centre" else 0
    return (Placement(inner_w / width_px, inner_h / height_px, float(x), float(y), width_px, height_px),
            (x, y, inner_w, inner_h))


def shaped_size(width_px: int, height_px: int, side_px: int, multiple: int = 32) -> tuple[int, int]:
    """Input (width, height) of about ``side_px``^2 pixels, shaped as the frame: no computing on padding.

    Frames smaller than that are not enlarged.
    """
    zoom = min(1.0, side_px / math.sqrt(width_px * height_px))
    return tuple(max(multiple, round(v * zoom / multiple) * multiple) for v in (width_px, height_px))  # type: ignore[return-value]
