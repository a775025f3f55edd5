"""The stage as a whole on drawn scenes with camera motion: late detections, the lock, and odd input."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from uav_perception.config import LsartConfig, TrackerConfig
from uav_perception.errors import InputError
from uav_perception.geometry import box_iou
from uav_perception.records import Detections, Frame, Track, TrackState
from uav_perception.track import TrackerStage
from uav_perception.track.stage import Tracker, make_tracker

S = 1_000_000_000
RNG = np.random.default_rng(4)
GROUND = cv2.GaussianBlur(RNG.integers(0, 255, (700, 1000, 3)).astype(np.uint8), (0, 0), 3)
GROUND = cv2.normalize(GROUND, None, 30, 220, cv2.NORM_MINMAX)
CARS = [cv2.resize(RNG.integers(0, 255, (4, 8, 3)).astype(np.uint8), (48, 26), interpolation=cv2.INTER_NEAREST)
        for _ in range(2)]
HIDDEN = (360, 520)  # a bridge over the road, world x


def car_box_world(t_s: float, car: int) -> np.ndarray:
    x, y = (120 + 60 * t_s, 300) if car == 0 else (330 - 10 * t_s, 380)
    return np.array([x, y, x + 48, y + 26], dtype=np.float64)


class Scene:
    """A 320x240 camera that sways over the ground; two cars; a bridge over the first one's way if wanted."""

    def __init__(self, bridge: bool = False) -> None:
        self.bridge = bridge

    def corner(self, t_s: float) -> np.ndarray:
        return np.array([80 + 55 * t_s + 25 * np.sin(3 * t_s), 220 + 20 * np.cos(2 * t_s)])

    def box(self, t_s: float, car: int = 0) -> np.ndarray:
        return car_box_world(t_s, car) - np.tile(self.corner(t_s), 2)

    def frame(self, t_s: float, seq: int = 0) -> Frame:
        world = GROUND.copy()
        for car in range(2):
            x, y = (int(v) for v in car_box_world(t_s, car)[:2])
            world[y:y + 26, x:x + 48] = CARS[car]
        if self.bridge:
            world[280:350, HIDDEN[0]:HIDDEN[1]] = (90, 95, 100)
        x, y = self.corner(t_s)
        image = cv2.warpAffine(world, np.array([[1, 0, -x], [0, 1, -y]]), (320, 240))
        return Frame(seq, round((10 + t_s) * S), image)

    def detections(self, t_s: float, *cars: int) -> Detections:
        boxes = [self.box(t_s, c) for c in cars]
        return Detections(round((10 + t_s) * S), np.array(boxes).reshape(-1, 4), np.full(len(boxes), 0.9),
                          np.zeros(len(boxes)))


def stage(target_tracker: str = "kcf", **more) -> Tracker:
    """KCF where only the stage matters: it is quick."""
    return make_tracker(TrackerConfig(target_tracker=target_tracker, **more), LsartConfig())


def iou(a, b) -> float:
    return float(box_iou(a, b)[0, 0])


def test_is_a_tracker_stage():
    assert isinstance(stage(), TrackerStage)


def test_tracks_at_camera_rate_from_detections_at_their_own():
    """Detections at 5 Hz, camera at 30 Hz and swaying: the boxes between are right and the states stay TRACKED."""
    scene, tracker, overlaps = Scene(), stage(), []
    for k in range(60):
        t = k / 30
        tracks = tracker.update(scene.frame(t, k), scene.detections(t, 0) if k % 6 == 0 else None)
        if k > 18:
            assert [(x.id, x.state) for x in tracks] == [(1, TrackState.TRACKED)]
            assert tracks[0].stamp_ns == round((10 + t) * S)
            overlaps.append(iou(tracks[0].xyxy_px, scene.box(t)))
    assert min(overlaps) > 0.6 and np.mean(overlaps) > 0.8


def test_late_detections_are_used_where_they_belong():
    """A detector 0.2 s behind the camera: as good as one in time, and much better than taking them as of now."""
    scene, worst = Scene(), {}
    for late in (0, 6):
        tracker, overlaps = stage(), []
        for k in range(70):
            detections = scene.detections((k - late) / 30, 0) if k >= late and k % 3 == 0 else None
            tracks = tracker.update(scene.frame(k / 30, k), detections)
            if k > 30:
                overlaps.append(iou(tracks[0].xyxy_px, scene.box(k / 30)))
        worst[late] = min(overlaps)
        assert not tracker.refused
    assert worst[6] > 0.6
    assert iou(scene.box(1.0), scene.box(0.8)) < 0.75  # what taking them as of now would give


def test_results_are_never_used_twice_nor_when_too_old():
    scene, tracker = Scene(), stage()
    d = scene.detections(0.0, 0)
    tracker.update(scene.frame(0.0), d)
    for k in range(1, 4):
        tracker.update(scene.frame(k / 30), d)
    assert [t.state for t in tracker.update(scene.frame(0.2), None)] == [TrackState.TENTATIVE]  # one hit, not four
    assert tracker.refused["detections not newer than the last"] == 3
    tracker = stage()
    for k in range(30):
        tracker.update(scene.frame(k / 10), None)
    tracker.update(scene.frame(3.0), scene.detections(0.5, 0))
    assert tracker.refused["detections too old"] == 1


def test_detections_of_a_newer_frame_wait_for_it():
    scene, tracker = Scene(), stage(confirm_hits=1)
    assert tracker.update(scene.frame(0.0), scene.detections(0.1, 0)) == ()
    track, = tracker.update(scene.frame(0.1), None)
    assert iou(track.xyxy_px, scene.box(0.1)) > 0.95


def lock_first_car(scene: Scene, tracker: Tracker, t: float, how: str) -> None:
    x1, y1, x2, y2 = scene.box(t)
    if how == "id":
        tracker.lock_id(1)
    elif how == "box":
        tracker.lock_box((x1, y1, x2, y2))
    else:
        tracker.lock_point((x1 + x2) / 2, (y1 + y2) / 2)
    assert tracker.target.state == "ACQUIRING"


def run_locked(scene: Scene, tracker: Tracker, until_s: float, lock: str, detect=lambda t: (0, 1)):
    """(time, target status, tracks) of every frame at 15 Hz; the first car is locked at 0.4 s."""
    out = []
    for k in range(round(until_s * 15)):
        t = k / 15
        tracks = tracker.update(scene.frame(t, k), scene.detections(t, *detect(t)) if k % 3 == 0 else None)
        if lock and t >= 0.4:
            lock_first_car(scene, tracker, t, lock)
            lock = ""
        out.append((t, tracker.target, tracks))
    return out


@pytest.mark.parametrize(("lock", "target_tracker"), [("id", "kcf"), ("box", "lsart"), ("point", "kcf")])
def test_lock_takes_the_identity_of_the_track_and_keeps_it(lock, target_tracker):
    scene, tracker = Scene(), stage(target_tracker)
    for t, target, tracks in run_locked(scene, tracker, 2.5, lock)[8:]:
        assert target.state == "LOCKED" and target.track.id == 1 and target.age_ns == 0
        assert target.stamp_ns == round((10 + t) * S)
        assert iou(target.track.xyxy_px, scene.box(t)) > 0.6
        assert sorted(x.id for x in tracks) == [1, 2]


def test_lock_survives_detector_drop_outs():
    scene, tracker = Scene(), stage()
    for t, target, _ in run_locked(scene, tracker, 3.5, "id", detect=lambda t: (0, 1) if t < 0.6 else ())[8:]:
        assert target.state == "LOCKED" and target.track.id == 1
        assert iou(target.track.xyxy_px, scene.box(t)) > 0.5


def test_a_box_where_nothing_is_tracked_gets_an_identity_of_its_own():
    scene, tracker = Scene(), stage()
    for _, target, tracks in run_locked(scene, tracker, 2.0, "box", detect=lambda t: (1,))[8:]:
        assert target.track.id == 2 and {x.id for x in tracks} == {1, 2}


def test_switch_and_release():
    scene, tracker = Scene(), stage()
    run_locked(scene, tracker, 1.0, "id")
    tracker.lock_id(2)
    tracker.update(scene.frame(1.0), None)
    assert tracker.target.track.id == 2 and iou(tracker.target.track.xyxy_px, scene.box(1.0, 1)) > 0.6
    tracker.release()
    assert tracker.target.state == "NONE" and tracker.target.track is None
    assert {t.id for t in tracker.update(scene.frame(1.1), None)} == {1, 2}
    assert tracker.target.state == "NONE"


def test_auto_lock_takes_a_confirmed_track():
    scene, tracker = Scene(), stage(auto_lock=True)
    for k in range(6):
        tracker.update(scene.frame(k / 10), scene.detections(k / 10, 0))
    assert tracker.target.state == "LOCKED" and tracker.target.track.id == 1


@pytest.mark.parametrize("box", [(10, 10, 5, 20), (0, 0, float("nan"), 9), (500, 500, 520, 520), (-90, 5, -50, 20),
                                 (10, 10, 10.4, 10.4), (1, 2, 3), "here", (10, 10, 10, 10), None])
def test_impossible_boxes_are_refused_and_change_nothing(box):
    scene, tracker = Scene(), stage()
    run_locked(scene, tracker, 0.8, "id")
    before = tracker.target
    with pytest.raises(InputError):
        tracker.lock_box(box)
    assert tracker.target.state == before.state and tracker.target.track is before.track


def test_locks_of_nothing_are_refused():
    tracker = stage()
    for call in (lambda: tracker.lock_id(1), lambda: tracker.lock_box((1, 1, 50, 50)),
                 lambda: tracker.lock_point(5, 5)):
        with pytest.raises(InputError):
            call()
    scene = Scene()
    tracker.update(scene.frame(0.0), scene.detections(0.0, 0))
    for call in (lambda: tracker.lock_id(77), lambda: tracker.lock_point(1, 1), lambda: tracker.lock_point(-5, 9999),
                 lambda: tracker.lock_point(float("nan"), 3)):
        with pytest.raises(InputError):
            call()
    assert tracker.target.state == "NONE"


def test_time_far_backwards_starts_over_and_loses_the_lock():
    scene, tracker = Scene(), stage()
    run_locked(scene, tracker, 1.5, "id")
    image = scene.frame(0.0).image
    assert tracker.update(Frame(0, 2 * S, image), None) == ()
    assert tracker.target.state == "LOST" and tracker.target.track is None and "backwards" in tracker.target.message
    tracker.update(Frame(1, 2 * S + S // 10, image), None)
    assert tracker.target.state == "LOST"  # until somebody locks again
    tracker.lock_box(scene.box(0.0))
    tracker.update(Frame(2, 2 * S + S // 5, image), None)
    assert tracker.target.state == "LOCKED" and tracker.target.track.id > 2


def test_a_frame_out_of_order_is_ignored():
    scene, tracker = Scene(), stage()
    run_locked(scene, tracker, 1.0, "id")
    before = tracker.target
    assert tracker.update(scene.frame(0.8), scene.detections(0.8, 0)) == ()
    assert tracker.target is not None and tracker.target.stamp_ns == before.stamp_ns
    assert tracker.refused["frame out of order"] == 1
    assert {t.id for t in tracker.update(scene.frame(1.0), None)} == {1, 2}


def test_another_resolution_starts_over():
    scene, tracker = Scene(), stage()
    run_locked(scene, tracker, 1.0, "id")
    small = cv2.resize(scene.frame(1.1).image, (160, 120))
    assert tracker.update(Frame(0, round(11.1 * S), small), None) == ()
    assert tracker.target.state == "LOST" and "320x240 to 160x120" in tracker.target.message
    with pytest.raises(InputError):
        tracker.lock_id(1)


def test_black_frames_hide_targets_and_nothing_is_claimed():
    scene, tracker = Scene(), stage()
    run_locked(scene, tracker, 1.5, "id")
    black = np.zeros((240, 320, 3), np.uint8)
    for k in range(60):
        t = 1.5 + k / 15
        tracks = tracker.update(Frame(k, round((10 + t) * S), black), Detections.empty(round((10 + t) * S)))
        assert tracker.target.state in ("OCCLUDED", "LOST"), k
        assert not [x for x in tracks if x.state is TrackState.TRACKED]
    assert tracker.target.state == "LOST" and tracker.target.track is None
    assert tracks == ()


def test_frozen_frames_are_no_evidence_and_all_tracks_end():
    scene, tracker = Scene(), stage("lsart")
    run_locked(scene, tracker, 1.0, "id")
    frozen = scene.frame(1.0).image
    for k in range(40):
        stamp_ns = round((11 + k / 10) * S)
        tracks = tracker.update(Frame(k, stamp_ns, frozen), replace(scene.detections(1.0, 0, 1), stamp_ns=stamp_ns))
        assert tracker.target.state in ("OCCLUDED", "LOST") or k < 4
    assert tracker.target.state == "LOST" and tracks == ()
    assert tracker.refused["detections of a frozen picture"] > 30


def test_target_leaving_the_image_is_not_claimed():
    scene, tracker = Scene(), stage()
    run_locked(scene, tracker, 1.0, "id")
    for k in range(45):
        image = cv2.warpAffine(scene.frame(1.0).image, np.float64([[1, 0, 12 * k], [0, 1, 0]]), (320, 240),
                               borderMode=cv2.BORDER_REFLECT)
        tracker.update(Frame(k, round((11 + (k + 1) / 15) * S), image), None)
        boxed = tracker.target.track
        assert boxed is None or tracker.target.state != "LOCKED" or (boxed.xyxy_px[:2] < [320, 240]).all()


class _Blind:
    """A target tracker that sees its target for half a second after each start and then never again."""

    sure = False

    def start(self, frame, box_xyxy_px, track_id=0, class_id=-1):
        self.track = Track(frame.stamp_ns, track_id, TrackState.TRACKED, box_xyxy_px, (0, 0), 1.0, class_id,
                           frame.stamp_ns)
        self.started_ns = frame.stamp_ns
        return self.track

    def update(self, frame, detections=None, others_xyxy_px=None, newcomers=(), camera=None):
        sees = frame.stamp_ns - self.started_ns < S // 2
        self.track = replace(self.track, stamp_ns=frame.stamp_ns,
                             state=TrackState.TRACKED if sees else TrackState.OCCLUDED,
                             last_seen_ns=frame.stamp_ns if sees else self.track.last_seen_ns)
        return self.track

    def may_be(self, track):
        return True

    def believe(self, until_ns):
        self.believed_until_ns = until_ns


@pytest.mark.parametrize("detector_sees", [True, False])
def test_the_detector_shows_the_tracker_its_target_again(detector_sees):
    scene, tracker = Scene(), Tracker(TrackerConfig(), _Blind)
    states = [target.state for _, target, _ in run_locked(scene, tracker, 3.0, "id",
                                                          detect=lambda t: (0, 1) if detector_sees or t < 0.6 else ())]
    assert "OCCLUDED" in states
    assert (states.count("ACQUIRING") > 1) is detector_sees
    if detector_sees:
        assert tracker.target.track.id == 1


class _Astray(_Blind):
    """A target tracker that says it is sure and slides away."""

    def update(self, frame, detections=None, others_xyxy_px=None, newcomers=(), camera=None):
        self.track = replace(self.track, stamp_ns=frame.stamp_ns, xyxy_px=self.track.xyxy_px - [0, 6, 0, 6],
                             last_seen_ns=frame.stamp_ns)
        return self.track


def test_a_tracker_gone_astray_is_brought_back_by_the_detector():
    """Unless it plainly sees its target: what the detector sees may be a part of that."""
    scene, tracker = Scene(), Tracker(TrackerConfig(), type("Convinced", (_Astray,), {"sure": True}))
    assert {target.state for _, target, _ in run_locked(scene, tracker, 3.0, "id")[7:]} == {"LOCKED"}
    scene, tracker = Scene(), Tracker(TrackerConfig(), _Astray)
    runs = run_locked(scene, tracker, 3.0, "id")
    boxes = [(iou(target.track.xyxy_px, scene.box(t)), target.track.id) for t, target, _ in runs[10:] if target.track]
    assert {i for _, i in boxes} == {1}
    assert sum(o > 0.9 for o, _ in boxes) >= 2  # shown anew, again and again
    assert [target.state for _, target, _ in runs[6:]].count("ACQUIRING") >= 2


class _Sure(_Blind):
    """A target tracker that always says it sees its target, where the first car would be."""

    doubts = 0

    def update(self, frame, detections=None, others_xyxy_px=None, newcomers=(), camera=None):
        box = np.asarray(Scene().box(frame.stamp_ns / S - 10), np.float32)
        self.track = replace(self.track, stamp_ns=frame.stamp_ns, xyxy_px=box, last_seen_ns=frame.stamp_ns)
        return self.track

    def doubt(self):
        self.doubts += 1


def test_a_lock_that_the_detector_no_longer_bears_out_is_not_reported_as_seen():
    """The detector sees the other car as before, and nothing where the target tracker says that the first one is."""
    target = _Sure()
    scene, tracker = Scene(), Tracker(TrackerConfig(), lambda: target)
    runs = run_locked(scene, tracker, 5.0, "id", detect=lambda t: (0, 1) if t < 2.0 else (1,))
    assert {status.state for t, status, _ in runs if 0.5 < t < 2.5} == {"LOCKED"}  # a few misses are no proof
    assert {status.state for t, status, _ in runs if t > 4.0} == {"OCCLUDED"} and target.doubts >= 1
    assert 11.8 * S <= target.believed_until_ns < 12 * S  # the last look that saw it
    for k in range(75, 150):  # nor later, as long as nothing else confirms it
        tracker.update(scene.frame(k / 15, k), scene.detections(k / 15, 1) if k % 3 == 0 else None)
        assert tracker.target.state in ("OCCLUDED", "LOST")
    assert tracker.target.state == "LOST"
    tracker.update(scene.frame(10.0, 150), scene.detections(10.0, 0, 1))
    tracker.update(scene.frame(10.1, 151), None)
    assert tracker.target.state == "LOCKED"  # seen again by both


@pytest.mark.parametrize("other", [False, True])
def test_a_target_that_its_tracker_plainly_sees_is_held_though_the_detector_misses_it(other):
    """Unless what it sees is known to be another thing."""
    class Leaps(_Sure):
        sure = True

        def update(self, frame, detections=None, others_xyxy_px=None, newcomers=(), camera=None):
            t = frame.stamp_ns / S - 10
            box = np.asarray(scene.box(t, int(other and t > 2.0)), np.float32)
            self.track = replace(self.track, stamp_ns=frame.stamp_ns, xyxy_px=box, last_seen_ns=frame.stamp_ns)
            return self.track

    target = Leaps()
    scene, tracker = Scene(), Tracker(TrackerConfig(), lambda: target)
    runs = run_locked(scene, tracker, 4.0, "id", detect=lambda t: (0, 1) if t < 2.0 else (1,))
    assert {status.state for t, status, _ in runs if t > 2.6} == {"OCCLUDED" if other else "LOCKED"}
    assert bool(target.doubts) is other


class _Rigid(_Blind):
    """A target tracker that follows the right end of the first car, 60 px farther left, in a box of one size."""

    def update(self, frame, detections=None, others_xyxy_px=None, newcomers=(), camera=None):
        corner = entering(frame.stamp_ns / S - 10)[2:]
        size = self.track.xyxy_px[2:] - self.track.xyxy_px[:2]
        self.track = replace(self.track, stamp_ns=frame.stamp_ns, last_seen_ns=frame.stamp_ns,
                             xyxy_px=np.concatenate([corner - size, corner]))
        return self.track


def entering(t_s: float) -> np.ndarray:
    return Scene().box(t_s) - [60, 0, 60, 0]


def test_a_target_locked_while_it_comes_in_is_held_whole_once_it_is_inside():
    scene, tracker = Scene(), Tracker(TrackerConfig(), _Rigid)
    for k in range(13, 28):
        t = k / 15
        box = np.maximum(entering(t), 0)
        tracker.update(scene.frame(t, k), Detections(round((10 + t) * S), box[None], [0.9], [0]))
        if k == 14:
            tracker.lock_box(box)
            assert box[2] - box[0] < 26  # half of it
    assert entering(t)[0] > 5
    assert tracker.target.state == "LOCKED" and iou(tracker.target.track.xyxy_px, entering(t)) > 0.8


def test_a_lock_on_what_the_detector_never_saw_is_not_doubted():
    scene, tracker = Scene(), Tracker(TrackerConfig(), _Sure)
    for _, target, _ in run_locked(scene, tracker, 5.0, "box", detect=lambda t: (1,))[9:]:
        assert target.state == "LOCKED"


class _Breaking:
    """A target tracker that breaks after its start, as a network engine may."""

    def start(self, frame, box_xyxy_px, track_id=0, class_id=-1):
        return Track(frame.stamp_ns, track_id, TrackState.TRACKED, box_xyxy_px, (0, 0), 1.0, class_id, frame.stamp_ns)

    def update(self, frame, detections=None, others_xyxy_px=None, newcomers=(), camera=None):
        raise RuntimeError("CUDA error 700\nand more")


def test_a_broken_target_tracker_is_failed_not_lost():
    scene, tracker = Scene(), Tracker(TrackerConfig(), _Breaking)
    for k in range(6):
        tracks = tracker.update(scene.frame(k / 10), scene.detections(k / 10, 0))
        if k == 2:
            tracker.lock_id(1)
    assert tracker.target.state == "FAILED" and tracker.target.track is None
    assert tracker.target.message == "target tracker failed: RuntimeError: CUDA error 700"
    assert [(t.id, t.state) for t in tracks] == [(1, TrackState.TRACKED)]  # the identities go on


def test_work_is_shed_when_a_frame_takes_too_long_and_taken_back():
    scene, tracker = Scene(), stage(budget_ms=0.001)
    for k in range(10):
        tracks = tracker.update(scene.frame(k / 10), scene.detections(k / 10, 0, 1))
    assert tracker.shed == 2 and len(tracks) == 2
    tracker = stage(budget_ms=1000.0)
    tracker.update(scene.frame(0.0), None)
    assert tracker.shed == 0


def test_same_frames_give_same_tracks():
    scene = Scene()
    a, b = ([[(t.id, t.xyxy_px.tolist()) for t in tracks] for _, _, tracks in run_locked(scene, stage(), 1.2, "id")]
            for _ in range(2))
    assert a == b
