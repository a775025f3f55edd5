"""Frames and results handed over by reference between the nodes of one process: no message, no serialisation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..records import TargetStatus, Track
from .convert import ClassNames
from .topics import Topic


@dataclass(frozen=True)
class Tracked:
    """What the tracker says about one frame."""

    stamp_ns: int
    frame_id: str
    tracks: tuple[Track, ...]
    target: TargetStatus | None  # None: seen through `tracks` alone, from another process


class Bus:
    """Who gets what inside this process. Sinks are connected while nodes are made, before anything flows."""

    def __init__(self) -> None:
        self.names = ClassNames()
        self._sinks: dict[str, list[Callable[[Any], None]]] = {}

    def connect(self, topic: Topic, sink: Callable[[Any], None]) -> None:
        """Call ``sink(record)`` for every record offered under ``topic``; it must return at once."""
        self._sinks.setdefault(topic.name, []).append(sink)

    def offer(self, topic: Topic, record: Any) -> None:
        """Hand ``record`` to everybody connected; the same object, not a copy."""
        for sink in self._sinks.get(topic.name, ()):
            sink(record)
