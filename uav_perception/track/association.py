"""Which detection belongs to which track: gated costs and the assignment of least total cost."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment

from ..records import F64
from . import kalman
from .kalman import BoxNoise

TAIL = 4.0  # degrees of freedom of Student's t


def motion_cost(mean: F64, cov: F64, missed: ArrayLike, xyxy_px: ArrayLike, noise: BoxNoise, steady: float
                ) -> tuple[F64, F64]:
    """How well boxes fit predicted tracks.

    Most things keep their motion (parked cars above all), some do not. So the density of where a track will be found is
    a mixture: with probability ``steady`` it is where predicted up to a detector's noise (which velocity, known from
    looks, adds to the centre once more for every look ``missed``), else anywhere the filter's own spread allows, with
    the heavy tails of Student's t (4 degrees of freedom). The first part holds apart the neighbours of a row that lie
    within each other's spread; the tails forgive a jerk.

    Returns:
        Two (N, M) arrays: the squared Mahalanobis distance by the filter's spread (4 degrees of freedom, for gating),
        and the negative log of the mixture's density in units of the track's size, up to a constant.
    """
    residual = kalman.box_to_centre(xyxy_px)[None] - mean[:, None, : kalman.MEASURED]
    log_size = 2 * kalman.MEASURED * np.log(kalman.sizes(mean))[:, None]
    blur = kalman.detection_variance(mean, noise)
    narrow = 2.0 * blur
    narrow[:, :2] *= (1.0 + np.asarray(missed, dtype=np.float64))[:, None] ** 2
    narrow_distance = np.einsum("nmi,nmi,ni->nm", residual, residual, 1.0 / narrow)
    narrow_log = -0.5 * (narrow_distance + np.log(narrow).sum(axis=1)[:, None] - log_size)
    wide = cov[:, : kalman.MEASURED, : kalman.MEASURED] + blur[:, :, None] * np.eye(kalman.MEASURED)
    distance = np.einsum("nmi,nmi->nm", residual @ np.linalg.inv(wide), residual)
    spread = np.linalg.slogdet(wide)[1][:, None] - log_size
    wide_log = -0.5 * ((TAIL + kalman.MEASURED) * np.log1p(distance / TAIL) + spread)
    return distance, -np.logaddexp(np.log(max(steady, 1e-12)) + narrow_log, np.log(max(1 - steady, 1e-12)) + wide_log)


def assign(cost: F64, limit: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns that minimise the sum of ``cost - limit``: dearer pairs (and infinities) stay unpaired."""
    gain = np.where(np.isfinite(cost), np.minimum(cost - limit, 0.0), 0.0)
    rows, columns = linear_sum_assignment(gain)
    worth = gain[rows, columns] < 0
    return rows[worth], columns[worth]
