"""Corners through frames that lie far apart, and what is not done again where it did not help."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from uav_perception.depth_pose import features
from uav_perception.depth_pose.features import FeatureTracks

TEXTURE = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 255, (900, 2400), dtype=np.uint8), (0, 0), 2.0)
TEXTURE = cv2.normalize(TEXTURE, None, 0, 255, cv2.NORM_MINMAX)


def view(x: int) -> np.ndarray:
    return np.ascontiguousarray(TEXTURE[100:340, x:x + 320])


@pytest.fixture
def described(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts descriptions of pictures."""
    calls: list[int] = []

    def counted(gray: np.ndarray) -> features.Described:
        calls.append(1)
        return describe(gray)

    describe = features.describe
    monkeypatch.setattr(features, "describe", counted)
    return calls


def test_corners_are_followed_through_jumps_and_every_picture_is_described_once(described: list[int]) -> None:
    tracks = FeatureTracks(200)
    tracks.advance(view(0))
    for k in range(1, 6):  # to and fro, so that nothing goes on as before
        tracks.replenish()
        before = dict(zip(tracks.ids.tolist(), tracks.px, strict=True))
        tracks.advance(view(150 * (k % 2)))
        moved = np.array([before[i] for i in tracks.ids.tolist()]) - tracks.px
        assert len(tracks.ids) > 60 and np.abs(moved - [150 if k % 2 else -150, 0]).max() < 0.5
    assert len(described) == 6


def test_corners_that_go_on_as_before_are_sought_where_they_are_expected(described: list[int]) -> None:
    tracks = FeatureTracks(200)
    for x in np.cumsum(np.arange(0, 60, 4)):  # at last far too far for one halving of the picture
        before = dict(zip(tracks.ids.tolist(), tracks.px, strict=True))
        tracks.advance(view(x))
        steps = [before[i][0] - p[0] for i, p in zip(tracks.ids.tolist(), tracks.px, strict=True)]
        assert not before or (len(steps) > 60 and np.ptp(np.percentile(steps, [5, 95])) < 0.3)
        tracks.replenish()
    assert not described


def test_lost_corners_that_descriptors_do_not_bring_back_are_not_asked_for_every_frame(described: list[int]) -> None:
    noise = np.random.default_rng(2)
    tracks = FeatureTracks(200)
    tracks.advance(view(0))
    for _ in range(30):  # most of the picture is another one every frame, the rest stands still
        tracks.replenish()
        picture = noise.integers(0, 255, (240, 320), dtype=np.uint8)
        picture[:, :110] = view(0)[:, :110]
        tracks.advance(picture)
    assert 0 < len(described) <= 12
    tracks.advance(view(400))
    tracks.replenish()
    tracks.advance(view(550))  # a jump is still found: it leaves far fewer corners
    assert (tracks.ids >= 0).sum() > 60


@pytest.mark.parametrize("anchored", [True, False])
def test_corners_do_not_creep(anchored: bool) -> None:
    """The camera nears a noisy plane and rolls; without the anchor's picture the corners wander off."""
    noise, tracks = np.random.default_rng(3), FeatureTracks(200)
    for k in range(40):
        scene_from_picture = np.vstack([cv2.getRotationMatrix2D((160, 120), 0.4 * k, 1 - 0.005 * k), [0, 0, 1]])
        scene_from_picture[:2, 2] += [400, 100]
        seen = cv2.warpAffine(TEXTURE, scene_from_picture[:2], (320, 240), flags=cv2.WARP_INVERSE_MAP)
        tracks.advance(np.clip(seen + noise.normal(0, 6, seen.shape), 0, 255).astype(np.uint8))
        if k == 0:
            tracks.replenish()
            first = cv2.perspectiveTransform(tracks.px[:, None], scene_from_picture)[:, 0]
        elif not anchored:
            tracks._anchor = None
    true = cv2.perspectiveTransform(first[tracks.ids][:, None], np.linalg.inv(scene_from_picture))[:, 0]
    off = np.linalg.norm(tracks.px - true, axis=1)
    assert len(off) > 60 and (np.median(off) < 0.15 if anchored else np.median(off) > 0.3), np.median(off)
