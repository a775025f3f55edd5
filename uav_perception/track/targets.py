"""What is known of many targets: a row each, kept in columns, so that NumPy works on all of them at once."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..records import F32, F64, Bool, TrackState
from . import border, kalman

I64 = NDArray[np.int64]
AWAY_NS = 500_000_000


@dataclass
class Targets:
    """Columns of equal length; the rows' order is that of birth."""

    id: I64
    mean: F64  # (N, 6) states at the stamp of the last look
    cov: F64  # (N, 6, 6)
    score: F64
    born_ns: I64
    back_ns: I64  # since when it was never out of sight for ``AWAY_NS``
    last_seen_ns: I64
    look: F32  # (N, D) descriptions of how they look; zeros = not yet described
    votes: F64  # (N, C) sums of scores for each class met; ``classes`` names them
    hits: I64
    missed: I64  # looks in a row that did not find it
    found: I64  # looks in a row that did
    strangeness: F64  # how far the last detection looked from how it looks (appearance.distance)
    confirmed: Bool
    lost: Bool  # unseen for too long: shown once more, then gone
    classes: list[int]

    @staticmethod
    def born(ids: ArrayLike, xyxy_px: ArrayLike, score: ArrayLike, stamp_ns: int, noise: kalman.BoxNoise,
             view: F64 = border.EVERYWHERE) -> Targets:
        """Targets seen for the first time, neither described nor classified."""
        mean, cov = kalman.initiate(xyxy_px, noise, view)
        n = len(mean)
        ones, stamps = np.ones(n, np.int64), np.full(n, stamp_ns, np.int64)
        return Targets(np.asarray(ids, np.int64), mean, cov, np.array(score, np.float64), stamps, stamps.copy(),
                       stamps.copy(), np.zeros((n, 0), np.float32), np.zeros((n, 0)), ones, 0 * ones, ones.copy(),
                       np.full(n, 0.5), np.zeros(n, bool), np.zeros(n, bool), [])

    def __len__(self) -> int:
        return len(self.id)

    def keep(self, rows: Bool) -> None:
        """Forget the others."""
        if not rows.all():
            for name in _COLUMNS:
                setattr(self, name, getattr(self, name)[rows])

    def add(self, others: Targets) -> None:
        """Append rows; what they lack (looks, classes) is unknown."""
        n = len(others)
        others.look = np.zeros((n, self.look.shape[1]), np.float32)
        others.votes = np.zeros((n, len(self.classes)))
        for name in _COLUMNS:
            setattr(self, name, np.concatenate([getattr(self, name), getattr(others, name)]))

    def vote(self, rows: ArrayLike, class_id: ArrayLike, score: F64 | float) -> None:
        """Count detections of these classes, each for the target of its row (no row twice)."""
        voted = np.asarray(class_id).tolist()
        new = [c for c in dict.fromkeys(voted) if c not in self.classes]
        if new:
            self.classes += new
            self.votes = np.concatenate([self.votes, np.zeros((len(self), len(new)))], axis=1)
        self.votes[np.asarray(rows), [self.classes.index(c) for c in voted]] += score

    def seen_again(self, rows: I64, since_ns: I64 | int) -> None:
        """Targets were found, by detections at ``since_ns``; who was away may be another by now."""
        away = since_ns - self.last_seen_ns[rows] > AWAY_NS
        self.back_ns[rows] = np.where(away, since_ns, self.back_ns[rows])

    def see(self, rows: I64, looks: F32) -> None:
        """Take in how targets look now: (n, D), zeros = not described."""
        if self.look.shape[1] != looks.shape[1]:
            self.look = np.zeros((len(self), looks.shape[1]), np.float32)
        described = np.any(looks != 0, axis=1)
        rows, looks = rows[described], looks[described]
        before = self.look[rows]
        known = np.any(before != 0, axis=1)
        likeness = np.einsum("nd,nd->n", before, looks)
        self.strangeness[rows] = np.where(known, 1.0 - likeness, self.strangeness[rows])
        mixed = np.where(known[:, None], np.float32(0.9) * before + np.float32(0.1) * looks, looks)
        self.look[rows] = mixed / np.linalg.norm(mixed, axis=1, keepdims=True)

    def class_id(self) -> I64:
        """(N,) the class with most votes, -1 without any."""
        first = self.votes.argmax(axis=1) if self.classes else np.full(len(self), -1)
        return np.asarray(np.array([*self.classes, -1], np.int64)[first])

    def states(self) -> list[TrackState]:
        """What a reader is told of each."""
        seen = np.where(self.missed > 0, 2, 1)
        return [_STATES[k] for k in np.where(self.lost, 3, np.where(self.confirmed, seen, 0)).tolist()]


_COLUMNS = tuple(f.name for f in fields(Targets) if f.name != "classes")
_STATES = (TrackState.TENTATIVE, TrackState.TRACKED, TrackState.OCCLUDED, TrackState.LOST)
