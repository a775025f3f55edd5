"""Pages that open from a file: well-formed, self-contained, and saying what the numbers say."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uav_perception.offline.charts import Line, Span, histogram, line_chart, ticks, timeline
from uav_perception.offline.report import Picture, Section, gallery, pairs, table, write_report


def points(svg: str) -> list[list[tuple[float, float]]]:
    root = ElementTree.fromstring(svg)
    paths = [p for p in root.iter("path") if "L" in (p.get("d") or "")]
    return [[(float(a), float(b)) for a, b in re.findall(r"[ML]([-\d.]+),([-\d.]+)", p.get("d") or "")] for p in paths]


def test_line_chart_is_where_the_numbers_are() -> None:
    svg = line_chart([Line("a", [0, 1, 2], [0.0, 1.0, 0.0])], "x", "y", (0, 1), (0, 2))
    (a, b, c), = points(svg)
    assert b[0] == pytest.approx((a[0] + c[0]) / 2) and a[1] == c[1] > b[1]  # up is smaller
    broken = line_chart([Line("a", [0, 1, 2, 3], [0.0, np.nan, 1.0, 2.0])], "x", "y")
    assert broken.count("M") == 2 or "M" in broken
    assert "nothing to draw" in line_chart([Line("a", [], [])], "x", "y")


def test_equal_axes_keep_shapes() -> None:
    (a, b, c), = points(line_chart([Line("a", [0, 10, 10], [0, 0, 1])], "x", "y", equal_axes=True))
    assert (b[0] - a[0]) / (b[1] - c[1]) == pytest.approx(10, rel=0.02)


def test_long_lines_are_thinned_to_what_can_be_seen() -> None:
    svg = line_chart([Line("a", np.arange(100_000), np.sin(np.arange(100_000) / 9e3))], "x", "y")
    assert len(svg) < 30_000 and len(points(svg)[0]) == 600


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
@settings(max_examples=60)
def test_ticks_are_few_round_and_inside(low: float, span: float) -> None:
    values = ticks(low, low + span)
    assert len(values) <= 12
    assert all(low - 1e-6 * span - 1e-9 <= v <= low + span * (1 + 1e-6) + 1e-9 for v in values)


def test_other_charts_are_well_formed() -> None:
    bars = histogram("detector", [(1.0, 3), (2.0, 9), (40.0, 1)], {"p50": 2.0, "p99": 40.0})
    assert len([r for r in ElementTree.fromstring(bars).iter("rect") if r.get("class") == "bar"]) == 3
    assert histogram("none", [], {}) == ""
    line = timeline([("target", [Span(0, 2, "LOCKED", "<b>"), Span(2, 3, "LOST", "x")])], "s", 3.0)
    spans = [r for r in ElementTree.fromstring(line).iter("rect")]
    assert float(spans[0].get("width") or 0) == pytest.approx(2 * float(spans[1].get("width") or 0), rel=0.01)


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.outside: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.outside += [v or "" for k, v in attrs if k in ("src", "href")
                         and not (v or "#").startswith(("#", "data:"))]
        if tag in ("details", "table", "figure", "svg"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("details", "table", "figure", "svg"):
            assert self.open.pop() == tag


def test_page_is_self_contained_and_escapes(tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    write_report(path, "A <script> & co", [
        Section("one", table(["n", "v"], [["<img src=x>", 0.123456], ["none", None]], bad=[1])
                + pairs({"a": 1, "b": None})),
        Section("two", gallery([Picture(b"\xff\xd8\xff", "frame 1 <b>")]), fold=True)], "sub")
    text = path.read_text()
    assert "<img src=x>" not in text and "A &lt;script&gt; &amp; co" in text
    assert "0.1235" in text and '<tr class="bad">' in text and "–" in text and "<dt>b" not in text
    links = _Links()
    links.feed(text)
    assert links.outside == [] and links.open == []
    assert [p.name for p in tmp_path.iterdir()] == ["r.html"]
