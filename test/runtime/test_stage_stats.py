"""Percentiles against numpy; rates from stamps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uav_perception.runtime.stats import STEP, Histogram, StageStats

MS = 1_000_000


@given(st.lists(st.floats(0.002, 1e5), min_size=1, max_size=300), st.sampled_from([50, 95, 99]))
def test_percentiles_are_numpys_to_the_resolution(values, percent):
    histogram = Histogram()
    for v in values:
        histogram.add(v)
    exact = np.percentile(values, percent, method="inverted_cdf")
    assert histogram.percentile(percent) == pytest.approx(exact, rel=STEP)


def test_empty_histogram_knows_nothing():
    assert Histogram().percentile(50) is None and Histogram().summary() == {}


def test_rate_comes_from_stamps_and_age_from_the_clock_of_the_frames():
    stats = StageStats(deadline_ms=50.0)
    for i in range(11):
        stamp_ns = i * 100 * MS
        stats.result(stamp_ns, stamp_ns + (60 if i == 3 else 20) * MS, 5 * MS, boxes=2)
    s = stats.snapshot()
    assert (s["done"], s["deadline_misses"], s["boxes"], s["rate_hz"]) == (11, 1, 22, 10.0)
    assert s["age_ms"]["p50"] == pytest.approx(20, rel=STEP) and s["work_ms"]["p99"] == pytest.approx(5, rel=STEP)


def test_no_age_is_told_before_a_simulators_clock_is_heard():
    stats = StageStats(50.0)
    stats.result(1000 * 10**9, 0, 5 * MS)
    assert stats.snapshot()["age_ms"] == {} and stats.snapshot()["work_ms"]
    stats.result(1001 * 10**9, 1001 * 10**9 + 40 * MS, 5 * MS)
    assert stats.snapshot()["age_ms"]["p50"] == pytest.approx(40, rel=STEP)


def test_rate_begins_anew_when_time_goes_back():
    stats = StageStats(50.0)
    for stamp_ns in (10**9, 2 * 10**9, 5 * 10**8):
        stats.result(stamp_ns, stamp_ns, 0)
    assert stats.rate_hz() is None


def test_an_error_stays_until_a_frame_succeeds():
    stats = StageStats(50.0)
    stats.failure("no such encoding")
    assert (stats.error, stats.failed) == ("no such encoding", 1)
    stats.result(1, 1, 1)
    assert (stats.error, stats.failed) == ("", 1)
