"""The flight_link node, in a process of its own: what leaves for the autopilot is fresh, or an unhealthy heartbeat."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Any, NoReturn

from std_srvs.srv import SetBool

from ..config import FlightLinkConfig
from ..flight import LinkCommand
from ..records import CameraModel
from . import convert, convert_motion, topics
from .bus import Bus
from .main import run
from .node import StageNode

HEARTBEAT_S = 0.2  # PX4-Avoidance's rate of companion status
POLL_S = 0.05
PAIRS = 8  # messages of one stamp on two topics arrive in either order; older half pairs are given up


class FlightLinkNode(StageNode):
    """Sends the target and the odometry, passes what the operator asks over the link to `target/select`.

    The heartbeat comes from this process's own timer: when the perception process stalls or dies, nothing fresh
    arrives and the link itself turns CRITICAL.
    """

    NAME, CONFIG = "flight_link", FlightLinkConfig

    def __init__(self, bus: Bus | None = None, namespace: str | None = None) -> None:
        super().__init__(None, namespace)
        self._link: Any = None
        self._camera: CameraModel | None = None
        self._size_px: tuple[int, int] | None = None
        self._targets = _Pairs()
        self._poses = _Pairs()
        self._select = self.output(topics.TARGET_SELECT)
        self._release: Any = self.create_client(SetBool, topics.TARGET_SELECT.name)
        self.subscribe(topics.CAMERA_INFO, self._on_camera)
        self.subscribe(topics.TARGET, lambda m: self._targets.first(convert.to_ns(m.header.stamp), m, self._on_target))
        self.subscribe(topics.TARGET_STATUS, self._on_target_status)
        self.subscribe(topics.ODOMETRY, lambda m: self._poses.first(convert.to_ns(m.header.stamp), m, self._on_pose))
        self.subscribe(topics.ODOMETRY_STATUS, lambda m: self._poses.second(
            int(convert.status_values(m)["stamp_ns"]), m, self._on_pose))
        if self.parameters.read(FlightLinkConfig).obstacles:  # nobody computes what nobody listens to
            self.subscribe(topics.OBSTACLES, self._on_obstacles)
        self.every(HEARTBEAT_S, self._heartbeat)
        self.every(POLL_S, self._poll)

    def load(self) -> None:
        config = self.parameters.read(FlightLinkConfig)
        if config.url:
            from ..flight.mavlink import make_link

            self._link = make_link(config)

    def _on_camera(self, message: Any) -> None:
        self._size_px = (int(message.width), int(message.height))
        self._camera = None
        self._camera = convert.camera_from_message(message)

    def _on_target_status(self, message: Any) -> None:
        values = convert.status_values(message)
        if values["has_box"]:
            self._targets.second(int(values["stamp_ns"]), message, self._on_target)
        else:
            self._on_target(None, message)

    def _on_target(self, box: Any, status: Any) -> None:
        if self._link is not None:
            target = convert.target_from_messages(status, box, self.names)
            start_ns = time.perf_counter_ns()
            self._link.send_target(target, self._camera, self.now_ns(), self._size_px)
            self.stats.result(target.stamp_ns, self.now_ns(), time.perf_counter_ns() - start_ns)

    def _on_pose(self, odometry: Any, status: Any) -> None:
        if self._link is not None:
            self._link.send_odometry(convert_motion.pose_from_messages(odometry, status), self.now_ns())

    def _on_obstacles(self, message: Any) -> None:
        if self._link is not None:
            self._link.send_obstacles(convert_motion.obstacles_from_message(message), self.now_ns())

    def _heartbeat(self) -> None:
        if self._link is not None and self.active:
            self._link.send_heartbeat(self.now_ns())

    def _poll(self) -> None:
        if self._link is not None and self.active:
            for command in self._link.poll():
                self._pass_on(command)

    def _pass_on(self, command: LinkCommand) -> None:
        if command.kind == "track_stop":
            if self._release.service_is_ready():
                self._release.call_async(SetBool.Request(data=False))
            return
        if self._size_px is None:
            self.failed(f"{command.kind} from the operator before any camera_info: the size of the image is not known")
            return
        width, height = self._size_px
        x1, y1, *rest = command.values
        x2, y2 = rest or (x1, y1)
        box = topics.TARGET_SELECT.message()(size_x=abs(x2 - x1) * width, size_y=abs(y2 - y1) * height)
        box.center.position.x, box.center.position.y = (x1 + x2) / 2 * width, (y1 + y2) / 2 * height
        self._select.publish(box)

    def unload(self) -> None:
        if self._link is not None:
            self._link.close()
        self._link = None

    def details(self) -> dict[str, Any]:
        if self._link is None:
            return {"ended": True, "note": "no autopilot: flight_link.url is empty" if self.active else ""}
        health = self._link.health()
        return {"mavlink": sum(health.sent.values()), "sent": health.sent, "withheld": health.withheld,
                "link": health.state, "connected": health.connected, "url": self.parameters.read(FlightLinkConfig).url,
                "note": health.message}


class _Pairs:
    """Joins two topics by stamp, whichever comes first."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[int, tuple[Any, Any]] = OrderedDict()

    def first(self, stamp_ns: int, message: Any, done: Any) -> None:
        self._join(stamp_ns, (message, None), done)

    def second(self, stamp_ns: int, message: Any, done: Any) -> None:
        self._join(stamp_ns, (None, message), done)

    def _join(self, stamp_ns: int, half: tuple[Any, Any], done: Any) -> None:
        other = self._waiting.pop(stamp_ns, (None, None))
        first, second = half[0] or other[0], half[1] or other[1]
        if first is not None and second is not None:
            done(first, second)
            return
        self._waiting[stamp_ns] = (first, second)
        while len(self._waiting) > PAIRS:
            self._waiting.popitem(last=False)


def main() -> NoReturn:
    """The process of this node alone."""
    run(lambda: [FlightLinkNode()])


if __name__ == "__main__":
    main()
