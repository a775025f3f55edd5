"""Detections that somebody else made, read from MOTChallenge ``det.txt`` or a COCO results list."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..records import Detections

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class GivenDetections:
    """Rows of frame (from 1), x1, y1, x2, y2 in px, score 0..1, class."""

    rows: F64
    note: str = ""

    def at(self, frame: int, stamp_ns: int) -> Detections:
        """What was seen in one frame; an empty record where nothing was."""
        r = self.rows[self.rows[:, 0] == frame]
        return Detections(stamp_ns, r[:, 1:5].astype(np.float32), r[:, 5].astype(np.float32), r[:, 6].astype(np.int32))


def read_detections(path: Path, images: Sequence[Path]) -> GivenDetections:
    """Read a file of detections of these images.

    MOT text has the frame's number (from 1) first. In a COCO list ``image_id`` is the number in the picture's file name
    or, where no name has that number, its place in the folder (from 1).

    Raises:
        InputError: unreadable, not of either kind, NaN, negative sides, or frames that are not there.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as e:
        raise InputError(f"detections {path}: {e.strerror if isinstance(e, OSError) else 'not text'}",
                         "a MOT det.txt or a COCO results list", "check --detections") from e
    rows = _from_coco(path, text, images) if text.lstrip()[:1] in ("[", "{") else _from_mot(path, text)
    if not np.isfinite(rows).all() or (rows[:, 3:5] < 0).any():
        raise InputError(f"detections {path} with NaN or negative sides", "x, y, width >= 0, height >= 0, score",
                         "check what made the file")
    if len(rows) and (rows[:, 0].min() < 1 or rows[:, 0].max() > len(images)):
        raise InputError(f"detections {path} of frames {rows[:, 0].min():.0f}..{rows[:, 0].max():.0f}",
                         f"frames 1..{len(images)} of the image folder", "give the detections of these images")
    score, note = rows[:, 5], ""
    if (score == -1).all():  # MOTChallenge: no confidence given
        score = np.ones(len(rows))
    elif len(rows) and (score.min() < 0 or score.max() > 1):
        note = f"confidences {score.min():g}..{score.max():g} scaled to 0..1"
        score = (score - score.min()) / (score.max() - score.min())
    corners = np.hstack([rows[:, 1:3], rows[:, 1:3] + rows[:, 3:5]])
    return GivenDetections(np.column_stack([rows[:, 0], corners, score, rows[:, 6]]), note)


def _from_mot(path: Path, text: str) -> F64:
    """(N, 7) frame, x, y, w, h, score, class."""
    rows = []
    for n, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            v = [float(field) for field in line.replace(",", " ").split()]
            rows.append([v[0], *v[2:6], v[6] if len(v) > 6 else 1.0, 0.0])
            if len(v) < 6:
                raise ValueError
        except (ValueError, IndexError) as e:
            raise InputError(f"line {n} of {path}: {line[:60]!r}", "frame,id,x,y,w,h,confidence,...",
                             "give a MOT det.txt or a COCO results list") from e
    return np.array(rows, dtype=np.float64).reshape(-1, 7)


def _from_coco(path: Path, text: str, images: Sequence[Path]) -> F64:
    """(N, 7) frame, x, y, w, h, score, category."""
    try:
        items: Any = json.loads(text)
        items = items["annotations"] if isinstance(items, dict) else items
        frame_of = _frames_by_number(images)
        rows = [[frame_of[str(d["image_id"])], *d["bbox"], d.get("score", 1.0), d["category_id"]] for d in items]
        return np.array(rows, dtype=np.float64).reshape(-1, 7)
    except (ValueError, TypeError) as e:
        raise InputError(f"detections {path}: {str(e).splitlines()[0]}", "a COCO results list", "check the file") from e
    except KeyError as e:
        raise InputError(f"detections {path}: {e} is no key or no image of the folder",
                         "image_id, category_id, bbox, score of these images", "check the file") from e


def _frames_by_number(images: Sequence[Path]) -> dict[str, int]:
    """COCO image id (as text) to frame."""
    stems = {p.stem: k for k, p in enumerate(images, 1)}
    numbers = {str(int(s)): k for s, k in stems.items() if s.isdecimal()}
    return {**{str(k): k for k in stems.values()}, **numbers, **stems} if not numbers else {**numbers, **stems}
