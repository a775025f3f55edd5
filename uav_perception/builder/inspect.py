"""What an engine is, whether it runs here, and how two engines differ on pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..config import BuilderConfig, DetectorConfig
from ..engine import Engine
from ..engine.manifest import MANIFEST, read_manifest
from ..engine.select import open_engine
from ..errors import InputError, UavPerceptionError
from .accuracy import DetectionTask, LabelledSet, latency_ms, output_error_percent
from .data import draw, preprocess_of


def inspect(path: Path) -> dict[str, Any]:
    """Facts of the engine at ``path`` (file or folder); ``runs`` and ``why`` say whether it runs here.

    Raises:
        InputError: nothing is there.
    """
    if not path.exists():
        raise InputError(f"engine {path}", "an engine file or folder", "check the path")
    found: dict[str, Any] = {"path": str(path)}
    folder = path if path.is_dir() else path.parent
    if (folder / MANIFEST).is_file():
        manifest = read_manifest(folder)
        found["files"] = [asdict(f) for f in manifest.files]
        found["source_sha256"] = manifest.source.get("sha256")
        found["preprocess"] = dict(manifest.preprocess)
        found["calibration"] = {k: v for k, v in manifest.calibration.items() if k != "pictures"}
        found["layers"] = {p: list(manifest.precision_per_layer.values()).count(p) for p in ("int8", "fp16", "fp32")}
        found["tools"] = dict(manifest.tools)
        kept = ("gate", "method", "output_error_percent", "ap50_drop_points", "latency_ms", "bytes")
        found["accuracy"] = {k: manifest.accuracy[k] for k in kept if k in manifest.accuracy}
    try:
        engine = open_engine(path)
    except UavPerceptionError as e:
        return {**found, "runs": False, "why": str(e)}
    found |= {"runs": True, **asdict(engine.info)}
    for side, specs in (("inputs", engine.inputs), ("outputs", engine.outputs)):
        found[side] = [f"{s.name} {s.dtype}{list(s.shape)}" for s in specs]
    found["metadata"] = dict(engine.metadata)
    engine.close()
    return found


def compare(a: Path, b: Path, data: Path, preprocess: str, fold: Mapping[str, Sequence[str]],
            config: BuilderConfig | None = None) -> dict[str, Any]:
    """Output error of ``b`` against ``a`` in percent, latency side by side, and AP50 where ``data`` is a labelled set.

    Raises:
        InputError: the engines have different inputs or outputs.
    """
    config = config or BuilderConfig()
    engines: dict[str, Engine] = {"a": open_engine(a), "b": open_engine(b)}
    first, second = engines.values()
    if first.inputs != second.inputs or {s.name for s in first.outputs} != {s.name for s in second.outputs}:
        raise InputError(f"engines {a} and {b}", "equal inputs and outputs", "compare builds of one model")
    labelled = (data / "annotations.json").is_file()
    drawn = draw([data], config.judge_pictures * 4, config.seed, window=len(first.inputs))
    feeds = preprocess_of(first, preprocess).feeds(drawn.pictures)
    outputs = [[{k: v.copy() for k, v in engine.infer(f).items()} for f in feeds] for engine in (first, second)]
    found: dict[str, Any] = {
        "a": asdict(first.info), "b": asdict(second.info), "pictures": len(feeds),
        "output_error_percent": round(output_error_percent(*outputs), 3),
        "latency_ms": latency_ms(engines, feeds[0], config.latency_rounds)}
    for engine in (first, second):
        engine.close()
    if labelled:
        task = DetectionTask((LabelledSet.parse(str(data)),), DetectorConfig(), config.eval_pictures, config.seed, fold)
        scores = [task.score(p)["ap50"] for p in (a, b)]
        found["ap50"] = {"a": scores[0], "b": scores[1], "drop_points": scores[0] - scores[1]}
    return found
