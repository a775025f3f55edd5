"""Box refinement by a small learnt network: where are the edges of what the first frame's box showed?

The network (``engines/uav_refine``, trained by ``uav-perception train refine``) compares a crop around the believed box
with what it remembers of the first frame's crop. It knows no classes. Each edge comes with its spread, and the whole
with the probability that the target is there at all; a measured edge counts the more the surer it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..engine import Engine
from ..engine.own import own_engine
from ..errors import ModelError
from .pyramid import Pyramid

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

MEAN = np.float32(114.0)
TRIALS = ((0.0, 1.0), (0.0, 1.12), (0.0, 0.89), (0.06, 1.0), (-0.06, 1.0))  # shift in box sides, stretch
BIAS_MAX = 0.15  # box sides
OUTPUTS = ("edges", "spread", "present", "key", "value")


@dataclass(frozen=True)
class Measured:
    """``edges`` (4,) left, top, right, bottom px in the image, ``sigma`` (4,) their standard deviations in box sides,
    ``present`` the probability that the target is there."""

    edges: F64
    sigma: F64
    present: float

    @property
    def centre(self) -> F64:
        return np.asarray((self.edges[:2] + self.edges[2:]) / 2)


class BoxRefinement:
    """``model``: an ONNX file or a folder with a manifest; empty = the package's own.

    Raises:
        ModelError: there is none, or it has other inputs and outputs.
    """

    def __init__(self, model: str = "") -> None:
        from ..engine.select import open_engine  # heavy; only who uses a network pays

        path = Path(model).expanduser() if model else own_engine("uav_refine")
        if path is None:
            raise ModelError("no uav_refine in engines/", "the package's own box refinement",
                             "install the package again, or set lsart.refine to false")
        self._engine: Engine = open_engine(path, threads=1)
        shapes = {s.name: s.shape for s in self._engine.inputs}
        names = {s.name for s in self._engine.outputs}
        if set(shapes) != {"image", "keys", "values"} or not names.issuperset(OUTPUTS):
            raise ModelError(f"box refinement {path} with inputs {', '.join(shapes)}", "image, keys, values",
                             "give a network of `train refine`, or set lsart.refine to false")
        self._side = int(shapes["image"][-1] or 0)
        self._keys = np.zeros([int(n or 1) for n in shapes["keys"]], np.float32)
        self._values = np.zeros([int(n or 1) for n in shapes["values"]], np.float32)
        self._bias = np.zeros(4)

    def start(self, picture: Pyramid, centre: F64, size: F64) -> None:
        """Remember the first frame's box of ``size`` (w, h) px at ``centre``, and by how much what the network holds to
        be its edges differs from it: a box may be drawn looser or tighter, or leave out what moves along."""
        out = self._infer(picture, centre, size)
        self._keys, self._values, self._bias = out["key"].copy(), out["value"].copy(), np.zeros(4)
        box, off = np.concatenate([centre - size / 2, centre + size / 2]), []
        for shift, stretch in TRIALS:
            seen = self.measure(picture, centre + shift * size, size * stretch)
            if seen is not None:
                off.append((seen.edges - box) / np.tile(size, 2))
        if off:
            self._bias = np.clip(np.mean(off, axis=0), -BIAS_MAX, BIAS_MAX)

    def measure(self, picture: Pyramid, centre: F64, size: F64) -> Measured | None:
        """The target's edges near the believed box; None where the network does not know."""
        out = self._infer(picture, centre, size)
        edges, sigma, present = out["edges"][0].astype(np.float64), out["spread"][0].astype(np.float64), out["present"]
        if not (np.isfinite(edges).all() and np.isfinite(sigma).all()) or (edges[2:] - edges[:2] < 0.2).any():
            return None
        sides = np.tile(edges[2:] - edges[:2], 2)
        edges = edges - self._bias * sides
        return Measured(np.tile(centre, 2) + edges * np.tile(size, 2), sigma, float(present.ravel()[0]))

    def _infer(self, picture: Pyramid, centre: F64, size: F64) -> dict[str, F32]:
        patch = picture.crop(centre, 2 * size, (self._side, self._side)).image
        x = patch.transpose(2, 0, 1)[None].astype(np.float32) - MEAN
        return self._engine.infer({"image": x, "keys": self._keys, "values": self._values})


def blended(box: F64, measured: Measured, doubt: float) -> F64:
    """``box`` (4,) xyxy moved towards the measured edges: by ``doubt``^2 / (``doubt``^2 + sigma^2), as a Kalman filter
    would whose own edges are off by ``doubt`` box sides."""
    gain = doubt**2 / (doubt**2 + np.square(measured.sigma))
    return np.asarray(box + gain * (measured.edges - box))
