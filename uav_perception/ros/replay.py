"""Plays a bag into the live graph: serialised messages at their own times, with /clock, newest wins.

The bag's camera comes out as the graph's ``image`` or ``image/compressed`` with ``camera_info``, so that
``camera.source: topic`` takes it. Times are those of the message headers. Run the graph with ``use_sim_time``.
"""

from __future__ import annotations

import importlib
import select
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ..camera.bag import COMPRESSED, BagPictures
from ..camera.bagfile import RawMessage, Topic, typestore
from ..errors import InputError

CLOCK_S = 0.01  # /clock is at least this fine, in wall time
MATCH_S, SETTLE_S = 5.0, 0.5  # wait for a subscriber, and for it to be ready for the first message
LATE_S = 0.01  # published this much after its time, a message is late
DROP_S = 0.1  # an image this late is not published at all: the graph wants the newest
NEAR_NS = 5_000_000_000  # a header further from the recording's clock than this is no capture time
STAMP = struct.Struct("<iI")  # sec, nanosec: bytes 4 to 12 of a serialised message that begins with a header


@dataclass(frozen=True)
class Options:
    """What is played. ``topics`` empty = all that the graph does not publish itself."""

    bag: Path
    rate: float = 1.0
    loop: bool = False
    start_s: float = 0.0
    topics: tuple[str, ...] = ()
    image_topic: str = ""
    namespace: str = ""
    paused: bool = False
    qos_overrides: Path | None = None
    wait_s: float = MATCH_S


@dataclass
class Played:
    """What came of it."""

    published: Counter[str] = field(default_factory=Counter)
    late: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    left_out: list[str] = field(default_factory=list)
    worst_late_ms: float = 0.0
    seconds: float = 0.0


def names_in_graph(pictures: BagPictures) -> dict[str, str]:
    """Bag topic -> topic of the graph, for what the graph takes in."""
    image = "image/compressed" if pictures.bag.topics[pictures.topic].msgtype == COMPRESSED else "image"
    names = {pictures.topic: image}
    if pictures.info_topic:
        names[pictures.info_topic] = "camera_info"
    height = next((t for t in sorted(pictures.bag.topics) if t.rsplit("/", 1)[-1] == "height_agl"), None)
    return {**names, **({height: "height_agl"} if height else {})}


def remappings(bag: Path) -> list[str]:
    """What `ros2 bag play --remap` needs so that the graph takes this bag's camera."""
    pictures = BagPictures(bag)
    try:
        return [f"{theirs}:={ours}" for theirs, ours in names_in_graph(pictures).items()]
    finally:
        pictures.close()


def play(options: Options, stop: threading.Event) -> Played:
    """Play until the end, or until ``stop``.

    Raises:
        BagError: unusable bag. InputError: a topic that is not in it, or bad QoS overrides.
    """
    if not 0.01 <= options.rate <= 100:
        raise InputError(f"--rate {options.rate:g}", "0.01 to 100", "correct the rate")
    pictures = BagPictures(options.bag, options.image_topic)
    try:
        return _Player(options, pictures, stop).run()
    finally:
        pictures.close()


class _Player:
    def __init__(self, options: Options, pictures: BagPictures, stop: threading.Event) -> None:
        self._options, self._bag, self._stop = options, pictures.bag, stop
        self._camera = pictures.topic
        self._names = names_in_graph(pictures)
        self._played = Played()
        self._topics = self._chosen()
        self._paused = threading.Event()
        if options.paused:
            self._paused.set()
        self._origin_ns = 0  # bag time at ...
        self._started_s = 0.0  # ... this monotonic time
        self._profiles = _qos_overrides(options.qos_overrides)

    def _chosen(self) -> dict[str, Topic]:
        from . import topics

        known = self._bag.topics
        for name in self._options.topics:
            if name not in known:
                raise InputError(f"--topics {name}", f"some of {', '.join(sorted(known))}", "correct the name")
        ours = {t.name.strip("/") for t in topics.ALL} - {"image", "image/compressed", "camera_info", "height_agl"}
        wrong = {m.split(" (")[0]: m for m in self._bag.mismatched()}
        chosen = {}
        for name, topic in known.items():
            if name in wrong:
                self._played.left_out.append(wrong[name])
                continue
            asked = name in self._options.topics or name in self._names
            others = not self._options.topics and name.strip("/") not in ours and "truth" not in name
            if asked or others:
                chosen[name] = topic
        return chosen

    def run(self) -> Played:
        import rclpy
        from rclpy.signals import SignalHandlerOptions
        from rosgraph_msgs.msg import Clock
        from std_srvs.srv import SetBool

        from .main import make_executor

        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        node = rclpy.create_node("player", namespace=self._options.namespace or None)
        try:
            self._clock = node.create_publisher(Clock, "/clock", 10)
            self._clock_type = Clock
            publishers = {name: made for name, topic in self._topics.items()
                          if (made := self._publisher(node, topic)) is not None}
            node.create_service(SetBool, "~/pause", self._on_pause)
            executor = make_executor()
            executor.add_node(node)
            spinner = threading.Thread(target=self._spin, args=(executor,), daemon=True)
            spinner.start()
            if sys.stdin is not None and sys.stdin.isatty():
                threading.Thread(target=self._keyboard, daemon=True).start()
            self._wait_for_someone(publishers.get(self._camera))
            begun = time.monotonic()
            self._flow(publishers)
            self._played.seconds = round(time.monotonic() - begun, 3)
            self._stop.wait(0.1)  # let the last messages leave
            self._stop.set()
            spinner.join(1.0)
        finally:
            node.destroy_node()
            rclpy.try_shutdown()
        return self._played

    def _publisher(self, node: Any, topic: Topic) -> Any:
        package, _, name = topic.msgtype.split("/")
        try:
            kind = getattr(importlib.import_module(f"{package}.msg"), name)
        except (ImportError, AttributeError):
            self._played.left_out.append(f"{topic.name} ({topic.msgtype}: not built here)")
            return None
        profile = self._profiles.get(topic.name) or _offered(topic)
        return node.create_publisher(kind, self._names.get(topic.name, topic.name), profile)

    def _spin(self, executor: Any) -> None:
        while not self._stop.is_set():
            executor.spin_once(timeout_sec=0.1)

    def _on_pause(self, request: Any, response: Any) -> Any:
        self._pause(request.data)
        response.success, response.message = True, "paused" if request.data else "playing"
        return response

    def _pause(self, wanted: bool) -> None:
        if wanted:
            self._paused.set()
        else:
            self._paused.clear()

    def _keyboard(self) -> None:
        """Space and Enter pause and go on (the terminal hands lines over, so Enter does it in either case)."""
        while not self._stop.is_set():
            if select.select([sys.stdin], [], [], 0.2)[0] and sys.stdin.readline():
                self._pause(not self._paused.is_set())
                print("paused" if self._paused.is_set() else "playing", file=sys.stderr, flush=True)

    def _wait_for_someone(self, publisher: Any) -> None:
        deadline = time.monotonic() + self._options.wait_s
        while publisher is not None and not publisher.get_subscription_count():
            if time.monotonic() >= deadline or self._stop.wait(0.05):
                return
        self._stop.wait(SETTLE_S)

    def _flow(self, publishers: dict[str, Any]) -> None:
        shift_ns, last_ns, first_ns, period_ns = 0, 0, None, 33_333_333
        while not self._stop.is_set():
            for message, due_ns in self._timed(list(publishers)):
                if first_ns is None:
                    first_ns = due_ns
                    self._begin(due_ns + round(self._options.start_s * 1e9))
                if due_ns < first_ns + self._options.start_s * 1e9:
                    continue
                due_ns = max(due_ns + shift_ns, last_ns)
                if message.topic == self._camera and due_ns > last_ns:
                    period_ns = due_ns - last_ns if last_ns else period_ns
                last_ns = due_ns
                if not self._wait_until(due_ns):
                    return
                self._publish(publishers[message.topic], message, due_ns, shift_ns)
            if first_ns is None or not self._options.loop:
                return
            shift_ns = last_ns + period_ns - first_ns - round(self._options.start_s * 1e9)

    def _timed(self, names: list[str]) -> Iterator[tuple[RawMessage, int]]:
        """Messages and the times they are due: header stamps, or recording times moved onto that clock."""
        offset_ns: int | None = None
        stamped = {n for n, t in self._topics.items() if _has_header(t.msgtype, self._bag.ros1)}
        for message in self._bag.messages(names):
            if self._bag.ros1:
                data = bytes(typestore(True).ros1_to_cdr(message.data, message.msgtype))
                message = RawMessage(message.topic, message.msgtype, message.bag_ns, data)
            stamp_ns = _stamp_ns(message.data) if message.topic in stamped else 0
            if offset_ns is None and message.topic == self._camera and stamp_ns:
                offset_ns = stamp_ns - message.bag_ns
            due_ns = message.bag_ns + (offset_ns or 0)
            yield message, stamp_ns if stamp_ns and abs(stamp_ns - due_ns) < NEAR_NS else due_ns

    def _begin(self, origin_ns: int) -> None:
        self._origin_ns, self._started_s = origin_ns, time.monotonic()

    def _now_ns(self) -> int:
        return self._origin_ns + round((time.monotonic() - self._started_s) * self._options.rate * 1e9)

    def _wait_until(self, due_ns: int) -> bool:
        """Wait in steps of /clock; False when playing was stopped."""
        while not self._stop.is_set():
            if self._paused.is_set():
                at_ns = self._now_ns()
                while self._paused.is_set() and not self._stop.wait(CLOCK_S):
                    pass
                self._begin(at_ns)
            left_s = (due_ns - self._now_ns()) * 1e-9 / self._options.rate
            self._publish_clock(min(self._now_ns(), due_ns))
            if left_s <= 0:
                return True
            self._stop.wait(min(left_s, CLOCK_S))
        return False

    def _publish_clock(self, now_ns: int) -> None:
        clock = self._clock_type()
        clock.clock.sec, clock.clock.nanosec = now_ns // 10**9, now_ns % 10**9
        self._clock.publish(clock)

    def _publish(self, publisher: Any, message: RawMessage, due_ns: int, shift_ns: int) -> None:
        late_s = (self._now_ns() - due_ns) * 1e-9 / self._options.rate
        self._played.worst_late_ms = max(self._played.worst_late_ms, round(late_s * 1e3, 2))
        if message.topic == self._camera and late_s > DROP_S:
            self._played.dropped[message.topic] += 1
            return
        self._played.late[message.topic] += late_s > LATE_S
        data = message.data
        if shift_ns and _has_header(message.msgtype, False):
            stamp_ns = _stamp_ns(data) + shift_ns
            data = data[:4] + STAMP.pack(stamp_ns // 10**9, stamp_ns % 10**9) + data[12:]
        publisher.publish(data)
        self._played.published[message.topic] += 1


def _stamp_ns(data: bytes) -> int:
    sec, nanosec = STAMP.unpack_from(data, 4)
    return int(sec) * 10**9 + int(nanosec)


def _has_header(msgtype: str, ros1: bool) -> bool:
    fields = typestore(ros1).fielddefs[msgtype][1]
    return bool(fields) and fields[0][0] == "header"


def _offered(topic: Topic) -> Any:
    """The recorded quality of service, or the usual one."""
    from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

    profile = QoSProfile(depth=10)
    if topic.qos:
        recorded = topic.qos[0]
        if recorded.reliability.name == "BEST_EFFORT":
            profile.reliability = ReliabilityPolicy.BEST_EFFORT
        if recorded.durability.name == "TRANSIENT_LOCAL":
            profile.durability = DurabilityPolicy.TRANSIENT_LOCAL
        profile.depth = min(max(recorded.depth, 1), 100)
    return profile


def _qos_overrides(path: Path | None) -> dict[str, Any]:
    """Profiles of a ``ros2 bag play --qos-profile-overrides-path`` file: topic -> reliability, durability, depth."""
    if path is None:
        return {}
    from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

    try:
        tree = yaml.safe_load(path.read_text()) or {}
        return {str(name): QoSProfile(
            depth=int(values.get("depth", 10)),
            reliability=ReliabilityPolicy[str(values.get("reliability", "reliable")).upper()],
            durability=DurabilityPolicy[str(values.get("durability", "volatile")).upper()])
            for name, values in tree.items()}
    except (OSError, yaml.YAMLError, KeyError, AttributeError, TypeError, ValueError) as e:
        raise InputError(f"QoS overrides {path} ({type(e).__name__}: {e})",
                         "topic: {reliability: reliable|best_effort, durability: volatile|transient_local, depth: N}",
                         "correct the file") from e
