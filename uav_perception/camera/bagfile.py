"""Bags of every kind behind one reader: rosbag2 sqlite3 and mcap (split, compressed), rosbag1; damaged ones too.

Messages stream: one chunk of a file is in memory at a time. What a damaged bag lost is stated in ``losses``.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from ..errors import BagError
from .bag_parts import READ_ERRORS, McapSalvagePart, Part, RosbagsPart, SqliteSalvagePart
from .bag_types import DECODE_ERRORS, RawMessage, Topic, recorded_hash, typestore

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["BagFile", "RawMessage", "Topic", "typestore"]

_SUFFIXES = (".mcap", ".db3", ".bag", ".zst", ".zstd")


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
                self.topics[name] = replace(topic, count=count)
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
        except DECODE_ERRORS as e:
            raise BagError(f"a message of {message.topic} ({message.msgtype}) that does not decode ({e})",
                           "the definition of ROS 2 Kilted and vision_msgs 4", "leave the topic out") from e

    def mismatched(self) -> list[str]:
        """Topics whose definition has another hash than ours, or is unknown: they are not read."""
        store, wrong = typestore(self.ros1), []
        for topic in self.topics.values():
            if topic.msgtype not in store.fielddefs:
                wrong.append(f"{topic.name} ({topic.msgtype}: unknown type)")
            elif not self.ros1 and recorded_hash(topic) not in ("", store.hash_rihs01(topic.msgtype)):
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

    def _open_part(self, file: Path) -> Part | None:
        if file.stat().st_size == 0:
            self.losses.append(f"{file.name} is empty")
            return None
        if file.suffix in (".zst", ".zstd"):
            file = self._unpacked(file)
        try:
            return RosbagsPart(file, self.losses)
        except READ_ERRORS as e:
            reason = str(e).rstrip(".").replace(str(file), file.name)
        if file.suffix == ".bag":
            self.losses.append(f"{file.name}: {reason}")
            return None
        part = McapSalvagePart(file, self.losses) if file.suffix == ".mcap" else SqliteSalvagePart(file, self.losses)
        if not part.topics:
            self.losses.append(f"{file.name}: {reason}")
            return None
        if not any(loss.startswith(f"{file.name}:") for loss in self.losses):
            self.losses.append(f"{file.name}: no index, read from its start: nothing else is missing")
        return part

    def _unpacked(self, file: Path) -> Path:
        folder = tempfile.TemporaryDirectory(prefix="uav_perception_bag_")
        self._temporary.append(folder)
        target = Path(folder.name, file.stem)
        unpack, said = zstd.ZstdDecompressor(), "it is cut short"
        with file.open("rb") as packed, target.open("wb") as out:
            try:
                while block := packed.read(1 << 16):
                    while block:
                        unpack = zstd.ZstdDecompressor() if unpack.eof else unpack  # a file may be several streams
                        out.write(unpack.decompress(block))
                        block = unpack.unused_data
            except zstd.ZstdError as e:
                said = str(e)
        if not unpack.eof:
            self.losses.append(f"{file.name} cannot be unpacked to its end ({said})")
        return target
