"""The report page, the terminal table, and the doctor."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from uav_perception.cli.main import main
from uav_perception.errors import ModelError
from uav_perception.runtime import doctor
from uav_perception.runtime.report import page, write_report
from uav_perception.runtime.screen import Screen

REPORT = {
    "source": "<script>alert(1)</script>", "ended": "source ended", "duration_s": 3.0, "first_track_s": 1.5,
    "transport": "shm", "counts": {"frames": 75, "detections": 200, "tracks": 4, "odometry": 70, "mavlink": 99},
    "latency_ms": {"detector": {"p50": 20.0, "p95": 31.0, "p99": 40.0}}, "work_ms": {"detector": {"p50": 12.0}},
    "rate_hz": {"detector": 25.0}, "dropped": {"detector": 3}, "failed": {"detector": 0},
    "deadline_misses": {"detector": 1},
    "engines": {"detector": {"name": "uav", "backend": "onnxruntime", "precision": "int8", "why": "best here"}},
    "messages": {"detector": {"level": "OK", "message": "running"}},
    "mavlink": {"sent": {"HEARTBEAT": 50}, "withheld": {"stale": 2}}, "events": ["perception: died & came back"],
}


def test_page_holds_the_numbers_and_escapes_what_users_wrote(tmp_path):
    text = page(REPORT)
    for needed in ("75", "onnxruntime", "HEARTBEAT", "stale", "died &amp; came back", "31.0"):
        assert needed in text
    assert "<script>" not in text and "http" not in text
    write_report(REPORT, tmp_path)
    assert json.loads((tmp_path / "report.json").read_text()) == REPORT
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.html", "report.json"]  # no half files


def stage(level=0, message="running", **values):
    return SimpleNamespace(level=level, message=message, values=values)


def test_piped_output_is_plain_lines_without_control_codes():
    out = io.StringIO()
    with Screen(("camera", "detector"), out) as screen:
        screen.show(1.0, {"camera": stage(rate_hz=30.0), "detector": stage(2, "no such model")})
        screen.show(1.1, {"camera": stage(rate_hz=30.0)})  # too soon for a person
        screen.say("detector: died")
    assert out.getvalue().splitlines() == ["   1.0 s  camera 30.0 Hz  detector - Hz ERROR: no such model",
                                           "detector: died"]


def test_terminal_shows_every_stage_in_place():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    out = Terminal()
    with Screen(("camera", "detector", "recorder"), out) as screen:
        screen.show(1.0, {"camera": stage(rate_hz=30.0, done=42, age_p50_ms=1.0, age_p95_ms=2.0, dropped=7),
                          "detector": stage(1, "nothing for 3.0 s", engine="uav")})
    assert all(word in out.getvalue() for word in ("camera", "30.0", "42", "recorder", "starting", "uav"))


def test_doctor_names_everything_with_a_remedy_for_what_is_missing(capsys):
    code = main(["doctor", "--json"])
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    findings = told["findings"]
    assert {"ROS 2", "interfaces", "transport", "OpenCV", "ONNX Runtime", "TensorRT", "cameras"} <= set(findings)
    assert code == (0 if told["ok"] else 1)
    for finding in findings.values():
        assert finding["found"] and (finding["state"] != "missing" or finding["remedy"])


def test_doctor_survives_a_sick_part(monkeypatch):
    def broken():
        """engine."""
        raise ModelError("torn.onnx", "a whole one", "build it again")

    def defect():
        """camera."""
        raise OSError("gone")

    monkeypatch.setattr(doctor, "CHECKS", (broken, defect))
    first, second = doctor.examine()
    assert (first.name, first.state, first.found, first.remedy) == ("engine", "missing", "torn.onnx", "build it again")
    assert second.state == "missing" and "gone" in second.found


@pytest.mark.parametrize("name", ["depth", "occlusion", "tracker"])
def test_benchmarks_open_from_any_folder(name, tmp_path):
    """They share files that are not installed."""
    done = subprocess.run([sys.executable, "-m", "uav_perception.cli.main", "bench", name, "--help"], cwd=tmp_path,
                          capture_output=True, text=True)
    assert done.returncode == 0 and "--json" in done.stdout, done.stderr


@pytest.mark.parametrize("words,said", [(["bench", "nothing"], "transport"), (["bench", "transport", "--no"], "--no")])
def test_bench_refuses_in_one_line(words, said, capsys):
    assert main(words) == 2
    assert said in capsys.readouterr().err and len(capsys.readouterr().err.splitlines()) <= 1
