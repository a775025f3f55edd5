"""Three clocks and the maps between them: the frames' clock, our monotonic clock, the autopilot's clock (ns each)."""

from __future__ import annotations

WINDOW = 16  # exchanges remembered; the one with the shortest round trip is believed (Cristian 1989)
MAX_ROUND_TRIP_NS = 100_000_000  # slower exchanges say too little


class ClockMap:
    """Learns the offsets as it goes. Until the autopilot answers a TIMESYNC its clock is unknown."""

    def __init__(self) -> None:
        self._frame_minus_mono_ns: int | None = None
        self._exchanges: list[tuple[int, int]] = []  # (round trip, autopilot minus monotonic)

    def frame_clock(self, frame_now_ns: int, mono_now_ns: int) -> None:
        """Both clocks at one moment (simulated time may run at another rate: the newest pair counts)."""
        self._frame_minus_mono_ns = frame_now_ns - mono_now_ns

    def timesync(self, asked_ns: int, autopilot_ns: int, answered_ns: int) -> None:
        """One exchange: we asked at ``asked_ns``, the autopilot's clock said so, the answer came at ``answered_ns``."""
        round_trip_ns = answered_ns - asked_ns
        if not 0 <= round_trip_ns <= MAX_ROUND_TRIP_NS:
            return
        offset = autopilot_ns - (asked_ns + answered_ns) // 2
        if self._exchanges and abs(offset - self._exchanges[-1][1]) > MAX_ROUND_TRIP_NS:
            self._exchanges.clear()  # the autopilot has restarted
        self._exchanges = [*self._exchanges[1 - WINDOW:], (round_trip_ns, offset)]

    @property
    def synchronised(self) -> bool:
        """Whether the autopilot's clock is known."""
        return bool(self._exchanges)

    def autopilot_ns(self, frame_ns: int) -> int:
        """A stamp of the frames' clock on the autopilot's clock, or unchanged while that is unknown; never negative."""
        if not self._exchanges or self._frame_minus_mono_ns is None:
            return frame_ns
        return max(0, frame_ns - self._frame_minus_mono_ns + min(self._exchanges)[1])
