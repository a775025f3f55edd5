"""Training of the mask in miniature: samples of a made flight, steps that learn, resumption, the exported file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch (extra `train`) is not installed")

from training.mask.export import export  # noqa: E402
from training.mask.flights import PICTURES, Clip, read  # noqa: E402
from training.mask.network import CHANNELS, MaskNet  # noqa: E402
from training.mask.samples import FIRST, WIDTHS_PX, sample  # noqa: E402
from training.mask.start import blended, go_on_from, stored  # noqa: E402
from training.mask.train import CROP, Data, Plan, Trainer, loss, overlap  # noqa: E402
from uav_perception.depth_pose.motion_mask import MaskNetwork  # noqa: E402
from uav_perception.detect.detector import own_model  # noqa: E402
from uav_perception.engine.select import open_engine  # noqa: E402
from uav_perception.errors import InputError  # noqa: E402


def clip() -> Clip:
    """A wall that a resting camera looks at, and a bright square that goes to the right by 40 px a picture."""
    wall = np.random.default_rng(0).integers(60, 90, (480, 640, 3)).astype(np.uint8)
    images, speed_m_s = np.tile(wall, (PICTURES, 1, 1, 1)), np.zeros((PICTURES, 480, 640), np.float16)
    for k in range(PICTURES):
        square = (k, slice(200, 260), slice(40 * k + 20, 40 * k + 80))
        images[square], speed_m_s[square] = 220, 10
    speed_m_s[:, :40] = 0.2  # slow: of these it is not said whether they move
    depth, poses = np.full((PICTURES, 480, 640), 20, np.float16), np.tile(np.eye(4), (PICTURES, 1, 1))
    return Clip(images, depth, speed_m_s, speed_m_s > 1, poses,
                np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]]), 0)


def data() -> Data:
    pairs = [sample(clip(), k, np.random.default_rng(k)) for k in range(FIRST, PICTURES)]
    return Data([a for a, _ in pairs], [b for _, b in pairs])


def test_a_sample_differs_where_the_square_is_and_where_it_was() -> None:
    seen, (moving, could, counts) = sample(clip(), 8, np.random.default_rng(11))  # the square leaves where it was
    h, w = moving.shape
    assert seen.shape == (CHANNELS, h, w) and h == round(0.75 * w) and WIDTHS_PX[0] <= w <= WIDTHS_PX[1]
    row = round(230 * h / 480)
    now = np.flatnonzero(moving[row] > 127)
    assert could[row, now[2]] == 255 and not could[:row - h // 4].any()
    assert abs(now[0] - 340 * w / 640) <= 1 and abs(len(now) - 60 * w / 640) <= 1
    inside, ground = seen[3:9:2, row, now[4]:now[-4]], seen[3:9:2, row - h // 4, 40:-40]
    assert inside.min() > 80 and np.median(ground) < 20
    assert (seen[3:9:2, row, :now[0] - 4].min(axis=0) < 40).all()  # where it was, not every picture differs
    assert not counts[:round(40 * h / 480) - 1].any() and counts[round(40 * h / 480) + 1:].min() == 255


def test_crops_keep_channels_and_truth_together() -> None:
    seen, truth = data().crops(12, np.random.default_rng(1))
    assert seen.shape == (12, CHANNELS, *CROP) and truth.shape == (12, 3, *CROP)
    on, off = truth[:, 0] > 0.9, truth[:, 0] < 0.1
    assert seen[:, 3][on].median() > 60 > 10 > seen[:, 3][off].median()


def test_a_small_thing_is_shown_as_often_as_a_large_one() -> None:
    truth = np.zeros((3, 480, 640), np.uint8)
    truth[0, 20:220, 20:220] = truth[0, 440:450, 600:610] = 255
    seen, found = Data([np.zeros((CHANNELS, 480, 640), np.uint8)], [truth]).crops(100, np.random.default_rng(0))
    assert seen.shape[0] == 100
    pixels = found[:, 0].sum((1, 2))
    small, large = int(((pixels > 0) & (pixels <= 100)).sum()), int((pixels > 100).sum())
    assert 25 <= small <= 60 and 25 <= large <= 75


def test_pictures_with_more_movers_are_drawn_more_often_but_each_mover_less() -> None:
    truth = [np.zeros((3, 480, 640), np.uint8) for _ in range(2)]
    for k in range(35):  # the square root of 1 + 35 is 6 times that of 1 + 0
        truth[1][0, 20 + 12 * k:26 + 12 * k, 300:306] = 255
    some = Data([np.full((CHANNELS, 480, 640), 255 * k, np.uint8) for k in range(2)], truth)
    seen, _ = some.crops(210, np.random.default_rng(0))
    crowded = int((seen[:, 4].mean((1, 2)) > 100).sum())
    assert 165 <= crowded <= 195  # 6 of 7


def test_going_on_keeps_the_normalisation_as_it_was() -> None:
    some = data()
    for start, kept in (("", False), ("uav_mask.onnx", True)):
        trainer = Trainer(Plan("", start=start, batch=2, warmup=0, steps=3))
        before = [b.clone() for b in trainer.model.buffers()]
        trainer.step(some)
        same = all(bool((a == b).all()) for a, b in zip(before, trainer.model.buffers(), strict=True))
        assert same is kept


def test_steps_lower_the_loss_and_a_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    plan, some = Plan("", batch=2, warmup=2, steps=14), data()
    whole, first = Trainer(plan), Trainer(plan)
    losses = [whole.step(some) for _ in range(14)]
    assert np.mean(losses[-2:]) < 0.9 * losses[0]
    for _ in range(4):
        first.step(some)
    again = Trainer(plan)
    again.restore(first.state())
    for _ in range(10):
        again.step(some)
    for a, b in zip(whole.average.parameters(), again.average.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    assert 0 <= overlap(whole.average, some) <= 1


def test_loss_is_none_for_the_truth_and_large_for_its_opposite() -> None:
    truth = torch.zeros(1, 3, 8, 8)
    truth[:, :2, 2:5, 2:5] = truth[:, 2] = 1
    logits = 200 * truth[:, :2] - 100
    assert loss(logits, truth) < 1e-3 and loss(-logits, truth) > 10
    truth[:, 2, :, 4:] = 0  # there it is not said what moves
    logits[:, 0, :, 4:] = 100
    assert loss(logits, truth) < 1e-3
    logits[:, 1, :, 4:] = 100  # but what could
    assert loss(logits, truth) > 1


def test_what_moves_is_what_could() -> None:
    moves, could = MaskNet().eval().both(torch.rand(2, CHANNELS, 64, 96) * 255).split(1, 1)
    assert (moves <= could).all() and (moves < could).any() and (moves == could).any()


@pytest.mark.parametrize("shape", [(320, 416), (123, 77)])
def test_the_stage_runs_what_is_exported(tmp_path: Path, shape: tuple[int, int]) -> None:
    model = MaskNet()
    assert export(model, tmp_path / "uav_mask.onnx", {}) < 1e-2
    network = MaskNetwork(open_engine(tmp_path, threads=1))
    seen = np.random.default_rng(3).integers(0, 255, (CHANNELS, *shape)).astype(np.float32)
    found = network.evidence(seen)
    assert found.shape == shape and np.isfinite(found).all()
    if not any(side % MaskNetwork.STEP for side in shape):
        with torch.no_grad():
            wanted = model.eval()(torch.from_numpy(seen[None]))[0, 0].numpy()
        np.testing.assert_allclose(found, wanted, atol=1e-2)


def test_training_goes_on_from_what_was_exported(tmp_path: Path) -> None:
    model, some = Trainer(Plan("", batch=2, warmup=0, steps=3)), data()
    for _ in range(3):
        model.step(some)
    export(model.model, tmp_path / "uav_mask.onnx", {})
    again, seen = MaskNet(), some.crops(8, np.random.default_rng(0))[0]
    go_on_from(tmp_path / "uav_mask.onnx", again, seen)
    assert again.training
    with torch.no_grad():
        wanted = model.model.eval()(seen)
        torch.testing.assert_close(again(seen), wanted, atol=1e-2, rtol=1e-2)  # normalised by these pictures
        torch.testing.assert_close(again.eval()(seen), wanted, atol=1e-2, rtol=1e-2)  # and as it will be in flight


def test_a_blend_lies_between_what_was_learnt_and_what_it_began_from(tmp_path: Path) -> None:
    trainer, some = Trainer(Plan("", batch=2, warmup=0, steps=6)), data()
    for _ in range(3):
        trainer.step(some)
    export(trainer.model, tmp_path / "before.onnx", {})
    before = stored(tmp_path / "before.onnx")
    for _ in range(3):
        trainer.step(some)
    seen = some.crops(8, np.random.default_rng(0))[0]
    with torch.no_grad():
        wanted = trainer.model.eval()(seen)
        torch.testing.assert_close(blended(trainer.model, before, 1.0, seen).eval()(seen), wanted, atol=1e-2, rtol=1e-2)
    export(blended(trainer.model, before, 0.25, seen), tmp_path / "mixed.onnx", {})
    export(trainer.model, tmp_path / "after.onnx", {})
    after, mixed = (stored(tmp_path / name) for name in ("after.onnx", "mixed.onnx"))
    for (a, _), (b, _), (c, _) in zip(before, after, mixed, strict=True):
        torch.testing.assert_close(c, 0.75 * a + 0.25 * b, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("file, says", [(b"no", "ONNX"), (None, "another network")])
def test_it_does_not_go_on_from_something_else(tmp_path: Path, file: bytes | None, says: str) -> None:
    path = tmp_path / "other.onnx"
    if file is None:
        path = next(own_model().glob("*.onnx"))
    else:
        path.write_bytes(file)
    with pytest.raises(InputError, match=says):
        go_on_from(path, MaskNet(), torch.zeros(1, CHANNELS, 64, 64))


def test_a_flight_of_another_version_is_refused(tmp_path: Path) -> None:
    whole = {name: getattr(clip(), name) for name in Clip.__dataclass_fields__}
    np.savez(tmp_path / "a.npz", **whole)
    np.testing.assert_array_equal(read(tmp_path / "a.npz").images, whole["images"])
    del whole["speed_m_s"]
    np.savez(tmp_path / "a.npz", **whole)
    with pytest.raises(InputError, match=r"a\.npz.*speed_m_s"):
        read(tmp_path / "a.npz")
    (tmp_path / "a.npz").write_bytes(b"PK half of it")
    with pytest.raises(InputError, match=r"a\.npz"):
        read(tmp_path / "a.npz")
