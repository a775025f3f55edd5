"""The accuracy report of a build: one self-contained HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..engine.manifest import Manifest
from ..errors import GateMissed
from ..offline.charts import Line, line_chart
from ..offline.report import Section, charts, notice, pairs, table, titled, write_report


def write_build_report(path: Path, manifest: Manifest, missed: GateMissed | None) -> None:
    """Gate, what INT8 cost, per-layer noise, precision-recall, latency and size, provenance."""
    a = manifest.accuracy
    verdict = notice(str(missed), "bad") if missed else ""
    sections = [Section("Summary", verdict + pairs(_summary(manifest)))]
    if a.get("layer_snr_db"):
        sections.append(Section("Noise by layer", _layers(a)))
    if a.get("task_fp32"):
        sections.append(Section("Precision and recall at IoU 0.5", _curves(a)))
    if a.get("latency_ms"):
        rows = [[k, v["best"], v["p50"], v["p95"], v["cpu"]] for k, v in a["latency_ms"].items()]
        sections.append(Section("Latency here, ms", table(["engine", "best", "p50", "p95", "processor time"], rows)))
    if a.get("builder"):
        sections.append(Section("TensorRT layers", pairs(a["builder"]), fold=True))
    sections.append(Section("Provenance", pairs(_provenance(manifest)), fold=True))
    write_report(path, f"Engine {manifest.name}", sections, "calibrated INT8 against float")


def _summary(manifest: Manifest) -> dict[str, Any]:
    a = manifest.accuracy
    shown: dict[str, Any] = {"engines": ", ".join(f"{f.file} ({f.backend} {f.precision})" for f in manifest.files)}
    if "method" in a:
        shown["ranges"] = a["method"] + (", channels equalised across layers" if a.get("equalised") else "")
        shown["output error"] = f"{a['output_error_percent']:.2f} %"
        shown["layers in INT8"] = a["layers_int8"]
        shown["layers in float"] = ", ".join(a["layers_float"]) or "none"
    if a.get("ap50_drop_points") is not None:
        shown["AP50 float"] = f"{a['task_fp32']['ap50']:.2f}"
        shown["AP50 lost"] = f"{a['ap50_drop_points']:.2f} points (gate {a['gate']})"
    if "bytes" in a:
        shown["size"] = f"{a['bytes']['int8'] / a['bytes']['fp32']:.3f} of float"
    return shown


def _layers(a: dict[str, Any] | Any) -> str:
    snr = a["layer_snr_db"]
    chart = line_chart([Line("SNR", np.arange(len(snr)), list(snr.values()))], "layer, in graph order", "SNR, dB")
    worst = sorted(snr, key=lambda n: snr[n])[:20]
    rows = [[n, snr[n], a["layer_sensitivity_percent"].get(n, ""), "float" if n in a["layers_float"] else "int8"]
            for n in worst]
    return charts(titled("Signal to noise of each layer's output", chart)) + table(
        ["layer (worst 20)", "SNR dB", "output error when alone in INT8, %", "runs in"], rows)


def _curves(a: dict[str, Any] | Any) -> str:
    drawn = []
    for name, score in a["task_fp32"]["sets"].items():
        other = (a.get("task_int8") or {}).get("sets", {}).get(name, {})
        for label, curve in score["pr_curve"].items():
            recall = np.linspace(0, 1, len(curve))
            lines = [Line("float", recall, curve)]
            if label in other.get("pr_curve", {}):
                lines.append(Line("INT8", recall, other["pr_curve"][label]))
            drawn.append(titled(f"{name}: {label}", line_chart(lines, "recall", "precision", (0.0, 1.0))))
    return charts(*drawn)


def _provenance(manifest: Manifest) -> dict[str, Any]:
    c = manifest.calibration
    return {"source": f"{manifest.source['file']} {manifest.source['sha256'][:16]}",
            "calibration": f"{c['drawn']} of {c['population']} pictures, seed {c['seed']}, {c['sha256'][:16]}",
            "preprocessing": f"{manifest.preprocess['hash']}: {manifest.preprocess['specification']}", **manifest.tools}
