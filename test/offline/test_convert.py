"""Folders of public sets become bags that say the same; truth is joined to frames by stamp."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uav_perception.cli.main import main
from uav_perception.config import CameraConfig, EvaluateConfig
from uav_perception.errors import BagError, InputError, SourceError
from uav_perception.geometry import matrix_from_quaternion
from uav_perception.offline import messages as msg
from uav_perception.offline.convert import ConvertOptions, convert
from uav_perception.offline.importers import open_folder
from uav_perception.offline.recording import find_recordings, open_recording
from uav_perception.offline.truth import BagTruth, Stream


def pictures(folder: Path, names: list[str], size: tuple[int, int] = (64, 48)) -> Path:
    folder.mkdir(parents=True)
    for i, name in enumerate(names):
        cv2.imwrite(str(folder / name), np.full((size[1], size[0], 3), 20 * i, np.uint8))
    return folder


def numbered(folder: Path, n: int = 3, suffix: str = ".jpg") -> Path:
    return pictures(folder, [f"{i + 1:06d}{suffix}" for i in range(n)])


def truth_through_a_bag(folder: Path, tmp_path: Path, **options: object) -> tuple[BagTruth, list[int], dict]:
    said = convert(folder, tmp_path / "bag", ConvertOptions(**options))
    recording = open_recording(tmp_path / "bag", CameraConfig(realtime=False), EvaluateConfig())
    stamps = []
    while (frame := recording.camera.read(1.0)) is not None:
        stamps.append(frame.stamp_ns)
        said["camera"] = frame.camera
    return recording.truth, stamps, said


def test_otb_counts_pixels_from_one(tmp_path: Path) -> None:
    numbered(tmp_path / "s" / "img")
    (tmp_path / "s" / "groundtruth_rect.txt").write_text("11,21,30,10\n12\t22\t30\t10\nNaN,NaN,NaN,NaN\n")
    truth, stamps, said = truth_through_a_bag(tmp_path / "s", tmp_path)
    assert said["layout"] == "otb" and said["images"] == 3
    first, second, third = (truth.boxes(s) for s in stamps)
    assert np.allclose(first.xyxy_px, [[10, 20, 40, 30]]) and np.allclose(second.xyxy_px, [[11, 21, 41, 31]])
    assert first.ids == ["1"] and len(third.ids) == 0  # not visible is something else than unknown
    assert truth.boxes(stamps[-1] + 10**9) is None


def test_vot_polygons(tmp_path: Path) -> None:
    numbered(tmp_path / "s" / "color", 1)
    (tmp_path / "s" / "groundtruth.txt").write_text("11,21,41,21,41,31,11,31\n")
    truth, stamps, _ = truth_through_a_bag(tmp_path / "s", tmp_path)
    assert np.allclose(truth.boxes(stamps[0]).xyxy_px, [[10, 20, 40, 30]])


def test_mot_names_ignores_and_rate(tmp_path: Path) -> None:
    numbered(tmp_path / "s" / "img1")
    (tmp_path / "s" / "seqinfo.ini").write_text("[Sequence]\nname=s\nframeRate=10\n")
    (tmp_path / "s" / "gt").mkdir()
    (tmp_path / "s" / "gt" / "gt.txt").write_text("1,3,11,21,30,10,1,3,1\n1,4,1,1,9,9,0,1,1\n3,3,13,21,30,10,1,1,0.5\n"
                                                  "3,9,13,21,30,10,1,8,1\n")
    truth, stamps, _ = truth_through_a_bag(tmp_path / "s", tmp_path)
    assert np.diff(stamps).tolist() == [100_000_000] * 2
    first = truth.boxes(stamps[0])
    assert first.ids == ["3", "4"] and first.names == ["car", "person"] and first.visibility.tolist() == [1.0, 0.0]
    assert truth.boxes(stamps[1]).ids == []
    assert truth.boxes(stamps[2]).visibility.tolist() == [0.5, 0.0]  # half hidden; a distractor


def test_coco_and_yolo_say_the_same(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "c" / "images", ["b.png", "a.png", "z.png"])
    (tmp_path / "c" / "annotations.json").write_text(json.dumps({
        "categories": [{"id": 5, "name": "car"}], "images": [{"id": 9, "file_name": "x/a.png"}],
        "annotations": [{"id": 1, "image_id": 9, "category_id": 5, "bbox": [8, 12, 16, 24], "iscrowd": 0}]}))
    coco, stamps, _ = truth_through_a_bag(tmp_path / "c", tmp_path, layout="coco")
    one = coco.boxes(stamps[0])
    assert np.allclose(one.xyxy_px, [[8, 12, 24, 36]]) and one.names == ["car"] and one.ids == [""]
    assert coco.boxes(stamps[1]) is None  # not listed: nothing is known
    (folder.parent / "labels").mkdir()
    (folder.parent / "labels" / "a.txt").write_text("0 0.25 0.5 0.25 0.5\n")
    (folder.parent / "classes.txt").write_text("car\n")
    (folder.parent / "annotations.json").unlink()
    yolo, stamps, said = truth_through_a_bag(tmp_path / "c", tmp_path / "yolo")
    assert said["layout"] == "yolo" and np.allclose(yolo.boxes(stamps[0]).xyxy_px, one.xyxy_px)


def test_kitti_poses_and_calibration(tmp_path: Path) -> None:
    numbered(tmp_path / "s" / "image_0")
    (tmp_path / "s" / "times.txt").write_text("0\n0.1\n0.2\n")
    (tmp_path / "s" / "calib.txt").write_text("P0: 50 0 32 0 0 50 24 0 0 0 1 0\n")
    (tmp_path / "s" / "poses.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 0\n1 0 0 0 0 1 0 0 0 0 1 2\n"
                                              "0 -1 0 3 1 0 0 0 0 0 1 4\n")
    truth, stamps, said = truth_through_a_bag(tmp_path / "s", tmp_path, resize=(32, 24))
    poses = truth.poses()
    assert truth.kinds == {"poses"} and poses.stamps_ns.tolist() == stamps
    assert np.allclose(poses.position_m[2], [3, 0, 4])
    assert np.allclose(matrix_from_quaternion(poses.quaternion_wxyz[2]), [[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    camera = said["camera"]
    assert (camera.width_px, camera.height_px) == (32, 24) and camera.K[0, 0] == 25
    assert np.allclose(camera.K[:2, 2], [(32 + 0.5) / 2 - 0.5, (24 + 0.5) / 2 - 0.5])


def test_tum_depth_and_poses(tmp_path: Path) -> None:
    pictures(tmp_path / "s" / "rgb", ["1305031102.175304.png", "1305031102.211214.png"])
    (tmp_path / "s" / "depth").mkdir()
    depth = np.full((48, 64), 10000, np.uint16)  # 2 m
    depth[0, 0] = 0
    cv2.imwrite(str(tmp_path / "s" / "depth" / "1305031102.180000.png"), depth)
    (tmp_path / "s" / "groundtruth.txt").write_text("# time tx ty tz qx qy qz qw\n1305031102.1758 1 2 3 0 0 0 1\n"
                                                    "1305031102.2258 1 2 4 0 0 0.6 0.8\n")
    truth, stamps, said = truth_through_a_bag(tmp_path / "s", tmp_path)
    assert said["layout"] == "tum" and stamps[0] == 1305031102175304001
    metres, valid = truth.depth(stamps[0])
    assert not valid[0, 0] and valid.sum() == 48 * 64 - 1 and np.allclose(metres[valid], 2.0, rtol=1e-3)
    assert truth.depth(stamps[1]) is None
    assert np.allclose(truth.poses().quaternion_wxyz[1], [0.8, 0, 0, 0.6])


@pytest.mark.parametrize(("layout", "name", "text"), [
    ("otb", "groundtruth.txt", "1,2,3,4\n"), ("otb", "groundtruth.txt", "1,2,3,4\n1,2,3\n1,2,3,4"),
    ("otb", "groundtruth.txt", "1,2,3,4\nx,2,3,4\n1,2,3,4"), ("mot", "gt.txt", "9,1,2,3,4,5,1,1,1"),
    ("coco", "annotations.json", "{}"), ("coco", "annotations.json", "no json"), ("kitti", "poses.txt", "1 2 3 4\n"),
    ("none_such", "x", "")])
def test_wrong_truth_is_said_in_one_line(tmp_path: Path, layout: str, name: str, text: str) -> None:
    numbered(tmp_path / "s")
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError) as said:
        open_folder(tmp_path / "s", 30.0, tmp_path / name, layout)
    assert "\n" not in str(said.value)


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    numbered(tmp_path / "s" / "img")
    out = tmp_path / "b.mcap"
    assert main(["convert", str(tmp_path / "s"), "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 3 and out.is_file()
    assert main(["convert", str(tmp_path / "s"), "--out", str(out)]) == 2  # exists
    assert main(["convert", str(tmp_path / "s"), "--out", str(tmp_path / "c"), "--resize", "x4"]) == 2
    assert main(["convert", str(tmp_path / "none"), "--out", str(tmp_path / "c")]) == 2
    assert not (tmp_path / "c").exists()


def test_recordings_are_found_below_folders(tmp_path: Path) -> None:
    numbered(tmp_path / "sets" / "one" / "img")
    numbered(tmp_path / "sets" / "two")
    convert(tmp_path / "sets" / "two", tmp_path / "sets" / "bags" / "a", ConvertOptions())
    convert(tmp_path / "sets" / "two", tmp_path / "sets" / "b.mcap", ConvertOptions())
    names = [str(p.relative_to(tmp_path / "sets")) for p in find_recordings([tmp_path / "sets"])]
    assert sorted(names) == ["b.mcap", "bags/a", "one", "two"]
    with pytest.raises(SourceError):
        find_recordings([tmp_path / "none"])


@given(st.lists(st.integers(0, 300), min_size=1, max_size=40), st.lists(st.integers(0, 300), min_size=1, max_size=40))
@settings(max_examples=60)
def test_joining_by_stamp_is_what_looking_everywhere_gives(stamps: list[int], asked: list[int]) -> None:
    """As long as nothing is further out of order than the window."""
    items = sorted(set(stamps))
    near, before = Stream(iter([(s, s) for s in items])), Stream(iter([(s, s) for s in items]))
    for t in sorted(asked):
        best = min(items, key=lambda s: abs(s - t))
        found = near.near(t, 3)
        assert (found is not None) == (abs(best - t) <= 3) and (found is None or abs(found - t) == abs(best - t))
        older = [s for s in items if s <= t and t - s <= 20]
        assert before.before(t, 20) == (max(older) if older else None)


def test_depth_messages() -> None:
    rng = np.random.default_rng(0)
    depth = rng.uniform(4, 200, (30, 40)).astype(np.float32)
    valid = rng.random(depth.shape) > 0.1
    seen, known = msg.read_depth(msg.depth_image(depth, valid, 5, "c"))
    assert np.array_equal(known, valid) and np.abs(seen[valid] / depth[valid] - 1).max() < 1e-3
    raw = msg.raw_image(np.where(valid, depth, np.nan), "32FC1", 5, "c")
    assert np.array_equal(msg.read_depth(raw)[0][valid], depth[valid])
    millimetres = msg.raw_image((depth * 100).astype(np.uint16), "16UC1", 5, "c")
    assert np.allclose(msg.read_depth(millimetres)[0], (depth * 100).astype(np.uint16) * 1e-3)
    for bad in (msg.raw_image(np.zeros((4, 4), np.uint8), "mono8", 5, "c"),
                msg.compressed_image(b"xx", "32FC1; compressedDepth png", 5, "c"),
                msg.compressed_image(b"x" * 99, "jpeg", 5, "c")):
        with pytest.raises(BagError):
            msg.read_depth(bad)
