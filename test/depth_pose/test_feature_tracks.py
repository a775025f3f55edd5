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
