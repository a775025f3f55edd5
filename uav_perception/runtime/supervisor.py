"""Keeps the processes of the graph alive: starts them, restarts what dies, ends them all within the time given."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .. import errors
from ..errors import InputError, UavPerceptionError
from .process import PARENT_VARIABLE, SHARED_MEMORY

BAD_INPUT = 2  # exit code of a process that was given bad input: starting it again would not help
BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0)
STABLE_S = 10.0  # a process that ran this long starts its back-off anew
# how a node's logger and the command line write an error of this package
LOGGED = re.compile(r"(?:\[ERROR\] \[[\d.]+\] \[(?P<node>\S+?)\]|uav-perception): (?P<kind>\w+): (?P<value>.*?); "
                    r"expected (?P<expected>.*?); (?P<remedy>.*)")


@dataclass
class _Child:
    name: str
    command: Sequence[str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    started_s: float = 0.0
    due_s: float = 0.0
    deaths: int = 0  # in a row
    restarts: int = 0
    exit_codes: list[int] = field(default_factory=list)


class Supervisor:
    """Not thread-safe: every call from the thread that made it (the kernel ties a child's life to that thread)."""

    def __init__(self, log_folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self._folder = log_folder
        self._folder.mkdir(parents=True, exist_ok=True)
        self._environment = {**(environment or os.environ), PARENT_VARIABLE: str(os.getpid())}
        self._children: dict[str, _Child] = {}

    def start(self, name: str, command: Sequence[str]) -> None:
        """Start a process; its output goes to ``<log folder>/<name>.log``."""
        child = _Child(name, command, self._folder / f"{name}.log")
        child.log.write_bytes(b"")
        self._children[name] = child
        self._spawn(child)

    def _spawn(self, child: _Child) -> None:
        with open(child.log, "ab") as log:
            child.process = subprocess.Popen(child.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                             env=self._environment, start_new_session=True)
        child.started_s = time.monotonic()

    def poll(self) -> list[str]:
        """Look after the children; returns one line for each thing that happened.

        Raises:
            InputError: a process says that its input is bad: the error it has logged.
        """
        events = []
        for child in self._children.values():
            now = time.monotonic()
            if child.process is None:
                if now >= child.due_s:
                    self._spawn(child)
                    child.restarts += 1
                    events.append(f"{child.name}: started again (restart {child.restarts})")
                continue
            code = child.process.poll()
            if code is None:
                continue
            if code == BAD_INPUT and child.restarts == 0:
                raise self._error(child.name)
            child.process = None
            child.exit_codes.append(code)
            child.deaths = 1 if now - child.started_s > STABLE_S else child.deaths + 1
            child.due_s = now + BACKOFF_S[min(child.deaths, len(BACKOFF_S)) - 1]
            freed = clean_shared_memory()
            what = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            events.append(f"{child.name}: died ({what}): {self.last_line(child.name)}"
                          + (f"; freed {freed} leaked shared-memory segments" if freed else ""))
        return events

    def _error(self, name: str) -> UavPerceptionError:
        """The first error a process has logged, as it was raised there."""
        log = self._children[name].log
        with contextlib.suppress(OSError):
            for line in log.read_text(errors="replace").splitlines():
                if m := LOGGED.match(line):
                    kind = getattr(errors, m["kind"], InputError)
                    error: UavPerceptionError = kind(f"{m['node'] or name}: {m['value']}", m["expected"], m["remedy"])
                    return error
        return InputError(f"{name}: {self.last_line(name)}", "input that can be used", f"see {log}")

    def last_line(self, name: str) -> str:
        """The last line a process wrote, or where to look."""
        with contextlib.suppress(OSError):
            lines = self._children[name].log.read_text(errors="replace").strip().splitlines()
            if lines:
                return lines[-1]
        return f"no output in {self._children[name].log}"

    @property
    def restarts(self) -> dict[str, int]:
        return {c.name: c.restarts for c in self._children.values()}

    @property
    def pids(self) -> dict[str, int]:
        return {c.name: c.process.pid for c in self._children.values() if c.process is not None}

    def stop(self, grace_s: float, last: Collection[str] = (), last_s: float = 0.0) -> dict[str, int]:
        """SIGINT to all, SIGKILL after ``grace_s``; then the same to those in ``last``, with ``last_s`` plus the rest.

        Returns the exit codes.
        """
        deadline_s = time.monotonic() + grace_s + last_s
        running = [c for c in self._children.values() if c.process is not None]
        self._end([c for c in running if c.name not in last], grace_s)
        self._end([c for c in running if c.name in last], deadline_s - time.monotonic())
        codes = {c.name: c.process.returncode for c in running if c.process is not None}
        if any(code == -signal.SIGKILL for code in codes.values()):
            clean_shared_memory()
        self._children.clear()
        return codes

    def _end(self, children: Sequence[_Child], grace_s: float) -> None:
        for child in children:
            _signal(child, signal.SIGINT)
        deadline = time.monotonic() + grace_s
        for child in children:
            assert child.process is not None
            try:
                child.process.wait(max(deadline - time.monotonic(), 0.01))
            except subprocess.TimeoutExpired:
                _signal(child, signal.SIGKILL)
                child.process.wait()


def _signal(child: _Child, number: int) -> None:
    assert child.process is not None
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.process.pid, number)  # a session of its own: its helpers get it too


def clean_shared_memory() -> int:
    """Remove Fast DDS segments whose owner is dead (a killed process leaks tens of MB); returns how many.

    Every living owner holds a lock on ``<segment>_el``: what can be locked belongs to nobody.
    """
    freed = 0
    locks = [p for name in ("fastdds", "fastrtps") for p in SHARED_MEMORY.glob(f"{name}_*_el")]  # Fast DDS 3, 2
    for lock in locks:
        if "port" in lock.name:
            continue
        try:
            with open(lock, "rb") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                lock.with_name(lock.name.removesuffix("_el")).unlink(missing_ok=True)
                lock.unlink(missing_ok=True)
                freed += 1
        except OSError:  # locked: in use; or another user's
            continue
    return freed
