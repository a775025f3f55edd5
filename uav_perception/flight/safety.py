"""What the autopilot is told about us, and which results may leave: a small explicit state machine.

    WAITING --fresh result--> ACTIVE --silence > critical_s--> CRITICAL --silence > emergency_s--> EMERGENCY
                                 ^-------------fresh result------'---------------------------------'

A result is fresh when it was captured at most ``max_age`` ago. "Looked and saw nothing" is fresh news; stale or future
results are not. All times are of the clock that stamps the frames; when it jumps backwards the watch starts over.
The numbers follow PX4-Avoidance's companion failsafe; we never ask for flight termination.
"""

from __future__ import annotations

from enum import Enum


class SafetyState(Enum):
    """What our heartbeat says about the stages behind it."""

    WAITING = "WAITING"
    ACTIVE = "ACTIVE"
    CRITICAL = "CRITICAL"
    EMERGENCY = "EMERGENCY"


class Safety:
    """Watches the stream of results; one for a link."""

    def __init__(self, max_age_ms: float, max_ahead_ms: float, critical_s: float, emergency_s: float) -> None:
        self._max_age_ns, self._max_ahead_ns = round(max_age_ms * 1e6), round(max_ahead_ms * 1e6)
        self._critical_ns, self._emergency_ns = round(critical_s * 1e9), round(emergency_s * 1e9)
        self._fresh_ns: int | None = None  # when the last fresh result was handed over
        self._now_ns = 0
        self.state = SafetyState.WAITING

    def refusal(self, stamp_ns: int, now_ns: int) -> str | None:
        """Why a result captured at ``stamp_ns`` must not leave at ``now_ns``; None when it may."""
        if stamp_ns > now_ns + self._max_ahead_ns:
            return "future"
        return "stale" if now_ns - stamp_ns > self._max_age_ns else None

    def heard(self, stamp_ns: int, now_ns: int) -> str | None:
        """A stage handed over a result: note it if fresh; returns the refusal."""
        why = self.refusal(stamp_ns, now_ns)
        self._watch_clock(now_ns)
        if why is None:
            self._fresh_ns, self.state = now_ns, SafetyState.ACTIVE
        return why

    def tick(self, now_ns: int) -> SafetyState:
        """The state at ``now_ns``."""
        self._watch_clock(now_ns)
        if self._fresh_ns is not None:
            silence_ns = now_ns - self._fresh_ns
            if silence_ns > self._emergency_ns:
                self.state = SafetyState.EMERGENCY
            elif silence_ns > self._critical_ns:
                self.state = SafetyState.CRITICAL
            else:
                self.state = SafetyState.ACTIVE
        return self.state

    def _watch_clock(self, now_ns: int) -> None:
        if now_ns + self._critical_ns < self._now_ns:  # a bag began again, or the clock was set
            self._fresh_ns, self.state = None, SafetyState.WAITING
            self._now_ns = now_ns
        self._now_ns = max(self._now_ns, now_ns)
