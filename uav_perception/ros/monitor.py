"""Listens to /diagnostics of one flight: what every stage has done so far, across restarts."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from . import convert, topics
from .main import SPIN_S, make_executor

COUNTS = {"frames": ("camera", "done"), "detections": ("detector", "detections"), "tracks": ("tracker", "ids"),
          "odometry": ("depth_pose", "odometry"), "mavlink": ("flight_link", "mavlink")}


@dataclass
class StageState:
    """The last report of a node; ``totals`` are the counters of its earlier lives."""

    level: int = 0
    message: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    totals: dict[str, int] = field(default_factory=dict)

    def total(self, key: str) -> int:
        """A counter over all lives of the node."""
        return int(self.values.get(key) or 0) + self.totals.get(key, 0)


class Monitor:
    """A small node of its own thread. ``stages`` may be read at any time."""

    def __init__(self, namespace: str = "", argv: Sequence[str] = ()) -> None:
        import rclpy
        from rclpy.signals import SignalHandlerOptions

        rclpy.init(args=["monitor", *argv], signal_handler_options=SignalHandlerOptions.NO)
        self._rclpy = rclpy
        self._node = rclpy.create_node(f"fly_{os.getpid()}", namespace=namespace or None)
        self.stages: dict[str, StageState] = {}
        self.first_track_s: float | None = None  # on time.monotonic()
        self._supervisor = str(os.getpid())
        self._node.create_subscription(topics.DIAGNOSTICS.message(), topics.DIAGNOSTICS.name, self._on_diagnostics,
                                       topics.DIAGNOSTICS.qos)
        self._tracks = self._node.create_subscription(topics.TRACKS.message(), topics.TRACKS.name, self._on_tracks,
                                                      topics.TRACKS.qos)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._spin, name="monitor", daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        executor = make_executor()
        executor.add_node(self._node)
        while not self._stop.is_set():
            executor.spin_once(timeout_sec=SPIN_S)

    def _on_tracks(self, message: Any) -> None:
        if self.first_track_s is None and message.detections:
            self.first_track_s = time.monotonic()

    def _on_diagnostics(self, message: Any) -> None:
        for status in message.status:
            values = convert.status_values(status)
            if str(values.get("supervisor")) != self._supervisor:
                continue
            state = self.stages.setdefault(status.name.rsplit("/", 1)[-1], StageState())
            if state.values and values["instance"] != state.values["instance"]:
                for key, value in state.values.items():
                    if isinstance(value, int) and not isinstance(value, bool):
                        state.totals[key] = state.totals.get(key, 0) + value
            state.values = values
            if values["active"] or status.level[0] or not state.message:  # a node that ends says nothing new
                state.level, state.message = status.level[0], status.message

    def active(self, node: str) -> bool:
        """Whether a node has said that it is active."""
        return node in self.stages and bool(self.stages[node].values["active"])

    def camera(self) -> tuple[int, bool]:
        """Frames so far, and whether the source has ended."""
        state = self.stages.get("camera")
        return (state.total("done"), bool(state.values.get("ended"))) if state else (0, False)

    def counts(self) -> dict[str, int]:
        """What the report counts."""
        return {name: self.stages[node].total(key) if node in self.stages else 0
                for name, (node, key) in COUNTS.items()}

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the thread before the interpreter ends: a spinning executor would abort it."""
        self._stop.set()
        self._thread.join(1.0)
        with contextlib.suppress(Exception):
            self._node.destroy_node()
        self._rclpy.try_shutdown()
