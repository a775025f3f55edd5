"""Training of the mask in miniature: samples of a made flight, steps that learn, resumption, the exported file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch (extra `train`) is not installed")

from training.mask.export import export  # noqa: E402
from training.mask.flights import PICTURES, Clip  # noqa: E402
from training.mask.network import CHANNELS, MaskNet  # noqa: E402
from training.mask.samples import FIRST, sample  # noqa: E402
from training.mask.train import CROP, Data, Plan, Trainer, loss, overlap  # noqa: E402
from uav_perception.depth_pose.motion_mask import MaskNetwork  # noqa: E402
from uav_perception.engine.select import open_engine  # noqa: E402


def clip() -> Clip:
    """A wall that a resting camera looks at, and a bright square that goes to the right by 40 px a picture."""
    wall = np.random.default_rng(0).integers(60, 90, (480, 640, 3)).astype(np.uint8)
    images, moving = np.tile(wall, (PICTURES, 1, 1, 1)), np.zeros((PICTURES, 480, 640), bool)
    for k in range(PICTURES):
        images[k, 200:260, 40 * k + 20:40 * k + 80], moving[k, 200:260, 40 * k + 20:40 * k + 80] = 220, True
    return Clip(images, np.full((PICTURES, 480, 640), 20, np.float16), moving, np.tile(np.eye(4), (PICTURES, 1, 1)),
                np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]]), 0)


def data() -> Data:
    pairs = [sample(clip(), k, np.random.default_rng(k)) for k in range(FIRST, PICTURES)]
    return Data(np.stack([a for a, _ in pairs]), np.stack([b for _, b in pairs]))


def test_a_sample_differs_where_the_square_is_and_where_it_was() -> None:
    seen, moving = sample(clip(), 8, np.random.default_rng(0))
    assert seen.shape == (CHANNELS, 312, 416) and moving.shape == (312, 416)
    now = np.flatnonzero(moving[150] > 127)
    assert abs(now[0] - 340 * 416 / 640) <= 1 and abs(len(now) - 60 * 416 / 640) <= 1
    inside, ground = seen[3::2, 150, now[4]:now[-4]], seen[3::2, 40, 40:380]
    assert inside.min() > 80 and np.median(ground) < 20
    assert (seen[3::2, 150, :now[0] - 4].min(axis=0) < 40).all()  # where it was, not every picture differs


def test_crops_keep_channels_and_truth_together() -> None:
    seen, moving = data().crops(12, np.random.default_rng(1))
    assert seen.shape == (12, CHANNELS, *CROP) and moving.shape == (12, 1, *CROP)
    on, off = moving[:, 0] > 0.9, moving[:, 0] < 0.1
    assert seen[:, 3][on].median() > 60 > 10 > seen[:, 3][off].median()


def test_steps_lower_the_loss_and_a_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    plan, some = Plan("", batch=2, warmup=2, steps=8), data()
    whole, first = Trainer(plan), Trainer(plan)
    losses = [whole.step(some) for _ in range(8)]
    assert np.mean(losses[-2:]) < 0.9 * losses[0]
    for _ in range(4):
        first.step(some)
    again = Trainer(plan)
    again.restore(first.state())
    for _ in range(4):
        again.step(some)
    for a, b in zip(whole.average.parameters(), again.average.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    assert 0 <= overlap(whole.average, some) <= 1


def test_loss_is_none_for_the_truth_and_large_for_its_opposite() -> None:
    truth = torch.zeros(1, 1, 8, 8)
    truth[..., 2:5, 2:5] = 1
    assert loss(200 * truth - 100, truth) < 1e-3 and loss(100 - 200 * truth, truth) > 10


@pytest.mark.parametrize("shape", [(312, 416), (123, 77)])
def test_the_stage_runs_what_is_exported(tmp_path: Path, shape: tuple[int, int]) -> None:
    model = MaskNet()
    assert export(model, tmp_path / "uav_mask.onnx", {}) < 1e-2
    network = MaskNetwork(open_engine(tmp_path, threads=1))
    seen = np.random.default_rng(3).integers(0, 255, (CHANNELS, *shape)).astype(np.float32)
    found = network.evidence(seen)
    assert found.shape == shape and np.isfinite(found).all()
    if not (shape[0] % 8 or shape[1] % 8):
        with torch.no_grad():
            wanted = model.eval()(torch.from_numpy(seen[None]))[0, 0].numpy()
        np.testing.assert_allclose(found, wanted, atol=1e-2)
