"""Surface materials of moving things: indices into an object's palette of albedo and of temperature."""

from __future__ import annotations

import colorsys
from typing import Any

import numpy as np

from ..records import F32

PAINT, GLASS, RUBBER, TRIM, HEADLIGHT, TAILLIGHT, PAINT2, METAL, SKIN, TOP, BOTTOM, HAIR, HOOD = range(13)
COUNT = 13
GLOSS = np.zeros(COUNT, np.float32)  # share of mirrored sky at normal incidence
GLOSS[[PAINT, PAINT2, HOOD]], GLOSS[METAL], GLOSS[GLASS], GLOSS[[HEADLIGHT, TAILLIGHT]] = 0.05, 0.10, 0.10, 0.06


def linear(srgb: Any) -> F32:
    """Linear light of display values 0..1 (gamma 2.2)."""
    return np.asarray(np.clip(srgb, 0, 1) ** 2.2, np.float32)


def hsv(hue: float, saturation: float, value: float) -> F32:
    """Display BGR of a hue, saturation and value, all 0..1."""
    return np.array(colorsys.hsv_to_rgb(hue, saturation, value)[::-1], np.float32)


def car_paint(rng: np.random.Generator) -> F32:
    """Display BGR drawn as seen on the road: mostly white, black, grey and silver."""
    kind = rng.random()
    if kind < 0.27:
        return hsv(rng.random(), rng.uniform(0, 0.05), rng.uniform(0.82, 0.97))
    if kind < 0.45:
        return hsv(rng.random(), rng.uniform(0, 0.25), rng.uniform(0.05, 0.18))
    if kind < 0.72:
        return hsv(rng.choice([0.1, 0.6]), rng.uniform(0, 0.12), rng.uniform(0.25, 0.75))
    hue = rng.choice([0.0, 0.02, 0.60, 0.62, 0.33, 0.12, rng.random()], p=[0.22, 0.1, 0.25, 0.15, 0.08, 0.1, 0.1])
    return hsv(hue, rng.uniform(0.5, 0.95), rng.uniform(0.25, 0.85))


def palette(rng: np.random.Generator, kind: str) -> F32:
    """(COUNT, 3) linear albedo BGR for one object of ``kind`` (a model kind such as ``car`` or ``bus``)."""
    p = np.zeros((COUNT, 3), np.float32)
    bright = kind in ("bus", "truck") or "two-wheeler" in kind
    p[PAINT] = (
        hsv(rng.random(), rng.uniform(0.3, 0.95), rng.uniform(0.3, 0.95))
        if bright and rng.random() < 0.6
        else car_paint(rng)
    )
    p[HOOD] = p[PAINT]
    p[PAINT2] = (
        hsv(rng.random(), rng.uniform(0, 0.08), rng.uniform(0.75, 0.95))
        if rng.random() < 0.6
        else hsv(rng.random(), rng.uniform(0, 0.9), rng.uniform(0.2, 0.9))
    )
    p[GLASS] = rng.uniform(0.05, 0.38)
    p[RUBBER] = rng.uniform(0.06, 0.16)
    p[TRIM] = rng.uniform(0.08, 0.22)
    p[HEADLIGHT] = rng.uniform(0.8, 1.0)
    p[TAILLIGHT] = hsv(0.0, 0.9, rng.uniform(0.4, 0.8))
    p[METAL] = rng.uniform(0.4, 0.8)
    p[SKIN] = hsv(rng.uniform(0.04, 0.08), rng.uniform(0.3, 0.6), rng.uniform(0.35, 0.9))
    p[TOP] = hsv(rng.random(), rng.uniform(0, 0.9) * (rng.random() < 0.6), rng.uniform(0.05, 0.95))
    p[BOTTOM] = hsv(rng.choice([0.6, 0.08, rng.random()]), rng.uniform(0, 0.5), rng.uniform(0.05, 0.6))
    p[HAIR] = hsv(0.07, rng.uniform(0.2, 0.7), rng.uniform(0.05, 0.45))
    return linear(p)


def temperature(rng: np.random.Generator, kind: str, night: bool) -> F32:
    """(COUNT,) warmth relative to the ground's mean (0); a person's skin is near +1.

    Bodywork mirrors the cold sky and reads cold unless the sun or the engine heats it.
    """
    t = np.zeros(COUNT, np.float32)
    body = rng.normal(-0.35, 0.25) if rng.random() < 0.7 else rng.normal(0.25, 0.25)
    t[[PAINT, PAINT2, HOOD, METAL]] = body
    t[GLASS] = body + rng.normal(-0.15 if night else 0.05, 0.15)
    t[[RUBBER, TRIM]] = body * 0.5 + rng.normal(0.05, 0.1)
    t[[HEADLIGHT, TAILLIGHT]] = body + rng.uniform(0, 0.3)
    if rng.random() < 0.5:  # engine running or still warm
        t[HOOD] = body + rng.uniform(0.3, 1.2)
        t[RUBBER] += rng.uniform(0, 0.8)
    t[SKIN] = rng.normal(1.0, 0.15)
    t[TOP] = t[SKIN] - rng.uniform(0.0, 0.5)
    t[BOTTOM] = t[SKIN] - rng.uniform(0.0, 0.5)
    t[HAIR] = t[SKIN] - rng.uniform(0.0, 0.6)
    if kind == "two-wheeler":
        t[[PAINT, PAINT2, TRIM, RUBBER]] += rng.uniform(0.0, 0.4)
    return t
