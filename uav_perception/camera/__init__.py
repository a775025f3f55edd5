"""Cameras: anything that gives stamped frames, behind one protocol."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from ..records import Frame


@runtime_checkable
class CameraSource(Protocol):
    """A source of frames in capture order.

    ``read`` waits at most ``timeout_s`` and returns the next frame, or None when none came in time (a live
    source that stalls, a finite one that has ended: then ``ended`` is True and stays so). A device that vanishes
    is reopened with back-off inside ``read``; ``status`` says so in one line. Opening errors raise SourceError.
    """

    @property
    def ended(self) -> bool: ...

    @property
    def status(self) -> str: ...

    def read(self, timeout_s: float) -> Frame | None: ...

    def close(self) -> None: ...
