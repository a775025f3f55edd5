"""Does it last: memory, latency, restarts of the live graph over minutes, beside a process that has only loaded ROS."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
BARE = "import rclpy, time; rclpy.init(); rclpy.create_node('bare'); print('up', flush=True); time.sleep(30)"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=120.0, help="how long to fly")
    parser.add_argument("--source", default="demo", help="as for fly; flown again and again")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between two looks")


def run(args: argparse.Namespace) -> dict[str, Any]:
    bare = subprocess.Popen([sys.executable, "-c", BARE], stdout=subprocess.PIPE)
    assert bare.stdout is not None
    bare.stdout.readline()
    bare_mb = memory_mb(bare.pid)
    bare.kill()
    with tempfile.TemporaryDirectory() as folder:
        params = Path(folder) / "params.yaml"
        params.write_text("/**/camera: {ros__parameters: {loop: true}}\n")
        environment = {**os.environ, "ROS_DOMAIN_ID": str(100 + os.getpid() % 100)}
        command = [sys.executable, "-m", "uav_perception.cli.main", "fly", "--json", "--no-record", "--source",
                   args.source, "--params", str(params), "--out", f"{folder}/out"]
        flight = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        looks: list[dict[str, float]] = []
        end = time.monotonic() + args.seconds
        while time.monotonic() < end and flight.poll() is None:
            time.sleep(args.every)
            looks.append({name: memory_mb(pid) for name, pid in children(flight.pid).items()})
        flight.send_signal(signal.SIGINT)
        begun = time.monotonic()
        out, _ = flight.communicate(timeout=30)
        ended_s = time.monotonic() - begun
    report = json.loads(out.splitlines()[-1])
    settled = looks[len(looks) // 4:]  # engines warm up, allocators fill
    memory = {}
    for name in sorted({n for look in settled for n in look}):
        values = [look[name] for look in settled if name in look]
        slope = float(np.polyfit(np.arange(len(values)) * args.every / 60, values, 1)[0]) if len(values) > 2 else None
        memory[name] = {"mb": round(values[-1], 1), "growth_mb_a_minute": None if slope is None else round(slope, 2)}
    return {"benchmark": "soak", "seconds": args.seconds, "memory": memory, "bare_rclpy_mb": round(bare_mb, 1),
            "frames": report["counts"]["frames"], "latency_ms": report["latency_ms"], "dropped": report["dropped"],
            "failed": report["failed"], "restarts": report["restarts"], "ended_in_s": round(ended_s, 2),
            "exit_code": flight.returncode}


def memory_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:")), 0.0)


def children(pid: int) -> dict[str, int]:
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1]) == pid:
                found[(entry / "cmdline").read_text().split("\0")[2].rsplit(".", 1)[-1]] = int(entry.name)
        except (OSError, IndexError, ValueError):
            continue
    return found
