"""From linear light to what a camera delivers: optics, exposure, noise, sharpening, compression; the thermal look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from ..records import F32, U8
from .materials import hsv
from .rays import Light


@dataclass(frozen=True)
class Sensor:
    """How pictures are made of light. Lengths in px, shares of full scale elsewhere."""

    exposure: float = 1.0
    blur_px: float = 0.5  # spread of the lens
    noise: float = 0.008
    sharpen: float = 0.3
    contrast: float = 1.0
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)  # white balance, BGR
    vignette: float = 0.1
    saturation: float = 1.0
    shake_px: tuple[float, float] = (0.0, 0.0)  # straight motion blur of a still


def random_light(rng: np.random.Generator) -> Light:
    """Clear to overcast, sun 15–80 degrees high, haze from none to thick."""
    elevation, azimuth = np.radians(rng.uniform(15, 80)), rng.uniform(0, 2 * np.pi)
    toward = np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])
    overcast = rng.random() < 0.35
    power = rng.uniform(0.0, 0.25) if overcast else rng.uniform(0.6, 1.3)
    warm = hsv(0.09, rng.uniform(0, 0.25), 1.0) if not overcast else np.ones(3)
    sky = hsv(0.6, rng.uniform(0.0, 0.12 if overcast else 0.45), 1.0) * (
        rng.uniform(0.7, 1.1) if overcast else rng.uniform(0.22, 0.5)
    )
    haze = hsv(0.6, rng.uniform(0, 0.15), rng.uniform(0.6, 0.9)) * (power * 0.5 + sky.mean())
    return Light(
        toward,
        (power * warm).astype(np.float32),
        sky.astype(np.float32),
        haze.astype(np.float32),
        float(rng.choice([400, 900, 2500, 6000])),
    )


def random_sensor(rng: np.random.Generator) -> Sensor:
    """The spread seen among small drones: soft to oversharpened, clean to grainy."""
    shake = rng.normal(0, 1.2, 2) * (rng.random() < 0.25)
    return Sensor(
        exposure=rng.uniform(0.7, 1.35),
        blur_px=rng.uniform(0.2, 0.9),
        noise=rng.uniform(0.002, 0.022),
        sharpen=rng.uniform(0, 1.0),
        contrast=rng.uniform(0.75, 1.3),
        tint=tuple(rng.uniform(0.92, 1.08, 3)),
        vignette=rng.uniform(0, 0.3),
        saturation=rng.uniform(0.5, 1.4),
        shake_px=(shake[0], shake[1]),
    )


def develop(linear_bgr: F32, sensor: Sensor, light: Light, rng: np.random.Generator) -> U8:
    """(H, W, 3) linear light to uint8 BGR."""
    grey = 0.30 * float((light.sun * light.toward_sun[2] + light.sky).mean())  # what the meter calls middle grey
    x = _optics(linear_bgr * np.float32(0.30 * sensor.exposure / max(grey, 1e-3)), sensor)
    h, w = x.shape[:2]
    r2 = ((np.arange(w) - w / 2) / (w / 2))[None] ** 2 + ((np.arange(h) - h / 2) / (h / 2))[:, None] ** 2
    x = x * (1 - 0.5 * sensor.vignette * r2[..., None]).astype(np.float32) * np.asarray(sensor.tint, np.float32)
    x = np.maximum(x, 0)
    x = 1 - np.exp(-1.35 * x) if sensor.contrast < 1 else np.minimum(x, 1)  # soft shoulder or hard clip
    x = x ** np.float32(1 / 2.2)
    x = (x - 0.45) * sensor.contrast + 0.45
    mean = x.mean(2, keepdims=True)
    x = mean + (x - mean) * sensor.saturation
    noise = rng.standard_normal(x.shape, np.float32)
    x = x + sensor.noise * (0.6 * noise + 0.8 * noise[..., :1]) * (1.3 - x)
    if sensor.sharpen > 0:
        x = x + sensor.sharpen * (x - cv2.GaussianBlur(x, (0, 0), 1.0))
    return np.asarray(np.clip(255 * x + 0.5, 0, 255), np.uint8)


def develop_thermal(
    warmth: F32, sensor: Sensor, rng: np.random.Generator, gain: float = 2.0, offset: float = 0.0
) -> U8:
    """(H, W) warmth to a white-hot picture with automatic gain, uint8 BGR."""
    x = _optics(warmth, sensor)
    low, high = np.quantile(x[::4, ::4], [0.01, 0.97])
    middle = float(np.median(x[::4, ::4]))
    x = 0.5 + (x - middle) / (max(float(high - low), 0.5) * gain) * sensor.contrast + offset
    noise = rng.standard_normal(x.shape, np.float32)
    columns = rng.standard_normal(x.shape[1], np.float32)[None]
    x = x + sensor.noise * (noise + 0.3 * columns)
    x = x + 0.7 * sensor.sharpen * (x - cv2.GaussianBlur(x, (0, 0), 1.5))
    grey = np.clip(255 * x + 0.5, 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, 2)


def _optics(light: F32, sensor: Sensor) -> Any:
    x: Any = light
    if sensor.blur_px > 0.15:
        x = cv2.GaussianBlur(x, (0, 0), sensor.blur_px)
    length = float(np.hypot(*sensor.shake_px))
    if length > 0.5:
        n = int(np.ceil(length)) + 2
        kernel = np.zeros((2 * n + 1, 2 * n + 1), np.float32)
        for t in np.linspace(-0.5, 0.5, 4 * n):
            u, v = n + t * sensor.shake_px[0], n + t * sensor.shake_px[1]
            kernel[round(v), round(u)] += 1
        x = cv2.filter2D(x, -1, kernel / kernel.sum())
    return x


def compress(image: U8, quality: int) -> U8:
    """What JPEG at ``quality`` leaves of a picture."""
    ok, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert ok
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
