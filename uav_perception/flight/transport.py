"""Bytes to and from the autopilot: UDP or a serial line, never blocking. Knows nothing of MAVLink."""

from __future__ import annotations

import os
import socket
import termios
import tty
from typing import Protocol

from ..errors import LinkError

READ_BYTES = 65536
MAX_PACKETS = 256  # a call: whoever floods us does not hold us


class Transport(Protocol):
    """``read`` returns what has come (maybe nothing); ``write`` says whether the bytes left."""

    def read(self) -> bytes: ...

    def write(self, data: bytes) -> bool: ...

    def close(self) -> None: ...


class Udp:
    """One UDP socket. ``udpout`` talks to a fixed peer; ``udpin`` waits and answers whom it heard last."""

    def __init__(self, host: str, port: int, listen: bool) -> None:
        kind = "udpin" if listen else "udpout"
        try:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        except OSError as e:
            raise LinkError(f"{kind}:{host}:{port}: {e.strerror or e}", "a host that resolves",
                            "correct flight_link.url") from e
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._peer: tuple[object, ...] | None = None if listen else tuple(address)
        self._listen = listen
        if listen:
            try:
                self._socket.bind(address)
            except OSError as e:
                self._socket.close()
                raise LinkError(f"{kind}:{host}:{port}: {e.strerror}", "a free port on this machine",
                                "stop what listens there or choose another port") from e
        else:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)

    def read(self) -> bytes:
        data = b""
        for _ in range(MAX_PACKETS):
            try:
                packet, peer = self._socket.recvfrom(READ_BYTES)
            except BlockingIOError:
                break
            except OSError:  # e.g. "connection refused" of an earlier packet: nobody listens yet
                continue
            if self._listen:
                self._peer = peer
            data += packet
        return data

    def write(self, data: bytes) -> bool:
        if self._peer is None:
            return False
        try:
            self._socket.sendto(data, self._peer)
        except OSError:
            return False
        return True

    def close(self) -> None:
        self._socket.close()


class Serial:
    """A serial line, raw, 8N1. A device that vanishes is opened again when it is back."""

    def __init__(self, device: str, baud: int) -> None:
        speed = getattr(termios, f"B{baud}", None)
        if speed is None:
            raise LinkError(f"baud rate {baud}", "a standard rate such as 57600, 115200, 921600",
                            "correct flight_link.url")
        self._device, self._speed = device, speed
        self._fd: int | None = None
        try:
            self._fd = self._open()
        except (OSError, termios.error) as e:
            raise LinkError(f"serial device {device}: {e.strerror if isinstance(e, OSError) else e}",
                            "a serial port this user may open", "check the cable, the name and group dialout") from e

    def read(self) -> bytes:
        if not self._ready():
            return b""
        assert self._fd is not None
        try:
            return os.read(self._fd, READ_BYTES)
        except BlockingIOError:
            return b""
        except OSError:
            self.close()
            return b""

    def write(self, data: bytes) -> bool:
        if not self._ready():
            return False
        assert self._fd is not None
        try:
            return os.write(self._fd, data) == len(data)
        except BlockingIOError:  # the line is slower than we talk: drop, do not queue
            return False
        except OSError:
            self.close()
            return False

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _ready(self) -> bool:
        if self._fd is None:
            try:
                self._fd = self._open()
            except (OSError, termios.error):
                return False
        return True

    def _open(self) -> int:
        fd = os.open(self._device, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            tty.setraw(fd)
            mode = termios.tcgetattr(fd)
            mode[4] = mode[5] = self._speed
            termios.tcsetattr(fd, termios.TCSANOW, mode)
        except (OSError, termios.error):
            os.close(fd)
            raise
        return fd


def open_transport(url: str, default_baud: int) -> Transport:
    """Open ``udpout:host:port``, ``udpin:host:port`` or ``device[:baud]`` (a leading ``serial:`` is allowed).

    Raises:
        LinkError: the address is malformed, the port is taken, the device is missing.
    """
    kind, _, rest = url.partition(":")
    if kind in ("udpout", "udpin"):
        host, _, port = rest.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise LinkError(f"link address {url!r}", f"{kind}:host:port with a port of 1..65535",
                            "correct flight_link.url")
        return Udp(host.strip("[]"), int(port), listen=kind == "udpin")
    device = rest if kind == "serial" else url
    path, _, baud = device.partition(":")
    if not path.startswith("/") or (baud and not baud.isdecimal()):
        raise LinkError(f"link address {url!r}", "udpout:host:port, udpin:host:port or /dev/tty...[:baud]",
                        "correct flight_link.url")
    return Serial(path, int(baud) if baud else default_baud)
