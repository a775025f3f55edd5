"""The film keeps time, and the overlay shows what it is told, at any size."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from uav_perception.errors import WorkFailed
from uav_perception.records import DepthPoseResult, Detections, Frame, TargetStatus, Track, TrackState
from uav_perception.runtime.film import Film
from uav_perception.runtime.overlay import STATE_COLOURS, class_name, draw

MS = 1_000_000


def frames_of(path):
    video, found = cv2.VideoCapture(str(path)), []
    while True:
        good, picture = video.read()
        if not good:
            return found, video.get(cv2.CAP_PROP_FPS)
        found.append(int(picture.mean().round()))


def test_time_passes_in_the_film_as_it_did(tmp_path):
    film = Film(str(tmp_path / "new" / "film.mp4"), 10.0)
    for stamp_ms, grey in ((0, 20), (100, 60), (500, 100), (700, 140)):  # the second lasts four film frames
        film.write(np.full((64, 96, 3), grey, np.uint8), stamp_ms * MS)
    film.close()
    greys, fps = frames_of(tmp_path / "new" / "film.mp4")
    assert fps == 10.0
    assert [round(g / 20) * 20 for g in greys] == [20, 60, 60, 60, 60, 100, 100, 140]


def test_a_change_of_size_and_a_jump_in_time_do_not_break_it(tmp_path):
    film = Film(str(tmp_path / "film.mp4"), 10.0)
    film.write(np.zeros((65, 97, 3), np.uint8), 0)
    film.write(np.zeros((30, 30, 3), np.uint8), 3600 * 1000 * MS)
    film.write(np.zeros((30, 30, 3), np.uint8), 5 * MS)
    film.close()
    assert 10 <= len(frames_of(tmp_path / "film.mp4")[0]) <= 13


def test_a_film_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(WorkFailed, match="film"):
        Film(str(tmp_path / "folder.mp4"), 10.0).write(np.zeros((64, 64, 3), np.uint8), 0)


def scene(width, height):
    frame = Frame(7, 1000 * MS, np.full((height, width, 3), 90, np.uint8))
    box = np.array([0.3 * width, 0.4 * height, 0.5 * width, 0.7 * height], np.float32)
    track = Track(1000 * MS, 12, TrackState.TRACKED, box, np.zeros(2), 0.9, 1, 1000 * MS)
    return frame, box, track


@pytest.mark.parametrize("width,height,limit", [(640, 480, 0), (1280, 720, 0), (1920, 1080, 960), (1280, 720, 960),
                                                (160, 120, 960)])
def test_boxes_are_drawn_where_they_are(width, height, limit):
    frame, box, track = scene(width, height)
    target = TargetStatus(1000 * MS, "LOCKED", track, 0.8, 0)
    picture = draw(frame, Detections.empty(1000 * MS), (track,), target, None, ("person", "car"), limit)
    scale = {1920: 0.5, 1280: 0.5 if limit else 1.0}.get(width, 1.0)
    assert picture.shape == (height * scale, width * scale, 3)
    assert (np.asarray(frame.image) == 90).all()  # drawn on a copy
    x1, _, x2, y2 = (box * scale).astype(int)
    colour = np.array(STATE_COLOURS[TrackState.TRACKED])
    middle = (x1 + x2) // 2
    strip = picture[y2 - 4 : y2 + 5, middle - 3 : middle + 4].astype(int)
    assert (np.abs(strip - colour).sum(axis=2) < 120).any()


def test_boxes_far_outside_and_without_names_are_no_trouble():
    frame, _, track = scene(320, 240)
    outside = Track(1000 * MS, 1, TrackState.LOST, np.array([-500, -500, 9000, 9000], np.float32),
                    np.array([1e6, -1e6]), 0.1, 99, 900 * MS)
    mask = np.zeros((240, 320), bool)
    mask[100:110, 100:110] = True
    result = DepthPoseResult(1000 * MS, motion_mask=mask)
    picture = draw(frame, None, (outside, track), TargetStatus(1000 * MS, "NONE", None, 0.0, 0), result)
    assert picture[105, 105, 2] > picture[105, 105, 0]


def test_class_names():
    assert [class_name(i, ("car",)) for i in (0, 5, -1)] == ["car", "5", ""]
