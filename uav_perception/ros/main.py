"""The main function of every process of the graph: start, spin, end within seconds, say one line when it cannot."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from ..errors import UavPerceptionError
from ..runtime.process import prepare

if TYPE_CHECKING:
    from .node import StageNode

END_S = 2.0  # a node that takes longer to end is left behind
SPIN_S = 0.1  # how long the executor may wait before signals are looked at


class _AlreadySaid(Exception):
    """A node could not start and has logged why."""


def run(make_nodes: Callable[[], Sequence[StageNode]], argv: Sequence[str] | None = None) -> NoReturn:
    """Serve nodes until SIGINT or SIGTERM. The process ends with 0, or with 2 after one line on standard error."""
    stop = threading.Event()

    def ask_to_stop(_: int, __: FrameType | None) -> None:
        stop.set()  # a second Ctrl-C while ending changes nothing

    signal.signal(signal.SIGINT, ask_to_stop)
    signal.signal(signal.SIGTERM, ask_to_stop)
    prepare()
    import rclpy
    from rclpy.signals import SignalHandlerOptions

    nodes: list[StageNode] = []
    code = 0
    try:
        rclpy.init(args=list(sys.argv if argv is None else argv), signal_handler_options=SignalHandlerOptions.NO)
        nodes += make_nodes()
        _bring_up(nodes, stop)
        executor = make_executor()
        for node in nodes:
            executor.add_node(node)
        while not stop.is_set() and rclpy.ok():
            executor.spin_once(timeout_sec=SPIN_S)
    except _AlreadySaid:
        code = 2
    except UavPerceptionError as e:
        print(f"uav-perception: {type(e).__name__}: {e}", file=sys.stderr)
        code = e.exit_code
    except Exception as e:
        if not is_ros_input_error(e):
            raise
        print(f"uav-perception: {type(e).__name__}: {' '.join(str(e).split())}", file=sys.stderr)
        code = 2
    finally:
        _end(nodes)
    rclpy.try_shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # all is said and freed; taking the interpreter apart would cost 0.3 s more, or wait for an engine


def make_executor() -> Any:
    """EventsExecutor where rclpy has it (13 % CPU where the single-threaded one takes 72 %)."""
    try:
        from rclpy.experimental.events_executor import EventsExecutor
    except ImportError:
        from rclpy.executors import SingleThreadedExecutor

        return SingleThreadedExecutor()
    return EventsExecutor()


def is_ros_input_error(error: Exception) -> bool:
    """What rclpy raises for bad --ros-args and parameter files: the user's input, not a defect here."""
    return type(error).__name__ in ("RCLInvalidROSArgsError", "UnknownROSArgsError", "InvalidParameterTypeException",
                                    "InvalidParameterValueException", "ParameterAlreadyDeclaredException",
                                    "InvalidHandle", "RCLError")


def _bring_up(nodes: Sequence[StageNode], stop: threading.Event) -> None:
    """Configure all at once (engines load side by side), then activate from the last to the first: sources last."""
    wanted = [n for n in nodes if n.common.autostart]
    threads = [threading.Thread(target=n.trigger_configure, name=f"configure {n.get_name()}", daemon=True)
               for n in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive() and not stop.is_set():
            thread.join(0.1)
    if stop.is_set():
        for thread in threads:
            thread.join(END_S)
        return
    for node in reversed(wanted):
        if not any(n.problem for n in wanted):
            node.trigger_activate()
    if any(n.problem for n in wanted):
        raise _AlreadySaid


def _end(nodes: Sequence[StageNode]) -> None:
    def close(node: StageNode) -> None:
        with contextlib.suppress(Exception):  # the others must still be ended
            node.close()

    threads = [threading.Thread(target=close, args=(n,), daemon=True) for n in nodes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(END_S)
    if nodes:
        threading.Event().wait(0.05)  # let the last messages reach their readers before the writers vanish
    for node in nodes:
        with contextlib.suppress(Exception):
            node.destroy_node()
