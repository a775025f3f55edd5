from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from depth_scenes import CAMERA, Rendered

from uav_perception.cli.main import main
from uav_perception.geometry import matrix_from_quaternion, se3_inverse, so3_log

INTRINSICS = "200,200,127.5,95.5"


@pytest.fixture(scope="module")
def images(flight: Rendered, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for f in flight.frames:
        cv2.imwrite(str(folder / f"{f.seq:04d}.png"), f.image)
    return folder


def test_depth_poses_and_scale_of_a_folder(images: Path, flight: Rendered, tmp_path: Path,
                                           capsys: pytest.CaptureFixture[str]) -> None:
    heights = tmp_path / "agl.txt"
    heights.write_text("\n".join("nan" if k == 9 else "10.0" for k in range(len(flight.frames))))
    out = tmp_path / "out"
    assert main(["depth", "--images", str(images), "--camera", INTRINSICS, "--out", str(out), "--agl", str(heights),
                 "--camera-pitch", "50", "--model", "none", "--json"]) == 0
    meta = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert meta == json.loads((out / "meta.json").read_text()) and meta["scale"] == "METRIC" and meta["smoothed"]
    rows = np.loadtxt(out / "poses.tum")
    assert rows.shape == (16, 8)
    for k in (5, 10, 15):
        depth = np.load(out / "depth" / f"{k:04d}.npy")
        assert depth.dtype == np.float32 and depth.shape == (CAMERA.height_px, CAMERA.width_px)
        v = np.isfinite(depth)
        assert v.mean() > 0.7 and np.mean(np.abs(depth[v] / flight.depth[k][v] - 1)) < 0.1
        moved = rows[k, 1:4] - rows[0, 1:4]  # camera to world in the axes of the first camera
        truth = (se3_inverse(flight.world_from_camera[0]) @ flight.world_from_camera[k])[:3, 3]
        np.testing.assert_allclose(moved, truth, atol=0.06 * np.linalg.norm(truth))
        turn = matrix_from_quaternion([rows[k, 7], *rows[k, 4:7]])
        wanted = (se3_inverse(flight.world_from_camera[0]) @ flight.world_from_camera[k])[:3, :3]
        assert np.degrees(np.linalg.norm(so3_log(turn.T @ wanted))) < 0.8


def test_without_heights_the_scale_is_unit(images: Path, tmp_path: Path) -> None:
    assert main(["depth", "--images", str(images), "--camera", INTRINSICS, "--out", str(tmp_path), "--model", "none",
                 "--online"]) == 0
    meta = json.loads((tmp_path / "meta.json").read_text())
    assert meta["scale"] == "UNIT" and meta["metres_per_unit"] is None and not meta["smoothed"]


@pytest.mark.parametrize(("change", "words"), [
    (["--camera", "200,200,127"], "four numbers"),
    (["--camera", "0,200,127,95"], "focal"),
    (["--images", "/nowhere"], "existing folder"),
    (["--model", "/nowhere.onnx"], "model"),
    (["--agl", "SHORT"], "one a picture"),
    (["--stamps", "BACK"], "rising"),
])
def test_bad_input_is_one_line_and_exit_2(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                          change: list[str], words: str) -> None:
    (tmp_path / "SHORT").write_text("10\n11\n")
    (tmp_path / "BACK").write_text("\n".join(str(1.0 - 0.1 * (k == 5) + 0.01 * k) for k in range(16)))
    base = {"--images": str(images), "--camera": INTRINSICS, "--out": str(tmp_path / "out"), "--model": "none"}
    option, value = change
    base[option] = str(tmp_path / value) if value.isupper() else value
    assert main(["depth", *[w for pair in base.items() for w in pair]]) == 2
    message = capsys.readouterr().err.strip()
    assert words in message and "\n" not in message and "Traceback" not in message
