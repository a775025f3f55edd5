"""Overlapping tiles for tiny objects in big frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..records import F32

BORDER_PX = 2.0  # a box that comes this close to a tile's inner border may be cut off by it


@dataclass(frozen=True)
class Tile:
    """A rectangle of the frame in source pixels; right and bottom exclusive."""

    left: int
    top: int
    right: int
    bottom: int


def tiles_of(width_px: int, height_px: int, side_px: int, overlap: float) -> list[Tile]:
    """Square tiles covering the frame, neighbours sharing at least ``overlap`` of their side, then the whole frame.

    The whole frame comes last and finds what is too large for a tile. ``side_px`` 0, or a frame no larger than a tile:
    the whole frame alone.
    """
    whole = Tile(0, 0, width_px, height_px)
    if side_px == 0 or (width_px <= side_px and height_px <= side_px):
        return [whole]
    columns, rows = (_starts(n, side_px, overlap) for n in (width_px, height_px))
    tiles = [Tile(x, y, min(x + side_px, width_px), min(y + side_px, height_px)) for y in rows for x in columns]
    return [*tiles, whole]


def _starts(length_px: int, side_px: int, overlap: float) -> list[int]:
    if length_px <= side_px:
        return [0]
    step = max(1.0, side_px * (1.0 - overlap))
    count = int(np.ceil((length_px - side_px) / step)) + 1
    return [round(v) for v in np.linspace(0, length_px - side_px, count)]


def inside_tile(xyxy_px: F32, tile: Tile, width_px: int, height_px: int) -> NDArray[np.bool_]:
    """Which boxes (source pixels) the tile saw whole: none of their sides lies on a border that is not the frame's."""
    low = np.array([tile.left + BORDER_PX if tile.left > 0 else -1, tile.top + BORDER_PX if tile.top > 0 else -1])
    high = np.array([tile.right - BORDER_PX if tile.right < width_px else width_px + 1,
                     tile.bottom - BORDER_PX if tile.bottom < height_px else height_px + 1])
    return np.asarray((xyxy_px[:, :2] > low).all(1) & (xyxy_px[:, 2:] < high).all(1))
