"""One flight: start the graph's processes, watch them, end them, report."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import FlightConfig, load_flight_config
from ..errors import InputError, WorkFailed
from ..runtime.process import prepare, transport
from ..runtime.report import write_report
from ..runtime.screen import Screen
from ..runtime.supervisor import Supervisor
from . import graph

POLL_S = 0.1
DRAIN_S = 0.6  # after a source has ended: the last frames pass the stages
STARTING_S = 10.0  # with a duration: how much longer to wait for the first frame
READY_S = 20.0  # a source is started at last even if a node is not active
GRACE_S, RECORDER_S = 2.1, 0.7  # for the processes to end, and for the recorder after them: within 3 s
STAGES = ("camera", "detector", "tracker", "depth_pose", "flight_link", "overlay", "recorder")


@dataclass(frozen=True)
class Options:
    """What `fly` was asked; None = as the parameter file says."""

    out: Path
    source: str | None = None
    duration_s: float | None = None
    detector: str | None = None
    fc: str | None = None
    record: bool = True
    composed: bool = True
    params: Path | None = None
    namespace: str = ""
    sim_time: bool = False


class Listener:
    """An autopilot's end of a UDP link for flights without an autopilot: packets really leave, and are counted."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(0.2)
        self.url = f"udpout:127.0.0.1:{self._socket.getsockname()[1]}"
        self.packets = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="listener", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                data, _ = self._socket.recvfrom(4096)
            except (TimeoutError, OSError):
                continue
            self.packets += data[:1] in (b"\xfd", b"\xfe")  # first byte of a MAVLink 2 or 1 packet

    def close(self) -> None:
        self._stop.set()
        self._thread.join(0.5)
        self._socket.close()


def fly(options: Options) -> dict[str, Any]:
    """Fly until the source ends, the duration is over, or SIGINT/SIGTERM comes; returns the report.

    Raises:
        InputError: bad parameters, source, model or link; nothing flew.
        WorkFailed: it flew, but no frame ever came.
    """
    started_s = time.monotonic()
    stop = threading.Event()
    previous = {s: signal.signal(s, lambda *_: stop.set()) for s in (signal.SIGINT, signal.SIGTERM)}
    base = options.params or graph.parameter_file()
    config = load_flight_config(base) if base else FlightConfig()
    listener = Listener() if not (options.fc or config.flight_link.url) else None
    try:
        overrides = _prepare_folder(options, config, listener)
        prepare()
        supervisor = Supervisor(options.out / "log")
        try:
            files = [*([base] if base else []), overrides]
            *others, source = graph.processes(options.composed, options.record)
            for process in others:
                supervisor.start(process.executable, process.command(files, options.namespace))

            def start_source() -> None:
                supervisor.start(source.executable, source.command(files, options.namespace))

            waited_for = () if options.composed else tuple(n for p in others for n in p.nodes)
            return _watch(options, config, supervisor, listener, stop, started_s, start_source, waited_for)
        finally:
            supervisor.stop(GRACE_S, last=("recorder",), last_s=RECORDER_S)
    finally:
        if listener is not None:
            listener.close()
        for number, handler in previous.items():
            signal.signal(number, handler)


def _prepare_folder(options: Options, config: FlightConfig, listener: Listener | None) -> Path:
    """Empty the places this flight writes to; write what the command line changes as a parameter file."""
    out = options.out.absolute()
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in ("report.json", "report.html", "overlay.mp4", "flight.mcap", "metadata.yaml"):
            (out / name).unlink(missing_ok=True)
        shutil.rmtree(out / "log", ignore_errors=True)
        bag, film = (str(out / n) if options.record else None for n in ("flight.mcap", "overlay.mp4"))
        url = options.fc or (listener.url if listener else None)
        given = graph.overrides(options.source, options.detector, url, bag, film,
                                auto_lock=listener is not None,  # no autopilot: nobody to ask, none to mislead
                                sim_time=options.sim_time)
        for node, values in given.items():
            if node != "**":
                config.with_values(node, **values)  # what is out of range is said before anything starts
        return graph.write_overrides(given, out / "params.yaml")
    except OSError as e:
        raise InputError(f"output folder {out}: {e.strerror}", "a folder that can be written",
                         "give another --out") from e


def _watch(options: Options, config: FlightConfig, supervisor: Supervisor, listener: Listener | None,
           stop: threading.Event, started_s: float, start_source: Callable[[], None],
           waited_for: Collection[str]) -> dict[str, Any]:
    """``start_source`` is called when all nodes in ``waited_for`` are active: a finite source waits for nobody."""
    source_due = bool(waited_for)
    if not source_due:
        start_source()
    from .monitor import Monitor  # rclpy is loaded while the children start

    with Monitor(options.namespace) as monitor:
        events: list[str] = []
        why = "interrupted"
        ended_s: float | None = None
        flying_s: float | None = None
        with Screen(STAGES) as screen:
            while not stop.wait(POLL_S):
                for event in supervisor.poll():
                    events.append(event)
                    screen.say(event)
                now_s = time.monotonic()
                if source_due and (all(monitor.active(n) for n in waited_for) or now_s - started_s > READY_S):
                    source_due = False
                    start_source()
                frames, ended = monitor.camera()
                flying_s = now_s if flying_s is None and frames else flying_s
                screen.show(now_s - started_s, monitor.stages, flying=frames > 0)
                if ended:
                    ended_s = ended_s or now_s
                    if now_s - ended_s > DRAIN_S:
                        why = "source ended"
                        break
                if options.duration_s and now_s - (flying_s or started_s + STARTING_S) > options.duration_s:
                    why = "duration"
                    break
            flown_s = time.monotonic() - (flying_s or started_s)
            restarts = supervisor.restarts
            codes = supervisor.stop(GRACE_S, last=("recorder",), last_s=RECORDER_S)
            time.sleep(POLL_S)  # the last reports of the nodes
            screen.show(time.monotonic() - started_s, monitor.stages)
        report = _report(options, config, monitor, listener, why, flown_s, started_s)
        report |= {"restarts": restarts, "exit_codes": codes, "events": events}
        bad = "; ".join(f"{n}: {s.message}" for n, s in monitor.stages.items() if s.level)
    write_report(report, options.out)
    if not report["counts"]["frames"]:
        raise WorkFailed(f"no frame came from {report['source']}", "frames", bad or f"see {options.out / 'log'}")
    return report


def _report(options: Options, config: FlightConfig, monitor: Any, listener: Listener | None, why: str, flown_s: float,
            started_s: float) -> dict[str, Any]:
    stages = {n: monitor.stages[n] for n in STAGES if n in monitor.stages}

    def timing(kind: str) -> dict[str, dict[str, float]]:
        values = {n: {p: s.values[f"{kind}_{p}_ms"] for p in ("p50", "p95", "p99") if f"{kind}_{p}_ms" in s.values}
                  for n, s in stages.items()}
        return {n: v for n, v in values.items() if v}

    first = monitor.first_track_s
    return {
        "source": options.source or config.camera.source, "ended": why, "duration_s": round(flown_s, 2),
        "counts": monitor.counts(), "latency_ms": timing("age"), "work_ms": timing("work"),
        "rate_hz": {n: s.values["rate_hz"] for n, s in stages.items() if s.values.get("rate_hz")},
        "dropped": {n: s.total("dropped") for n, s in stages.items()},
        "failed": {n: s.total("failed") for n, s in stages.items()},
        "deadline_misses": {n: s.total("deadline_misses") for n, s in stages.items()},
        "engines": {n: {"name": s.values["engine"], **{k: s.values[k] for k in ("backend", "precision", "why")}}
                    for n, s in stages.items() if "engine" in s.values},
        "first_track_s": None if first is None else round(first - started_s, 2),
        "messages": {n: {"level": ("OK", "WARN", "ERROR")[min(s.level, 2)], "message": s.message}
                     for n, s in stages.items()},
        "mavlink": {"url": stages["flight_link"].values.get("url", "") if "flight_link" in stages else "",
                    "sent": stages["flight_link"].values.get("sent", {}) if "flight_link" in stages else {},
                    "withheld": stages["flight_link"].values.get("withheld", {}) if "flight_link" in stages else {},
                    "heard_on_loopback": listener.packets if listener else None},
        "scale": stages["depth_pose"].values.get("scale") if "depth_pose" in stages else None,
        "composed": options.composed, "transport": transport()[1], "python": sys.version.split()[0],
        "ros_domain_id": os.environ.get("ROS_DOMAIN_ID", "0"),
    }
