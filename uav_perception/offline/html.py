"""``report.json``, ``timings.json`` and ``report.html`` of an evaluation, from the folders of its recordings."""

from __future__ import annotations

import csv
import json
import sys
from array import array
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from .charts import Line, Span, histogram, line_chart, timeline
from .exports import code_commit, write_json
from .metrics.target import DISTANCES_PX, OVERLAPS
from .metrics.tracking import ALPHAS, curves
from .report import Picture, Section, charts, gallery, notice, pairs, table, text, titled, write_report
from .stages import STAGES
from .summary import WATCHED

RECALLS = np.linspace(0, 1, 101)
_WORDS = ("target", "ego", "depth")  # columns of frames.csv that are states


def write_evaluation(out: Path, report: dict[str, Any], regressions: Sequence[dict[str, Any]],
                     live: dict[str, Any] | None, pictures_max: int) -> None:
    """Write the three files into ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "report.json", report)
    good = [r for r in report["recordings"] if "error" not in r]
    times = {r["name"]: json.loads((out / r["name"] / "timings.json").read_text()) for r in good}
    write_json(out / "timings.json", {name: {k: v for k, v in t.items() if k != "histograms_ms"}
                                      for name, t in times.items()})
    sections = [Section("Scores", _overview(report, times))]
    if regressions:
        sections.append(Section("Against the baseline", _regressions(regressions)))
    if live:
        sections.append(Section("What real time cost", _live(live)))
    sections.append(Section("What ran", _provenance(good)))
    for result in good:
        folder = out / result["name"]
        shown = result["worst"][:max(0, pictures_max)]
        pictures_max -= len(shown)
        sections.append(Section(result["name"], _recording(folder, result, times[result["name"]], shown),
                                fold=len(good) > 3))
    write_report(out / "report.html", "Evaluation", sections, f"{len(good)} of {len(report['recordings'])} recordings, "
                 f"{report['overall']['frames']} frames, version {report['version']} {code_commit()}")


def _overview(report: dict[str, Any], times: dict[str, Any]) -> str:
    used = [name for name, ((section, key), _, _) in WATCHED.items()
            if any(r.get("scores", {}).get(section, {}).get(key) is not None for r in report["recordings"])]

    def row(name: str, scores: dict[str, Any], frames: int | None, speed: float | None) -> list[Any]:
        return [name, frames, *(scores.get(WATCHED[u][0][0], {}).get(WATCHED[u][0][1]) for u in used), speed]

    rows = [row(r["name"], r["scores"], r["counts"]["frames"], times[r["name"]]["real_time_factor"])
            for r in report["recordings"] if "error" not in r]
    if len(rows) > 1:
        rows.append(row("all", report["overall"], report["overall"]["frames"], None))
    said = [notice(f"{r['name']}: {r['error']}", "bad") for r in report["recordings"] if "error" in r]
    said += [notice(f"{r['name']}: {line}") for r in report["recordings"] if "error" not in r
             for line in _loss_lines(r["loss"])]
    if not used:
        said.append(notice("no recording has truth to score against: counts and times only"))
    return "".join(said) + table(["recording", "frames", *used, "× real time"], rows)


def _loss_lines(loss: dict[str, Any]) -> list[str]:
    lines = [loss.get("status", ""), *(f"not read: {t}" for t in loss.get("topics_not_read", []))]
    return [line for line in lines if line]


def _regressions(rows: Sequence[dict[str, Any]]) -> str:
    worse = [i for i, r in enumerate(rows) if r["worse"]]
    line = notice(f"{len(worse)} scores got worse by more than the tolerance", "bad") if worse else notice(
        "no score got worse by more than the tolerance", "good")
    return line + table(["recording", "score", "baseline", "now", "change"],
                        [[r["recording"], r["score"], r["baseline"], r["now"],
                          None if r["now"] is None else r["now"] - r["baseline"]] for r in rows], worse)


def _live(live: dict[str, Any]) -> str:
    rows = [[r["what"], r["offline"], r["live"]] for r in live["rows"]]
    return f"<p>{text(live['flight'])}, {live['frames']} frames</p>" + table(["", "offline", "live"], rows)


def _provenance(results: Sequence[dict[str, Any]]) -> str:
    engines: dict[str, dict[str, Any]] = {}
    for result in results:
        engines.update(result["engines"])
    rows = [[stage, e["name"], e["backend"], e["precision"], e["why"]] for stage, e in engines.items()]
    html = table(["stage", "engine", "backend", "precision", "why"], rows) if rows else "<p>No networks ran.</p>"
    ran = [s for s in STAGES if any(s in r["stages"] for r in results)]
    return html + pairs({"commit": code_commit(), "stages": ran})


def _recording(folder: Path, result: dict[str, Any], times: dict[str, Any], worst: Sequence[dict[str, Any]]) -> str:
    frames = _csv(folder / "frames.csv")
    seconds = (frames["stamp_ns"] - frames["stamp_ns"][0]) * 1e-9
    scores = result["scores"]
    counts = {k: v for k, v in result["counts"].items() if v and k != "target"}
    target = {k.lower(): v for k, v in result["counts"]["target"].items() if v} if result["locked_object"] else {}
    parts = [pairs({"from": result["path"], "size": "x".join(map(str, result["size"])), "counts": counts,
                    "frames with the target": target,
                    "locked object": result["locked_object"], "truth": result["truth"],
                    "lost": [*_loss_lines(result["loss"]), *result["loss"].get("bag", [])]})]
    for name, values in scores.items():
        plain = {k: v for k, v in values.items() if (isinstance(v, int | float | str) or v is None)
                 and k != "model_classes_used"}
        parts.append(f"<h3>{name}</h3>" + table(list(plain), [list(plain.values())]))
        if values.get("per_class"):
            parts.append(table(["class", "AP"], [[k, v] for k, v in values["per_class"].items()]))
    parts.append(charts(*_score_charts(folder, scores)))
    parts.append("<h3>States and gaps</h3>" + _timeline(frames, seconds))
    parts.append("<h3>Per frame</h3>" + charts(
        titled("detections and tracks", line_chart([Line("detections", seconds, frames["detections"].clip(0)),
                                                    Line("tracks", seconds, frames["tracks"])], "s", "count")),
        titled("points that agree with the motion",
               line_chart([Line("inliers", seconds, frames["ego_inliers"].clip(0))], "s", "inliers"))
        if result["counts"]["odometry"] else "",
        titled("target quality", line_chart([Line("quality", seconds, frames["quality"])], "s", "quality", (0, 1)))
        if result["locked_object"] is not None else ""))
    parts.append("<h3>Latency of the stages</h3>" + charts(*(
        titled(name, histogram(name, bins, times["latency_ms"][name]))
        for name, bins in _in_order(times["histograms_ms"]) if times["latency_ms"][name]["p99"] > 0.05)))
    parts.append(table(["stage", "p50 ms", "p95 ms", "p99 ms"],
                       [[k, v["p50"], v["p95"], v["p99"]] for k, v in _in_order(times["latency_ms"])]))
    if worst:
        parts.append("<h3>Worst frames</h3><p>Dashed: truth. Click to enlarge, arrow keys to go on.</p>")
        parts.append(gallery([Picture((folder / w["file"]).read_bytes(),
                                      f"{w['kind']}, frame {w['seq']}: {w['caption']}") for w in worst]))
    return "".join(parts)


def _in_order(of_stages: dict[str, Any]) -> list[tuple[str, Any]]:
    """In the order in which a frame passes the stages."""
    return sorted(of_stages.items(), key=lambda item: ("decode", *STAGES).index(item[0]))


def _score_charts(folder: Path, scores: dict[str, Any]) -> list[str]:
    shown = []
    detection = scores.get("detection", {})
    if detection.get("pr_curve"):
        lines = [Line(n, RECALLS, c) for n, c in detection["pr_curve"].items()]
        shown.append(titled("precision and recall, IoU 0.5", line_chart(lines, "recall", "precision", (0, 1), (0, 1))))
    if "tracking" in scores:
        lines = [Line(k, ALPHAS, c) for k, c in curves(scores["tracking"]["counts"]).items() if k != "LocA"]
        shown.append(titled("tracking over localisation threshold", line_chart(lines, "IoU", "score", (0, 1), (0, 1))))
    target = scores.get("target", {})
    if "success_curve" in target:
        success = [Line("success", OVERLAPS, target["success_curve"])]
        shown.append(titled(f"success, AUC {target['success_auc']:.3f}",
                            line_chart(success, "overlap", "share of frames", (0, 1), (0, 1))))
        precision = [Line("precision", DISTANCES_PX, target["precision_curve"])]
        shown.append(titled(f"precision, {target['precision_20px']:.3f} at 20 px",
                            line_chart(precision, "centre error, px", "share of frames", (0, 1))))
    if (folder / "trajectory.csv").is_file() and "trajectory" in scores:
        t = _csv(folder / "trajectory.csv")
        if len(t["stamp_ns"]):
            at = (t["stamp_ns"] - t["stamp_ns"][0]) * 1e-9
            a, b = _flattest(t)
            shown.append(titled(f"path ({a}, {b}; aligned)", line_chart(
                [Line("true", t[f"true_{a}"], t[f"true_{b}"]), Line("found", t[a], t[b])], f"{a}, m", f"{b}, m",
                equal_axes=True)))
            shown.append(titled("position error", line_chart([Line("error", at, t["error_m"])], "s", "m")))
            travelled = np.concatenate([[0.0], np.cumsum(np.sqrt(sum(
                np.diff(t[f"true_{k}"]) ** 2 for k in "xyz")))])
            share = 100 * t["error_m"] / np.maximum(travelled, 1e-9)
            drift = [Line("drift", travelled, np.where(travelled < 0.1 * travelled[-1], np.nan, share))]
            shown.append(titled("drift", line_chart(drift, "travelled, m", "error, % of the way")))
    return shown


def _flattest(t: dict[str, Any]) -> tuple[str, str]:
    """The two axes along which the true path extends most, in the order x, y, z."""
    spread = {k: float(np.ptp(t[f"true_{k}"])) for k in "xyz"}
    first, second = sorted(sorted(spread, key=lambda k: -spread[k])[:2])
    return first, second


def _timeline(frames: dict[str, Any], seconds: Any) -> str:
    period = float(np.median(np.diff(seconds))) if len(seconds) > 1 else 0.0
    end = float(seconds[-1]) + period
    gaps = [Span(float(a) + period, float(b), "gap", f"no frames for {b - a:.3f} s") for a, b in
            pairwise(seconds) if b - a > 1.5 * period]
    rows = [("frames", [Span(0.0, end, "ok", "frames"), *gaps])]
    names = {"target": "target", "ego": "ego-motion", "depth": "depth"}
    for key, name in names.items():
        if set(frames[key]) - {"NONE", "none"}:
            rows.append((name, _spans(seconds, frames[key], period)))
    return timeline(rows, "s", end)


def _spans(seconds: Any, states: Any, period: float) -> list[Span]:
    change = np.flatnonzero(states[1:] != states[:-1]) + 1
    starts, ends = [0, *change.tolist()], [*change.tolist(), len(states)]
    return [Span(float(seconds[a]), float(seconds[b - 1]) + period, str(states[a]), f"{states[a]} {seconds[a]:.2f} s, "
                 f"{b - a} frames") for a, b in zip(starts, ends, strict=True)]


def _csv(path: Path) -> dict[str, Any]:
    """Columns of frames.csv or trajectory.csv, a few bytes a number: there is a row for every frame."""
    with path.open(newline="") as file:
        reader = csv.reader(file)
        names = next(reader)
        columns: list[Any] = [[] if n in _WORDS else array("q" if n == "stamp_ns" else "d") for n in names]
        readers = [sys.intern if n in _WORDS else int if n == "stamp_ns" else float for n in names]
        for row in reader:
            for column, read, value in zip(columns, readers, row, strict=True):
                column.append(read(value))
    return {name: np.array(column) for name, column in zip(names, columns, strict=True)}
