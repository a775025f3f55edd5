"""What a recording's evaluation writes: results and truth in the formats of the field, piece by piece.

``detections.json`` / ``annotations.json`` COCO · ``tracks.txt`` / ``gt.txt`` MOTChallenge · ``target.txt`` /
``target_gt.txt`` OTB (x,y,w,h) · ``poses.tum`` / ``poses_gt.tum`` TUM (camera to world) · ``frames.csv`` all frames.
Numbers are rounded *before* they are written and scored, so that a reference tool on the files gets the same scores.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..geometry import quaternion_from_matrix
from .rows import BLOCK, Blocks

F64 = NDArray[np.float64]
PIXEL_DIGITS, SCORE_DIGITS = 3, 6


def xywh(xyxy_px: ArrayLike) -> F64:
    """(N, 4) x, y, w, h rounded as exported."""
    b = np.asarray(xyxy_px, np.float64).reshape(-1, 4)
    return np.asarray(np.round(np.hstack([b[:, :2], b[:, 2:] - b[:, :2]]), PIXEL_DIGITS), np.float64)


def write_text(path: Path, lines: Iterable[str]) -> None:
    """Write lines under a temporary name, then give the file its own: a reader never sees half a file."""
    hidden = path.with_name(f".{path.name}.part")
    with hidden.open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
    os.replace(hidden, path)


def write_json(path: Path, value: Any) -> None:
    """One JSON value, keys sorted, no NaN: equal values give equal files."""
    write_text(path, [json.dumps(value, sort_keys=True, allow_nan=False, indent=1)])


def _lists(rows: Blocks) -> Iterator[list[float]]:
    """Rows as lists of Python's numbers, few at a time: a number is four times as large there."""
    for piece in [rows] if isinstance(rows, np.ndarray) else rows:
        for start in range(0, len(piece), BLOCK):
            yield from piece[start:start + BLOCK].tolist()


def write_coco(folder: Path, images: Blocks, size: tuple[int, int], truth: Blocks | None, found: Blocks,
               names: Sequence[str]) -> None:
    """COCO files.

    Args:
        folder: where ``detections.json`` and, with truth, ``annotations.json`` go.
        images: (N, 2) image id, stamp in ns / 1e9 (informative).
        size: width, height in px.
        truth: (M, 8) image id, index into ``names``, x, y, w, h, ignore 0/1, object number; None = no truth.
        found: (K, 7) image id, index into ``names``, x, y, w, h, score.
        names: categories; category id = index + 1.
    """
    write_text(folder / "detections.json", _json_list(
        f'{{"image_id": {i:.0f}, "category_id": {c + 1:.0f}, "bbox": [{x}, {y}, {w}, {h}], "score": {s}}}'
        for i, c, x, y, w, h, s in _lists(found)))
    if truth is None:
        return

    def annotations() -> Iterator[str]:
        yield '{"categories": ' + json.dumps([{"id": i + 1, "name": n} for i, n in enumerate(names)]) + ","
        yield '"images":'
        yield from _json_list(f'{{"id": {i:.0f}, "file_name": "{stamp:.9f}", "width": {size[0]}, "height": {size[1]}}}'
                              for i, stamp in _lists(images))
        yield ', "annotations":'
        yield from _json_list(
            f'{{"id": {k}, "image_id": {i:.0f}, "category_id": {c + 1:.0f}, "bbox": [{x}, {y}, {w}, {h}], '
            f'"area": {round(w * h, 6)}, "iscrowd": {ignore:.0f}, "track_id": {who:.0f}}}'
            for k, (i, c, x, y, w, h, ignore, who) in enumerate(_lists(truth), 1))
        yield "}"

    write_text(folder / "annotations.json", annotations())


def _json_list(items: Iterable[str]) -> Iterator[str]:
    yield "["
    previous: str | None = None
    for item in items:
        if previous is not None:
            yield previous + ","
        previous = item
    if previous is not None:
        yield previous
    yield "]"


def write_mot(path: Path, rows: Blocks, truth: bool) -> None:
    """MOTChallenge text of (N, 7) frame, id, x, y, w, h, confidence; truth lines carry class 1 and visibility 1."""
    tail = ",1,1" if truth else ",-1,-1,-1"
    write_text(path, (f"{frame:.0f},{who:.0f},{x},{y},{w},{h},{sure:g}{tail}"
                      for frame, who, x, y, w, h, sure in _lists(rows)))


def write_otb(path: Path, boxes: Blocks) -> None:
    """x,y,w,h a line; NaN where there is none."""
    write_text(path, ("NaN,NaN,NaN,NaN" if x != x else f"{x},{y},{w},{h}" for x, y, w, h in _lists(boxes)))


def write_tum(path: Path, stamps_ns: NDArray[np.int64], poses: F64) -> None:
    """TUM trajectory (seconds tx ty tz qx qy qz qw) of (N, 4, 4) ``world_from_camera``."""
    def lines() -> Iterator[str]:
        for stamp, pose in zip(stamps_ns.tolist(), poses, strict=True):
            w, x, y, z = quaternion_from_matrix(pose[:3, :3])
            values = [*pose[:3, 3], x, y, z, w]
            yield f"{stamp // 10**9}.{stamp % 10**9:09d} " + " ".join(f"{v:.9f}" for v in values)

    write_text(path, lines())


@lru_cache
def code_commit() -> str:
    """The commit of this source tree (with ``-dirty``), or "" when it was installed from a package."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return ""
    try:
        words = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
        quiet = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}  # somebody may be committing
        return subprocess.run(words, capture_output=True, text=True, timeout=10, check=True, env=quiet).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
