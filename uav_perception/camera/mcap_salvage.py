"""What can still be read of an MCAP file without its end or index: a walk over its records from the start.

Format: https://mcap.dev/spec (opcodes and layouts are facts of that page). One chunk is in memory at a time.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from struct import Struct
from struct import error as StructError

import lz4.frame  # type: ignore[import-untyped]

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAGIC = b"\x89MCAP0\r\n"
_HEADER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _DATA_END = 0x01, 0x03, 0x04, 0x05, 0x06, 0x0F
_LAST_OPCODE = 0x7F  # above lie private records, which a recorder of bags does not write
_RECORD, _U16, _U32, _U64 = Struct("<BQ"), Struct("<H"), Struct("<I"), Struct("<Q")
_MESSAGE_HEAD, _CHUNK_HEAD = Struct("<HIQQ"), Struct("<QQQI")
_UNPACK = {"lz4": lz4.frame.LZ4FrameDecompressor, "zstd": zstd.ZstdDecompressor}


@dataclass
class Salvage:
    """Channels and messages of a damaged file; ``damage`` says in one line each what was lost."""

    path: Path
    channels: dict[int, tuple[str, str]] = field(default_factory=dict)  # id -> topic, message type
    counts: dict[int, int] = field(default_factory=dict)
    damage: list[str] = field(default_factory=list)
    _schemas: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for channel, _, _ in self.messages():
            self.counts[channel] = self.counts.get(channel, 0) + 1

    def messages(self) -> Iterator[tuple[int, int, bytes]]:
        """(channel id, log time ns, data) of every whole message, in file order."""
        self.damage.clear()
        with self.path.open("rb") as file:
            if file.read(8) != MAGIC:
                self.damage.append("does not begin like an MCAP file")
                return
            size = self.path.stat().st_size
            while (head := file.read(9)):
                if len(head) < 9 or head[0] == 0 or head[0] > _LAST_OPCODE:
                    self.damage.append(f"damaged at byte {file.tell() - len(head)} of {size}")
                    return
                opcode, length = _RECORD.unpack(head)
                if opcode == _DATA_END:
                    return
                if file.tell() + length > size:
                    lost = size - file.tell()
                    if opcode == _CHUNK:
                        yield from self._chunk(file.read(lost), whole=False)
                    self.damage.append(f"cut short: ends {length - lost} bytes before the end of its last record")
                    return
                if opcode == _CHUNK:
                    yield from self._chunk(file.read(length), whole=True)
                elif opcode in (_SCHEMA, _CHANNEL, _MESSAGE):
                    yield from self._record(opcode, memoryview(file.read(length)))
                else:
                    file.seek(length, 1)
        self.damage.append("ends without its closing record")

    def _chunk(self, body: bytes, whole: bool) -> Iterator[tuple[int, int, bytes]]:
        try:
            _, _, uncompressed, _ = _CHUNK_HEAD.unpack_from(body)
            at = _CHUNK_HEAD.size
            name = body[at + 4:at + 4 + _U32.unpack_from(body, at)[0]].decode()
            data = body[at + 4 + len(name) + 8:]
            if name and not whole:
                self.damage.append("its last chunk is incomplete")
            data = _UNPACK[name]().decompress(data) if name else data  # of an incomplete one, as far as it goes
            if whole and len(data) != uncompressed:
                raise ValueError(f"{len(data)} bytes instead of {uncompressed}")
        except (StructError, KeyError, UnicodeDecodeError, ValueError, RuntimeError, zstd.ZstdError) as e:
            self.damage.append(f"a chunk cannot be unpacked ({e})")
            return
        view, at = memoryview(data), 0
        while at + 9 <= len(view):
            opcode, length = _RECORD.unpack_from(view, at)
            if at + 9 + length > len(view):
                return
            yield from self._record(opcode, view[at + 9:at + 9 + length])
            at += 9 + length

    def _record(self, opcode: int, body: memoryview) -> Iterator[tuple[int, int, bytes]]:
        if opcode == _MESSAGE and len(body) >= _MESSAGE_HEAD.size:
            channel, _, log_ns, _ = _MESSAGE_HEAD.unpack_from(body)
            if channel in self.channels:
                yield channel, log_ns, bytes(body[_MESSAGE_HEAD.size:])
        elif opcode == _SCHEMA:
            self._schemas[_U16.unpack_from(body)[0]] = _string(body, 2)[0]
        elif opcode == _CHANNEL:
            channel, schema = _U16.unpack_from(body)[0], _U16.unpack_from(body, 2)[0]
            self.channels[channel] = (_string(body, 4)[0], self._schemas.get(schema, ""))


def _string(body: memoryview, at: int) -> tuple[str, int]:
    end = at + 4 + _U32.unpack_from(body, at)[0]
    return bytes(body[at + 4:end]).decode(errors="replace"), end
