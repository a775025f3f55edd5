"""Which detection belongs to which track: gated costs and the assignment of least total cost."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment

from ..records import F64
from . import border, kalman
from .kalman import BoxNoise

Index = NDArray[np.intp]
TAIL = 4.0  # degrees of freedom of Student's t


def motion_cost(mean: F64, cov: F64, missed: ArrayLike, xyxy_px: ArrayLike, noise: BoxNoise, steady: float, gate: float,
                view: F64 = border.EVERYWHERE) -> tuple[Index, Index, F64]:
    """How well boxes fit predicted tracks.

    Most things keep their motion (parked cars above all), some do not. So the density of where a track will be found is
    a mixture: with probability ``steady`` it is where predicted up to a detector's noise (which velocity, known from
    looks, adds to the centre once more for every look ``missed``), else anywhere the filter's own spread allows, with
    the heavy tails of Student's t (4 degrees of freedom). The first part holds apart the neighbours of a row that lie
    within each other's spread; the tails forgive a jerk. Where the ``view`` cuts a track, its visible part is compared.

    Returns:
        The pairs (track, box) whose squared Mahalanobis distance by the filter's spread (4 degrees of freedom) is at
        most ``gate``, and for each the negative log of the mixture's density in units of the track's size, up to a
        constant.
    """
    predicted = kalman.centre_to_box(mean)
    seen = np.asarray(xyxy_px, dtype=np.float64).reshape(-1, 4)
    residual = border.visible(seen, view)[None] - border.visible(predicted, view)[:, None]
    blur, doubt = kalman.detection_variance(mean, noise), border.doubt(predicted, view)
    wide = cov[:, : kalman.MEASURED, : kalman.MEASURED] + blur[:, :, None] * np.eye(kalman.MEASURED) + doubt
    distance = np.einsum("nmi,nmi->nm", residual @ np.linalg.inv(wide), residual)
    rows, columns = np.nonzero(distance <= gate)
    residual, distance = residual[rows, columns], distance[rows, columns]
    blur[:, :2] *= (1.0 + np.asarray(missed, dtype=np.float64))[:, None] ** 2
    narrow = 2.0 * blur[:, :, None] * np.eye(kalman.MEASURED) + doubt
    log_size = 2 * kalman.MEASURED * np.log(kalman.sizes(mean))
    narrow_spread, wide_spread = np.linalg.slogdet(narrow)[1] - log_size, np.linalg.slogdet(wide)[1] - log_size
    narrow_distance = np.einsum("ki,kij,kj->k", residual, np.linalg.inv(narrow)[rows], residual)
    narrow_log = -0.5 * (narrow_distance + narrow_spread[rows])
    wide_log = -0.5 * ((TAIL + kalman.MEASURED) * np.log1p(distance / TAIL) + wide_spread[rows])
    cost = -np.logaddexp(np.log(max(steady, 1e-12)) + narrow_log, np.log(max(1 - steady, 1e-12)) + wide_log)
    return rows, columns, cost


def assign(rows: Index, columns: Index, cost: F64, limit: float, shape: tuple[int, int]) -> tuple[Index, Index]:
    """Of the pairs given, those that minimise the sum of ``cost - limit``: no row or column twice, dear ones left out.

    Args:
        rows, columns, cost: possible pairs (no pair twice) and what each costs.
        limit: dearer pairs stay unpaired.
        shape: number of rows and columns.
    """
    gain = np.zeros(shape)
    gain[rows, columns] = np.minimum(cost - limit, 0.0)
    rows, columns = linear_sum_assignment(gain)
    worth = gain[rows, columns] < 0
    return rows[worth], columns[worth]
