"""What a person at the terminal sees: a table that stays in place, or plain lines when piped."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

REFRESH_S, LINE_S = 0.25, 2.0
STARTING_S = 30.0  # a start that takes longer is talked about
LEVELS = ("ok", "warn", "ERROR")


class Screen:
    """Shows stage states. ``stages`` values have ``level``, ``message`` and a mapping ``values``."""

    def __init__(self, order: Sequence[str], stream: TextIO | None = None) -> None:
        self._order, self._stream = order, stream or sys.stderr
        self._live: Any = None
        self._shown_s = 0.0
        self._period_s = LINE_S

    def __enter__(self) -> Screen:
        if self._stream.isatty():
            from rich.console import Console
            from rich.live import Live

            self._period_s = REFRESH_S
            self._live = Live(console=Console(file=self._stream), auto_refresh=False)
            self._live.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._live is not None:
            self._live.__exit__(*error)

    def say(self, line: str) -> None:
        """One line that stays."""
        if self._live is not None:
            self._live.console.print(line, markup=False, highlight=False)
        else:
            print(line, file=self._stream, flush=True)

    def show(self, elapsed_s: float, stages: Mapping[str, Any], flying: bool = True) -> None:
        """Show the stages as they are now (no more often than a person can read); lines only when ``flying``."""
        now_s = time.monotonic()
        if self._live is None and not flying and elapsed_s < STARTING_S:
            return
        if now_s - self._shown_s < self._period_s:
            return
        self._shown_s = now_s
        if self._live is not None:
            self._live.update(self._table(elapsed_s, stages), refresh=True)
        elif told := [f"{n} {_number(stages[n].values.get('rate_hz'))} Hz"
                      + (f" {LEVELS[min(stages[n].level, 2)]}: {stages[n].message}" if stages[n].level else "")
                      for n in self._order if n in stages and (stages[n].level or stages[n].values.get("rate_hz"))]:
            self.say(f"{elapsed_s:6.1f} s  " + "  ".join(told))

    def _table(self, elapsed_s: float, stages: Mapping[str, Any]) -> Any:
        from rich.table import Table

        table = Table(title=f"uav_perception  {elapsed_s:.1f} s", title_justify="left", expand=False)
        for name, justify in (("stage", "left"), ("state", "left"), ("Hz", "right"), ("done", "right"),
                              ("age p50/p95 ms", "right"), ("work p50 ms", "right"), ("dropped", "right"),
                              ("says", "left")):
            table.add_column(name, justify=justify, overflow="fold" if name == "says" else "ellipsis")  # type: ignore[arg-type]
        for name in self._order:
            if name not in stages:
                table.add_row(name, "starting", *[""] * 6)
                continue
            state, v = stages[name], stages[name].values
            style = ("", "yellow", "bold red")[min(state.level, 2)]
            table.add_row(name, LEVELS[min(state.level, 2)], _number(v.get("rate_hz")), str(v.get("done", "")),
                          f"{_number(v.get('age_p50_ms'))}/{_number(v.get('age_p95_ms'))}",
                          _number(v.get("work_p50_ms")), str(v.get("dropped", "")), _says(name, state), style=style)
        return table


def _number(value: Any) -> str:
    return "-" if value is None else f"{value:.1f}"


def _says(name: str, state: Any) -> str:
    v = state.values
    extra = {"detector": f"{v.get('detections', 0)} boxes, {v.get('engine', '')}",
             "tracker": f"{v.get('ids', 0)} ids, target {v.get('target', 'NONE')}",
             "depth_pose": f"scale {v.get('scale', '')}",
             "flight_link": f"{v.get('mavlink', 0)} packets, {v.get('link', 'no link')}"}.get(name, "")
    return "; ".join(t for t in (extra, state.message if state.message != "running" else "") if t)
