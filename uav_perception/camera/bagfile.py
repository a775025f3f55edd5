"""Bags of every kind behind one reader: rosbag2 sqlite3 and mcap (split, compressed), rosbag1; damaged ones too.

Messages stream: one chunk of a file is in memory at a time. What a damaged bag lost is stated in ``losses``.
"""

from __future__ import annotations

import sqlite3
import struct
import sys
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import yaml
from rosbags.interfaces import Connection
from rosbags.rosbag1 import Reader as Rosbag1Reader
from rosbags.rosbag1 import ReaderError as Rosbag1Error
from rosbags.rosbag2 import ReaderError
from rosbags.rosbag2.storage_mcap import McapReader
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Reader
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, TypesysError, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from ..errors import BagError
from .mcap_salvage import Salvage

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# vision_msgs 4.x (Humble and later): names and types are the interface, the hash in the tests proves them.
VISION_MSGS = {
    "vision_msgs/msg/Point2D": "float64 x\nfloat64 y\n",
    "vision_msgs/msg/Pose2D": "vision_msgs/Point2D position\nfloat64 theta\n",
    "vision_msgs/msg/BoundingBox2D": "vision_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y\n",
    "vision_msgs/msg/ObjectHypothesis": "string class_id\nfloat64 score\n",
    "vision_msgs/msg/ObjectHypothesisWithPose":
        "vision_msgs/ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose\n",
    "vision_msgs/msg/Detection2D": "std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\n"
                                   "vision_msgs/BoundingBox2D bbox\nstring id\n",
    "vision_msgs/msg/Detection2DArray": "std_msgs/Header header\nvision_msgs/Detection2D[] detections\n",
}
_SUFFIXES = (".mcap", ".db3", ".bag", ".zst", ".zstd")
_DECODE_ERRORS = (SerdeError, TypesysError, ValueError, IndexError, KeyError, AssertionError, struct.error, MemoryError)
_READ_ERRORS = (ReaderError, Rosbag1Error, OSError, ValueError, KeyError, TypeError, IndexError, AssertionError,
                struct.error, RuntimeError, EOFError, zstd.ZstdError)


@lru_cache(maxsize=2)
def typestore(ros1: bool = False) -> Typestore:
    """Definitions of every message this package reads or writes (vision_msgs added to those of ROS)."""
    store = get_typestore(Stores.ROS1_NOETIC if ros1 else Stores.ROS2_KILTED)
    if not ros1:
        for name, text in VISION_MSGS.items():
            store.register(get_types_from_msg(text, name))
    return store


@dataclass(frozen=True)
class Topic:
    """A topic of a bag; ``count`` is what the recorder or the salvage counted."""

    name: str
    msgtype: str
    count: int
    digest: str = ""
    qos: tuple[Any, ...] = ()


@dataclass(frozen=True)
class RawMessage:
    """One serialised message and when it was recorded."""

    topic: str
    msgtype: str
    bag_ns: int
    data: bytes


class _Part(Protocol):
    """One file of a bag."""

    topics: dict[str, Topic]

    def messages(self, names: Collection[str]) -> Iterator[RawMessage]: ...

    def close(self) -> None: ...


@dataclass
class BagFile:
    """An open bag. Use as a context manager or call ``close``.

    Raises:
        BagError: nothing at the path, no kind of bag, or a bag of which nothing can be read.
    """

    path: Path
    losses: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.path = Path(self.path)
        self._temporary: list[tempfile.TemporaryDirectory[str]] = []
        self._message_zstd = False
        files = self._files()
        self.ros1 = files[0].suffix == ".bag"
        self._parts = [part for file in files if (part := self._open_part(file)) is not None]
        if not self._parts:
            raise BagError(f"bag {self.path}: {'; '.join(self.losses)}", "a bag of which something can be read",
                           "record it again; a rosbag1 without index: `rosbag reindex`")
        self.topics: dict[str, Topic] = {}
        for part in self._parts:
            for name, topic in part.topics.items():
                known = self.topics.get(name)
                count = topic.count + (known.count if known else 0)
                self.topics[name] = Topic(name, topic.msgtype, count, topic.digest, topic.qos)
        if not sum(t.count for t in self.topics.values()):
            self.close()
            raise BagError(f"bag {self.path} without a single message{''.join(f' ({loss})' for loss in self.losses)}",
                           "recorded messages", "record it again")

    def __enter__(self) -> BagFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for part in self._parts:
            part.close()
        for folder in self._temporary:
            folder.cleanup()

    def messages(self, topics: Collection[str] = ()) -> Iterator[RawMessage]:
        """Messages of ``topics`` (all when empty) in recording order."""
        names = set(topics or self.topics)
        for part in self._parts:
            for message in part.messages(names):
                if self._message_zstd:
                    message = RawMessage(message.topic, message.msgtype, message.bag_ns, zstd.decompress(message.data))
                yield message

    def decode(self, message: RawMessage) -> Any:
        """The message as an object with the fields of its definition.

        Raises:
            BagError: a type this package does not know, or bytes that are no such message.
        """
        store = typestore(self.ros1)
        try:
            read = store.deserialize_ros1 if self.ros1 else store.deserialize_cdr
            return read(message.data, message.msgtype)
        except _DECODE_ERRORS as e:
            raise BagError(f"a message of {message.topic} ({message.msgtype}) that does not decode ({e})",
                           "the definition of ROS 2 Kilted and vision_msgs 4", "leave the topic out") from e

    def mismatched(self) -> list[str]:
        """Topics whose definition has another hash than ours, or is unknown: they are not read."""
        store, wrong = typestore(self.ros1), []
        for topic in self.topics.values():
            if topic.msgtype not in store.fielddefs:
                wrong.append(f"{topic.name} ({topic.msgtype}: unknown type)")
            elif not self.ros1 and topic.digest and store.hash_rihs01(topic.msgtype) != topic.digest:
                wrong.append(f"{topic.name} ({topic.msgtype}: another version)")
        return sorted(wrong)

    def _files(self) -> list[Path]:
        path = self.path
        if path.is_file():
            if path.suffix not in _SUFFIXES:
                raise BagError(f"bag {path} with suffix {path.suffix!r}", "a rosbag2 folder, .mcap, .db3 or .bag",
                               "check the path")
            return [path]
        if not path.is_dir():
            raise BagError(f"bag {path}", "an existing rosbag2 folder, .mcap, .db3 or .bag", "check the path")
        files: list[Path] = []
        metadata = path / "metadata.yaml"
        try:
            info = yaml.safe_load(metadata.read_text())["rosbag2_bagfile_information"]
            self._message_zstd = str(info.get("compression_mode", "")).lower() == "message"
            files = [path / Path(name).name for name in info["relative_file_paths"]]
        except FileNotFoundError:
            self.losses.append("no metadata.yaml: its files were read directly")
        except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, AttributeError):
            self.losses.append("metadata.yaml is damaged: its files were read directly")
        self.losses += [f"file {f.name} named in metadata.yaml is missing" for f in files if not f.is_file()]
        files = [f for f in files if f.is_file()] or sorted(
            (f for f in path.iterdir() if f.suffix in _SUFFIXES),
            key=lambda f: (len(f.name), f.name))
        if not files:
            raise BagError(f"bag {path} without a .mcap, .db3 or .bag file", "the files of a bag", "check the path")
        return files

    def _open_part(self, file: Path) -> _Part | None:
        if file.stat().st_size == 0:
            self.losses.append(f"{file.name} is empty")
            return None
        if file.suffix in (".zst", ".zstd"):
            file = self._unpacked(file)
        try:
            return _RosbagsPart(file, self.losses)
        except _READ_ERRORS as e:
            reason = str(e).rstrip(".").replace(str(file), file.name)
        if file.suffix == ".bag":
            self.losses.append(f"{file.name}: {reason}")
            return None
        part = _McapSalvagePart(file, self.losses) if file.suffix == ".mcap" else _SqliteSalvagePart(file, self.losses)
        if not part.topics:
            self.losses.append(f"{file.name}: {reason}")
            return None
        return part

    def _unpacked(self, file: Path) -> Path:
        folder = tempfile.TemporaryDirectory(prefix="uav_perception_bag_")
        self._temporary.append(folder)
        target = Path(folder.name, file.stem)
        with file.open("rb") as raw, zstd.open(raw, "rb") as packed, target.open("wb") as out:
            try:
                while block := packed.read(1 << 20):
                    out.write(block)
            except (EOFError, zstd.ZstdError) as e:
                self.losses.append(f"{file.name} cannot be unpacked to its end ({e})")
        return target


class _RosbagsPart:
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
            self.topics[c.topic] = Topic(c.topic, c.msgtype, count, digest, qos)
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
        except _READ_ERRORS as e:
            _add(self._losses, f"{self._file.name}: {str(e).rstrip('.')}")
            if self._file.suffix == ".mcap":
                rest = _McapSalvagePart(self._file, self._losses)
                yield from (m for m in rest.messages(names) if m.bag_ns > last_ns)

    def close(self) -> None:
        self._reader.close()


class _McapSalvagePart:
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


class _SqliteSalvagePart:
    """A damaged sqlite3 file: its rows in the order of writing, up to the first that is unreadable."""

    def __init__(self, file: Path, losses: list[str]) -> None:
        self._uri = f"file:{file}?immutable=1"
        self.topics: dict[str, Topic] = {}
        self._names: dict[int, tuple[str, str]] = {}
        counts: dict[int, int] = {}
        try:
            with sqlite3.connect(self._uri, uri=True) as db:
                self._names = {i: (n, t) for i, n, t in db.execute("SELECT id, name, type FROM topics")}
                for (i,) in db.execute("SELECT topic_id FROM messages NOT INDEXED"):
                    counts[i] = counts.get(i, 0) + 1
        except sqlite3.Error as e:
            _add(losses, f"{file.name}: {e}; {sum(counts.values())} messages could be read")
        for i, (name, msgtype) in self._names.items():
            self.topics[name] = Topic(name, msgtype, counts.get(i, 0))

    def messages(self, names: Collection[str]) -> Iterator[RawMessage]:
        try:
            with sqlite3.connect(self._uri, uri=True) as db:
                for i, stamp_ns, data in db.execute("SELECT topic_id, timestamp, data FROM messages NOT INDEXED"):
                    if i in self._names and self._names[i][0] in names:
                        yield RawMessage(*self._names[i], stamp_ns, data)
        except sqlite3.Error:
            return  # counted and stated when the file was opened

    def close(self) -> None:
        pass


def _add(losses: list[str], line: str) -> None:
    if line not in losses:
        losses.append(line)
