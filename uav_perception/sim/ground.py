"""Painting the ground: surfaces drawn as a map of materials, then coloured with noise of many scales."""

from __future__ import annotations

from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike

from ..records import F64, U8
from .materials import hsv
from .world import Ground

(
    GRASS,
    DRY,
    ASPHALT,
    NEW_ASPHALT,
    CONCRETE,
    PAVING,
    WHITE,
    YELLOW,
    CROP_A,
    CROP_B,
    GRAVEL,
    WATER,
    COURT_A,
    COURT_B,
    DIRT,
    PATCH,
    SNOW,
    BLUE,
) = range(18)

# hue range, saturation range, value range, strength of noise, thermal offset
_LOOK: dict[int, tuple[tuple[float, float], tuple[float, float], tuple[float, float], float, float]] = {
    GRASS: ((0.17, 0.30), (0.25, 0.60), (0.22, 0.50), 0.55, -0.12),
    DRY: ((0.10, 0.17), (0.12, 0.38), (0.32, 0.62), 0.45, 0.0),
    ASPHALT: ((0.0, 1.0), (0.0, 0.08), (0.28, 0.58), 0.09, 0.18),
    NEW_ASPHALT: ((0.5, 0.7), (0.0, 0.10), (0.17, 0.36), 0.08, 0.24),
    CONCRETE: ((0.05, 0.15), (0.0, 0.10), (0.48, 0.80), 0.09, 0.10),
    PAVING: ((0.03, 0.15), (0.0, 0.18), (0.38, 0.70), 0.10, 0.10),
    WHITE: ((0.0, 1.0), (0.0, 0.04), (0.75, 0.95), 0.18, 0.02),
    YELLOW: ((0.11, 0.14), (0.5, 0.8), (0.65, 0.85), 0.18, 0.03),
    CROP_A: ((0.12, 0.28), (0.25, 0.60), (0.28, 0.62), 0.40, -0.08),
    CROP_B: ((0.07, 0.22), (0.20, 0.50), (0.30, 0.60), 0.45, -0.04),
    GRAVEL: ((0.07, 0.12), (0.05, 0.20), (0.42, 0.68), 0.32, 0.06),
    WATER: ((0.45, 0.60), (0.15, 0.45), (0.14, 0.32), 0.08, -0.30),
    COURT_A: ((0.0, 1.0), (0.15, 0.55), (0.30, 0.60), 0.08, 0.12),
    COURT_B: ((0.0, 1.0), (0.20, 0.55), (0.30, 0.60), 0.08, 0.10),
    DIRT: ((0.07, 0.12), (0.15, 0.42), (0.28, 0.52), 0.38, 0.05),
    PATCH: ((0.0, 1.0), (0.0, 0.08), (0.15, 0.50), 0.14, 0.10),
    SNOW: ((0.55, 0.65), (0.0, 0.05), (0.85, 0.97), 0.08, -0.30),
    BLUE: ((0.55, 0.65), (0.4, 0.7), (0.4, 0.7), 0.10, 0.05),
}


@cache
def noise_tile(side: int, exponent: float, seed: int) -> Any:
    """A seamless (side, side) uint8 field with a 1/f^exponent spectrum, mean 128 and spread about 40."""
    rng = np.random.default_rng([seed, side])
    spectrum = np.fft.rfft2(rng.normal(size=(side, side)).astype(np.float32))
    f = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    f[0, 0] = 1.0
    field = np.fft.irfft2(spectrum / f**exponent, s=(side, side))
    field = (field - field.mean()) / field.std()
    return np.clip(128 + 40 * field, 0, 255).astype(np.uint8)


class Painter:
    """Draws materials on a square map of ``size_m`` around the origin; coordinates are world metres, +y up."""

    def __init__(self, size_m: float, rng: np.random.Generator, base: int, side_px: int) -> None:
        self.size_m, self.rng = size_m, rng
        self.map: Any = np.full((side_px, side_px), base, np.uint8)
        self.scale = side_px / size_m
        self.wear: Any = np.full((side_px // 4, side_px // 4), 128, np.uint8)  # darker and lighter than the material
        self.marking = WHITE
        self.road = int(rng.choice([ASPHALT, NEW_ASPHALT]))

    def _px(self, points: ArrayLike) -> Any:
        """Pixels in 1/16 units for OpenCV's fixed-point drawing."""
        p = np.asarray(points, np.float64).reshape(-1, 2)
        uv = np.stack([p[:, 0] + self.size_m / 2, self.size_m / 2 - p[:, 1]], 1) * self.scale - 0.5
        return np.rint(np.clip(uv, -20000, 20000) * 16).astype(np.int32)

    def polygon(self, points: ArrayLike, material: int) -> None:
        cv2.fillPoly(self.map, [self._px(points)], int(material), shift=4)

    def line(self, points: ArrayLike, width_m: float, material: int) -> None:
        """A band along a polyline."""
        thickness = max(1, round(width_m * self.scale))
        cv2.polylines(self.map, [self._px(points)], False, int(material), min(thickness, 32767), shift=4)

    def stain(self, points: ArrayLike, width_m: float, shade: int) -> None:
        """A soft darker (``shade`` < 128) or lighter band: tyre tracks, oil, cracks, mown strips."""
        p = self._px(points) // 4
        cv2.polylines(self.wear, [p], False, shade, max(1, round(width_m * self.scale / 4)), cv2.LINE_AA, 4)

    def dashes(self, points: F64, width_m: float, on_m: float, off_m: float, material: int) -> None:
        """Dashes along a polyline sampled every metre."""
        period = max(2, round(on_m + off_m))
        for k in range(0, len(points) - 1, period):
            piece = points[k : k + max(2, round(on_m) + 1)]
            if len(piece) > 1:
                self.line(piece, width_m, material)

    def disc(self, center: ArrayLike, radius_m: float, material: int) -> None:
        angle = np.linspace(0, 2 * np.pi, 96, endpoint=False)
        self.polygon(np.asarray(center) + radius_m * np.stack([np.cos(angle), np.sin(angle)], 1), material)

    def rectangle(self, center: ArrayLike, size: tuple[float, float], yaw_rad: float, material: int) -> None:
        c, s = np.cos(yaw_rad), np.sin(yaw_rad)
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * np.asarray(size) / 2
        self.polygon(corners @ np.array([[c, s], [-s, c]]) + np.asarray(center), material)

    def at(self, x: ArrayLike, y: ArrayLike) -> Any:
        """Materials at world points (clipped to the map)."""
        side = self.map.shape[0]
        u = np.clip(((np.asarray(x) + self.size_m / 2) * self.scale).astype(int), 0, side - 1)
        v = np.clip(((self.size_m / 2 - np.asarray(y)) * self.scale).astype(int), 0, side - 1)
        return self.map[v, u]

    def patches(self, base: int, other: int, share: float) -> None:
        """Replace ``share`` of one material by another in cloud-shaped areas."""
        cloud = self._spread(noise_tile(512, 1.6, 3))
        self.map[(self.map == base) & (cloud > np.quantile(noise_tile(512, 1.6, 3), 1 - share))] = other

    def _spread(self, tile: U8, times: float = 1.0) -> Any:
        """A tile, turned at random, over the whole map ``times`` times each way."""
        side = self.map.shape[0]
        t = np.roll(tile, self.rng.integers(0, len(tile), 2), (0, 1))
        if self.rng.random() < 0.5:
            t = t.T
        if times > 1:
            t = np.tile(t, (int(times), int(times)))
        if t.shape[0] >= side:
            return np.ascontiguousarray(t[:side, :side])
        return cv2.resize(t, (side, side), interpolation=cv2.INTER_LINEAR)

    def finish(self, waves: F64) -> Ground:
        """Colour the map."""
        rng = self.rng
        # paint wears off: islands of noise show the road through the markings
        worn = (self._spread(noise_tile(1024, 0.7, 5), 2) < 128 - 60 + 50 * rng.random()) & (
            (self.map == WHITE) | (self.map == YELLOW)
        )
        self.map[worn] = self.road
        lut = np.zeros((256, 3), np.float32)
        gain, warm = np.zeros(256, np.float32), np.zeros(256, np.float32)
        for m, (h, s, v, g, t) in _LOOK.items():
            lut[m] = 255 * hsv(rng.uniform(*h), rng.uniform(*s), rng.uniform(*v))
            gain[m], warm[m] = g * rng.uniform(0.6, 1.4) / 128, t * rng.uniform(0.5, 1.5) + rng.normal(0, 0.08)
        broad = self._spread(noise_tile(512, 1.5, 1)).astype(np.float32) - 128
        medium = self._spread(noise_tile(1024, 1.0, 2), 1).astype(np.float32) - 128
        small = self._spread(noise_tile(1024, 0.5, 4), 4).astype(np.float32) - 128
        mix = 0.5 * broad + 0.6 * medium + 0.5 * small
        soft = cv2.GaussianBlur(self.wear, (0, 0), 1.2)
        wear = cv2.resize(soft, self.map.shape[::-1], interpolation=cv2.INTER_LINEAR).astype(np.float32)
        factor = (1 + mix * gain[self.map]) * (wear * np.float32(1 / 128))
        tint = 1 + 0.0006 * broad
        paint = np.empty((*self.map.shape, 3), np.uint8)
        for channel, lean in enumerate((tint, np.float32(1), 2 - tint)):
            paint[..., channel] = np.clip(lut[:, channel][self.map] * factor * lean, 2, 250)
        paint = np.asarray(cv2.GaussianBlur(paint, (0, 0), 0.6), np.uint8)  # rounds the stairs of drawn edges
        quarter: Any = self.map[::4, ::4]
        heat = warm[quarter] + 0.0012 * cv2.resize(mix, quarter.shape[::-1], interpolation=cv2.INTER_AREA)
        heat = cv2.GaussianBlur(heat, (0, 0), 0.8)
        detail = noise_tile(512, 0.35, 6)
        return Ground(paint, np.clip(128 + 128 * heat, 0, 255).astype(np.uint8), detail, self.size_m, waves)


def relief(rng: np.random.Generator, amplitude_m: float) -> F64:
    """Random gentle waves, (4, 4) as in ``Ground.waves``."""
    length = rng.uniform(90, 260, 4)
    angle = rng.uniform(0, 2 * np.pi, 4)
    k = 2 * np.pi / length
    return np.stack(
        [amplitude_m * rng.uniform(0.2, 0.5, 4), k * np.cos(angle), k * np.sin(angle), rng.uniform(0, 6.28, 4)], 1
    )
