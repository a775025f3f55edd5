"""Capture to track, live: the composed graph, the same nodes in processes of their own, and a queue as a baseline.

All three fly over the same source in this run, one after the other. The baseline is what many graphs do: every frame is
put into a first-in-first-out queue and one thread runs all stages on each; its latency grows as soon as the stages are
slower than the camera, while newest-wins hand-over keeps it bounded and counts what it leaves out.
"""

from __future__ import annotations

import argparse
import os
import queue
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from uav_perception.camera.sources import open_camera
from uav_perception.config import FlightConfig
from uav_perception.pipeline import build_pipeline


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", default="demo", help="as for fly")
    parser.add_argument("--detector", help="as for fly")
    parser.add_argument("--fps", type=float, default=30.0, help="rate of folders, Hz")
    parser.add_argument("--seconds", type=float, default=10.0, help="at most this long each")


def run(args: argparse.Namespace) -> dict[str, Any]:
    os.environ["ROS_DOMAIN_ID"] = str(100 + os.getpid() % 100)  # the monitor of `fly` must see this flight alone
    rows = [{"how": "composed", **graph(args, composed=True)},
            {"how": "separate processes", **graph(args, composed=False)},
            {"how": "queue, one thread (baseline)", **fifo(args)}]
    composed, baseline = rows[0]["capture_to_track_ms"], rows[2]["capture_to_track_ms"]
    ratio = round(baseline["p95"] / composed["p95"], 2) if composed and baseline else None
    return {"benchmark": "live", "source": args.source, "rows": rows, "p95_of_baseline_over_composed": ratio,
            "cpus": os.cpu_count(), "load": os.getloadavg()[0]}


def graph(args: argparse.Namespace, composed: bool) -> dict[str, Any]:
    from uav_perception.ros import graph as description
    from uav_perception.ros.flight import Options, fly

    with tempfile.TemporaryDirectory() as folder:
        params = description.write_overrides({"camera": {"fps": args.fps}}, Path(folder) / "params.yaml")
        before = os.times()
        report = fly(Options(Path(folder) / "out", args.source, args.seconds, args.detector, record=False,
                             composed=composed, params=params))
        after = os.times()
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    frames = report["counts"]["frames"]
    return {"capture_to_track_ms": report["latency_ms"].get("tracker"), "work_ms": report["work_ms"],
            "rate_hz": report["rate_hz"], "dropped": report["dropped"], "frames": frames,
            "first_track_s": report["first_track_s"], "cpu_s_a_frame": round(cpu_s / max(frames, 1), 4)}


def fifo(args: argparse.Namespace) -> dict[str, Any]:
    config = FlightConfig().with_values("detector", model=args.detector)
    config = replace(config, camera=replace(config.camera, source=args.source, fps=args.fps))
    pipeline = build_pipeline(config)
    waiting: queue.Queue[Any] = queue.Queue()
    ages: list[float] = []

    def stages() -> None:
        while (frame := waiting.get()) is not None:
            pipeline.step(frame)
            ages.append((time.time_ns() - frame.stamp_ns) * 1e-6)

    worker = threading.Thread(target=stages)
    worker.start()
    camera, end = open_camera(config.camera), time.monotonic() + args.seconds
    while not camera.ended and time.monotonic() < end:
        frame = camera.read(0.2)
        if frame is not None:
            waiting.put(frame)
    left = waiting.qsize()
    waiting.put(None)
    worker.join()
    camera.close()
    p = np.percentile(ages, (50, 95, 99)).round(2).tolist() if ages else None
    slope = np.polyfit(np.linspace(0, args.seconds, len(ages)), ages, 1)[0] if len(ages) > 9 else None
    return {"capture_to_track_ms": dict(zip(("p50", "p95", "p99"), p, strict=True)) if p else None,
            "frames": len(ages), "left_in_queue_at_the_end": left,
            "growth_ms_a_second": None if slope is None else round(float(slope), 1)}
