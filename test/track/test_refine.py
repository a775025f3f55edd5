"""Box refinement: the weight of a measured edge, odd crops, and that nothing of it runs where it is switched off."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from uav_perception.config import LsartConfig, TrackerConfig
from uav_perception.engine.manifest import check_file, read_manifest
from uav_perception.engine.own import own_engine
from uav_perception.errors import EngineMismatch, ModelError
from uav_perception.geometry import box_iou
from uav_perception.records import Frame
from uav_perception.track import lsart
from uav_perception.track.lsart import LsartTracker
from uav_perception.track.pyramid import Pyramid
from uav_perception.track.refine import TRIALS, BoxRefinement, Measured, blended
from uav_perception.track.stage import make_tracker

STEP_NS = 33_000_000


def picture(centre=(200.0, 150.0), size=(60.0, 40.0), seed=0):
    """A two-coloured plate on soft noise."""
    rng = np.random.default_rng(seed)
    ground = cv2.resize(rng.integers(60, 150, (30, 40, 3)).astype(np.uint8), (400, 300), interpolation=cv2.INTER_CUBIC)
    plate = np.full((40, 60, 3), (40, 60, 210), np.uint8)
    plate[:, 35:] = (200, 200, 40)
    place = np.array([[size[0] / 60, 0, centre[0] - size[0] / 2], [0, size[1] / 40, centre[1] - size[1] / 2]])
    cover = cv2.warpAffine(np.full((40, 60), 255, np.uint8), place, (400, 300))[..., None] / 255
    image = (ground * (1 - cover) + cv2.warpAffine(plate, place, (400, 300)) * cover).astype(np.uint8)
    return np.minimum(image, 254) + np.random.default_rng(seed + 1).integers(0, 2, image.shape).astype(np.uint8)


@pytest.fixture(scope="module")
def refinement():
    return BoxRefinement()


def test_an_edge_counts_by_its_sureness():
    box, seen = np.array([0.0, 0, 10, 10]), np.array([1.0, 2, 12, 14])
    sure = blended(box, Measured(seen, np.zeros(4), 1.0), 0.1)
    np.testing.assert_allclose(sure, seen)
    mixed = blended(box, Measured(seen, np.array([0.1, 1e9, 0.2, 0.1]), 1.0), 0.1)
    np.testing.assert_allclose(mixed, [0.5, 0, 10.4, 12], atol=1e-9)


def test_finds_the_edges_of_what_it_was_shown(refinement):
    centre, size = np.array([200.0, 150]), np.array([60.0, 40])
    refinement.start(Pyramid(picture()), centre, size)
    rng, seen, before, after = np.random.default_rng(3), [], [], []
    for k in range(20):
        s = size * rng.uniform(0.9, 1.1)
        true = np.concatenate([centre - s / 2, centre + s / 2])
        where, believed = centre + rng.normal(0, 0.06, 2) * size, size * np.exp(rng.normal(0, 0.1, 2))
        measured = refinement.measure(Pyramid(picture(size=tuple(s), seed=k)), where, believed)
        assert measured is not None
        seen.append(measured)
        before.append(box_iou(np.r_[where - believed / 2, where + believed / 2], true)[0, 0])
        after.append(box_iou(measured.edges, true)[0, 0])
    assert np.mean(after) > 0.85 > np.mean(before)
    empty = refinement.measure(Pyramid(picture(centre=(60, 60), seed=50)), np.array([250.0, 200]), size)
    assert min(m.present for m in seen) > 0.8
    assert empty is None or (empty.present < 0.8 and empty.sigma.mean() > 2 * np.mean([m.sigma for m in seen]))


@pytest.mark.parametrize(("centre", "size"), [((2.0, 150.0), (60.0, 40.0)), ((399.0, 299.0), (300.0, 200.0)),
                                              ((200.0, 150.0), (3.0, 3.0)), ((-500.0, 900.0), (40.0, 40.0))])
@pytest.mark.parametrize("image", [picture(), np.zeros((300, 400, 3), np.uint8)])
def test_odd_crops_give_finite_edges_or_none(refinement, centre, size, image):
    refinement.start(Pyramid(picture()), np.array([200.0, 150]), np.array([60.0, 40]))
    measured = refinement.measure(Pyramid(image), np.array(centre), np.array(size))
    if measured is not None:
        assert np.isfinite(measured.edges).all() and (measured.edges[2:] > measured.edges[:2]).all()
        assert (measured.sigma >= 0).all() and 0 <= measured.present <= 1


def follow(images, **values):
    tracker = LsartTracker(LsartConfig(**values))
    tracker.start(Frame(0, 0, images[0]), [170, 130, 230, 170])
    return [tracker.update(Frame(k, k * STEP_NS, image)) for k, image in enumerate(images[1:], 1)]


def test_switched_off_no_network_is_opened(monkeypatch):
    def refuse(model):
        raise AssertionError("opened")

    monkeypatch.setattr(lsart, "BoxRefinement", refuse)
    assert follow([picture(seed=k) for k in range(3)], refine=False)[-1].state.name == "TRACKED"
    with pytest.raises(AssertionError, match="opened"):
        follow([picture()], refine=True)


def test_without_weight_the_boxes_are_those_of_the_tracker_alone():
    images = [picture(centre=(200 + 2 * k, 150), size=(60 + k, 40 + k / 2), seed=k) for k in range(12)]
    alone = np.array([t.xyxy_px for t in follow(images, refine=False)])
    np.testing.assert_allclose([t.xyxy_px for t in follow(images, refine=True, refine_doubt=0.0)], alone, atol=1e-3)
    helped = np.array([t.xyxy_px for t in follow(images, refine=True)])
    assert np.abs(helped - alone).max() > 0.1


def test_it_is_asked_at_four_places_at_most_while_the_target_is_unseen(monkeypatch):
    asked = []
    measure = BoxRefinement.measure
    monkeypatch.setattr(BoxRefinement, "measure", lambda self, *a: asked.append(1) or measure(self, *a))
    gone = [picture(centre=(-100, -100), seed=k) for k in range(20, 40)]
    tracks = follow([picture(seed=k) for k in range(6)] + gone, refine=True)
    unseen = sum(t.state.name != "TRACKED" for t in tracks)
    doubtful = LsartConfig().occluded_frames  # frames in which it is asked for the place, and for the box there
    # unseen: at each place once more where something is off the middle
    assert unseen >= 14 and 5 <= len(asked) - len(TRIALS) <= len(tracks) - unseen + doubtful + 8 * unseen


def test_missing_or_other_networks_are_one_clear_error(tmp_path):
    with pytest.raises(ModelError, match="nowhere"):
        LsartTracker(LsartConfig(refine=True, refine_model="/nowhere"))
    with pytest.raises(ModelError, match="image, keys, values"):
        LsartTracker(LsartConfig(refine=True, refine_model=str(own_engine("uav_detector") / "uav_detector.onnx")))
    with pytest.raises(ModelError, match="nowhere"):
        make_tracker(TrackerConfig(), LsartConfig(refine_model="/nowhere"))
    make_tracker(TrackerConfig(), LsartConfig(refine=False, refine_model="/nowhere"))
    LsartTracker(LsartConfig(refine=False, refine_model="/nowhere"))


def test_weights_are_those_of_the_manifest(tmp_path):
    folder = own_engine("uav_refine")
    (entry,) = read_manifest(folder).files
    weights = check_file(folder, entry).read_bytes()
    assert len(weights) < 4 << 20
    (tmp_path / "manifest.json").write_bytes((folder / "manifest.json").read_bytes())
    (tmp_path / entry.file).write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    with pytest.raises(EngineMismatch):
        BoxRefinement(str(tmp_path))
