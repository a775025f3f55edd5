from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from uav_perception.detect.nms import MAX_CANDIDATES, suppress
from uav_perception.detect.tiles import Tile, inside_tile, tiles_of
from uav_perception.geometry import box_iou


def brute_force(xyxy: np.ndarray, score: np.ndarray, group: np.ndarray, iou: float) -> list[int]:
    kept: list[int] = []
    for i in np.argsort(-score, kind="stable"):
        if all(group[i] != group[k] or box_iou(xyxy[i], xyxy[k])[0, 0] <= iou for k in kept):
            kept.append(int(i))
    return kept


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(0, 60), st.sampled_from([0.3, 0.5, 0.7]))
def test_suppression_equals_brute_force(seed: int, n: int, iou: float) -> None:
    rng = np.random.default_rng(seed)
    corner, size = rng.uniform(0, 60, (n, 2)), rng.uniform(5, 40, (n, 2))
    xyxy = np.concatenate([corner, corner + size], 1).astype(np.float32)
    score = rng.permutation(n).astype(np.float32) / max(n, 1) * 0.9 + 0.05
    group = rng.integers(0, 3, n).astype(np.int32)
    assert suppress(xyxy, score, group, iou, 1000).tolist() == brute_force(xyxy, score, group, iou)


def test_limit_and_flood() -> None:
    n = MAX_CANDIDATES + 500
    x = np.arange(n, dtype=np.float32) * 20
    xyxy = np.stack([x, x * 0, x + 10, x * 0 + 10], 1)
    score = np.linspace(0.1, 0.9, n, dtype=np.float32)
    kept = suppress(xyxy, score, np.zeros(n, np.int32), 0.5, 7)
    assert kept.tolist() == list(range(n - 1, n - 8, -1))


@given(st.integers(100, 3000), st.integers(100, 3000), st.integers(64, 900),
       st.floats(0, 0.6, allow_subnormal=False), st.data())
def test_tiles_cover_and_small_boxes_are_seen_whole(w: int, h: int, side: int, overlap: float,
                                                    data: st.DataObject) -> None:
    tiles = tiles_of(w, h, side, overlap)
    assert tiles[-1] == Tile(0, 0, w, h)
    assert all(0 <= t.left < t.right <= w and 0 <= t.top < t.bottom <= h for t in tiles)
    small = max(1.0, side * overlap - 6)
    x, y = (data.draw(st.integers(0, int(max(0.0, n - small)))) for n in (w, h))
    box = np.array([[x, y, min(x + small, w), min(y + small, h)]], np.float32)
    parts = tiles[:-1] or tiles
    holding = [t for t in parts if t.left <= x and t.top <= y and box[0, 2] <= t.right and box[0, 3] <= t.bottom]
    if small > 1:
        assert any(inside_tile(box, t, w, h)[0] for t in holding)


def test_whole_frame_alone_without_tiling() -> None:
    assert tiles_of(640, 480, 0, 0.2) == tiles_of(640, 480, 640, 0.2) == [Tile(0, 0, 640, 480)]


def test_cut_boxes_are_left_to_the_neighbour() -> None:
    tile = Tile(100, 0, 200, 100)
    boxes = np.array([[101, 20, 130, 40], [120, 0, 150, 40], [150, 20, 199, 40], [120, 30, 160, 60]], np.float32)
    assert inside_tile(boxes, tile, 400, 100).tolist() == [False, True, False, True]
