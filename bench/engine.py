"""Engines side by side in one run: float, our INT8, and onnxruntime's quantize_static with its defaults.

Accuracy (AP50 where labelled sets are given, output error otherwise), file size, latency on this CPU and on the same
CPU seen as one with AVX2 only, and what ``Engine.infer`` adds to the bare ONNX Runtime call. Latency is given by the
clock and as processor time (``cpu``), which other load on the machine hardly disturbs.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from uav_perception.builder.accuracy import DetectionTask, LabelledSet, cpu_name, latency_ms, output_error_percent
from uav_perception.builder.build import build
from uav_perception.builder.data import draw, preprocess_of
from uav_perception.builder.ort_tools import quantize_static_default
from uav_perception.builder.quantiser import Request
from uav_perception.config import BuilderConfig, DetectorConfig
from uav_perception.detect.coco import parse_maps
from uav_perception.engine.onnxruntime import OnnxRuntimeEngine
from uav_perception.errors import InputError

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # benchmarks are files, not a package
from _avx2 import environments  # noqa: E402

DATA = HERE.parents[1] / "shared" / "data"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", nargs="+", default=[], metavar="ONNX", help="default: the development models")
    parser.add_argument("--calib", nargs="+", default=[], metavar="DIR_OR_BAG", help="default: the development set")
    parser.add_argument("--eval", nargs="*", default=[], metavar="COCO", help="labelled sets for AP50 (default with the default models: the development sets)")
    parser.add_argument("--map", action="append", default=[], metavar="TARGET=a,b")
    parser.add_argument("--pictures", type=int, default=32, help="calibration pictures")
    parser.add_argument("--eval-pictures", type=int, default=10000, help="pictures of each labelled set")
    parser.add_argument("--rounds", type=int, default=40, help="inferences a latency figure is made of")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--keep", default="", metavar="DIR", help="leave the engines there")


def run(args: argparse.Namespace) -> dict[str, Any]:
    models = [Path(m) for m in args.model] or [DATA / "models" / f"{n}.onnx" for n in ("yolox_nano", "nanodet_m_416")]
    sources = args.calib or sorted(str(p) for p in (DATA / "train").glob("*"))
    if not sources:
        raise InputError("no calibration pictures", "--calib", "give a folder of pictures or a bag")
    labelled = args.eval if args.eval or args.model else sorted(str(p) for p in (DATA / "aerial_det").glob("*"))
    sets = tuple(LabelledSet.parse(t) for t in labelled)
    config = BuilderConfig(pictures=args.pictures, eval_pictures=args.eval_pictures, latency_rounds=args.rounds)
    task = DetectionTask(sets, DetectorConfig(), config.eval_pictures, config.seed, parse_maps(args.map))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(args.keep or folder)
        results = {m.stem: measure(m, sources, config, task if sets else None, out / m.stem, args.threads)
                   for m in models}
    return {"cpu": f"{cpu_name()}, {os.cpu_count()} cores", "threads": args.threads, "rounds": args.rounds, "models": results}


def measure(model: Path, sources: list[str], config: BuilderConfig, task: DetectionTask | None, out: Path,
            threads: int) -> dict[str, Any]:
    """Build and compare the three forms of one model."""
    engine = OnnxRuntimeEngine(model, threads)
    preprocess = preprocess_of(engine)
    drawn = draw(sources, config.pictures, config.seed, window=len(preprocess.inputs))
    manifest = build(Request(model, out, drawn, tuple(sources), preprocess, config=config))
    feeds = preprocess.feeds(drawn.pictures)
    peer = out / f"{model.stem}.peer.onnx"
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        quantize_static_default(model, peer, feeds)
    files = {"fp32": model, "int8": out / f"{model.stem}.int8.onnx", "quantize_static": peer}
    sizes = {k: p.stat().st_size for k, p in files.items()}
    result: dict[str, Any] = {
        "bytes": sizes, "size_ratio": {k: round(v / sizes["fp32"], 4) for k, v in sizes.items()},
        "layers_int8": manifest.accuracy["layers_int8"], "layers_float": len(manifest.accuracy["layers_float"]),
        "output_error_percent": _errors(files, feeds[: config.judge_pictures * 2], threads),
        "latency": {"this_cpu": _ratios(_latencies(files, feeds[0], config.latency_rounds, threads)),
                    "avx2_only": _avx2(files, feeds[0], config.latency_rounds, threads)},
        "overhead": overhead(engine, feeds[0], config.latency_rounds * 3),
    }
    if task:
        scores = {k: task.score(p) for k, p in files.items()}
        result["ap50"] = {k: {"mean": round(s["ap50"], 3), **{n: round(v["ap50"], 3) for n, v in s["sets"].items()}}
                          for k, s in scores.items()}
        result["ap50_lost_points"] = {k: round(scores["fp32"]["ap50"] - s["ap50"], 3) for k, s in scores.items()}
    return result


def overhead(engine: OnnxRuntimeEngine, feed: Mapping[str, np.ndarray], rounds: int) -> dict[str, float]:
    """``Engine.infer`` against ``session.run`` of the same session, call by call in turn."""
    import time

    session = engine._session
    times: dict[str, list[int]] = {"infer": [], "run": []}
    work: dict[str, list[int]] = {"infer": [], "run": []}
    for _ in range(rounds):
        for name, call in (("infer", lambda: engine.infer(feed)), ("run", lambda: session.run(None, dict(feed)))):
            start, busy = time.perf_counter_ns(), time.process_time_ns()
            call()
            work[name].append(time.process_time_ns() - busy)
            times[name].append(time.perf_counter_ns() - start)
    best = {k: min(v) / 1e6 for k, v in times.items()}
    p50 = {k: float(np.median(v)) / 1e6 for k, v in times.items()}
    return {"infer_ms": round(best["infer"], 4), "bare_ms": round(best["run"], 4),
            "percent_best": round(100 * (best["infer"] / best["run"] - 1), 2),
            "percent_p50": round(100 * (p50["infer"] / p50["run"] - 1), 2),
            "percent_cpu": round(100 * (min(work["infer"]) / min(work["run"]) - 1), 2)}


def _errors(files: Mapping[str, Path], feeds: list[Any], threads: int) -> dict[str, float]:
    outputs = {}
    for name, path in files.items():
        engine = OnnxRuntimeEngine(path, threads)
        outputs[name] = [{k: v.copy() for k, v in engine.infer(f).items()} for f in feeds]
        engine.close()
    return {k: round(output_error_percent(outputs["fp32"], v), 2) for k, v in outputs.items()}


def _latencies(files: Mapping[str, Path], feed: Any, rounds: int, threads: int) -> dict[str, dict[str, float]]:
    return latency_ms({k: OnnxRuntimeEngine(p, threads) for k, p in files.items()}, feed, rounds)


def _ratios(latencies: dict[str, dict[str, float]]) -> dict[str, Any]:
    return {"ms": latencies, "ratio_best": {k: round(v["best"] / latencies["fp32"]["best"], 3)
                                            for k, v in latencies.items()},
            "ratio_cpu": {k: round(v["cpu"] / latencies["fp32"]["cpu"], 3) for k, v in latencies.items()},
            "ratio_p50": {k: round(v["p50"] / latencies["fp32"]["p50"], 3) for k, v in latencies.items()}}


def _avx2(files: Mapping[str, Path], feed: Any, rounds: int, threads: int) -> dict[str, Any]:
    """The same figures from a process that is told its CPU has AVX2 only; says why where that cannot be."""
    reason = "needs a C compiler on x86 Linux"
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "feed.npz"
        np.savez(data, **feed)
        job = json.dumps({"files": {k: str(p.resolve()) for k, p in files.items()}, "feed": str(data), "rounds": rounds,
                          "threads": threads})
        for environment in environments(Path(folder)):
            done = subprocess.run([sys.executable, __file__, job], capture_output=True, text=True, check=False,
                                  env=environment)
            if done.returncode:
                reason = (done.stderr.strip().splitlines() or ["failed"])[-1][:200]
            elif (found := json.loads(done.stdout.strip().splitlines()[-1]))["limited"]:
                return _ratios(found["ms"])
            else:
                reason = "this CPU or kernel has no CPUID faulting, and there is no objdump"
    return {"skipped": reason}


def _limited() -> bool:
    """Whether 8-bit products saturate here as they do without VNNI: the proof that the limit holds."""
    import onnxruntime as ort
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["c"])], "g",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, [1, 64])],
        [helper.make_tensor_value_info("c", TensorProto.INT32, [1, 8])],
        [helper.make_tensor("b", TensorProto.INT8, [64, 8], np.full((64, 8), 127, np.int8).tobytes(), raw=True)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    product = session.run(None, {"a": np.full((1, 64), 255, np.uint8)})[0]
    return bool(product[0, 0] != 255 * 127 * 64)


if __name__ == "__main__":  # the AVX2 process
    job = json.loads(sys.argv[1])
    inputs = dict(np.load(job["feed"]))
    found = _latencies({k: Path(p) for k, p in job["files"].items()}, inputs, job["rounds"], job["threads"])
    print(json.dumps({"limited": _limited(), "ms": found}))
