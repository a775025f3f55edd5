"""Offline evaluation against the clock: the bare reader, tracking alone, the whole stack; memory of a longer bag.

Every row runs in a process of its own on the same flight (the package's demo, repeated to the wanted length). The
baseline is a plain loop that reads and decodes the same bag with `rosbags` and OpenCV and does nothing else. Besides
times there is CPU time, which other work on the machine does not change.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

BARE = """
import sys, cv2, numpy as np
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_typestore
store = get_typestore(Stores.ROS2_KILTED)
cv2.setNumThreads(1)
with Reader(sys.argv[1]) as reader:
    wanted = [c for c in reader.connections if c.topic.endswith("image/compressed")]
    for c, _, data in reader.messages(wanted):
        cv2.imdecode(store.deserialize_cdr(data, c.msgtype).data, cv2.IMREAD_COLOR)
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bag", type=Path, help="a flight with truth/boxes; default: the demo")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the measured flight, at 30 Hz")
    parser.add_argument("--detector", default="", help="detector model; default: the package's own")
    parser.add_argument("--longer", type=int, default=10, help="memory is measured on a bag this much longer too; 0 = none")


def run(args: argparse.Namespace) -> dict[str, Any]:
    from uav_perception.camera.sources import DEMO_FOLDER

    source = args.bag or next(p for p in sorted(DEMO_FOLDER.rglob("*.mcap")))
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        frames = max(2, round(args.seconds * 30))
        repeat(source, root / "flight", frames)
        bare = _measured([sys.executable, "-c", BARE, str(root / "flight")], frames)
        rows = [{"what": "read and decode alone", **bare}]
        detector = ["--detector", args.detector] if args.detector else []
        for what, words in (("tracking only", ["--stages", "tracker"]), ("whole stack", detector)):
            rows.append({"what": what, **_evaluated(root, root / "flight", words, frames)})
        for row in rows:
            row["cpu_against_decoding"] = round(row["cpu_s"] / rows[0]["cpu_s"], 2)
        result: dict[str, Any] = {"frames": frames, "rows": rows, "cores": os.cpu_count(),
                                  "load_before": [round(v, 1) for v in os.getloadavg()]}
        if args.longer:
            repeat(source, root / "long", frames * args.longer)
            for row, words in zip(rows[1:], (["--stages", "tracker"], detector), strict=True):
                long = _evaluated(root, root / "long", words, frames * args.longer)
                row["longer"] = {"frames": frames * args.longer, "max_rss_mb": long["max_rss_mb"],
                                 "real_time_factor": long["real_time_factor"]}
    return result


def repeat(source: Path, out: Path, frames: int) -> None:
    """The flight again and again at 30 Hz, with detections: its visible boxes, displaced by a pixel or so."""
    from uav_perception.camera.bagfile import BagFile
    from uav_perception.offline import messages as msg
    from uav_perception.offline.bags import BagWriter

    pictures, infos, boxes = [], [], []
    with BagFile(source) as bag:
        for raw in bag.messages():
            kept = {"image/compressed": pictures, "camera_info": infos, "truth/boxes": boxes}.get(raw.topic.strip("/"))
            if kept is not None:
                kept.append(raw.data if kept is boxes else bag.decode(raw))
    with BagWriter(out) as bag:
        for i in range(frames):
            k, ns = i % len(pictures), 10**18 + round(i * 1e9 / 30)
            bag.write("image/compressed", msg.compressed_image(pictures[k].data, "jpeg", ns, "camera_optical"), ns)
            info = infos[min(k, len(infos) - 1)]
            object.__setattr__(info, "header", msg.header(ns, "camera_optical"))
            bag.write("camera_info", info, ns)
            if k < len(boxes):
                _, (corners, ids, names, seen) = msg.read_boxes(boxes[k])
                bag.write("truth/boxes", msg.boxes(corners, ids, names, seen, ns, "camera_optical"), ns)
                shaky = corners + np.random.default_rng(i).normal(0, 1, (len(corners), 1))
                visible = seen > 0.4
                bag.write("detections", msg.boxes(shaky[visible], [""] * int(visible.sum()), [
                    n for n, v in zip(names, visible, strict=True) if v], np.full(int(visible.sum()), 0.8), ns,
                    "camera_optical"), ns)


def _evaluated(root: Path, bag: Path, words: list[str], frames: int) -> dict[str, Any]:
    out = root / f"out_{bag.name}_{len(list(root.iterdir()))}"
    command = [sys.executable, "-m", "uav_perception.cli.main", "evaluate", str(bag), "--out", str(out), *words]
    said = _measured(command, frames)
    times = json.loads((out / "timings.json").read_text())[bag.name]
    return {**said, "real_time_factor": times["real_time_factor"], "latency_ms": times["latency_ms"]}


def _measured(command: list[str], frames: int) -> dict[str, Any]:
    """CPU seconds and peak memory of a child, start-up included."""
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    cpu_s = usage.ru_utime + usage.ru_stime
    return {"exit": child.returncode, "cpu_s": round(cpu_s, 2), "cpu_ms_a_frame": round(cpu_s / frames * 1e3, 2),
            "recorded_s_per_cpu_s": round(frames / 30 / cpu_s, 2), "max_rss_mb": round(usage.ru_maxrss / 1024)}
