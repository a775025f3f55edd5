"""Rows of numbers that grow on disk, and walks over them frame by frame: an hour's bag fills no memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

F64 = NDArray[np.float64]
Blocks = NDArray[Any] | Iterable[NDArray[Any]]  # rows whole or in pieces, first column ascending; read more than once
BLOCK = 4096  # rows in memory at a time
_number = itertools.count()


class Table:
    """Rows in a file of their own in ``folder``, at most ``BLOCK`` of them in memory; iterating gives them in pieces.

    Args:
        folder: a scratch folder of one run; whoever made it removes it.
        columns: numbers a row (float64), or a dtype that holds a whole row.
    """

    def __init__(self, folder: Path, columns: int | DTypeLike) -> None:
        self._dtype = np.dtype((np.float64, (columns,)) if isinstance(columns, int) else columns)
        self._path = folder / f"{next(_number)}.rows"
        self._path.touch(exist_ok=False)
        self._waiting: list[bytes] = []
        self._in_memory = self._rows = 0

    def __len__(self) -> int:
        return self._rows

    def add(self, *row: float) -> None:
        """One row of numbers."""
        self.append(np.array([row], np.float64))

    def extend(self, *columns: ArrayLike) -> None:
        """Many rows; a column is an array, or one number for all of them."""
        arrays = [np.asarray(c) for c in columns]
        rows = np.empty((next((len(a) for a in arrays if a.ndim), 1), len(arrays)))
        for k, values in enumerate(arrays):
            rows[:, k] = values
        self.append(rows)

    def append(self, rows: NDArray[Any]) -> None:
        """Many rows, as they are kept."""
        if rows.shape[1:] != self._dtype.shape:
            raise ValueError(f"rows of shape {rows.shape[1:]} for {self._dtype.shape}")
        self._waiting.append(rows.tobytes())
        self._rows += len(rows)
        self._in_memory += len(rows)
        if self._in_memory >= BLOCK:
            self.flush()

    def flush(self) -> None:
        """Write what waits in memory."""
        with self._path.open("ab") as file:
            file.write(b"".join(self._waiting))
        self._waiting.clear()
        self._in_memory = 0

    def __iter__(self) -> Iterator[NDArray[Any]]:
        self.flush()
        with self._path.open("rb") as file:
            while piece := file.read(BLOCK * self._dtype.itemsize):
                yield np.frombuffer(piece, self._dtype)

    def rows(self) -> NDArray[Any]:
        """All of them at once, for what has few."""
        return np.concatenate([np.zeros(0, self._dtype), *self])

    def close(self) -> None:
        """Give up the rows and their room on disk."""
        self._path.unlink(missing_ok=True)
        self._waiting.clear()


@dataclass(frozen=True)
class Changed:
    """A table's rows, changed piece by piece while they are read."""

    table: Table
    change: Callable[[F64], F64]

    def __iter__(self) -> Iterator[F64]:
        return map(self.change, self.table)


def pieces(rows: Blocks) -> Iterable[NDArray[Any]]:
    """Rows in pieces, ascending in the first column; a whole array need not be in order."""
    return [rows[np.argsort(rows[:, 0], kind="stable")]] if isinstance(rows, np.ndarray) else rows


def by_frame(rows: Blocks) -> Iterator[tuple[float, NDArray[Any]]]:
    """(number, rows) of every frame that has rows; the number is the first column."""
    held: list[NDArray[Any]] = []  # of the newest frame, which may go on in the next piece
    for piece in pieces(rows):
        starts = np.flatnonzero(np.diff(piece[:, 0])) + 1
        for part in np.split(piece, starts):
            if held and len(part) and part[0, 0] != held[0][0, 0]:
                yield float(held[0][0, 0]), np.concatenate(held)
                held = []
            held += [part] if len(part) else []
    if held:
        yield float(held[0][0, 0]), np.concatenate(held)


def frames_of_both(a: Blocks, b: Blocks) -> Iterator[tuple[float, NDArray[Any], NDArray[Any]]]:
    """(number, rows of a, rows of b) of every frame that has rows in either."""
    walks = by_frame(a), by_frame(b)
    ones = [next(w, None) for w in walks]
    nothing = [np.zeros((0, 8)) if one is None else one[1][:0] for one in ones]
    while any(one is not None for one in ones):
        number, found = min(one[0] for one in ones if one is not None), list(nothing)
        for i, one in enumerate(ones):
            if one is not None and one[0] == number:
                found[i], ones[i] = one[1], next(walks[i], None)
        yield number, found[0], found[1]
