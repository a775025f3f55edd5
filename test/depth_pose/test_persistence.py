"""What was said of earlier frames goes along with what moves, and only with that."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from depth_scenes import PASSED, passing

from uav_perception.depth_pose.persistence import Persistence
from uav_perception.records import F32, Bool

FRAME_NS = 50_000_000


def _unsure(moves: Bool, rng: np.random.Generator) -> F32:
    return np.where(moves, 1.0, -1.0).astype(np.float32) + cv2.GaussianBlur(
        rng.normal(0, 4, moves.shape).astype(np.float32), (0, 0), 1.5) * np.float32(2)


def _right(evidence: F32, moves: Bool) -> float:
    return float(((evidence > 0) == moves).mean())


def test_what_is_unsure_in_each_frame_is_surer_over_time() -> None:
    rng, persistence, alone, together = np.random.default_rng(3), Persistence(), [], []
    for k in range(15):
        image, moves = passing(10 + 4 * k)
        evidence = _unsure(moves, rng)
        alone.append(_right(evidence, moves))
        together.append(_right(persistence(k * FRAME_NS, image, evidence), moves))
    assert np.mean(alone) < 0.85 and np.mean(together[5:]) > 0.93


def test_what_is_no_longer_there_is_forgotten_at_once() -> None:
    persistence = Persistence()
    for k in range(6):
        image, moves = passing(40)
        persistence(k * FRAME_NS, image, np.where(moves, 6.0, -6.0).astype(np.float32))
    nothing = np.full(moves.shape, -2.0, np.float32)
    gone = cv2.add(PASSED, 60)  # another light: nothing fits what was
    assert (persistence(6 * FRAME_NS, gone, nothing) < 0).all()


@pytest.mark.parametrize("then", ["reset", "late", "back", "size"])
def test_nothing_is_carried_over_a_break(then: str) -> None:
    persistence, (image, moves) = Persistence(), passing(40)
    for k in range(4):
        persistence(k * FRAME_NS, image, np.where(moves, 6.0, -6.0).astype(np.float32))
    if then == "reset":
        persistence.reset()
    if then == "size":
        image = image[:80]
    stamp_ns = {"late": 20, "back": 1}.get(then, 4) * FRAME_NS
    evidence = np.random.default_rng(4).uniform(-7, 7, image.shape[:2]).astype(np.float32)
    np.testing.assert_array_equal(persistence(stamp_ns, image, evidence), evidence)


def test_evidence_is_not_overwritten_and_nothing_is_surer_than_certain() -> None:
    image, moves = passing(40)
    evidence = np.where(moves, 100.0, -100.0).astype(np.float32)
    said = Persistence()(0, image, evidence)
    assert np.abs(said).max() == 8.0 and np.abs(evidence).max() == 100.0
