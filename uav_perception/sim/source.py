"""A rendered flight as a camera: ``--source sim:SCENE``."""

from __future__ import annotations

import time

from ..config import CameraConfig
from ..errors import InputError
from ..records import Frame
from .flight import Flight, FlightOptions, SimFrame


class SimSource:
    """Frames of a scene, as fast as they can be drawn, at most at ``fps`` when ``realtime``.

    ``scene`` may carry a seed: ``street``, ``street@7``. ``truth`` holds the last frame's truth. A slow machine draws
    fewer frames a second; stamps still advance by 1/fps, so the world merely runs in slow motion.

    Raises:
        InputError: no such scene, or a seed that is no number.
        MissingDependency: without the extra ``sim``.
    """

    def __init__(self, scene: str, config: CameraConfig | None = None) -> None:
        config = config or CameraConfig()
        name, at, seed = scene.partition("@")
        options = FlightOptions(
            config.width_px or 640,
            config.height_px or 480,
            min(config.fps, 240.0),
            int(seed) if at and seed.isdecimal() else _no_seed(scene) if at else 0,
        )
        self.scene, self._frames = scene, Flight(name, options).frames()
        self._period_s = 1.0 / options.fps if config.realtime else 0.0
        self._due_s = 0.0
        self._closed = False
        self.truth: SimFrame | None = None

    @property
    def ended(self) -> bool:
        """A scene never ends by itself."""
        return self._closed

    @property
    def status(self) -> str:
        return "closed" if self._closed else f"rendering sim:{self.scene}"

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame; rendering takes the time it takes, waiting for the pace at most ``timeout_s``."""
        if self._closed:
            return None
        wait = self._due_s - time.monotonic()
        if wait > timeout_s:
            time.sleep(max(timeout_s, 0))
            return None
        time.sleep(max(wait, 0))
        self._due_s = max(self._due_s, time.monotonic() - self._period_s) + self._period_s
        self.truth = next(self._frames)
        return self.truth.frame

    def close(self) -> None:
        self._closed = True


def _no_seed(scene: str) -> int:
    raise InputError(f"source sim:{scene}", "sim:SCENE or sim:SCENE@SEED", "give the seed as a whole number")
