"""One file of a bag: sound ones through the ``rosbags`` package, damaged ones as far as they can be read."""

from __future__ import annotations

import sqlite3
import struct
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Protocol

from rosbags.interfaces import Connection, MessageDefinitionFormat
from rosbags.rosbag1 import Reader as Rosbag1Reader
from rosbags.rosbag1 import ReaderError as Rosbag1Error
from rosbags.rosbag2 import ReaderError
from rosbags.rosbag2.storage_mcap import McapReader
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Reader

from .bag_types import RawMessage, Topic
from .mcap_salvage import Salvage

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

READ_ERRORS = (ReaderError, Rosbag1Error, OSError, ValueError, KeyError, TypeError, IndexError, AssertionError,
                struct.error, RuntimeError, EOFError, zstd.ZstdError)


class Part(Protocol):
    """One file of a bag."""

    topics: dict[str, Topic]

    def messages(self, names: Collection[str]) -> Iterator[RawMessage]: ...

    def close(self) -> None: ...


class RosbagsPart:
    """A sound file, read by the ``rosbags`` package; an MCAP that turns out damaged inside goes on by salvage."""

    def __init__(self, file: Path, losses: list[str]) -> None:
        self._file, self._losses = file, losses
        kinds: dict[str, Any] = {".mcap": McapReader, ".db3": Sqlite3Reader, ".bag": Rosbag1Reader}
        if file.suffix not in kinds:
            raise ReaderError(f"{file.name} is no kind of bag")
        self._reader = kinds[file.suffix](file)
        self._reader.open()
        self.topics: dict[str, Topic] = {}
        for c in self._reader.connections:
            count = c.msgcount + (self.topics[c.topic].count if c.topic in self.topics else 0)
            qos = tuple(getattr(c.ext, "offered_qos_profiles", ()))
            digest = c.digest if c.digest.startswith("RIHS01") else ""
            definition = c.msgdef.data if c.msgdef.format is MessageDefinitionFormat.MSG else ""
            self.topics[c.topic] = Topic(c.topic, c.msgtype, count, digest, definition, qos)
        if file.suffix == ".db3" and (wal := file.with_name(file.name + "-wal")).is_file() and wal.stat().st_size:
            losses.append(f"{wal.name} holds messages that were never merged into {file.name} and were not read")

    def messages(self, names: Collection[str]) -> Iterator[RawMessage]:
        connections: list[Connection] = [c for c in self._reader.connections if c.topic in names]
        if not connections:
            return
        last_ns = -1
        try:
            for c, stamp_ns, data in self._reader.messages(connections):
                last_ns = stamp_ns
                yield RawMessage(c.topic, c.msgtype, stamp_ns, data)
        except READ_ERRORS as e:
            _add(self._losses, f"{self._file.name}: {str(e).rstrip('.')}")
            if self._file.suffix == ".mcap":
                rest = McapSalvagePart(self._file, self._losses)
                yield from (m for m in rest.messages(names) if m.bag_ns > last_ns)

    def close(self) -> None:
        self._reader.close()


class McapSalvagePart:
    """A damaged MCAP file."""

    def __init__(self, file: Path, losses: list[str]) -> None:
        self._salvage = Salvage(file)
        self.topics: dict[str, Topic] = {}
        for channel, (name, msgtype) in self._salvage.channels.items():
            count = self._salvage.counts.get(channel, 0) + (self.topics[name].count if name in self.topics else 0)
            self.topics[name] = Topic(name, msgtype, count)
        if self._salvage.damage:
            read = sum(self._salvage.counts.values())
            _add(losses, f"{file.name}: {'; '.join(self._salvage.damage)}; {read} messages could be read")

    def messages(self, names: Collection[str]) -> Iterator[RawMessage]:
        for channel, log_ns, data in self._salvage.messages():
            name, msgtype = self._salvage.channels[channel]
            if name in names:
                yield RawMessage(name, msgtype, log_ns, data)

    def close(self) -> None:
        pass


class SqliteSalvagePart:
    """A damaged sqlite3 file: its rows in the order of writing, up to the first that is unreadable."""

    def __init__(self, file: Path, losses: list[str]) -> None:
        self._uri = f"file:{file}?immutable=1"
        self.topics: dict[str, Topic] = {}
        self._names: dict[int, tuple[str, str]] = {}
        counts: dict[int, int] = {}
        try:
            with self._connect() as db:
                self._names = {i: (n, t) for i, n, t in db.execute("SELECT id, name, type FROM topics")}
                for (i,) in db.execute("SELECT topic_id FROM messages NOT INDEXED"):
                    counts[i] = counts.get(i, 0) + 1
        except sqlite3.Error as e:
            _add(losses, f"{file.name}: {e}; {sum(counts.values())} messages could be read")
        for i, (name, msgtype) in self._names.items():
            self.topics[name] = Topic(name, msgtype, counts.get(i, 0))

    def messages(self, names: Collection[str]) -> Iterator[RawMessage]:
        try:
            with self._connect() as db:
                for i, stamp_ns, data in db.execute("SELECT topic_id, timestamp, data FROM messages NOT INDEXED"):
                    if i in self._names and self._names[i][0] in names:
                        yield RawMessage(*self._names[i], stamp_ns, data)
        except sqlite3.Error:
            return  # counted and stated when the file was opened

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._uri, uri=True)
        db.execute("PRAGMA writable_schema = ON")  # lets SQLite open a file that is shorter than its header says
        return db

    def close(self) -> None:
        pass


def _add(losses: list[str], line: str) -> None:
    if line not in losses:
        losses.append(line)
