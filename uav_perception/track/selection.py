"""Which track the operator means: by id, by a box drawn around it, by a point on it; or the surest one."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..errors import InputError
from ..geometry import box_iou
from ..records import F64, Track, TrackState


def by_id(tracks: Iterable[Track], track_id: int) -> Track:
    """The track of this id. Raises InputError, which lists those there are, when none is in view."""
    live = _live(tracks)
    track = next((t for t in live if t.id == track_id), None)
    if track is None:
        known = ", ".join(str(t.id) for t in live) or "none"
        raise InputError(f"track id {track_id}", f"a track of the newest frame ({known})", "lock by box or point")
    return track


def by_box(tracks: Iterable[Track], box_xyxy_px: F64, min_iou: float) -> Track | None:
    """The track that a box (4,) covers best; None where it covers none by ``min_iou``."""
    live = _live(tracks)
    if not live:
        return None
    iou = box_iou(box_xyxy_px, np.stack([t.xyxy_px for t in live]))[0]
    return live[int(np.argmax(iou))] if iou.max() >= min_iou else None


def by_point(tracks: Iterable[Track], x_px: float, y_px: float, image_wh_px: tuple[int, int]) -> Track:
    """The smallest track under a point. Raises InputError when the point is outside the image or on no track."""
    w, h = image_wh_px
    if not (0 <= x_px < w and 0 <= y_px < h):
        raise InputError(f"lock point ({x_px}, {y_px})", f"a point inside the {w}x{h} px image", "point again")
    under = [t for t in _live(tracks)
             if t.xyxy_px[0] <= x_px <= t.xyxy_px[2] and t.xyxy_px[1] <= y_px <= t.xyxy_px[3]]
    if not under:
        raise InputError(f"lock point ({x_px:.6g}, {y_px:.6g})", "a track under the point", "lock by box instead")
    return min(under, key=lambda t: float(np.prod(t.xyxy_px[2:] - t.xyxy_px[:2])))


def surest(tracks: Iterable[Track]) -> Track | None:
    """The confirmed track with the highest score, if there is one."""
    return max((t for t in tracks if t.state is TrackState.TRACKED), key=lambda t: t.score, default=None)


def _live(tracks: Iterable[Track]) -> list[Track]:
    return [t for t in tracks if t.state is not TrackState.LOST]
