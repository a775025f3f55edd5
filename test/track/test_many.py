"""Identities through dropouts, occlusion, camera motion and odd rates; no pictures needed here."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from uav_perception.config import TrackerConfig
from uav_perception.errors import RecordError
from uav_perception.records import Detections, Track, TrackState
from uav_perception.track.many import ManyTracker

S = 1_000_000_000
CONFIG = TrackerConfig(appearance_weight=0.0)


def seen(t_s: float, *boxes: tuple[float, float, float, float], score: float | list[float] = 0.9) -> Detections:
    n = len(boxes)
    scores = np.full(n, score) if isinstance(score, float) else np.array(score)
    return Detections(round(t_s * S), np.array(boxes).reshape(-1, 4), scores, np.zeros(n))


def car(x: float, y: float = 100.0, w: float = 40.0, h: float = 20.0) -> tuple[float, float, float, float]:
    return x, y, x + w, y + h


class Run:
    def __init__(self, config: TrackerConfig = CONFIG) -> None:
        self.many, self.t_s = ManyTracker(config), 0.0

    def look(self, detections: Detections, H: np.ndarray | None = None, reliable: bool = True) -> dict[int, TrackState]:
        self.many.advance(detections.stamp_ns, np.eye(3) if H is None else H, reliable)
        self.many.look(detections, None)
        return self.states(detections.stamp_ns)

    def states(self, stamp_ns: int) -> dict[int, TrackState]:
        return {t.id: t.state for t in self.at(stamp_ns)}

    def at(self, stamp_ns: int):
        return self.many.tracks(stamp_ns, np.eye(3), True, (640, 480))


def test_tentative_then_tracked_then_occluded_then_lost_then_gone():
    run = Run()
    assert run.look(seen(0.0, car(10))) == {1: TrackState.TENTATIVE}
    assert run.look(seen(0.1, car(12))) == {1: TrackState.TRACKED}
    assert run.look(seen(0.2)) == {1: TrackState.OCCLUDED}
    states = [run.look(seen(0.2 + 0.1 * k)).get(1) for k in range(1, 24)]
    lost = states.index(TrackState.LOST)
    assert states[:lost] == [TrackState.OCCLUDED] * lost and states[lost + 1:] == [None] * (22 - lost)
    assert 0.2 + 0.1 * (lost + 1) == pytest.approx(0.1 + CONFIG.coast_s, abs=0.11)


def test_one_false_detection_never_becomes_a_track():
    run = Run()
    run.look(seen(0.0, car(10)))
    assert run.look(seen(0.1)) == {}


@pytest.mark.parametrize("rate_hz", [2.0, 10.0, 30.0])
def test_identity_survives_occlusion_at_any_rate(rate_hz):
    """A car at 1.5 lengths a second is hidden for 1.5 s and found again where constant velocity says."""
    run, ids = Run(), set()
    for k in range(int(6 * rate_hz)):
        t = k / rate_hz
        boxes = [] if 2.0 <= t < 3.5 else [car(20 + 60 * t)]
        states = run.look(seen(t, *boxes))
        ids |= {i for i, s in states.items() if s is TrackState.TRACKED}
    assert ids == {1}


def test_crossing_cars_keep_their_identities():
    run = Run()
    for k in range(41):
        t = k / 10
        run.look(seen(t, car(20 + 60 * t), car(260 - 60 * t, 112)))
    a, b = sorted(run.at(round(4.0 * S)), key=lambda t: t.id)
    assert (a.id, b.id) == (1, 2)
    assert a.xyxy_px[0] == pytest.approx(260, abs=3) and b.xyxy_px[0] == pytest.approx(20, abs=3)
    assert a.velocity_px_s[0] == pytest.approx(60, abs=5) and b.velocity_px_s[0] == pytest.approx(-60, abs=5)


def test_faint_detections_hold_identities_but_start_none():
    run = Run()
    for k in range(20):
        score = 0.9 if k < 3 else 0.2
        run.look(seen(k / 10, car(10 + 2 * k), car(300, 300), score=[score, 0.2]))
    assert run.states(round(1.9 * S)) == {1: TrackState.TRACKED}


def test_a_faint_own_detection_does_not_make_a_track_take_its_neighbours():
    run = Run()
    row = [car(100 + 48 * k) for k in range(4)]
    for k in range(3):
        run.look(seen(float(k), *row))
    run.look(seen(3.0, row[0], row[2], row[3], score=[0.2, 0.9, 0.9]))
    where = {t.id: t.xyxy_px[0] for t in run.at(3 * S)}
    assert [where[i] for i in (1, 3, 4)] == pytest.approx([100, 196, 244], abs=3)


def test_camera_motion_is_taken_out():
    """Parked cars, the picture jumps by a car's length at each look: a mess, unless that is taken out."""
    identities = {}
    for compensate in (True, False):
        run, seen_ids = Run(), set()
        for k in range(8):
            jump = np.array([[1, 0, 44.0 * (k > 0)], [0, 1, 0], [0, 0, 1]])
            boxes = [car(20 + 44 * k + 48 * n, 100 + 40 * (n % 3)) for n in range(5)]
            run.look(seen(k / 10, *boxes), jump if compensate else None)
            seen_ids |= set(run.states(round(k / 10 * S)))
        identities[compensate] = seen_ids
    assert identities[True] == {1, 2, 3, 4, 5}
    assert len(identities[False]) > 5


def test_unknown_camera_motion_widens_the_search():
    for reliable, same in ((True, False), (False, True)):
        run = Run()
        for k in range(10):
            run.look(seen(k / 30, car(100)))
        run.look(seen(10 / 30, car(130)), reliable=reliable)
        assert (1 in {i for i, s in run.states(round(S / 3)).items() if s is TrackState.TRACKED}) is same


def test_slow_detectors_get_more_patience():
    run = Run()
    run.look(seen(0.0, car(10)))
    run.look(seen(1.0, car(10)))
    for k in range(2, 10):
        assert run.look(seen(float(k)))[1] is TrackState.OCCLUDED
    assert run.look(seen(10.0, car(10)))[1] is TrackState.TRACKED


def test_appearance_decides_where_motion_cannot():
    """Two cars hidden together, coming out at the other's side: looks tell them apart."""
    looks = np.eye(2, 8, dtype=np.float32)
    got = {}
    for weight in (0.0, 8.0):
        many = ManyTracker(replace(CONFIG, appearance_weight=weight))
        for k in range(5):
            many.advance(k * S // 10, np.eye(3))
            many.look(seen(k / 10, car(100, 100), car(100, 130)), looks)
        for k in range(5, 12):
            many.advance(k * S // 10, np.eye(3))
            many.look(seen(k / 10), None)
        many.advance(12 * S // 10, np.eye(3))
        many.look(seen(1.2, car(100, 112), car(100, 118)), looks[::-1])
        got[weight] = {t.id: t.xyxy_px[1] for t in many.tracks(12 * S // 10, np.eye(3), True, (640, 480))}
    assert got[0.0][1] < got[0.0][2]
    assert got[8.0][1] > got[8.0][2]


def test_class_is_the_vote_of_its_detections():
    run = Run()
    for k, class_id in enumerate([2, 7, 2, 2, 7]):
        d = seen(k / 10, car(10))
        run.look(replace(d, class_id=np.array([class_id])))
    track, = run.at(round(0.4 * S))
    assert track.class_id == 2


def test_ids_are_never_given_twice():
    run = Run()
    run.look(seen(0.0, car(10)))
    run.many.reset()
    assert run.at(0) == ()
    run.look(seen(5.0, car(10)))
    assert list(run.states(5 * S)) == [2]
    assert run.many.new_id() == 3


def test_pin_brings_an_identity_back_from_its_double():
    """The locked target is lost by the detector, reappears under a new id, and the target tracker finds it."""
    run = Run()
    for k in range(3):
        run.look(seen(k / 10, car(10)))
    run.many.reset()
    for k in range(3, 6):
        run.look(seen(k / 10, car(200)))
    assert set(run.states(round(0.5 * S))) == {2}
    run.many.advance(round(0.6 * S), np.eye(3))
    run.many.pin(1, car(200), class_id=0)
    run.many.look(seen(0.6, car(200)), None)
    assert run.states(round(0.6 * S)) == {1: TrackState.TRACKED}


def test_an_identity_is_taken_back_from_who_has_it_though_both_are_seen():
    """The target's tracker held a part while the whole was given another identity; who is elsewhere keeps his."""
    run = Run()
    for k in range(3):
        run.look(seen(k / 10, car(10), car(200), car(400)))
    left, _, right = sorted(run.states(round(0.2 * S)))
    run.many.take_back(left, car(200))
    assert set(run.states(round(0.2 * S))) == {left, right}


@pytest.mark.parametrize("locked", [False, True])
def test_what_comes_out_piece_by_piece_gets_its_identity_back(locked):
    """From under a bridge a strip shows first, then half, then all: a new track is started and given back; but whether
    it is the operator's target, that target's own tracker judges."""
    run, ids = Run(), {}
    for k in range(60):
        run.many.kept_id = 1 if locked and k > 10 else None
        t, x = k / 10, 20 + 60 * k / 10
        shown = min(40.0, max(0.0, x + 40 - 200))  # the bridge ends at x = 200
        box = car(x) if x + 40 < 140 else (x + 40 - shown, 100.0, x + 40, 120.0)
        boxes = [box] if x + 40 < 140 or shown > 5 else []
        ids[k] = {i for i, s in run.look(seen(t, *boxes)).items() if s is TrackState.TRACKED}
    assert ids[10] == {1} and ids[59] == ({2} if locked else {1})


def test_an_unseen_identity_is_expected_where_its_tracker_says():
    run = Run()
    for k in range(10):
        run.look(seen(0.1 * k, car(10 + 5 * k)))
    run.look(seen(1.0))
    run.many.expect(1, (300, 200, 340, 220))
    assert run.look(seen(1.1, car(300, 200)))[1] is TrackState.TRACKED
    run.many.expect(1, (10, 10, 50, 30))  # it is seen: nothing to tell
    assert run.look(seen(1.2, car(300, 200)))[1] is TrackState.TRACKED


def test_identity_the_operator_locked_is_held_longer():
    for kept, same in ((1, True), (None, False)):
        run = Run()
        run.many.kept_id = kept
        for k in range(50):
            run.look(seen(k / 10, *([car(10)] if k < 5 or k > 40 else [])))
        assert (1 in run.states(round(4.9 * S))) is same


def test_newcomers_are_who_was_not_there_and_is_seen_now():
    many = ManyTracker(CONFIG)
    many.kept_id = 1
    boxes = {1: car(100), 2: car(300), 3: car(500)}
    for k in range(30):
        there = {1: k < 10 or k >= 20, 2: k < 25, 3: k >= 15}
        many.advance(k * S // 10, np.eye(3))
        many.look(seen(k / 10, *(boxes[i] for i, seen_now in there.items() if seen_now)), None)
        if k == 19:
            assert many.newcomers(S) == {3}
    assert many.newcomers(S) == {1, 3}  # the operator's has come back
    assert many.newcomers(-1) == {1, 3}  # 2 is out of sight
    assert many.newcomers(2 * S) == {1}


@pytest.mark.parametrize("away_s, another", [(0.3, False), (0.8, True)])
def test_who_was_away_while_the_target_was_lost_may_be_another(away_s, another):
    run = Run()
    for k in range(30):
        run.look(seen(k / 10, car(100), *([] if 10 < k <= 10 + 10 * away_s else [car(300)])))
    assert set(run.states(round(2.9 * S))) == {1, 2}
    assert run.many.newcomers(S) == ({2} if another else set())
    assert run.many.established(S) == ({1} if another else {1, 2})


def test_records_of_a_crowd_are_those_of_each():
    boxes, velocities = np.array([[0, 0, 2, 3], [5, 6, 9, 8.5]]), np.array([[1, 2], [3, 4.0]])
    states = [TrackState.TRACKED, TrackState.OCCLUDED]
    crowd = Track.many(9, np.array([3, 7]), states, boxes, velocities, [0.5, 1.0], [2, -1], [9, 4], "optical")
    for track, row in zip(crowd, zip((3, 7), states, boxes, velocities, (0.5, 1.0), (2, -1), (9, 4), strict=True),
                          strict=True):
        one = Track(9, *row, "optical")
        assert all(np.array_equal(vars(track)[k], v) and type(vars(track)[k]) is type(v) for k, v in vars(one).items())
        assert list(vars(track)) == list(vars(one)) and not track.xyxy_px.flags.writeable
    for wrong in ({"score": [0.5, 1.1]}, {"last_seen_ns": [10, 4]}, {"xyxy_px": [[0, 0, 1, np.nan]] * 2}):
        good = {"xyxy_px": boxes, "velocity_px_s": velocities, "score": [0.5, 1], "class_id": [0, 0],
                "last_seen_ns": [9, 4]}
        with pytest.raises(RecordError):
            Track.many(9, [3, 7], states, **{**good, **wrong}, frame_id="optical")


def test_tracks_outside_the_image_are_not_reported():
    run = Run()
    for k in range(10):
        run.look(seen(k / 10, car(500 + 15 * k)))
    assert len(run.at(round(0.9 * S))) == 1
    assert run.at(3 * S) == ()


def test_a_faint_detection_confirms_a_new_track():
    run = Run()
    run.look(seen(0.0, car(10)))
    assert run.look(seen(0.1, car(11), score=0.2)) == {1: TrackState.TRACKED}


def test_boxes_of_what_drives_in_end_at_the_border_and_keep_one_identity():
    run = Run()
    for k in range(20):
        x = -60 + 6 * k
        run.many.advance(k * S // 20, np.eye(3))
        boxes = [(0.0, 100.0, x + 60.0, 130.0)] if -60 < x < 0 else [(x, 100.0, x + 60.0, 130.0)] if x >= 0 else []
        run.many.look(seen(k / 20, *boxes), None, (640, 480))
        tracks = run.at(k * S // 20)
        assert all(t.xyxy_px[0] >= 0 for t in tracks)
    assert [(t.id, t.state) for t in tracks] == [(1, TrackState.TRACKED)]


def test_a_car_under_a_bridge_ahead_of_the_camera_is_predicted_where_it_stays():
    """The camera follows a car over ground that comes nearer: hidden, the car stays in place and keeps its size."""
    run, ground = Run(), np.array([[1.02, 0, -6.4], [0, 1.02, 5.0 - 0.02 * 240], [0, 0, 1.0]])
    for k in range(50):
        run.look(seen(k / 20, *([car(300, 230)] if k < 20 else [])), ground if k else None)
    track, = run.at(49 * S // 20)
    assert track.state is TrackState.OCCLUDED
    assert np.allclose(track.xyxy_px, car(300, 230), atol=12)


def test_a_newcomer_far_off_or_of_another_size_is_not_the_operators_target():
    looks = np.eye(1, 8, dtype=np.float32)
    for late, size, same in ((0.4, 1.0, False), (3.0, 1.0, True), (3.0, 1.6, False)):
        many = ManyTracker(replace(CONFIG, appearance_weight=8.0))
        many.kept_id = 1
        for k in range(60):
            t_s = k / 10
            many.advance(k * S // 10, np.eye(3))
            if t_s < 1.0:
                many.look(seen(t_s, car(100)), looks)
            elif t_s < 1.0 + late or t_s > 1.6 + late:
                many.look(seen(t_s), None)
            else:
                many.look(seen(t_s, car(240, 100, 40 * size, 20 * size)), looks)
                got = {t.id for t in many.tracks(k * S // 10, np.eye(3), True, (640, 480))
                       if t.state is TrackState.TRACKED}
        assert (got == {1}) is same, (late, size)


def test_an_established_neighbour_missed_once_is_still_a_neighbour():
    run = Run()
    for k in range(10):
        run.look(seen(k / 10, car(100), car(200)))
    run.look(seen(1.0, car(100)))
    assert run.many.established(S) == {1, 2}
    assert run.many.established(-1) == set()  # none of them was known before
    for k in range(11, 14):
        run.look(seen(k / 10, car(100)))
    assert run.many.established(S) == {1}
