"""A recording through all stages in lock-step: the same bytes every time, on any number of workers."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from pathlib import Path

import pytest
from conftest_scene import PERIOD_NS, START_NS, write_scene

from uav_perception.cli.main import main
from uav_perception.config import EvaluateConfig, FlightConfig
from uav_perception.errors import ModelError
from uav_perception.offline import runner
from uav_perception.offline.evaluate import Options, evaluate_recording
from uav_perception.offline.runner import make_jobs, run_job, run_jobs
from uav_perception.offline.summary import compare, report_of
from uav_perception.offline.verify import verify

STAGES = ("tracker", "depth_pose")


def evaluate(path: Path, out: Path, alone: bool = False, **options: object) -> dict:
    settings = {"stages": STAGES, "target": "4", **options}
    config = FlightConfig().with_values("tracker", target_tracker="kcf")  # the quick one: LSART has tests of its own
    return evaluate_recording(path, out, config, EvaluateConfig(worst_frames=2), Options(**settings), alone)


@pytest.fixture(scope="module")
def evaluated(scene_bag: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("out")
    return out, evaluate(scene_bag, out)


def test_everything_is_scored(evaluated: tuple[Path, dict]) -> None:
    _, result = evaluated
    assert result["counts"]["frames"] == 16 and result["truth"] == ["boxes", "poses"] and result["locked_object"] == "4"
    assert result["scores"]["detection"]["AP50"] > 0.95  # recorded detections, shaky by 0.7 px
    assert result["scores"]["tracking"]["HOTA"] > 0.5 and result["scores"]["tracking"]["IDSW"] == 0
    assert result["scores"]["target"]["frames"] == 16 and result["scores"]["target"]["success_auc"] > 0.4
    assert result["loss"]["status"] == ""


def test_frames_that_nobody_looked_at_are_no_misses(tmp_path: Path) -> None:
    """A slow detector's tracks go on between its looks."""
    slow = write_scene(tmp_path / "slow", 24, detections_every=4)
    result = evaluate(slow, tmp_path / "out", stages=("tracker",), target="none")
    assert result["scores"]["tracking"]["HOTA"] > 0.5 and result["scores"]["tracking"]["IDSW"] == 0


def test_exported_files_give_the_reference_tools_the_same_scores(evaluated: tuple[Path, dict]) -> None:
    out, result = evaluated
    apart = verify(out, result)
    assert set(apart) == {"detection", "tracking", "target"} and max(apart.values()) < 1e-9
    lines = (out / "target.txt").read_text().splitlines()
    assert len(lines) == 16 and lines[0] == (out / "target_gt.txt").read_text().splitlines()[0]  # given, not found
    assert (out / "frames.csv").read_text().splitlines()[1].startswith(f"1,{START_NS},2,")


def test_same_bytes_on_rerun(scene_bag: Path, evaluated: tuple[Path, dict], tmp_path: Path) -> None:
    out, result = evaluated
    again = evaluate(scene_bag, tmp_path / "again")
    assert json.dumps(again) == json.dumps(result)
    names = sorted(p.name for p in out.iterdir() if p.is_file() and p.name != "timings.json")
    assert names == sorted(p.name for p in (tmp_path / "again").iterdir() if p.is_file() and p.name != "timings.json")
    assert all((out / n).read_bytes() == (tmp_path / "again" / n).read_bytes() for n in names)


def test_a_second_process_changes_nothing(scene_bag: Path, evaluated: tuple[Path, dict], tmp_path: Path) -> None:
    assert json.dumps(evaluate(scene_bag, tmp_path / "alone", alone=True)) == json.dumps(evaluated[1])


def test_a_model_that_the_second_process_cannot_load_is_said(scene_bag: Path, tmp_path: Path) -> None:
    config = FlightConfig().with_values("depth_pose", depth_model=str(tmp_path / "none.onnx"))
    with pytest.raises(ModelError, match=r"none\.onnx"):
        evaluate_recording(scene_bag, tmp_path / "out", config, EvaluateConfig(), Options(stages=STAGES), alone=True)


def test_the_second_process_ends_where_another_stage_cannot_be_loaded(scene_bag: Path, tmp_path: Path) -> None:
    config = FlightConfig().with_values("detector", model=str(tmp_path / "none.onnx"))
    with pytest.raises(ModelError, match=r"none\.onnx"):
        evaluate_recording(scene_bag, tmp_path / "out", config, EvaluateConfig(), Options(), alone=True)
    assert not multiprocessing.active_children()


def test_storage_does_not_change_the_numbers(evaluated: tuple[Path, dict], tmp_path: Path) -> None:
    other = write_scene(tmp_path / "scene", 16, storage="sqlite3", compression="message")
    assert evaluate(other, tmp_path / "out") == evaluated[1]


def test_workers_give_identical_reports_and_a_broken_bag_stops_nobody(tmp_path: Path) -> None:
    bags = [write_scene(tmp_path / "bags" / n, 6) for n in ("a", "b")]
    (tmp_path / "bags" / "broken.mcap").write_bytes(b"\x89MCAP0\r\nnonsense")
    paths = [*bags, tmp_path / "bags" / "broken.mcap"]
    reports = []
    for workers in (1, 2):
        out = tmp_path / f"out{workers}"
        jobs = make_jobs(paths, out, FlightConfig(), EvaluateConfig(), Options(stages=("tracker",), target="none"))
        reports.append(report_of(run_jobs(jobs, workers)))
    assert json.dumps(reports[0]) == json.dumps(reports[1])
    assert reports[0]["failed"] == ["broken"] and reports[0]["overall"]["frames"] == 12
    error = reports[0]["recordings"][2]["error"]
    assert error.startswith("BagError: bag ") and "\n" not in error


def test_a_defect_that_one_recording_brings_to_light_stops_nobody(tmp_path: Path,
                                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    bags = [write_scene(tmp_path / "bags" / n, 3) for n in ("a", "b")]

    def broken(path: Path, *rest: object) -> dict:
        if path.name == "a":
            raise ZeroDivisionError("by\nzero")
        return evaluate_recording(path, *rest)

    monkeypatch.setattr(runner, "evaluate_recording", broken)
    options = Options(stages=("tracker",), target="none")
    results = run_jobs(make_jobs(bags, tmp_path / "out", FlightConfig(), EvaluateConfig(), options))
    assert results[0]["error"] == "WorkFailed: ZeroDivisionError: by zero" and results[1]["counts"]["frames"] == 3


def test_finished_recordings_are_not_evaluated_again(tmp_path: Path) -> None:
    bag = write_scene(tmp_path / "a", 8)
    job = make_jobs([bag], tmp_path / "out", FlightConfig(), EvaluateConfig(), Options(stages=("tracker",)))[0]
    first = run_job(job)
    marker = Path(job.out) / "frames.csv"
    marker.unlink()
    assert run_job(job) == first and not marker.exists()
    shutil.rmtree(bag)
    write_scene(bag, 9)  # another recording under the same name
    assert run_job(job)["counts"]["frames"] == 9 and marker.exists()


def test_loss_is_stated_and_the_rest_is_scored(tmp_path: Path) -> None:
    offsets = [0, 1, 1, 2, 0, 3, *range(20, 40)]
    bag = write_scene(tmp_path / "a", len(offsets), stamps=[START_NS + o * PERIOD_NS for o in offsets])
    file = bag / "a.mcap"
    data = file.read_bytes()
    file.write_bytes(data[:len(data) * 9 // 10])
    result = evaluate(bag, tmp_path / "out", stages=("tracker",), target="none")
    assert result["counts"]["frames"] >= 20 and result["scores"]["detection"]["AP50"] > 0.8
    assert result["loss"]["frames"] == {"with a duplicate stamp left out": 1, "with a backward stamp left out": 1}
    assert result["loss"]["longest_gap_s"] == pytest.approx(17 * PERIOD_NS * 1e-9, abs=1e-6)
    assert "cut short" in result["loss"]["bag"][0] and result["loss"]["status"]


def test_regressions_against_a_baseline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bag = write_scene(tmp_path / "a", 10)
    words = ["evaluate", str(bag), "--stages", "tracker", "--out", str(tmp_path / "out"), "--json"]
    assert main(words) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["failed"] == [] and said["overall"]["detection"]["AP50"] > 0.9
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<svg" in page and "http://" not in page and "https://" not in page
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    (tmp_path / "old.json").write_text(json.dumps(report))
    assert main([*words, "--baseline", str(tmp_path / "old.json")]) == 0
    report["recordings"][0]["scores"]["detection"]["AP"] = 1.0
    report["recordings"][0]["scores"]["detection"]["AP50"] += 0.5
    (tmp_path / "old.json").write_text(json.dumps(report))
    assert main([*words, "--baseline", str(tmp_path / "old.json")]) == 1
    assert "worse than the baseline: a AP50" in capsys.readouterr().err
    assert main([*words, "--baseline", str(tmp_path / "none.json")]) == 2


def test_compare_sees_losses_in_both_directions_and_missing_recordings() -> None:
    def report(hota: float, ate: float, names: tuple[str, ...] = ("x",)) -> dict:
        scores = {"tracking": {"HOTA": hota}, "trajectory": {"ate_rmse_m": ate}}
        return {"recordings": [{"name": n, "scores": scores} for n in names], "overall": {}}

    worse = {r["score"] for r in compare(report(0.5, 2.0), report(0.6, 1.0), 0.01) if r["worse"]}
    assert worse == {"HOTA", "ate_m"}
    assert not any(r["worse"] for r in compare(report(0.6, 1.0), report(0.5, 2.0), 0.01))
    assert not any(r["worse"] for r in compare(report(0.595, 1.009), report(0.6, 1.0), 0.01))
    assert any(r["worse"] for r in compare(report(1, 1), report(1, 1, ("x", "y")), 0.01))


@pytest.mark.parametrize("words", [["none_such"], [".", "--stages", "magic"], [".", "--workers", "0"],
                                   [".", "--map", "x"], [".", "--tolerance", "7"], ["empty"]])
def test_bad_arguments_are_one_line_and_exit_2(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                               capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    assert main(["evaluate", *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_unknown_target_is_never_locked(scene_bag: Path, tmp_path: Path) -> None:
    result = evaluate(scene_bag, tmp_path, target="77")
    assert result["locked_object"] is None and "target" not in result["scores"]

