"""The autopilot link: what leaves is fresh, in the autopilot's frames, and never invented."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ..records import CameraModel, Obstacles, Pose, TargetStatus


@dataclass(frozen=True)
class LinkHealth:
    """State of the link: ``connected`` when the autopilot's heartbeat was heard within 2 s."""

    connected: bool
    sent: dict[str, int]  # MAVLink message name -> packets sent
    withheld: dict[str, int]  # reason (stale, unscaled, no_target, ...) -> count
    last_heartbeat_age_s: float | None
    state: str  # one word of the safety state machine
    message: str = ""


@dataclass(frozen=True)
class LinkCommand:
    """What the operator asked over the link: track_point, track_rectangle, track_stop."""

    kind: str
    values: tuple[float, ...] = ()  # normalised 0..1 image coordinates


@runtime_checkable
class FlightLink(Protocol):
    """All ``now_ns`` are of the clock that stamped the frames."""

    def send_heartbeat(self, now_ns: int) -> None: ...

    def send_target(self, target: TargetStatus, camera: CameraModel | None, now_ns: int,
                    image_size_px: tuple[int, int] | None = None) -> None: ...

    def send_odometry(self, pose: Pose, now_ns: int) -> None: ...

    def send_obstacles(self, obstacles: Obstacles, now_ns: int) -> None: ...

    def poll(self) -> list[LinkCommand]: ...

    def health(self) -> LinkHealth: ...

    def close(self) -> None: ...
