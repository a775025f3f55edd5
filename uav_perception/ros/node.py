"""What every node of the graph has in common: life cycle, parameters, inputs, outputs, diagnostics."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from copy import copy
from typing import Any, ClassVar

from rclpy.clock import Clock, ClockType  # type: ignore[attr-defined]
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos_overriding_options import QoSOverridingOptions

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

from ..config import NodeConfig
from ..engine import EngineInfo
from ..errors import UavPerceptionError
from ..runtime.process import PARENT_VARIABLE
from ..runtime.stats import StageStats
from . import convert
from .bus import Bus
from .params import Parameters
from .topics import DIAGNOSTICS, Topic

OK, WARN, ERROR = 0, 1, 2
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
SUPERVISOR = os.environ.get(PARENT_VARIABLE, "")  # whose flight this is, where several share a network
SILENT_S = 2.0  # an active stage that says nothing for longer is worth a warning


class StageNode(LifecycleNode):  # type: ignore[misc]
    """Base of the lifecycle nodes. Configure loads, activate starts the flow, deactivate stops it, cleanup frees.

    Subclasses give ``NAME``, ``CONFIG`` and ``NESTED``, make publishers and inputs in ``__init__`` and override
    ``load``, ``begin``, ``end``, ``unload``. Errors raised there become one log line, an ERROR in /diagnostics and a
    refused transition; the graph goes on.
    """

    NAME: ClassVar[str]
    CONFIG: ClassVar[type]
    NESTED: ClassVar[dict[str, type]] = {}

    def __init__(self, bus: Bus | None = None, namespace: str | None = None) -> None:
        super().__init__(self.NAME, namespace=namespace, automatically_declare_parameters_from_overrides=True)
        self.bus = bus
        self.names = bus.names if bus else convert.ClassNames()
        self.parameters = Parameters(self, self.CONFIG, self.NESTED)
        self.common = self.parameters.read(NodeConfig)
        self.stats = StageStats(self.common.deadline_ms)
        self.active = False
        self.problem = ""  # why a transition failed; "" when all is well
        self.engine: EngineInfo | None = None
        self._qos_note = ""
        self._alive_s = time.monotonic()
        self._seen_done = 0
        self._instance = time.time_ns()
        self._diagnostics = self.create_publisher(DIAGNOSTICS.message(), DIAGNOSTICS.name, DIAGNOSTICS.qos)
        self.every(1.0 / self.common.diagnostics_hz, self.report)

    # ---- what subclasses do -------------------------------------------------------------------------------------
    def load(self) -> None:
        """Make the stage (engines, sources) from the parameters."""

    def begin(self) -> None:
        """Start the flow."""

    def end(self) -> None:
        """Stop the flow; must return within a second."""

    def unload(self) -> None:
        """Let go of what ``load`` made."""

    def details(self) -> dict[str, Any]:
        """More values for diagnostics; ``dropped`` and ``note`` (a line a person reads) have a meaning."""
        return {}

    # ---- inputs and outputs -------------------------------------------------------------------------------------
    def output(self, topic: Topic) -> Any:
        """A lifecycle publisher; quality of service can be overridden by parameters ``qos_overrides.*``."""
        return self.create_lifecycle_publisher(topic.message(), topic.name, copy(topic.qos),  # overrides write into it
                                               qos_overriding_options=QoSOverridingOptions.with_default_policies())

    def input(self, topic: Topic, sink: Callable[[Any], None], record: Callable[[Any], Any]) -> None:
        """Records of another node: by reference inside the process, else ``record(message)`` of the topic."""
        if self.bus is not None:
            self.bus.connect(topic, lambda r: sink(r) if self.active else None)
        else:
            self.subscribe(topic, lambda message: sink(record(message)))

    def subscribe(self, topic: Topic, callback: Callable[[Any], None]) -> None:
        """Messages from outside; a message that makes no sense is one failed frame."""
        def receive(message: Any) -> None:
            if not self.active:
                return
            try:
                callback(message)
            except UavPerceptionError as e:
                self.failed(f"{topic.name}: {e}")
            except (ValueError, KeyError, TypeError) as e:  # a sender with other ideas must not end this node
                self.failed(f"{topic.name}: {type(e).__name__}: {e}")

        self.create_subscription(topic.message(), topic.name, receive, copy(topic.qos),
                                 event_callbacks=self._qos_events(topic),
                                 qos_overriding_options=QoSOverridingOptions.with_default_policies())

    def _qos_events(self, topic: Topic) -> SubscriptionEventCallbacks:
        def incompatible(event: Any) -> None:
            policy = getattr(event.last_policy_kind, "name", event.last_policy_kind)
            self._qos_note = (f"a publisher of {topic.name} offers another quality of service ({policy}); "
                              f"set qos_overrides.{self.resolve_topic_name(topic.name)}.subscription.*")
            self.get_logger().warning(self._qos_note)

        return SubscriptionEventCallbacks(incompatible_qos=incompatible)

    def every(self, period_s: float, callback: Callable[[], None]) -> None:
        """Call back in real time, whatever /clock says or does not say."""
        self.create_timer(period_s, callback, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def offer(self, topic: Topic, record: Any) -> None:
        """Hand a record to the other nodes of this process."""
        if self.bus is not None:
            self.bus.offer(topic, record)

    def now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    def failed(self, message: str) -> None:
        """One frame failed: counted, shown, logged once a second; the next frame is taken."""
        self.stats.failure(message)
        self.get_logger().error(message, throttle_duration_sec=1.0)

    # ---- life cycle ---------------------------------------------------------------------------------------------
    def _transition(self, *steps: Callable[[], object]) -> TransitionCallbackReturn:
        try:
            for step in steps:
                step()
        except UavPerceptionError as e:
            self.problem = f"{type(e).__name__}: {e}"
        except Exception as e:  # a defect: say it, stay alive
            self.problem = f"{type(e).__name__}: {e}"
        else:
            self.problem = ""
            return SUCCESS
        self.get_logger().error(self.problem)
        self.report()
        return FAILURE

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.common = self.parameters.read(NodeConfig)
        self.stats.deadline_ms = self.common.deadline_ms
        return self._transition(self.load, lambda: super(StageNode, self).on_configure(state))

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._alive_s = time.monotonic()
        super().on_activate(state)
        self.active = True
        result = self._transition(self.begin)
        self.active = result == SUCCESS
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.active = False
        result = self._transition(self.end)
        super().on_deactivate(state)
        return result

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transition(self.unload, lambda: super(StageNode, self).on_cleanup(state))

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.close()
        return SUCCESS

    def close(self) -> None:
        """Stop and free whatever the state; the last numbers go out first."""
        was_active, self.active = self.active, False
        if was_active:
            self._transition(self.end)
        self.report()
        self._transition(self.unload)

    # ---- diagnostics --------------------------------------------------------------------------------------------
    def report(self) -> None:
        """Publish this stage's state now."""
        numbers, details = self.stats.snapshot(), self.details()
        note = details.pop("note", "")
        if numbers["done"] != self._seen_done:
            self._seen_done, self._alive_s = numbers["done"], time.monotonic()
        silent_s = time.monotonic() - self._alive_s
        if self.problem or self.stats.error:
            level, text = ERROR, self.problem or self.stats.error
        elif not self.active:
            level, text = OK, "not active"
        elif silent_s > SILENT_S and not details.get("ended"):
            level, text = WARN, f"nothing for {silent_s:.1f} s"
        else:
            level, text = OK, "running"
        if note and not self.problem:
            text = f"{text}; {note}"
        if self._qos_note:
            level, text = max(level, WARN), f"{text}; {self._qos_note}"
        values: dict[str, Any] = {"instance": self._instance, "supervisor": SUPERVISOR, "active": self.active,
                                  **_flat(numbers), **details}
        if self.engine is not None:
            values |= {"engine": self.engine.name, "backend": self.engine.backend, "precision": self.engine.precision,
                       "why": self.engine.why}
        name = self.get_fully_qualified_name().lstrip("/")
        message = DIAGNOSTICS.message()(status=[convert.status_message(
            name, level, text, values, self.engine.backend if self.engine else "")])
        message.header.stamp = self.get_clock().now().to_msg()
        with contextlib.suppress(Exception):  # the context may be gone while the last node closes
            self._diagnostics.publish(message)


def _flat(numbers: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in numbers.items():
        if isinstance(value, dict):
            flat |= {f"{key.removesuffix('_ms')}_{p}_ms": v for p, v in value.items()}
        elif value is not None:
            flat[key] = value
    return flat
