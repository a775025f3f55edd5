"""What a recording holds beside its pictures and the stages can use: the rangefinder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..camera.bag import header_ns
from ..camera.bagfile import BagFile
from . import convert, topics

RANGE = "sensor_msgs/msg/Range"


class RecordedHeights:
    """`height_agl` of a bag, in step with its pictures."""

    def __init__(self, path: Path) -> None:
        self._bag = BagFile(path)
        names = [t.name for t in self._bag.topics.values()
                 if t.msgtype == RANGE and t.name.endswith(topics.HEIGHT_AGL.name)]
        self._messages = self._heights(names[:1])
        self._next = next(self._messages, None)

    def _heights(self, names: list[str]) -> Iterator[tuple[int, Any]]:
        for message in self._bag.messages(names) if names else ():
            decoded = self._bag.decode(message)
            yield header_ns(decoded.header) or message.bag_ns, decoded

    def until(self, own_ns: int, shift_ns: int) -> list[Any]:
        """Range messages up to the recording's own stamp ``own_ns``, restamped by ``shift_ns``."""
        due = []
        while self._next is not None and self._next[0] <= own_ns:
            stamp_ns, recorded = self._next
            due.append(topics.HEIGHT_AGL.message()(
                header=convert.header(stamp_ns + shift_ns, recorded.header.frame_id),
                radiation_type=int(recorded.radiation_type), field_of_view=float(recorded.field_of_view),
                min_range=float(recorded.min_range), max_range=float(recorded.max_range), range=float(recorded.range)))
            self._next = next(self._messages, None)
        return due

    def close(self) -> None:
        self._bag.close()
