"""What this machine has, what will therefore be used, and what to do about what is missing."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..config import DepthPoseConfig, DetectorConfig
from ..errors import UavPerceptionError
from .process import transport

SERIAL = ("ttyACM*", "ttyUSB*", "ttyTHS*", "serial/by-id/*")  # where an autopilot's serial line may be, under /dev


@dataclass(frozen=True)
class Finding:
    """One line of the doctor. ``state``: ok, note (works, could be better), missing (something will not work)."""

    name: str
    state: str
    found: str
    remedy: str = ""


def examine() -> list[Finding]:
    """All findings; never raises: what cannot be examined is itself a finding."""
    return [_guarded(check) for check in CHECKS]


def as_dict(findings: list[Finding]) -> dict[str, Any]:
    """For ``--json``."""
    return {"ok": all(f.state != "missing" for f in findings), "findings": {f.name: asdict(f) for f in findings}}


def _guarded(check: Callable[[], Finding]) -> Finding:
    name = (check.__doc__ or check.__name__).rstrip(".")
    try:
        return check()
    except UavPerceptionError as e:
        return Finding(name, "missing", e.value, e.remedy)
    except Exception as e:  # one sick part must not hide the others
        return Finding(name, "missing", f"{type(e).__name__}: {e}", "report this")


def _version(*packages: str) -> str | None:
    for package in packages:
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return None


def _system() -> Finding:
    """system."""
    jetson = Path("/etc/nv_tegra_release")
    board = f", Jetson {jetson.read_text().split(',')[0].lstrip('# ')}" if jetson.is_file() else ""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    return Finding("system", "ok", f"{platform.platform()}, {platform.machine()}{board}, {os.cpu_count()} CPUs, "
                   f"{memory} MB, Python {platform.python_version()}")


def _ros() -> Finding:
    """ROS 2."""
    if importlib.util.find_spec("rclpy") is None:
        return Finding("ROS 2", "missing", "no rclpy: `fly` and `replay` cannot run, the offline commands can",
                       "source /opt/ros/DISTRO/setup.bash, or pip install 'uav-perception[ros]'")
    distro, number = os.environ.get("ROS_DISTRO"), _version("rclpy") or "unknown version"
    origin = f"distribution {distro}" if distro else "wheels (ros-kilted-*)"
    events = importlib.util.find_spec("rclpy.experimental") is not None
    return Finding("ROS 2", "ok", f"rclpy {number} from {origin}, RMW "
                   f"{os.environ.get('RMW_IMPLEMENTATION', 'rmw_fastrtps_cpp (default)')}, domain "
                   f"{os.environ.get('ROS_DOMAIN_ID', '0')}, executor {'Events' if events else 'SingleThreaded'}")


def _interfaces() -> Finding:
    """interfaces."""
    own: list[str] = []
    foreign: list[str] = []
    absent: list[str] = []
    for package in ("vision_msgs", "tf2_msgs"):
        spec = importlib.util.find_spec(package)
        place = Path(spec.origin).parent if spec and spec.origin else None
        built_here = place is not None and (place / "uav_perception_build.json").is_file()
        (absent if place is None else own if built_here else foreign).append(package)
    found = "; ".join(t for t in (f"built here: {', '.join(own)}" if own else "",
                                  f"the distribution's: {', '.join(foreign)}" if foreign else "",
                                  f"absent: {', '.join(absent)}" if absent else "") if t)
    return Finding("interfaces", "missing" if absent else "ok", found,
                   "python -m uav_perception.ros.interfaces.build, or apt install ros-$ROS_DISTRO-vision-msgs"
                   if absent else "")


def _transport() -> Finding:
    """transport."""
    kind, why = transport()
    return Finding("transport", "note" if kind == "default" else "ok", why)


def _opencv() -> Finding:
    """OpenCV."""
    import cv2

    info = cv2.getBuildInformation()
    parts = {name: _build_flag(info, name) for name in ("GStreamer", "FFMPEG", "v4l/v4l2")}
    found = f"OpenCV {cv2.__version__}, " + ", ".join(f"{n} {'yes' if on else 'no'}" for n, on in parts.items())
    if parts["GStreamer"]:
        return Finding("OpenCV", "ok", found)
    return Finding("OpenCV", "note", f"{found}: no csi: and gstreamer: sources",
                   "on a Jetson use the OpenCV of JetPack (do not pip install another there); elsewhere v4l2:, rtsp:// "
                   "and files need no GStreamer")


def _build_flag(info: str, name: str) -> bool:
    line = next((text for text in info.splitlines() if text.strip().startswith(f"{name}:")), "")
    return "YES" in line


def _cameras() -> Finding:
    """cameras."""
    names = {p.name: (p / "name").read_text().strip() for p in sorted(Path("/sys/class/video4linux").glob("video*"))}
    if not names:
        return Finding("cameras", "note", "no /dev/video*", "plug one in, or fly on a file, a bag, rtsp:// or the demo")
    return Finding("cameras", "ok", ", ".join(f"v4l2:/dev/{d} ({n})" for d, n in names.items()))


def _onnxruntime() -> Finding:
    """ONNX Runtime."""
    number = _version("onnxruntime", "onnxruntime-gpu")
    if number is None:
        return Finding("ONNX Runtime", "missing", "not installed", "pip install onnxruntime")
    return Finding("ONNX Runtime", "ok", f"{number}, on the CPU")


def _gpu() -> Finding:
    """GPU."""
    if not shutil.which("nvidia-smi"):
        driver = Path("/proc/driver/nvidia/version")
        if driver.is_file():
            return Finding("GPU", "ok", driver.read_text().splitlines()[0])
        return Finding("GPU", "note", "no NVIDIA driver: engines run on the CPU")
    done = subprocess.run(["nvidia-smi", "--query-gpu=name,driver_version,memory.total,compute_cap",
                           "--format=csv,noheader"], capture_output=True, text=True, timeout=10)
    said = (done.stdout or done.stderr).strip().replace("\n", "; ")
    return Finding("GPU", "note" if done.returncode else "ok", said)


def _tensorrt() -> Finding:
    """TensorRT."""
    number = _version("tensorrt", "tensorrt-cu12", "tensorrt-cu13", "tensorrt-rtx-cu12-bindings")
    if number is None and importlib.util.find_spec("tensorrt") is not None:
        number = "of the system"
    if number is None:
        return Finding("TensorRT", "note", "not installed: ONNX Runtime is used",
                       "on a Jetson it comes with JetPack (make the environment with --system-site-packages); on a PC "
                       "with an NVIDIA GPU pip install tensorrt")
    if not (shutil.which("nvidia-smi") or Path("/proc/driver/nvidia/version").is_file()):
        return Finding("TensorRT", "note", f"{number}, but no NVIDIA GPU: ONNX Runtime is used")
    return Finding("TensorRT", "ok", f"{number}; plans are built with `engine build --target tensorrt`")


def _detector() -> Finding:
    """detector engine."""
    from ..detect.detector import make_detector

    info = make_detector(DetectorConfig()).engine_info
    return Finding("detector engine", "ok", f"{info.name}, {info.backend}, {info.precision}: {info.why}")


def _depth() -> Finding:
    """depth engine."""
    from ..depth_pose.estimator import make_depth_pose

    info = getattr(make_depth_pose(DepthPoseConfig()), "engine_info", None)
    if info is None:
        return Finding("depth engine", "note", "geometry alone")
    return Finding("depth engine", "ok", f"{info.name}, {info.backend}, {info.precision}: {info.why}")


def _link() -> Finding:
    """autopilot link."""
    number = _version("pymavlink")
    if number is None:
        return Finding("autopilot link", "missing", "no pymavlink", "pip install pymavlink")
    ports = sorted(str(p) for pattern in SERIAL for p in Path("/dev").glob(pattern))
    return Finding("autopilot link", "ok",
                   f"pymavlink {number}; serial ports: {', '.join(ports) or 'none'}; UDP always")


def _recording() -> Finding:
    """recording."""
    number, free = _version("rosbags"), shutil.disk_usage(".").free >> 30
    if number is None:
        return Finding("recording", "missing", "no rosbags", "pip install rosbags")
    return Finding("recording", "ok" if free >= 2 else "note", f"rosbags {number}, {free} GB free here",
                   "" if free >= 2 else "a flight takes about 10 MB a second; give --out on a larger disk")


def _compiler() -> Finding:
    """compiler."""
    gcc = shutil.which(os.environ.get("CXX", "c++"))
    return Finding("compiler", "ok" if gcc else "note", gcc or "no c++",
                   "" if gcc else "only needed once for the interfaces on machines whose ROS comes from wheels")


def _parameters() -> Finding:
    """parameters."""
    from ..config import load_flight_config

    inside = Path("launch") / "params" / "flight.yaml"
    places = (Path(__file__).resolve().parents[2], Path(sys.prefix) / "share" / "uav_perception")
    file = next((p / inside for p in places if (p / inside).is_file()), None)
    if file is None:
        return Finding("parameters", "note", "no launch/params/flight.yaml here: defaults of the package are used")
    load_flight_config(file)
    return Finding("parameters", "ok", str(file))


CHECKS: tuple[Callable[[], Finding], ...] = (
    _system, _ros, _interfaces, _transport, _opencv, _cameras, _onnxruntime, _gpu, _tensorrt, _detector, _depth, _link,
    _recording, _compiler, _parameters)
