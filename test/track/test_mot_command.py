"""``uav-perception mot`` as a user calls it."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from uav_perception.cli.main import main

TEXTURE = np.random.default_rng(1).integers(60, 120, (240, 360, 3)).astype(np.uint8)


def car_box(k: int, lane: int) -> tuple[float, float, float, float]:
    return (20.0 + 8 * k, 60.0, 30.0, 16.0) if lane == 0 else (260.0 - 8 * k, 120.0, 30.0, 16.0)


@pytest.fixture
def folder(tmp_path):
    """Twelve pictures of two cars that pass each other, at 10 Hz."""
    images = tmp_path / "seq" / "img1"
    images.mkdir(parents=True)
    lines, coco = [], []
    background = cv2.GaussianBlur(TEXTURE, (5, 5), 0)
    for k in range(1, 13):
        picture = background.copy()
        for lane, colour in ((0, (0, 0, 220)), (1, (220, 200, 0))):
            x, y, w, h = (int(v) for v in car_box(k, lane))
            picture[y:y + h, x:x + w] = colour
            lines.append(f"{k},-1,{x},{y},{w},{h},0.9,-1,-1,-1")
            coco.append({"image_id": k, "category_id": 3, "bbox": [x, y, w, h], "score": 0.9})
        cv2.imwrite(str(images / f"{k:06d}.png"), picture)
    (tmp_path / "det.txt").write_text("\n".join(lines))
    (tmp_path / "det.json").write_text(json.dumps(coco))
    (tmp_path / "seq" / "seqinfo.ini").write_text("[Sequence]\nframeRate=10\n")
    return tmp_path


@pytest.mark.parametrize("detections", ["det.txt", "det.json"])
@pytest.mark.parametrize("images", ["seq", "seq/img1"])
def test_two_cars_keep_their_identities(folder, detections, images, capsys):
    out = folder / "out.txt"
    assert main(["mot", "--images", str(folder / images), "--detections", str(folder / detections), "--out", str(out),
                 "--json"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["frames"] == 12 and said["identities"] == 2 and said["boxes"] >= 22
    rows = np.array([[float(v) for v in line.split(",")] for line in out.read_text().splitlines()])
    assert rows.shape[1] == 10 and (rows[:, 7:] == -1).all()
    for lane in (0, 1):
        ids = set()
        for k in range(3, 13):
            x, y, w, h = car_box(k, lane)
            near = rows[(rows[:, 0] == k) & (abs(rows[:, 2] - x) < 3) & (abs(rows[:, 3] - y) < 3)]
            assert len(near) == 1
            assert abs(near[0, 4] - w) < 3 and abs(near[0, 5] - h) < 3
            ids.add(near[0, 1])
        assert len(ids) == 1


def test_confidences_of_any_range_are_scaled_and_said(folder, capsys):
    text = (folder / "det.txt").read_text().replace("0.9,-1,-1,-1", "37.5,-1,-1,-1")
    (folder / "det.txt").write_text(text + "\n12,-1,300,200,20,20,-3.0,-1,-1,-1")
    assert main(["mot", "--images", str(folder / "seq"), "--detections", str(folder / "det.txt"), "--out",
                 str(folder / "o.txt")]) == 0
    assert "scaled to 0..1" in capsys.readouterr().err


@pytest.mark.parametrize(("make", "word"), [
    (lambda d: (d / "det.txt").write_text("1,-1,abc"), "line 1"),
    (lambda d: (d / "det.txt").write_text("1,-1,5,5"), "line 1"),
    (lambda d: (d / "det.txt").write_text("99,-1,5,5,5,5,1"), "frames"),
    (lambda d: (d / "det.txt").write_text("1,-1,5,5,-5,5,1"), "negative"),
    (lambda d: (d / "det.txt").write_text("1,-1,5,nan,5,5,1"), "NaN"),
    (lambda d: (d / "det.txt").write_text("[{\"image_id\": 1}]"), "bbox"),
    (lambda d: (d / "det.txt").write_text("[1, 2"), "COCO"),
    (lambda d: (d / "det.txt").write_bytes(b"\xff\xfe\x00"), "not text"),
    (lambda d: (d / "det.txt").unlink(), "det.txt"),
])
def test_bad_detections_are_one_line(folder, capsys, make, word):
    make(folder)
    out = folder / "out.txt"
    assert main(["mot", "--images", str(folder / "seq"), "--detections", str(folder / "det.txt"), "--out",
                 str(out)]) == 2
    said = capsys.readouterr().err
    assert word in said and said.count("\n") == 1 and not out.exists()


@pytest.mark.parametrize("words", [
    ["--images", "nowhere", "--out", "o.txt"], ["--images", "seq", "--out", "no/where/o.txt"],
    ["--images", "seq", "--out", "o.txt", "--fps", "nan"]])
def test_bad_arguments_are_one_line(folder, capsys, words, monkeypatch):
    monkeypatch.chdir(folder)
    assert main(["mot", "--detections", "det.txt", *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_nothing_detected_is_an_empty_file(folder):
    (folder / "det.txt").write_text("")
    out = folder / "out.txt"
    assert main(["mot", "--images", str(folder / "seq"), "--detections", str(folder / "det.txt"), "--out",
                 str(out)]) == 0
    assert out.read_text() == ""
