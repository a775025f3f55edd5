"""The whole adaptation in miniature: frames in, ONNX out that the stage runs; and again from its checkpoint."""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra `train`")

from training.depth import command  # noqa: E402
from training.depth.networks import DepthNet, PoseNet  # noqa: E402
from training.depth.scenes import make_scene, render  # noqa: E402
from uav_perception.config import DepthPoseConfig  # noqa: E402
from uav_perception.depth_pose.estimator import make_depth_pose  # noqa: E402
from uav_perception.errors import InputError  # noqa: E402
from uav_perception.geometry import se3  # noqa: E402
from uav_perception.records import CameraModel, Frame  # noqa: E402

K = np.array([[150.0, 0, 95.5], [0, 150.0, 63.5], [0, 0, 1]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("frames")
    scene, pose, _ = make_scene(np.random.default_rng(5))
    for k in range(6):
        image, _ = render(scene, pose @ se3(np.eye(3), [0.05 * k, 0, 0.01 * k]), K, 192, 128)
        cv2.imwrite(str(out / f"{k:03d}.png"), image)
    return out


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.arguments(parser)
    return parser.parse_args(words)


def test_frames_to_engines_and_on_from_the_checkpoint(folder: Path, tmp_path: Path) -> None:
    common = ["--images", str(folder), "--camera", "150,150,95.5,63.5", "--out", str(tmp_path), "--batch", "1",
              "--size", "96x64", "--start", "none"]
    report = command.run(arguments(*common, "--steps", "1"))
    assert report["size"] == [96, 64] and report["frames"] == 6
    weights = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert weights["steps"] == 1
    command.run(arguments(*common, "--steps", "2"))
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["steps"] == 2
    assert cv2.imread(str(tmp_path / "preview.png")) is not None
    config = DepthPoseConfig(depth_model=str(tmp_path / "depth.onnx"), pose_model=str(tmp_path / "pose.onnx"))
    stage = make_depth_pose(config)
    camera = CameraModel(K, np.zeros(5), 192, 128)
    for k, path in enumerate(sorted(folder.glob("*.png"))):
        result = stage.update(Frame(k, k * 10**8, np.asarray(cv2.imread(str(path)), np.uint8), camera))
        assert result.depth is not None and result.depth.valid.all()  # a network speaks for every pixel
    assert stage.engine_info.backend == "onnxruntime"


def test_weights_that_got_worse_are_not_exported(folder: Path, tmp_path: Path) -> None:
    report = command.run(arguments("--images", str(folder), "--camera", "150,150,95.5,63.5", "--out", str(tmp_path),
                                   "--batch", "1", "--size", "96x64", "--start", "none", "--steps", "1",
                                   "--rate", "100"))
    held_out = report["held_out"]
    assert held_out["frames"] > 0 and held_out["kept"] == held_out["start"]
    trained = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert not torch.equal(trained["nets"]["depth.head.weight"], trained["best"]["depth"][1]["head.weight"])


def test_bad_arguments_are_said_in_one_line(folder: Path, tmp_path: Path) -> None:
    given = ["--images", str(folder), "--camera", "150,150,95.5,63.5", "--out", str(tmp_path)]
    with pytest.raises(InputError, match="intrinsics"):
        command.run(arguments("--images", str(folder), "--out", str(tmp_path)))
    with pytest.raises(InputError, match="multiples of 32"):
        command.run(arguments(*given, "--size", "100x64"))
    with pytest.raises(InputError, match="start weights"):
        command.run(arguments(*given, "--size", "96x64", "--start", str(tmp_path / "none.pt")))


def test_networks_are_small_and_positive() -> None:
    depth, pose = DepthNet().eval(), PoseNet().eval()
    assert sum(p.numel() for net in (depth, pose) for p in net.parameters()) < 2.5e6
    with torch.no_grad():
        disparity = depth(torch.rand(1, 3, 64, 96) * 255)
        motion = pose(torch.zeros(1, 3, 64, 96), torch.zeros(1, 3, 64, 96))
    assert disparity.shape == (1, 1, 32, 48) and float(disparity.min()) > 0
    assert motion.shape == (1, 6)
