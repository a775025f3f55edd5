"""From the results of recordings to one report: scores over all of them, and what got worse since a baseline."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..errors import InputError
from .metrics import tracking

# score -> (where it is, whether more is better, whether it lies in 0..1)
WATCHED: dict[str, tuple[tuple[str, str], bool, bool]] = {
    "AP": (("detection", "AP"), True, True), "AP50": (("detection", "AP50"), True, True),
    "AR100": (("detection", "AR100"), True, True), "HOTA": (("tracking", "HOTA"), True, True),
    "IDF1": (("tracking", "IDF1"), True, True), "MOTA": (("tracking", "MOTA"), True, True),
    "success": (("target", "success_auc"), True, True), "precision": (("target", "precision_20px"), True, True),
    "abs_rel": (("depth", "abs_rel"), False, True), "d1": (("depth", "d1"), True, True),
    "ate_m": (("trajectory", "ate_rmse_m"), False, False), "drift_%": (("trajectory", "drift_percent"), False, False),
    "rot_deg": (("trajectory", "rpe_rot_mean_deg"), False, False),
}
_COUNTS = ("objects", "detections", "model_classes_used", "frames", "poses")  # no scores: not averaged


def report_of(results: list[dict[str, Any]]) -> dict[str, Any]:
    """The whole of ``report.json``: nothing in it depends on time, machine or number of workers."""
    good = [r for r in results if "error" not in r]
    return {"version": __version__, "recordings": results, "failed": [r["name"] for r in results if "error" in r],
            "overall": overall(good)}


def overall(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts are summed (tracking), frames weigh equally (depth), recordings weigh equally (the rest)."""
    scores: dict[str, Any] = {"recordings": len(results), "frames": sum(r["counts"]["frames"] for r in results)}
    found = {name: [r["scores"] for r in results if name in r["scores"]]
             for name in ("detection", "tracking", "target", "depth", "trajectory")}
    if found["tracking"]:
        raw = {i: s["tracking"]["counts"] for i, s in enumerate(found["tracking"])}
        scores["tracking"] = tracking.summary(tracking.combine(raw))
    if found["depth"]:
        weights = [s["depth"]["images"] for s in found["depth"]]
        keys = set.intersection(*(set(s["depth"]) for s in found["depth"])) - {"images"}
        scores["depth"] = {k: float(np.average([s["depth"][k] for s in found["depth"]], weights=weights))
                           for k in sorted(keys)}
    for name in ("detection", "target", "trajectory"):
        values: dict[str, list[float]] = {}
        for s in found[name]:
            for key, value in s[name].items():
                if isinstance(value, int | float) and key not in _COUNTS:
                    values.setdefault(key, []).append(value)
        if values:
            scores[name] = {k: float(np.mean(v)) for k, v in sorted(values.items())}
    return scores


def compare(report: dict[str, Any], baseline: dict[str, Any], tolerance: float) -> list[dict[str, Any]]:
    """Every watched score in both reports: value, baseline, and whether it is worse by more than the tolerance.

    The tolerance is a share of the baseline's value, and absolute too for scores that lie in 0..1. A score or a
    recording the baseline has and this report lacks is a regression.
    """
    rows = []
    now = {r["name"]: r for r in report["recordings"]}
    then = {r["name"]: r for r in baseline["recordings"]}
    for name, old in then.items():
        new = now.get(name)
        if new is None or ("error" in new and "error" not in old):
            rows.append({"recording": name, "score": "evaluated", "baseline": 1.0, "now": 0.0, "worse": True})
            continue
        rows += list(_rows(name, new.get("scores", {}), old.get("scores", {}), tolerance))
    rows += list(_rows("overall", report["overall"], baseline["overall"], tolerance))
    return rows


def _rows(name: str, new: dict[str, Any], old: dict[str, Any], tolerance: float) -> Iterator[dict[str, Any]]:
    for score, ((section, key), more_is_better, share) in WATCHED.items():
        was = old.get(section, {}).get(key)
        if was is None:
            continue
        value = new.get(section, {}).get(key)
        allowed = max(tolerance * abs(was), tolerance if share else 0.0)
        worse = value is None or (was - value if more_is_better else value - was) > allowed
        yield {"recording": name, "score": score, "baseline": was, "now": value, "worse": worse}


def load_report(path: Path) -> dict[str, Any]:
    """A report.json of ``evaluate``.

    Raises:
        InputError: missing, or no such report.
    """
    try:
        report = json.loads(path.read_text())
        if not isinstance(report["recordings"], list) or "overall" not in report:
            raise KeyError("recordings")
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise InputError(f"baseline {path} ({type(e).__name__}: {e})", "a report.json of `evaluate`",
                         "give the report of an earlier run") from e
    return dict(report)
