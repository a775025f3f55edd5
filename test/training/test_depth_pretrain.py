"""The depth network's supervised start, in miniature."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs PyTorch (extra `train`)")

from training.depth.pretrain import Data, Plan, Trainer, abs_rel, augmented, depth_loss  # noqa: E402
from training.depth.views import FAR_M, WIDTH, render_chunks, view  # noqa: E402

HEIGHT = 128


def data(count: int = 4) -> Data:
    """Slopes whose brightness tells their depth."""
    rng = np.random.default_rng(0)
    slope = np.linspace(4, 20, HEIGHT)[:, None] * np.ones((1, WIDTH))
    depth = np.stack([slope * rng.uniform(0.5, 2) for _ in range(count)])
    images = np.repeat((255 - 10 * slope)[None, ..., None], count, 0).repeat(3, -1).astype(np.uint8)
    return Data([(images, depth.astype(np.float16))])


def without_level(disparity, truth) -> float:
    """The loss but for the part that keeps the free factor near one."""
    return float(depth_loss(disparity, truth) - 0.02 * (torch.log(disparity).mean((1, 2, 3)) ** 2).mean())


def test_the_loss_knows_shape_and_not_size() -> None:
    truth = torch.rand(2, 1, 16, 24, generator=torch.Generator().manual_seed(0)) * 20 + 2
    disparity = 1 / truth[..., 1::2, 1::2]
    assert without_level(disparity, truth) < 0.2 * without_level(torch.ones_like(disparity), truth)
    assert without_level(0.5 * disparity, truth) == pytest.approx(without_level(disparity, truth), abs=1e-3)
    assert depth_loss(8 * disparity, truth) > depth_loss(truth.mean() * disparity, truth)


def test_the_sky_is_far_and_has_no_shape() -> None:
    truth = torch.full((1, 1, 16, 24), FAR_M)
    truth[..., 8:, :] = 5.0
    near, far = torch.full((1, 1, 8, 12), 0.2), torch.full((1, 1, 8, 12), 0.2)
    far[..., :4, :] = 0.01
    assert without_level(far, truth) < without_level(near, truth)


def test_batches_are_cut_and_mirrored_alike_and_drawn_by_seed() -> None:
    images, depths = np.zeros((1, HEIGHT, WIDTH, 3), np.uint8), np.zeros((1, HEIGHT, WIDTH), np.float16)
    images[0, :, :140], depths[0, :, :140] = 200, 7.0
    d = Data([(images, depths)])
    image, depth = d.batch(16, np.random.default_rng(1))
    bright = image.mean(1, keepdim=True) > 40
    assert (bright != (depth > 1)).float().mean() < 0.01
    assert len({bool(b[0, 0, 0]) for b in bright}) == 2 and len({int(b[0, 0].sum()) for b in bright}) > 4
    again, _ = d.batch(16, np.random.default_rng(1))
    assert torch.equal(image, again)
    assert 0 <= float(augmented(torch.full((2, 3, 4, 4), 255.0), np.random.default_rng(0)).max()) <= 255


def test_a_batch_has_one_shape_and_runs_see_all() -> None:
    def place(h: int) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros((2, h, WIDTH, 3), np.uint8), np.ones((2, h, WIDTH), np.float16)

    d = Data([place(312), place(128), place(234)])
    shapes = {tuple(d.batch(2, np.random.default_rng(k))[1].shape[2:]) for k in range(20)}
    assert shapes == {(192, 288), (128, 416), (160, 320)}


def test_a_run_learns_and_goes_on_where_it_stopped() -> None:
    plan = Plan("unused", "unused", steps=6, batch=2, warmup=1)
    whole = Trainer(plan)
    before = abs_rel(whole.average, data())
    losses = [whole.step(data()) for _ in range(6)]
    half = Trainer(plan)
    for _ in range(3):
        half.step(data())
    rest = Trainer(plan)
    rest.restore(half.state())
    assert [rest.step(data()) for _ in range(3)] == pytest.approx(losses[3:], rel=1e-4)
    assert np.isfinite(before) and losses[-1] < losses[0]


def test_pictures_are_rendered_once(tmp_path, monkeypatch) -> None:
    pytest.importorskip("embreex", reason="rendering needs the extra `sim`")
    made = []

    def chunk(index: int):
        made.append(index)
        image, depth = view(index * 40, 96)
        return image[None], depth[None]

    monkeypatch.setattr("training.depth.views.chunk", chunk)
    for _ in range(2):
        assert len(list(render_chunks(tmp_path, range(3, 4)))) == 1
    assert made == [3]
    read = Data.read(tmp_path, range(3, 4))
    (images, depth), = read.places
    assert images.shape == (1, 96, WIDTH, 3) and 0 < depth.min() <= depth.max() <= FAR_M
