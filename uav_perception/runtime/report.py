"""The report of a flight: report.json for machines, report.html for people (self-contained)."""

from __future__ import annotations

import base64
import html
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

STILLS = 3  # pictures of the film in the page


def write_report(report: Mapping[str, Any], folder: Path) -> None:
    """Write both files, atomically."""
    _write(folder / "report.json", json.dumps(report, indent=1, allow_nan=False))
    _write(folder / "report.html", page(report, stills(folder / "overlay.mp4")))


def _write(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text, encoding="utf-8")
    os.replace(fresh, path)


def stills(film: Path) -> list[bytes]:
    """JPEG pictures evenly spread over a film; none when there is no film."""
    if not film.is_file():
        return []
    import cv2

    video = cv2.VideoCapture(str(film))
    count = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    pictures = []
    for i in range(STILLS):
        video.set(cv2.CAP_PROP_POS_FRAMES, count * (2 * i + 1) // (2 * STILLS))
        good, picture = video.read()
        if good:
            pictures.append(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes())
    video.release()
    return pictures


def page(report: Mapping[str, Any], pictures: Sequence[bytes] = ()) -> str:
    """The report as one HTML page without references to other files, but for the film beside it."""
    stages = list(report["latency_ms"])
    rows = [[n, *(report["latency_ms"][n].get(p) for p in ("p50", "p95", "p99")),
             *(report["work_ms"].get(n, {}).get(p) for p in ("p50", "p95", "p99")), report["rate_hz"].get(n),
             report["dropped"].get(n), report["failed"].get(n), report["deadline_misses"].get(n)] for n in stages]
    parts = [
        f"<h1>Flight over {html.escape(str(report['source']))}</h1>",
        f"<p>{report['duration_s']} s, ended: {html.escape(str(report['ended']))}; first track after "
        f"{report['first_track_s']} s; transport: {html.escape(report['transport'])}.</p>",
        _table(list(report["counts"]), [list(report["counts"].values())]),
        "<h2>Stages</h2><p>Age: from capture to publication. Work: the stage's own time.</p>",
        _table(["stage", "age p50 ms", "p95", "p99", "work p50 ms", "p95", "p99", "Hz", "dropped", "failed",
                "deadline misses"], rows),
        "<h2>Engines</h2>",
        _table(["stage", "engine", "backend", "precision", "why"],
               [[n, e["name"], e["backend"], e["precision"], e["why"]] for n, e in report["engines"].items()]),
        "<h2>What the stages say</h2>",
        _table(["stage", "level", "message"], [[n, m["level"], m["message"]] for n, m in report["messages"].items()]),
        "<h2>MAVLink</h2>", _table(["message", "packets"], list(map(list, report["mavlink"]["sent"].items()))),
        _table(["withheld because", "times"], list(map(list, report["mavlink"]["withheld"].items()))),
    ]
    if report.get("events"):
        parts.append("<h2>Events</h2><ul>" + "".join(f"<li>{html.escape(e)}</li>" for e in report["events"]) + "</ul>")
    if pictures:
        parts.append('<h2>What it saw</h2><p><a href="overlay.mp4">overlay.mp4</a></p>')
        parts += [f'<img src="data:image/jpeg;base64,{base64.b64encode(p).decode()}" alt="overlay">' for p in pictures]
    return STYLE + "\n".join(parts) + "</body></html>\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    def cell(value: Any) -> str:
        return f"<td>{'' if value is None else html.escape(str(value))}</td>"

    return ("<table><tr>" + "".join(f"<th>{html.escape(str(h))}</th>" for h in head) + "</tr>"
            + "".join("<tr>" + "".join(map(cell, r)) + "</tr>" for r in rows) + "</table>")


STYLE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Flight report</title><style>
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:.5rem 0}td,th{border:1px solid #ccc;padding:.2rem .6rem;text-align:right}
td:first-child,th:first-child{text-align:left}th{background:#f2f2f2}img{max-width:100%;margin:.3rem 0}
</style></head><body>
"""
