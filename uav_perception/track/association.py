"""Which detection belongs to which track: gated costs and the assignment of least total cost."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment

from ..records import F64
from . import kalman
from .kalman import BoxNoise


def motion_cost(mean: F64, cov: F64, xyxy_px: ArrayLike, noise: BoxNoise) -> tuple[F64, F64]:
    """How well boxes fit predicted tracks.

    Returns:
        Two (N, M) arrays: the squared Mahalanobis distance of each innovation (4 degrees of freedom, for gating), and
        the negative log-likelihood in units of the track's size, so that a sharp prediction beats a vague one.
    """
    measured = kalman.box_to_centre(xyxy_px)
    S = kalman.innovation_covariance(mean, cov, noise)
    residual = measured[None] - mean[:, None, : kalman.MEASURED]
    distance = np.einsum("nmi,nij,nmj->nm", residual, np.linalg.inv(S), residual)
    spread = np.linalg.slogdet(S)[1] - 2 * kalman.MEASURED * np.log(kalman.sizes(mean))
    return distance, 0.5 * (distance + spread[:, None])


def assign(cost: F64, limit: float) -> list[tuple[int, int]]:
    """Pairs (row, column) that minimise the sum of ``cost - limit``: dearer pairs (and infinities) stay unpaired."""
    gain = np.where(np.isfinite(cost), np.minimum(cost - limit, 0.0), 0.0)
    rows, columns = linear_sum_assignment(gain)
    return [(int(r), int(c)) for r, c in zip(rows, columns, strict=True) if gain[r, c] < 0]
