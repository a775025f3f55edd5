"""The safety state machine and the clock maps."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from uav_perception.flight.safety import Safety, SafetyState
from uav_perception.flight.timesync import ClockMap

MS, S = 1_000_000, 1_000_000_000


def safety() -> Safety:
    return Safety(max_age_ms=200, max_ahead_ms=20, critical_s=0.5, emergency_s=15)


def test_states_in_order():
    s = safety()
    assert s.tick(10 * S) is SafetyState.WAITING
    assert s.tick(100 * S) is SafetyState.WAITING  # nothing ever came: no news is not bad news yet
    assert s.heard(100 * S, 100 * S) is None
    assert s.tick(100 * S + 500 * MS) is SafetyState.ACTIVE
    assert s.tick(100 * S + 501 * MS) is SafetyState.CRITICAL
    assert s.tick(115 * S + 1) is SafetyState.EMERGENCY
    assert s.heard(116 * S, 116 * S) is None
    assert s.tick(116 * S) is SafetyState.ACTIVE


def test_stale_and_future_results_are_no_news():
    s = safety()
    s.heard(S, S)
    assert s.heard(S, S + 201 * MS) == "stale"
    assert s.heard(2 * S, S + 300 * MS) == "future"
    assert s.tick(S + 600 * MS) is SafetyState.CRITICAL


@given(st.integers(0, 10 * S), st.integers(0, 10 * S))
def test_nothing_old_or_future_passes(stamp, now):
    passes = safety().refusal(stamp, now) is None
    assert passes == (-20 * MS <= now - stamp <= 200 * MS)


def test_clock_jumping_backwards_starts_over():
    s = safety()
    s.heard(100 * S, 100 * S)
    assert s.tick(5 * S) is SafetyState.WAITING
    assert s.heard(5 * S, 5 * S) is None
    assert s.tick(5 * S + 400 * MS) is SafetyState.ACTIVE
    assert s.tick(6 * S) is SafetyState.CRITICAL


@given(st.integers(-10**15, 10**15), st.lists(st.tuples(st.integers(0, 20 * MS), st.integers(0, 20 * MS)), min_size=1,
                                             max_size=40))
def test_clock_map_error_is_at_most_half_the_best_asymmetry(offset, delays):
    """With one-way delays a and b the offset error is |a - b| / 2 <= (a + b) / 2 of the best exchange."""
    clocks, mono = ClockMap(), 10**16
    clocks.frame_clock(mono + 7, mono)
    for there, back in delays:
        clocks.timesync(mono, mono + there + offset, mono + there + back)
        mono += 10**8
    error = abs(clocks.autopilot_ns(mono + 7) - (mono + offset))
    assert error <= min(a + b for a, b in delays[-16:]) / 2 + 1


def test_unknown_autopilot_clock_leaves_stamps_alone():
    clocks = ClockMap()
    assert clocks.autopilot_ns(123) == 123 and not clocks.synchronised
    clocks.frame_clock(50, 20)
    clocks.timesync(0, 10**9, 200 * MS)  # too slow to believe
    assert not clocks.synchronised


def test_autopilot_restart_is_followed():
    clocks = ClockMap()
    clocks.frame_clock(0, 0)
    clocks.timesync(100, 10**12, 300)
    clocks.timesync(10**9, 5 * S, 10**9 + 200)
    assert abs(clocks.autopilot_ns(10**9) - 5 * S) < 1000
