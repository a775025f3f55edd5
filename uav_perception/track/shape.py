"""The target's size: correlation filters over scale and aspect, colour contrast of its outline, and learnt edges."""

from __future__ import annotations

import numpy as np

from ..config import LsartConfig
from ..records import F64
from .figure import FigureGround
from .pyramid import Pyramid
from .refine import BoxRefinement, blended
from .scale import AxisFilter

USUAL_PEAK = 0.46  # of the scale filter; its boxes' edges are off by a factor e less where it is 0.1 higher


class Shape:
    """What the box of one target looks like. ``refinement``, if any, was started with it."""

    def __init__(self, config: LsartConfig, refinement: BoxRefinement | None) -> None:
        self._config, self._refinement = config, refinement
        self._axes = ([AxisFilter((1, 1), 13, 1.025, 1e-2, 0.04)] if config.scale else []) + (
            [AxisFilter((1, -1), 9, 1.025, 1e-2, 0.04)] if config.aspect else [])
        self._figure = FigureGround(0.02, 0.15) if config.figure else None
        self.sees: float | None = None  # the probability with which the refinement last saw the target, if it knew

    @property
    def gone(self) -> bool:
        """The refinement does not see the target."""
        return self.sees is not None and self.sees < self._config.refine_present

    def learn(self, picture: Pyramid, centre: F64, size: F64) -> None:
        """The box of ``size`` (w, h) px at ``centre`` is the target's."""
        for axis in self._axes:
            axis.learn(picture, centre, size)
        if self._figure:
            self._figure.learn(picture, centre, size)

    def fitted(self, picture: Pyramid, centre: F64, size: F64) -> tuple[F64, F64]:
        """Centre and size of the target that is about in this box."""
        limit = np.array(picture.image.shape[1::-1], dtype=np.float64)
        for axis in self._axes:
            size = size * axis.estimate(picture, centre, size)
        if self._figure:
            shift, stretch = self._figure.refine(picture, centre, size)
            trust = float(np.clip((self._figure.contrast - self._config.figure_contrast) / 0.15, 0, 1))
            if self._axes:  # where the filters know the target's inside well, its outline has nothing to add
                trust *= float(np.clip((self._config.figure_rigidity - self._axes[0].peak) / 0.12, 0, 1))
            centre = np.clip(centre + self._config.figure_step * trust * shift * size, 0, limit)
            size = size * np.exp(self._config.figure_step * trust * stretch)
        return centre, np.clip(size, 3.0, 2 * limit)

    def refined(self, picture: Pyramid, centre: F64, size: F64) -> F64 | None:
        """The box to report, (4,) xyxy px: edges where the network sees them, the surer the nearer. None: it does not
        know; then ``gone`` says whether it misses the target.

        The tracker itself goes on from its own box, for an error that is fed back grows. The scale filter's response
        says how sure that box's edges are.
        """
        if self._refinement is None:
            return None
        measured = self._refinement.measure(picture, centre, size)
        self.sees = None if measured is None else measured.present
        if measured is None or self.gone:
            return None
        sureness = self._axes[0].peak if self._axes else USUAL_PEAK
        doubt = self._config.refine_doubt * float(np.exp(np.clip(10 * (USUAL_PEAK - sureness), -2, 1.5)))
        return blended(np.concatenate([centre - size / 2, centre + size / 2]), measured, doubt)
