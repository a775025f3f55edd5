"""Bags of rendered flights, resuming, the camera source, and machines without the renderer."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from uav_perception.camera.bagfile import BagFile
from uav_perception.cli.main import main
from uav_perception.errors import InputError, MissingDependency
from uav_perception.sim import record
from uav_perception.sim.flight import Flight, FlightOptions
from uav_perception.sim.mesh import box
from uav_perception.sim.record import BagOptions, render_bag
from uav_perception.sim.world import ray_caster

TINY = FlightOptions(width_px=96, height_px=64, fps=4, seed=3)
DEMO = Path(record.__file__).with_name("demo")


def test_missing_renderer_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "embreex.mesh_construction", None)
    with pytest.raises(MissingDependency, match=r"embreex.*uav_perception\[sim\]"):
        ray_caster(box([1, 1, 1], [0, 0, 0], 0))
    assert main(["sim", "render", "street", "--out", str(tmp_path / "b"), "--seconds", "0.1", "--size", "64x48"]) == 2
    message = capsys.readouterr().err
    assert "embreex" in message and "Traceback" not in message and message.count("\n") == 1


def test_the_demo_flight_reads_without_the_renderer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "embreex", None)
    bags = list(DEMO.glob("*.mcap"))
    assert len(bags) == 1 and bags[0].stat().st_size < 8 * 2**20
    with BagFile(bags[0]) as bag:
        topics = {name.lstrip("/") for name in bag.topics}
    assert {"image/compressed", "camera_info", "height_agl", "truth/pose", "truth/boxes"} <= topics


class TestRendered:
    @pytest.fixture(autouse=True)
    def _renderer(self) -> None:
        pytest.importorskip("embreex", reason="the renderer (extra `sim`) is not installed")

    def test_bag_holds_what_the_flight_said(self, tmp_path: Path) -> None:
        from uav_perception.offline.truth import BagTruth

        out = tmp_path / "flight.mcap"
        assert render_bag("parking", out, TINY, BagOptions(0.5)) == 2
        assert not list(tmp_path.glob("*.partial"))
        frames = [f for f, _ in zip(Flight("parking", TINY), range(2), strict=False)]
        truth = BagTruth(out, 0)
        poses = truth.poses()
        assert poses is not None and poses.stamps_ns.tolist() == [f.frame.stamp_ns for f in frames]
        for f in frames:
            boxes, depth = truth.boxes(f.frame.stamp_ns), truth.depth(f.frame.stamp_ns)
            assert boxes is not None and depth is not None
            seen = f.visibility > 0
            np.testing.assert_allclose(boxes.xyxy_px, f.xyxy_px[seen], atol=1e-4)
            assert [int(i) for i in boxes.ids] == f.object_id[seen].tolist()
            near = f.depth.depth < 60 * f.depth.depth[f.depth.valid].min()
            valid = f.depth.valid & near
            np.testing.assert_allclose(depth[0][valid], f.depth.depth[valid], rtol=1e-3)
            agl = truth.height_agl_m(f.frame.stamp_ns)
            assert agl == pytest.approx(f.height_agl_m, rel=1e-5)
        with BagFile(out) as bag:
            assert bag.topics["image/compressed"].count == bag.topics["camera_info"].count == 2
            info = bag.decode(next(bag.messages(["camera_info"])))
        np.testing.assert_array_equal(np.reshape(info.k, (3, 3)), Flight("parking", TINY).camera.K)

    def test_interrupted_render_resumes_to_the_same_bag(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = tmp_path / "whole.mcap"
        render_bag("street", whole, TINY, BagOptions(1.0))
        out, drawn = tmp_path / "cut.mcap", []

        def stop(done: int, total: int) -> None:
            drawn.append(done)
            if done == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            render_bag("street", out, TINY, BagOptions(1.0), progress=stop)
        assert not out.exists()
        with pytest.raises(InputError, match="--resume"):
            render_bag("street", out, TINY, BagOptions(1.0))
        with pytest.raises(InputError, match="another flight"):
            render_bag("parking", out, TINY, BagOptions(1.0), resume=True)
        drawn.clear()
        assert render_bag("street", out, TINY, BagOptions(1.0), resume=True, progress=lambda d, t: drawn.append(d)) == 4
        assert drawn == [3, 4]
        one, two = ([(m.topic, m.bag_ns, bytes(m.data)) for m in BagFile(p).messages()] for p in (whole, out))
        assert one == two

    def test_camera_source_gives_frames_with_truth(self) -> None:
        from uav_perception.camera import CameraSource
        from uav_perception.config import CameraConfig
        from uav_perception.sim.source import SimSource

        source = SimSource("street@4", CameraConfig(width_px=96, height_px=64, realtime=False))
        assert isinstance(source, CameraSource) and not source.ended
        first, second = source.read(1.0), source.read(1.0)
        assert first is not None and second is not None and second.stamp_ns - first.stamp_ns == round(1e9 / 30)
        assert source.truth is not None and source.truth.frame is second
        source.close()
        assert source.ended and source.read(0.1) is None
        with pytest.raises(InputError, match="SEED"):
            SimSource("street@x")

    def test_random_views_repeat_and_differ(self) -> None:
        from uav_perception.sim.views import random_view

        a, boxes, classes = random_view(7, 128, 96)
        b, again, _ = random_view(7, 128, 96)
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(boxes, again)
        assert a.shape == (96, 128, 3) and len(boxes) == len(classes)
        assert (boxes[:, 2:] <= [128, 96]).all() and (boxes[:, :2] >= 0).all() and (boxes[:, 2:] > boxes[:, :2]).all()
        c, _, _ = random_view(8, 128, 96)
        assert cv2.absdiff(a, c).mean() > 5
        hot, _, _ = random_view(7, 128, 96, thermal=True)
        assert (hot[..., 0] == hot[..., 2]).all()


@pytest.mark.parametrize(
    "arguments",
    [
        ["moon", "--out", "x"],
        ["street", "--out", "x", "--size", "10"],
        ["street", "--out", "x", "--fps", "-1"],
        ["street", "--out", "x", "--seconds", "0"],
    ],
)
def test_bad_arguments_end_with_one_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["sim", "render", *arguments]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "Traceback" not in message
    assert not list(tmp_path.iterdir())
