"""The one description of the graph: which processes, which nodes in them. The launch files and `fly` both read it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

PACKAGE = "uav_perception"


@dataclass(frozen=True)
class Process:
    """One operating-system process: ``ros2 run uav_perception EXECUTABLE`` or ``python -m MODULE``."""

    executable: str
    module: str
    nodes: tuple[str, ...]

    def command(self, parameter_files: Sequence[str | Path] = (), namespace: str = "") -> list[str]:
        """How `fly` starts it."""
        words = [sys.executable, "-m", self.module, "--ros-args"]
        for file in parameter_files:
            words += ["--params-file", str(file)]
        if namespace:
            words += ["-r", f"__ns:=/{namespace.strip('/')}"]
        return words


def _alone(node: str) -> Process:
    return Process(node, f"{PACKAGE}.ros.{node}", (node,))


STAGES = ("camera", "detector", "tracker", "depth_pose", "overlay")
PERCEPTION = Process("perception", f"{PACKAGE}.ros.container", STAGES)


def processes(composed: bool = True, record: bool = False) -> tuple[Process, ...]:
    """All processes of a flight, sources last, so that nobody misses the first frame.

    Args:
        composed: the perception stages in one process; otherwise each in its own.
        record: with the recorder.
    """
    first = (_alone("recorder"),) if record else ()
    perception = (PERCEPTION,) if composed else tuple(_alone(n) for n in reversed(STAGES))
    return (*first, _alone("flight_link"), *perception)


def overrides(source: str | None = None, detector: str | None = None, fc: str | None = None, bag: str | None = None,
              film: str | None = None, auto_lock: bool = False, sim_time: bool = False) -> dict[str, dict[str, Any]]:
    """Node -> parameters for what a command line or launch argument gave; empty and None mean "as the file says"."""
    given: dict[str, dict[str, Any]] = {
        "camera": {"source": source}, "detector": {"model": detector}, "flight_link": {"url": fc},
        "recorder": {"bag": bag}, "overlay": {"video": film}, "tracker": {"auto_lock": auto_lock or None},
        "**": {"use_sim_time": sim_time or None}}
    kept = {node: {k: v for k, v in values.items() if v} for node, values in given.items()}
    return {node: values for node, values in kept.items() if values}


def write_overrides(given: dict[str, dict[str, Any]], path: Path) -> Path:
    """Write ``given`` (node, or ``**`` for all) as a parameter file for any namespace; the last one read wins."""
    tree = {"/**" if node == "**" else f"/**/{node}": {"ros__parameters": values} for node, values in given.items()}
    path.write_text(yaml.safe_dump(tree))
    return path


def parameter_file() -> Path | None:
    """launch/params/flight.yaml of the checkout or of the installed share folder; None: defaults of config.py."""
    inside = Path("launch") / "params" / "flight.yaml"
    places = [Path(__file__).resolve().parents[2], Path(sys.prefix) / "share" / PACKAGE]
    try:
        from ament_index_python.packages import get_package_share_directory

        places.append(Path(get_package_share_directory(PACKAGE)))
    except (ImportError, LookupError, OSError):  # no index, or not in it
        pass
    return next((p / inside for p in places if (p / inside).is_file()), None)
