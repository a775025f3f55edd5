"""How camera frames get from one stage to another: by reference, over topics as this package sets them up, plain rclpy.

Every row is measured in this run, on this machine: the same frames at 30 Hz, a publisher and a subscriber process of
their own. `camera` is the real camera node; `rclpy default` a bare node with nothing but rclpy's own settings.
"""

from __future__ import annotations

import argparse
import contextlib
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

RATE_HZ = 30.0
SIZES = ((640, 480), (1280, 720))
SETTLE_S = 1.0  # after the first message: discovery is over, nothing is counted before
OWN_VARIABLES = ("FASTDDS_BUILTIN_TRANSPORTS", "FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=5.0, help="measured time of each row")


def run(args: argparse.Namespace) -> dict[str, Any]:
    rows = []
    for width, height in SIZES:
        rows.append({"frame": f"{width}x{height}", "how": "composed (by reference)",
                     **hand_over(width, height, args.seconds)})
        for how, reliable, tuned in (("camera node, topic", False, True), ("topic as set up here", False, True),
                                     ("rclpy default, best effort", False, False),
                                     ("rclpy default, reliable", True, False)):
            rows.append({"frame": f"{width}x{height}", "how": how,
                         **over_topic(width, height, args.seconds, reliable, tuned, camera=how.startswith("camera"))})
            print(rows[-1], file=sys.stderr)
    camera = next(r for r in rows if r["how"] == "camera node, topic")
    plain = next(r for r in rows if r["how"] == "rclpy default, best effort")
    composed = rows[0]
    ratio = None if plain["p50_ms"] is None else round(plain["p50_ms"] / composed["p50_ms"], 1)
    return {"benchmark": "transport", "rate_hz": RATE_HZ, "rows": rows, "camera_640x480_lost_percent":
            round(100 - camera["delivered_percent"], 2), "composed_speedup_p50": ratio, "cpus": os.cpu_count()}


def summary(delivered: float, latencies_ms: list[float], **more: Any) -> dict[str, Any]:
    p = np.percentile(latencies_ms, (50, 95, 99)).round(3).tolist() if latencies_ms else [None] * 3
    return {"delivered_percent": round(delivered, 2), "p50_ms": p[0], "p95_ms": p[1], "p99_ms": p[2], **more}


def hand_over(width: int, height: int, seconds: float) -> dict[str, Any]:
    """From the camera's thread to a stage's thread through the bus: the same object arrives, nothing is copied."""
    from uav_perception.records import Frame
    from uav_perception.ros import topics
    from uav_perception.ros.bus import Bus
    from uav_perception.runtime.worker import Worker

    latencies, sent, same = [], [], []
    bus = Bus()

    def arrived(frame: Frame) -> None:
        latencies.append((time.time_ns() - frame.stamp_ns) * 1e-6)
        same.append(frame is sent[frame.seq])

    worker: Worker[Frame] = Worker("stage", arrived, lambda m: print(m, file=sys.stderr))
    bus.connect(topics.IMAGE, worker.put)
    worker.start()
    image = np.zeros((height, width, 3), np.uint8)
    cpu_s, end = time.process_time(), time.monotonic() + seconds
    while time.monotonic() < end:
        sent.append(Frame(len(sent), time.time_ns(), image))
        bus.offer(topics.IMAGE, sent[-1])
        time.sleep(1 / RATE_HZ)
    worker.stop()
    return summary(100 * len(latencies) / len(sent), latencies, same_object=all(same), copied_bytes=0,
                   cpu_percent=round((time.process_time() - cpu_s) / seconds * 100, 1))


def over_topic(width: int, height: int, seconds: float, reliable: bool, tuned: bool, camera: bool) -> dict[str, Any]:
    """A publisher and a subscriber process in a ROS domain of their own."""
    environment = {k: v for k, v in os.environ.items() if k not in OWN_VARIABLES}
    environment["ROS_DOMAIN_ID"] = str(100 + os.getpid() % 100)
    flags = [str(width), str(height), str(seconds), str(int(reliable)), str(int(tuned))]
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as ending:
        me = [sys.executable, __file__]
        command = [*me, "publish", *flags]
        if camera:
            write_pictures(Path(folder), width, height)
            command = [sys.executable, "-m", "uav_perception.ros.camera", "--ros-args", "-p", f"source:={folder}",
                       "-p", f"fps:={RATE_HZ}", "-p", "loop:=true"]
        publisher = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, cwd=ROOT)
        ending.callback(publisher.wait)
        ending.callback(publisher.terminate)
        try:
            done = subprocess.run([*me, "subscribe", *flags], env=environment, capture_output=True, text=True, cwd=ROOT,
                                  timeout=seconds + 30)
        except subprocess.TimeoutExpired:
            return summary(0.0, [], note="nothing arrived")
        cpu_s = cpu_seconds(publisher.pid)
    if done.returncode:
        return summary(0.0, [], note=(done.stderr.strip().splitlines() or ["nothing arrived"])[-1])
    result = json.loads(done.stdout.splitlines()[-1])
    return summary(100 * result["received"] / max(result["expected"], 1), result["latencies_ms"],
                   publisher_cpu_s=round(cpu_s, 2), subscriber_cpu_percent=result["cpu_percent"])


ROOT = Path(__file__).resolve().parents[1]


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def write_pictures(folder: Path, width: int, height: int) -> None:
    """Ten smooth pictures (what decodes fast, as from a camera that needs no decoding)."""
    import cv2

    ramp = np.linspace(0, 200, width, dtype=np.uint8)
    for i in range(10):
        cv2.imwrite(str(folder / f"{i:03d}.bmp"), np.repeat(np.tile(ramp + i, (height, 1))[:, :, None], 3, axis=2))


def _node(tuned: bool) -> Any:
    if tuned:
        from uav_perception.runtime.process import prepare

        prepare()
    import rclpy

    rclpy.init()
    return rclpy.create_node(f"bench_{os.getpid()}")


def _qos(reliable: bool) -> Any:
    from rclpy.qos import QoSProfile, ReliabilityPolicy

    return QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT)


def publish(width: int, height: int, reliable: bool, tuned: bool) -> None:
    import array

    from sensor_msgs.msg import Image

    node = _node(tuned)
    publisher = node.create_publisher(Image, "image", _qos(reliable))
    pixels = np.zeros((height, width, 3), np.uint8)
    due = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    while True:
        message = Image(width=width, height=height, step=3 * width, encoding="bgr8")
        data = array.array("B")
        data.frombytes(pixels.data.cast("B"))
        message.data = data
        now = time.time_ns()
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(now, 10**9)
        publisher.publish(message)
        due += 1 / RATE_HZ
        time.sleep(max(0.0, due - time.monotonic()))


def subscribe(seconds: float, reliable: bool, tuned: bool) -> int:
    """Counts messages; how many were expected follows from the first and the last stamp and the rate."""
    import rclpy
    from sensor_msgs.msg import Image

    node = _node(tuned)
    stamps: list[int] = []
    latencies: list[float] = []
    first: list[float] = []

    def arrived(message: Any) -> None:
        now = time.time_ns()
        first.append(time.monotonic())
        stamps.append(message.header.stamp.sec * 10**9 + message.header.stamp.nanosec)
        latencies.append((now - stamps[-1]) * 1e-6)

    node.create_subscription(Image, "image", arrived, _qos(reliable))
    if tuned:
        from uav_perception.ros.main import make_executor

        executor = make_executor()
    else:
        executor = rclpy.executors.SingleThreadedExecutor()
    executor.add_node(node)
    begun, cpu_s, counted = time.monotonic(), 0.0, 0
    while not first or time.monotonic() - first[0] < SETTLE_S + seconds:
        executor.spin_once(timeout_sec=0.1)
        if first and not counted and time.monotonic() - first[0] > SETTLE_S:
            counted, cpu_s = len(stamps), time.process_time()
            since = time.time_ns()
        if not first and time.monotonic() - begun > 20:
            return 1
    span_s = (time.time_ns() - since) * 1e-9
    inside = [s for s in stamps if s >= since]
    cpu = (time.process_time() - cpu_s) / span_s * 100
    expected = round((inside[-1] - inside[0]) * 1e-9 * RATE_HZ) + 1 if inside else 1
    print(json.dumps({"received": len(inside), "expected": max(expected, len(inside)), "cpu_percent": round(cpu, 1),
                      "latencies_ms": latencies[-len(inside):] if inside else []}))
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    role, width_px, height_px, measured_s, is_reliable, is_tuned = sys.argv[1], *map(float, sys.argv[2:])
    if role == "publish":
        publish(int(width_px), int(height_px), bool(is_reliable), bool(is_tuned))
    sys.exit(subscribe(measured_s, bool(is_reliable), bool(is_tuned)))
