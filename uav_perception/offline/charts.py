"""Small charts as inline SVG: no library, no network, sharp on any screen. Colours come from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import ArrayLike

WIDTH, HEIGHT = 460, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 14, 14, 44
_LEGEND = 15  # height of a row of names
_POINTS = 600  # a line has at most this many: more cannot be seen


@dataclass(frozen=True)
class Line:
    """One line of a chart; NaN breaks it."""

    name: str
    x: ArrayLike
    y: ArrayLike


@dataclass(frozen=True)
class Span:
    """A coloured stretch of a timeline; ``kind`` picks the colour (a CSS class)."""

    start: float
    end: float
    kind: str
    label: str


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers that cover an interval: steps of 1, 2 or 5 times a power of ten."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def line_chart(lines: Sequence[Line], x_label: str, y_label: str, y_range: tuple[float, float] | None = None,
               x_range: tuple[float, float] | None = None, equal_axes: bool = False) -> str:
    """Lines over numbers; ``equal_axes`` gives both axes the same scale (a map)."""
    data = [(line.name, *_thin(line)) for line in lines]
    finite = [(x[np.isfinite(y)], y[np.isfinite(y)]) for _, x, y in data if np.isfinite(y).any()]
    if not finite:
        nothing = f'<text x="{WIDTH / 2}" y="{HEIGHT / 2}" class="note">nothing to draw</text>'
        return _frame(nothing, f"{y_label}: no data")
    xs, ys = (np.concatenate(v) for v in zip(*finite, strict=True))
    x_low, x_high = x_range or _padded(xs, 0.0)
    y_low, y_high = y_range or _padded(ys, 0.06)
    if equal_axes:
        x_low, x_high, y_low, y_high = _equal(x_low, x_high, y_low, y_high)
    to_x, to_y = _scale(x_low, x_high, _LEFT, WIDTH - _RIGHT), _scale(y_low, y_high, HEIGHT - _BOTTOM, _TOP)
    parts = [_axes(ticks(x_low, x_high), ticks(y_low, y_high), to_x, to_y, x_label, y_label)]
    for i, (name, x, y) in enumerate(data):
        parts.append(f'<path class="line c{i % 6}" d="{_path(x, y, to_x, to_y)}"><title>{escape(name)}</title></path>')
    names = [name for name, _, _ in data[:8]] if len(data) > 1 else []
    return _frame("".join([*parts, *_legend(names)]), f"{y_label} over {x_label}", _LEGEND * -(-len(names) // 4))


def histogram(name: str, bins: Sequence[Sequence[float]], marks: dict[str, float], unit: str = "ms") -> str:
    """Bars over a logarithmic axis of (value, count) bins, with named vertical marks (percentiles)."""
    if not bins:
        return ""
    values = np.log10([max(b[0], 1e-6) for b in bins])
    counts = np.array([b[1] for b in bins], float)
    edges = np.linspace(values.min() - 0.02, values.max() + 0.02, min(60, max(8, len(bins))) + 1)
    sums, _ = np.histogram(values, bins=edges, weights=counts)
    to_x = _scale(float(edges[0]), float(edges[-1]), _LEFT, WIDTH - _RIGHT)
    to_y = _scale(0.0, float(sums.max()) * 1.08, HEIGHT - _BOTTOM, _TOP)
    steps = (1, 2, 5) if edges[-1] - edges[0] < 2.2 else (1,)
    powers = [p + math.log10(m) for p in range(math.floor(edges[0]), math.ceil(edges[-1]) + 1) for m in steps]
    shown = [p for p in powers if edges[0] <= p <= edges[-1]]
    parts = [_axes(shown, ticks(0.0, float(sums.max()) * 1.08), to_x, to_y, f"{name}, {unit}", "frames",
                   [f"{10**p:g}" for p in shown])]
    for k, n in enumerate(sums):
        if n:
            x, y = to_x(edges[k]), to_y(float(n))
            width = max(to_x(edges[k + 1]) - x - 0.6, 0.8)
            parts.append(f'<rect class="bar" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
                         f'height="{to_y(0.0) - y:.1f}"><title>{n:.0f} frames</title></rect>')
    for i, (label, value) in enumerate(marks.items()):
        x = to_x(math.log10(max(value, 1e-6)))
        side = 'text-anchor="end"' if x > WIDTH - 90 else ""
        said = f"{value:.3g}" if value < 1000 else f"{value:.0f}"
        at = f'x="{x + (-3 if side else 3):.1f}" y="{_TOP + 11 + 12 * i}" {side}'
        parts.append(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}"/>'
                     f'<text class="tick" {at}>{escape(label)} {said}</text>')
    return _frame("".join(parts), f"histogram of {name}")


def timeline(rows: Sequence[tuple[str, Sequence[Span]]], x_label: str, end: float) -> str:
    """Named rows of coloured spans over a common axis from 0 to ``end``."""
    width, left, row = 960, 110, 26
    height = row * len(rows) + _BOTTOM
    to_x = _scale(0.0, max(end, 1e-9), left, width - _RIGHT)
    parts = []
    for k, (name, spans) in enumerate(rows):
        y = k * row + 4
        parts.append(f'<text class="tick" x="{left - 8}" y="{y + 13}" text-anchor="end">{escape(name)}</text>')
        for s in spans:
            x = to_x(s.start)
            parts.append(f'<rect class="span {escape(s.kind)}" x="{x:.1f}" y="{y}" height="{row - 8}" '
                         f'width="{max(to_x(s.end) - x, 1):.1f}"><title>{escape(s.label)}</title></rect>')
    base = row * len(rows)
    for t in ticks(0.0, end, 10):
        parts.append(f'<line class="grid" x1="{to_x(t):.1f}" x2="{to_x(t):.1f}" y1="0" y2="{base}"/>'
                     f'<text class="tick" x="{to_x(t):.1f}" y="{base + 16}" text-anchor="middle">{t:g}</text>')
    parts.append(f'<text class="label" x="{(left + width) / 2}" y="{base + 36}" text-anchor="middle">'
                 f"{escape(x_label)}</text>")
    return (f'<svg class="wide" viewBox="0 0 {width} {height}" role="img" aria-label="timeline">{"".join(parts)}</svg>')


def _thin(line: Line) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(line.x, float), np.asarray(line.y, float)
    pick = np.unique(np.linspace(0, len(x) - 1, min(len(x), _POINTS)).round().astype(int)) if len(x) else slice(0, 0)
    return x[pick], y[pick]


def _padded(values: np.ndarray, share: float) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    room = (high - low) * share or (abs(high) * 0.1 or 1.0) * (1.0 if high == low else 0.0)
    return low - room, high + room


def _equal(x0: float, x1: float, y0: float, y1: float) -> tuple[float, float, float, float]:
    wide, tall = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM
    unit = max((x1 - x0) / wide, (y1 - y0) / tall) * 1.06
    cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
    return cx - unit * wide / 2, cx + unit * wide / 2, cy - unit * tall / 2, cy + unit * tall / 2


class _scale:
    """A linear map from data to drawing units."""

    def __init__(self, low: float, high: float, at_low: float, at_high: float) -> None:
        self._low, self._at = low, at_low
        self._unit = (at_high - at_low) / (high - low) if high > low else 0.0

    def __call__(self, value: float) -> float:
        return self._at + (float(value) - self._low) * self._unit


def _path(x: np.ndarray, y: np.ndarray, to_x: _scale, to_y: _scale) -> str:
    words, pen = [], "M"
    for a, b in zip(x, y, strict=True):
        if not (math.isfinite(a) and math.isfinite(b)):
            pen = "M"
            continue
        words.append(f"{pen}{to_x(a):.1f},{to_y(b):.1f}")
        pen = "L"
    return "".join(words)


def _axes(xs: Sequence[float], ys: Sequence[float], to_x: _scale, to_y: _scale, x_label: str, y_label: str,
          x_names: Sequence[str] | None = None) -> str:
    names = x_names or [f"{x:g}" for x in xs]
    bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    parts = [f'<rect class="plot" x="{_LEFT}" y="{_TOP}" width="{right - _LEFT}" height="{bottom - _TOP}"/>']
    for x, name in zip(xs, names, strict=True):
        parts.append(f'<line class="grid" x1="{to_x(x):.1f}" x2="{to_x(x):.1f}" y1="{_TOP}" y2="{bottom}"/>'
                     f'<text class="tick" x="{to_x(x):.1f}" y="{bottom + 15}" text-anchor="middle">{name}</text>')
    for y in ys:
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{to_y(y):.1f}" y2="{to_y(y):.1f}"/>'
                     f'<text class="tick" x="{_LEFT - 6}" y="{to_y(y) + 4:.1f}" text-anchor="end">{y:g}</text>')
    parts.append(f'<text class="label" x="{(_LEFT + right) / 2}" y="{HEIGHT - 8}" text-anchor="middle">'
                 f'{escape(x_label)}</text>'
                 f'<text class="label" transform="translate(13,{(bottom + _TOP) / 2}) rotate(-90)" '
                 f'text-anchor="middle">{escape(y_label)}</text>')
    return "".join(parts)


def _legend(names: Sequence[str]) -> list[str]:
    """Four names a row, above the plot: nothing is hidden behind them."""
    parts = []
    for i, name in enumerate(names):
        x, y = _LEFT + 98 * (i % 4), 6 - _LEGEND * (i // 4)
        parts.append(f'<path class="line c{i % 6}" d="M{x},{y - 4}h18"/>'
                     f'<text class="tick" x="{x + 22}" y="{y}">{escape(name[:14])}</text>')
    return parts


def _frame(body: str, label: str, above: int = 0) -> str:
    return (f'<svg viewBox="0 {-above} {WIDTH} {HEIGHT + above}" role="img" aria-label="{escape(label)}">{body}'
            "</svg>")
