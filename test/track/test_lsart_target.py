"""The target tracker on real pictures: scale, occlusion, bad input. Truth comes from how the frames are made."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from uav_perception.config import LsartConfig, TrackerConfig
from uav_perception.errors import ConfigError, InputError, ModelError
from uav_perception.geometry import box_iou
from uav_perception.records import Detections, Frame, TrackState
from uav_perception.track import TargetTracker
from uav_perception.track.camera_motion import CameraStep
from uav_perception.track.lsart import LsartTracker
from uav_perception.track.newcomers import Newcomers
from uav_perception.track.pyramid import Pyramid
from uav_perception.track.refine import BoxRefinement, Measured
from uav_perception.track.regain import Regain
from uav_perception.track.scale import AxisFilter
from uav_perception.track.sought import Found
from uav_perception.track.trackers import TARGET_TRACKERS, make_target_tracker

STEP_NS = 33_000_000
BOX = np.array([130.0, 100.0, 190.0, 140.0])


@pytest.fixture(scope="module")
def picture(shared):
    """A real aerial photo, 640 x 480."""
    image = cv2.imread(str(sorted((shared / "data/sim_assets/aerial_photos").glob("OSBS*.png"))[0]))
    return cv2.resize(image, (640, 480), interpolation=cv2.INTER_AREA)


def scene(picture, centre, zoom=1.0, shift=(0, 0)):
    """A striped, two-coloured plate of 60 x 40 px on the photo at ``centre``; ``shift`` moves the ground."""
    m = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float64)
    image = cv2.warpAffine(picture, m, (640, 480), borderMode=cv2.BORDER_REFLECT)[:360, :480].copy()
    plate = np.full((40, 60, 3), (40, 60, 210), np.uint8)
    plate[:, 35:] = (200, 200, 40)
    plate[::6] = (20, 20, 20)
    cv2.circle(plate, (18, 20), 9, (240, 240, 240), -1)
    place = np.array([[zoom, 0, centre[0] - 30 * zoom], [0, zoom, centre[1] - 20 * zoom]])
    cover = cv2.warpAffine(np.full((40, 60), 255, np.uint8), place, (480, 360))[..., None] / 255
    return (image * (1 - cover) + cv2.warpAffine(plate, place, (480, 360)) * cover).astype(np.uint8)


def start(picture, **values):
    tracker = make_target_tracker(TrackerConfig(), LsartConfig(**values))
    tracker.start(Frame(0, 0, scene(picture, (160, 120))), BOX, track_id=7, class_id=2)
    return tracker


def at(k, image):
    """A live camera: no two frames are the same bit for bit."""
    noise = np.random.default_rng(k).integers(0, 2, image.shape).astype(np.uint8)
    return Frame(k, k * STEP_NS, np.minimum(image, 254) + noise)


def middle(track):
    return (track.xyxy_px[:2] + track.xyxy_px[2:]) / 2


def iou(track, centre, zoom=1.0):
    half = np.array([30, 20]) * zoom
    return float(box_iou(track.xyxy_px, np.concatenate([centre - half, centre + half]))[0, 0])


def test_follows_a_moving_target_over_moving_ground(picture):
    tracker = start(picture)
    for k in range(1, 40):
        centre = np.array([160 + 3.3 * k, 120 + 1.7 * k])
        track = tracker.update(at(k, scene(picture, centre, shift=(-2 * k, k))))
        assert track.state is TrackState.TRACKED and iou(track, centre) > 0.7, k
    assert (track.id, track.class_id, track.last_seen_ns) == (7, 2, 39 * STEP_NS)
    np.testing.assert_allclose(track.velocity_px_s * 0.033, [3.3, 1.7], atol=0.8)


@pytest.mark.parametrize("growth", [1.012, 0.99])
def test_follows_scale(picture, growth):
    """It lags: at least half of a change by a factor of 1.6 (in 40 frames) must be followed, in both sides alike."""
    tracker = start(picture)
    for k in range(1, 41):
        zoom = growth**k
        track = tracker.update(at(k, scene(picture, (160 + k, 120), zoom)))
    followed = np.log((track.xyxy_px[2:] - track.xyxy_px[:2]) / [60, 40]) / np.log(zoom)
    assert (followed > 0.5).all() and (followed < 1.2).all()
    assert iou(track, np.array([160 + k, 120]), zoom) > 0.55


@pytest.mark.parametrize(("direction", "index"), [((1.0, 1.0), 8), ((1.0, 1.0), 4), ((1.0, -1.0), 6)])
def test_axis_filter_reads_a_known_factor_off_a_real_picture(picture, direction, index):
    """The photo itself is resampled about a point by a factor: the filter must name it."""
    centre, size = np.array([300.0, 200.0]), np.array([80.0, 60.0])
    axis = AxisFilter(direction, 13, 1.025, 1e-2, 0.04)
    axis.learn(Pyramid(picture), centre, size)
    factor = axis.factors[index]
    m = np.array([[factor[0], 0, centre[0] * (1 - factor[0])], [0, factor[1], centre[1] * (1 - factor[1])]])
    changed = cv2.warpAffine(picture, m, (640, 480), flags=cv2.INTER_LINEAR)
    np.testing.assert_allclose(axis.estimate(Pyramid(changed), centre, size), factor, rtol=0.02)


@pytest.mark.parametrize("hidden_frames", [30, 80])
def test_occlusion_is_said_within_five_frames_and_the_target_regained(picture, hidden_frames):
    tracker = start(picture, lost_s=2.0)
    where = np.array([160.0, 120.0])
    for k in range(1, 11):
        where = where + np.array([2.0, 0.5])
        tracker.update(at(k, scene(picture, where)))
    behind = cv2.GaussianBlur(picture, (0, 0), 4)
    for k in range(11, 11 + hidden_frames):  # a wall slides in front of target and surroundings
        where = where + np.array([0.5, 0.1])
        image = scene(picture, where)
        x, y = where.astype(int)
        image[y - 60 : y + 60, x - 70 : x + 70] = behind[200:320, 300:440]
        track = tracker.update(at(k, image))
        if k >= 15:
            assert track.state in (TrackState.OCCLUDED, TrackState.LOST), k
            assert track.last_seen_ns < 15 * STEP_NS
    if hidden_frames > 70:
        assert track.state is TrackState.LOST
    for later in range(k + 1, k + 16):
        where = where + np.array([1.0, 0.2])
        track = tracker.update(at(later, scene(picture, where)))
    assert track.state is TrackState.TRACKED and track.id == 7 and iou(track, where) > 0.6


def test_a_hidden_target_goes_along_with_the_camera_motion_it_is_told(picture):
    tracker = start(picture)
    for k in range(1, 5):
        tracker.update(at(k, scene(picture, (160, 120))), camera=CameraStep(np.eye(3), True, 50))
    ground = scene(picture, (-100, -100))  # without the target
    step = CameraStep(np.array([[1.0, 0, 3], [0, 1, 2], [0, 0, 1]]), True, 50)
    tracks = [tracker.update(at(k, ground), camera=step) for k in range(5, 21)]
    hidden = np.array([(t.xyxy_px[:2] + t.xyxy_px[2:]) / 2 for t in tracks if t.state is TrackState.OCCLUDED])
    assert len(hidden) >= 10
    np.testing.assert_allclose(np.diff(hidden, axis=0), [[3, 2]] * (len(hidden) - 1), atol=0.3)


@pytest.mark.parametrize(("place", "zoom", "hidden_frames", "found"), [
    ((240, 150), 1.0, 40, True), ((160, 120), 1.6, 12, True), ((390, 270), 1.0, 12, False)])
def test_detections_lead_back_to_a_target_as_far_away_as_it_may_have_gone(picture, place, zoom, hidden_frames, found):
    """Within reach, and at whatever size the detector sees; what shows up too far off too soon is another."""
    tracker, where, half = start(picture), np.array(place, np.float64), np.array([30, 20]) * zoom
    empty = picture[:360, :480].copy()
    for k in range(1, hidden_frames):
        track = tracker.update(at(k, empty))
    assert track.state is not TrackState.TRACKED
    for k in range(hidden_frames, hidden_frames + 9):
        box = (np.concatenate([where - half, where + half]) + 1)[None]
        track = tracker.update(at(k, scene(picture, where, zoom)), Detections(k * STEP_NS, box, [0.8], [2]))
    assert (track.state is TrackState.TRACKED and iou(track, where, zoom) > 0.6) == found


@pytest.mark.parametrize(("present", "another", "strange", "follows"), [
    (1.0, False, 0.2, True), (0.0, False, 0.2, False), (1.0, True, 0.2, False), (1.0, False, 0.9, False)])
def test_follows_where_the_regression_is_lost_what_the_refinement_vouches_for(
        picture, present, another, strange, follows, monkeypatch):
    """As when surroundings, which the regression learns too, change; here nothing of the target is left for it. What is
    known to be another, or looks like one, is not followed."""
    box = BOX + 0
    monkeypatch.setattr(Regain, "strangeness", lambda self, picture, box: strange)

    class Says(BoxRefinement):
        def __init__(self): pass
        def start(self, picture, centre, size): pass
        def measure(self, picture, centre, size):
            return Measured(box, np.full(4, 0.1), present)

    tracker = LsartTracker(LsartConfig(), Says())
    tracker.start(Frame(0, 0, scene(picture, (160, 120))), BOX)
    for k in range(1, 16):
        box = box + np.tile([2.0, 0.5], 2)
        image = scene(picture, (box[:2] + box[2:]) / 2 if k < 10 else (-100, -100))
        track = tracker.update(at(k, image), others_xyxy_px=box[None] if another and k >= 10 else None)
    assert (track.state is TrackState.TRACKED) == follows
    assert not follows or float(box_iou(track.xyxy_px, box)[0, 0]) > 0.6


def test_velocity_is_known_after_a_few_frames(picture):
    """Whoever is hidden soon after it was locked is looked for where it went."""
    tracker = start(picture)
    for k in range(1, 6):
        tracker.update(at(k, scene(picture, (160 + 6 * k, 120 + 2 * k))))
    hidden = [tracker.update(at(k, picture[:360, :480].copy())) for k in range(6, 26)]
    assert hidden[-1].state is TrackState.OCCLUDED
    assert np.linalg.norm(middle(hidden[-1]) - [160 + 6 * 25, 120 + 2 * 25]) < 0.5 * np.sqrt(60 * 40)


@pytest.mark.parametrize(("way", "found"), [((6, 2), True), ((-6, -2), False)])
def test_who_was_swift_does_not_come_back_the_other_way(picture, way, found):
    tracker = start(picture)
    for k in range(1, 11):
        tracker.update(at(k, scene(picture, (160 + 6 * k, 120 + 2 * k))))
    for k in range(11, 20):
        track = tracker.update(at(k, picture[:360, :480].copy()))
    assert track.state is TrackState.OCCLUDED
    for k in range(20, 31):
        place = np.array([274, 158]) + (k - 20) * np.array(way)
        track = tracker.update(at(k, scene(picture, place)))
    assert (track.state is TrackState.TRACKED) == found


@pytest.mark.parametrize("lasting", [True, False])
def test_a_target_that_only_the_judgement_knows_is_found_again_in_successive_frames(picture, lasting, monkeypatch):
    """A candidate that is gone leaves the prediction where it was."""
    tracker, asked = start(picture), []
    for k in range(1, 11):
        tracker.update(at(k, scene(picture, (160, 120))))

    def found(self, picture, sought, centre, moving, others):
        asked.append(centre)
        return Found(np.array([190.0, 130.0]), np.array([60.0, 40.0]), 2.0) if lasting or len(asked) == 1 else None

    monkeypatch.setattr(Regain, "found", found)
    seen = []
    for k in range(11, 35):
        track = tracker.update(at(k, picture[:360, :480].copy()))
        seen.append(track.state is TrackState.TRACKED)
        if len(asked) == 10:  # followed for as long as any is
            break
    assert np.linalg.norm(asked[0] - [160, 120]) < 5 and np.linalg.norm(asked[1] - [190, 130]) < 5
    assert seen[-1] == lasting
    assert np.linalg.norm(middle(track) - ([190, 130] if lasting else [160, 120])) < 5


def test_what_looks_like_the_target_a_leap_away_is_not_it(picture):
    tracker = start(picture)
    for k in range(1, 10):
        tracker.update(at(k, scene(picture, (160, 120))))
    track = tracker.update(at(10, scene(picture, (210, 120))))
    assert np.linalg.norm(middle(track) - [160, 120]) < 10 and track.last_seen_ns < 10 * STEP_NS
    for k in range(11, 40):  # where it stays it is found, as after any loss of sight
        track = tracker.update(at(k, scene(picture, (210, 120))))
    assert track.state is TrackState.TRACKED and iou(track, (210, 120)) > 0.5


@pytest.mark.parametrize(("frames", "leaps"), [(14, True), (42, False)])
def test_what_was_just_found_again_may_leap(picture, frames, leaps):
    """What comes out first may only look like the target; the target may be what comes out next to it."""
    tracker = start(picture)
    for k in range(1, 10):
        tracker.update(at(k, scene(picture, (160, 120))))
    for k in range(10, 20):
        track = tracker.update(at(k, picture[:360, :480].copy()))
    assert track.state is TrackState.OCCLUDED
    for k in range(20, 20 + frames):
        track = tracker.update(at(k, scene(picture, (160, 120))))
    assert track.state is TrackState.TRACKED
    k = 20 + frames
    track = tracker.update(at(k, scene(picture, (210, 120))))
    assert (track.last_seen_ns == k * STEP_NS and iou(track, (210, 120)) > 0.5) == leaps


@pytest.mark.parametrize("unlikely", [True, False])
def test_the_target_is_not_shown_where_the_judgement_says_that_something_else_is(picture, unlikely, monkeypatch):
    tracker = start(picture)
    for k in range(1, 5):
        track = tracker.update(at(k, scene(picture, (160, 120))))
    monkeypatch.setattr(Newcomers, "unlikely", lambda self, track, least=1: unlikely)
    assert tracker.may_be(track) == (not unlikely)


@pytest.mark.parametrize("present", [0.0, 1.0])
def test_regains_only_what_the_refinement_knows_but_holds_on_to_what_looks_as_usual(picture, present):
    class Says(BoxRefinement):
        def __init__(self): pass
        def start(self, picture, centre, size): pass
        def measure(self, picture, centre, size):
            plate = picture.crop((160, 120), (60, 40), (60, 40)).image
            there = present if np.array_equal(plate, shown[100:140, 130:190]) else 0.0
            return Measured(np.concatenate([centre - size / 2, centre + size / 2]), np.full(4, 0.1), there)

    def shot(k, image):
        return Frame(k, k * STEP_NS, np.vstack([image, at(k, image).image[-1:]]))  # a live camera, but for the target

    tracker = LsartTracker(LsartConfig(), Says())
    shown, empty = scene(picture, (160, 120)), picture[:360, :480].copy()
    tracker.start(shot(0, shown), BOX)
    assert all(tracker.update(shot(k, shown)).state is TrackState.TRACKED for k in range(1, 15))
    assert [tracker.update(shot(k, empty)).state for k in range(15, 25)][-1] is TrackState.OCCLUDED
    back = [tracker.update(shot(k, shown)).state is TrackState.TRACKED for k in range(25, 35)]
    assert back[-1] == bool(present)


@pytest.mark.parametrize("known", [True, False])
def test_what_looks_as_usual_but_is_no_longer_what_the_first_frame_showed_is_let_go(picture, known):
    """The regression has learnt what covers the target. Not where the refinement never knew the target."""
    class Forgets(BoxRefinement):
        present = 0.99 if known else 0.6
        def __init__(self): pass
        def start(self, picture, centre, size): pass
        def measure(self, picture, centre, size):
            return Measured(np.concatenate([centre - size / 2, centre + size / 2]), np.full(4, 0.1), self.present)

    refinement, first, last = Forgets(), 12, 40
    tracker = LsartTracker(LsartConfig(), refinement)
    tracker.start(at(0, scene(picture, (160, 120))), BOX)
    for k in range(1, last):
        refinement.present = refinement.present if k <= first else 0.01
        track = tracker.update(at(k, scene(picture, (160, 120))))
        if k == first:
            assert tracker.sure == known
        if k <= first + 3:
            assert track.state is TrackState.TRACKED
    assert not tracker.sure
    assert track.state is (TrackState.OCCLUDED if known else TrackState.TRACKED)
    assert track.last_seen_ns == (first if known else last - 1) * STEP_NS


@pytest.mark.parametrize("box", [[np.nan, 0, 10, 10], [10, 10, 10, 10], [10, 10, 10.4, 10.4], [900, 900, 950, 950],
                                 [50, 50, 20, 20], [1, 2, 3], "box", [np.inf] * 4])
@pytest.mark.parametrize("name", ["lsart", "kcf"])
def test_a_start_box_without_a_target_is_refused_in_words(picture, name, box):
    tracker = make_target_tracker(TrackerConfig(target_tracker=name), LsartConfig())
    with pytest.raises(InputError, match="select a box"):
        tracker.start(Frame(0, 0, picture), box)


@pytest.mark.parametrize("bad", ["black", "frozen"])
def test_black_and_frozen_frames_are_no_evidence(picture, bad):
    tracker = start(picture, lost_s=1.0)
    for k in range(1, 5):
        last = at(k, scene(picture, (160, 120)))
        tracker.update(last)
    image = last.image if bad == "frozen" else np.zeros_like(last.image)
    for k in range(5, 45):
        track = tracker.update(Frame(k, k * STEP_NS, image))
        assert track.score == 0 and track.last_seen_ns == 4 * STEP_NS
        assert track.state is not TrackState.TRACKED or k < 9
    assert track.state is TrackState.LOST
    for k in range(45, 56):
        track = tracker.update(at(k, scene(picture, (163, 121))))
    assert track.state is TrackState.TRACKED and iou(track, np.array([163, 121])) > 0.6


def test_a_frame_given_twice_now_and_then_does_no_harm(picture):
    tracker = start(picture)
    for k in range(1, 30):
        moved = k - k // 5  # every fifth picture is the one before
        track = tracker.update(Frame(k, k * STEP_NS, at(moved, scene(picture, (160 + 2 * moved, 120))).image))
        assert track.state is TrackState.TRACKED and iou(track, np.array([160 + 2 * moved, 120])) > 0.7


def test_backward_and_resized_frames_have_a_defined_state(picture):
    tracker = start(picture)
    good = scene(picture, (160, 120))
    for k in range(1, 10):
        tracker.update(at(k, good))
    back = tracker.update(at(2, good))  # the clock jumps back: no evidence, nothing newer than the frame itself
    assert back.score == 0 and back.last_seen_ns <= back.stamp_ns == 2 * STEP_NS
    for k in range(3, 8):
        track = tracker.update(at(k, good))
    assert track.state is TrackState.TRACKED
    for k in range(8, 14):
        track = tracker.update(at(k, cv2.resize(good, (960, 720))))
    assert track.state is TrackState.TRACKED
    assert box_iou(track.xyxy_px, BOX * 2)[0, 0] > 0.6


@pytest.mark.parametrize("speed", [(6.0, 0.0), (0.0, -4.0), (-5.0, -3.0)])
def test_a_target_that_leaves_the_frame_is_not_reported_as_seen(picture, speed):
    """Within five frames of being gone, and for good: what lies at the border is not taken for it."""
    tracker, gone = start(picture), 0
    for k in range(1, 95):
        centre = np.array([160.0, 120.0]) + k * np.array(speed)
        track = tracker.update(at(k, scene(picture, centre, shift=(-k, 0))))
        gone += bool(((centre < [-30, -20]) | (centre > [510, 380])).any())
        assert np.isfinite(track.xyxy_px).all()
        if gone > 5:
            assert track.state in (TrackState.OCCLUDED, TrackState.LOST), k
    assert gone > 20


@pytest.mark.parametrize("off", ["colour", "regions", "distance_transform", "quality_fusion", "scale", "aspect",
                                 "figure", "camera_motion", "gate"])
def test_every_part_can_be_switched_off(picture, off):
    tracker = start(picture, **{off: False})
    for k in range(1, 6):
        track = tracker.update(at(k, scene(picture, (160 + k, 120))))
    assert iou(track, np.array([165, 120])) > 0.6


def test_cross_patch_kernel_can_be_switched_on(picture):
    tracker = start(picture, cross_patch=True, cross_patch_every=2)
    for k in range(1, 8):
        track = tracker.update(at(k, scene(picture, (160 + k, 120))))
    assert iou(track, np.array([167, 120])) > 0.6


@pytest.mark.parametrize("name", ["kcf", "csrt"])
def test_opencv_trackers_stand_behind_the_same_protocol(picture, name):
    tracker = make_target_tracker(TrackerConfig(target_tracker=name), LsartConfig())
    assert isinstance(tracker, TargetTracker)
    tracker.start(Frame(0, 0, scene(picture, (160, 120))), BOX)
    track = tracker.update(at(1, scene(picture, (162, 121))))
    assert track.state is TrackState.TRACKED and iou(track, np.array([162, 121])) > 0.6


def test_nanotrack_runs_from_the_users_files(picture, shared):
    models = str(shared / "data/models")
    tracker = make_target_tracker(TrackerConfig(target_tracker="nano"), LsartConfig(nano_models=models))
    tracker.start(Frame(0, 0, scene(picture, (160, 120))), BOX)
    for k in range(1, 4):
        track = tracker.update(at(k, scene(picture, (160 + 2 * k, 121))))
    assert track.state is TrackState.TRACKED and iou(track, np.array([166, 121])) > 0.5


def test_missing_models_and_unknown_trackers_are_said():
    with pytest.raises(ModelError, match="nano_models"):
        make_target_tracker(TrackerConfig(target_tracker="nano"), LsartConfig(nano_models="/nowhere"))
    with pytest.raises(ConfigError):
        TrackerConfig(target_tracker="siamese")
    assert set(TARGET_TRACKERS) == {"lsart", "kcf", "csrt", "nano"}
