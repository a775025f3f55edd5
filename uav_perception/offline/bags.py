"""Writing rosbag2 bags that ``ros2 bag`` and Foxglove open; reading them is ``camera/bagfile.py``."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from rosbags.interfaces import Connection, Qos
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from ..camera.bagfile import BagFile, RawMessage, Topic, typestore
from ..errors import BagError

__all__ = ["BagFile", "BagWriter", "RawMessage", "Topic", "typestore"]

STORAGES = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}
COMPRESSIONS = {"": CompressionMode.NONE, "chunk": CompressionMode.STORAGE, "message": CompressionMode.MESSAGE,
                "file": CompressionMode.FILE}


class BagWriter:
    """A bag being written; it appears under its name only when ``close`` succeeds.

    Args:
        path: the bag. With the suffix ``.mcap`` one plain file, else a rosbag2 folder with ``metadata.yaml``.
        storage: ``mcap`` or ``sqlite3``.
        compression: "", ``chunk`` (inside the mcap), ``message`` or ``file`` (both by rosbag2); always zstd.
        version: 9 for Jazzy and later, 8 for Humble and Iron (they read QoS profiles as text).

    Raises:
        BagError: something exists at ``path``, or the combination is impossible.
    """

    def __init__(self, path: Path | str, storage: str = "mcap", compression: str = "",
                 version: Literal[8, 9] = 9) -> None:
        self.path = Path(path)
        single = self.path.suffix == ".mcap"
        if self.path.exists():
            raise BagError(f"output {self.path} that exists", "a new path", "remove it or choose another")
        if storage not in STORAGES or compression not in COMPRESSIONS:
            raise BagError(f"storage {storage!r} with compression {compression!r}",
                           f"{' or '.join(STORAGES)}, compression {', '.join(c or 'none' for c in COMPRESSIONS)}",
                           "correct the arguments")
        whole_file = storage == "mcap" and compression in ("", "chunk")
        if (compression == "chunk" and storage != "mcap") or (single and not whole_file):
            raise BagError(f"{self.path.name} as {storage} with {compression or 'no'} compression",
                           "mcap with chunk compression, or a folder", "leave out the suffix .mcap or the compression")
        self._single = single
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._hidden = Path(tempfile.mkdtemp(prefix=f".{self.path.name}.", dir=self.path.parent))
        self._writer = Writer(self._hidden / self.path.name.removesuffix(".mcap"), version=version,
                              storage_plugin=STORAGES[storage])
        self._writer.set_compression(COMPRESSIONS[compression], CompressionFormat.ZSTD)
        self._writer.open()
        self._connections: dict[str, Connection] = {}
        self._store = typestore()

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def write(self, topic: str, message: Any, stamp_ns: int) -> None:
        """Serialise and write one message (an object of ``typestore().types``)."""
        self.write_raw(topic, message.__msgtype__, self._store.serialize_cdr(message, message.__msgtype__), stamp_ns)

    def write_raw(self, topic: str, msgtype: str, data: bytes | memoryview, stamp_ns: int,
                  qos: Sequence[Qos] = ()) -> None:
        """Write one message that is CDR already (``create_subscription(..., raw=True)``)."""
        connection = self._connections.get(topic)
        if connection is None:
            if msgtype not in self._store.fielddefs:
                raise BagError(f"topic {topic} of type {msgtype}", "a type of ROS 2 or vision_msgs", "leave it out")
            connection = self._writer.add_connection(topic, msgtype, typestore=self._store, offered_qos_profiles=qos)
            self._connections[topic] = connection
        self._writer.write(connection, stamp_ns, data)

    def close(self) -> None:
        """Finish the file and give it its name."""
        self._writer.close()
        made = self._writer.path
        if self._single:
            made = made / f"{made.name}.mcap"
        made.rename(self.path)
        shutil.rmtree(self._hidden, ignore_errors=True)

    def abort(self) -> None:
        """Leave nothing behind."""
        if self._writer.storage:
            self._writer.storage.abort()
        shutil.rmtree(self._hidden, ignore_errors=True)
