"""The link itself: MAVLink 2 over UDP or serial through pymavlink (imported only here)."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from pymavlink.dialects.v20 import common as mav

from .. import __version__
from ..config import FlightLinkConfig
from ..geometry import matrix_from_quaternion, so3_log
from ..records import F64, CameraModel, Obstacles, Pose, Scale, TargetStatus
from . import LinkCommand, LinkHealth, codec
from .safety import Safety, SafetyState
from .timesync import ClockMap
from .transport import Transport, open_transport

AUTOPILOT_SILENT_S = 2.0  # MAVLink heartbeat protocol: 1 Hz, so two were missed
TWIST_MAX_GAP_NS = 500_000_000  # poses further apart give no velocity
NAN = float("nan")

_MAV_STATE = {SafetyState.WAITING: mav.MAV_STATE_BOOT, SafetyState.ACTIVE: mav.MAV_STATE_ACTIVE,
              SafetyState.CRITICAL: mav.MAV_STATE_CRITICAL, SafetyState.EMERGENCY: mav.MAV_STATE_EMERGENCY}
_SEVERITY = {SafetyState.WAITING: mav.MAV_SEVERITY_NOTICE, SafetyState.ACTIVE: mav.MAV_SEVERITY_NOTICE,
             SafetyState.CRITICAL: mav.MAV_SEVERITY_CRITICAL, SafetyState.EMERGENCY: mav.MAV_SEVERITY_EMERGENCY}
_COASTING = 8  # CAMERA_TRACKING_STATUS_FLAGS_COASTING, newer than some dialects
_TRACKING = {"NONE": mav.CAMERA_TRACKING_STATUS_FLAGS_IDLE, "ACQUIRING": mav.CAMERA_TRACKING_STATUS_FLAGS_IDLE,
             "LOCKED": mav.CAMERA_TRACKING_STATUS_FLAGS_ACTIVE,
             "OCCLUDED": mav.CAMERA_TRACKING_STATUS_FLAGS_ACTIVE | _COASTING,
             "LOST": mav.CAMERA_TRACKING_STATUS_FLAGS_ACTIVE | _COASTING,  # engaged, searching, no box
             "FAILED": mav.CAMERA_TRACKING_STATUS_FLAGS_ERROR}


class MavlinkLink:
    """``FlightLink`` over a transport. Not thread-safe: one thread talks and polls.

    ``withheld`` counts what did not leave, by reason: ``stale``, ``future`` (stamp ahead of now), ``no_target``,
    ``target_unseen`` (locked, but not in this image), ``target_failed``, ``no_image_size``, ``no_intrinsics``,
    ``unscaled`` (depth or pose in unknown units), ``wrong_frame``, ``link_down`` (no peer, device gone, line full).
    """

    def __init__(self, config: FlightLinkConfig, transport: Transport,
                 clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._c, self._transport, self._clock_ns = config, transport, clock_ns
        self._mav: Any = mav.MAVLink(None, srcSystem=config.system_id, srcComponent=config.component_id)
        self._mav.robust_parsing = True
        self._camera: Any = mav.MAVLink(None, srcSystem=config.system_id, srcComponent=config.camera_component_id)
        self._safety = Safety(config.max_age_ms, config.max_ahead_ms, config.critical_s, config.emergency_s)
        self._clocks = ClockMap()
        self._sent: Counter[str] = Counter()
        self._withheld: Counter[str] = Counter()
        self._told = (SafetyState.WAITING, "NONE")  # what the last STATUSTEXT of each kind was about
        self._autopilot_ns: int | None = None
        self._autopilot_id = 0
        self._pose: Pose | None = None
        self._image_size: tuple[int, int] | None = None

    def send_heartbeat(self, now_ns: int) -> None:
        """Say that we live and how we are; to be called at 1 Hz or faster, whatever the stages do."""
        self._clocks.frame_clock(now_ns, self._clock_ns())
        state = self._safety.tick(now_ns)
        self._send(self._mav, self._mav.heartbeat_encode(mav.MAV_TYPE_ONBOARD_CONTROLLER, mav.MAV_AUTOPILOT_INVALID, 0,
                                                         0, _MAV_STATE[state]))
        if self._c.camera_component_id:
            self._send(self._camera, self._camera.heartbeat_encode(mav.MAV_TYPE_CAMERA, mav.MAV_AUTOPILOT_INVALID, 0, 0,
                                                                   _MAV_STATE[state]))
        self._send(self._mav, self._mav.timesync_encode(0, self._clock_ns()))
        self._tell_safety(state)

    def send_target(self, target: TargetStatus, camera: CameraModel | None, now_ns: int,
                    image_size_px: tuple[int, int] | None = None) -> None:
        """Send the operator's lock: status for the ground station, angles for the autopilot when seen in this image.

        Args:
            target: the lock; its stamp is the capture time.
            camera: intrinsics; without them no LANDING_TARGET can be made.
            now_ns: current time of the clock that stamped the frames.
            image_size_px: (width, height), needed where ``camera`` is None.
        """
        self._clocks.frame_clock(now_ns, self._clock_ns())
        if not self._may_leave(target.stamp_ns, now_ns):
            return
        self._tell_target(target)
        if camera is not None:
            self._image_size = (camera.width_px, camera.height_px)
        elif image_size_px is not None:
            self._image_size = image_size_px
        seen = target.track if target.track is not None and not self._safety.refusal(target.track.last_seen_ns,
                                                                                      now_ns) else None
        if self._image_size is None:
            self._withheld["no_image_size"] += 1
        else:
            self._send_tracking_status(target.state, None if seen is None else
                                       codec.normalised_box(seen.xyxy_px, *self._image_size))
        if target.state != "LOCKED" or seen is None:
            reason = {"NONE": "no_target", "FAILED": "target_failed"}.get(target.state, "target_unseen")
            self._withheld[reason] += 1
        elif camera is None:
            self._withheld["no_intrinsics"] += 1
        else:
            angle_x, angle_y, size_x, size_y = codec.target_angles(seen.xyxy_px, camera)
            self._send(self._mav, self._mav.landing_target_encode(
                self._usec(seen.stamp_ns, now_ns), seen.id % 256, mav.MAV_FRAME_BODY_FRD, angle_x, angle_y, 0.0, size_x,
                size_y, 0.0, 0.0, 0.0, [1.0, 0.0, 0.0, 0.0], mav.LANDING_TARGET_TYPE_VISION_OTHER, 0))

    def send_odometry(self, pose: Pose, now_ns: int) -> None:
        """Send a metric pose of ``base_link``; unscaled ones never leave.

        A parent named ``map`` is taken as ENU and sent as LOCAL_NED, any other as FLU of the start, sent as LOCAL_FRD.
        The twist is the mean since the last pose, NaN when there is none of the same ``reset_counter``.
        """
        self._clocks.frame_clock(now_ns, self._clock_ns())
        if not self._may_leave(pose.stamp_ns, now_ns):
            return
        if pose.scale is not Scale.METRIC:
            self._withheld["unscaled"] += 1
            return
        if not pose.child.endswith("base_link"):
            self._withheld["wrong_frame"] += 1
            return
        north = pose.parent.rsplit("/", 1)[-1] == "map"
        covariance = None if pose.covariance is None else codec.swap_covariance(pose.covariance, north)
        velocity, rate = (codec.swap_body(v) for v in _twist(self._pose, pose))
        self._pose = pose
        self._send(self._mav, self._mav.odometry_encode(
            self._usec(pose.stamp_ns, now_ns), mav.MAV_FRAME_LOCAL_NED if north else mav.MAV_FRAME_LOCAL_FRD,
            mav.MAV_FRAME_BODY_FRD, *codec.swap_world(pose.position_m, north).tolist(),
            codec.swap_attitude(pose.quaternion_wxyz, north).tolist(), *velocity.tolist(), *rate.tolist(),
            codec.upper_triangle(covariance), codec.upper_triangle(None), pose.reset_counter % 256,
            mav.MAV_ESTIMATOR_TYPE_VISION, 0))

    def send_obstacles(self, obstacles: Obstacles, now_ns: int) -> None:
        """Send the nearest obstacles around the vehicle as OBSTACLE_DISTANCE."""
        self._clocks.frame_clock(now_ns, self._clock_ns())
        if not self._may_leave(obstacles.stamp_ns, now_ns):
            return
        self._send(self._mav, self._mav.obstacle_distance_encode(
            self._usec(obstacles.stamp_ns, now_ns), mav.MAV_DISTANCE_SENSOR_UNKNOWN, codec.obstacles_cm(obstacles),
            360 // codec.SECTORS, round(obstacles.min_m * 100), round(obstacles.max_m * 100), 360 / codec.SECTORS, 0.0,
            mav.MAV_FRAME_BODY_FRD))

    def poll(self) -> list[LinkCommand]:
        """Handle all that has come; returns what the operator asked for, in order. Never blocks."""
        commands: list[LinkCommand] = []
        for message in self._received():
            kind = message.get_type()
            if kind == "HEARTBEAT" and message.autopilot != mav.MAV_AUTOPILOT_INVALID:
                self._autopilot_ns, self._autopilot_id = self._clock_ns(), message.get_srcSystem()
            elif kind == "TIMESYNC":
                self._timesync(message)
            elif kind == "COMMAND_LONG" and self._for_us(message):
                commands += self._command(message)
        return commands

    def health(self) -> LinkHealth:
        age_s = None if self._autopilot_ns is None else (self._clock_ns() - self._autopilot_ns) / 1e9
        connected = age_s is not None and age_s <= AUTOPILOT_SILENT_S
        message = "" if connected else "no heartbeat of an autopilot" + ("" if age_s is None else f" for {age_s:.1f} s")
        if connected and self._autopilot_id != self._c.system_id:
            message = f"autopilot has system id {self._autopilot_id}, we have {self._c.system_id}"
        return LinkHealth(connected, dict(self._sent), dict(self._withheld), age_s, self._safety.state.value, message)

    def close(self) -> None:
        self._transport.close()

    def _may_leave(self, stamp_ns: int, now_ns: int) -> bool:
        why = self._safety.heard(stamp_ns, now_ns)
        if why is not None:
            self._withheld[why] += 1
        return why is None

    def _send(self, sender: Any, message: Any) -> None:
        if self._transport.write(message.pack(sender)):
            sender.seq = (sender.seq + 1) % 256
            self._sent[message.get_type()] += 1
        else:
            self._withheld["link_down"] += 1

    def _send_tracking_status(self, state: str, box: tuple[float, float, float, float] | None) -> None:
        sender = self._camera if self._c.camera_component_id else self._mav
        if box is None:
            mode, data, fields = mav.CAMERA_TRACKING_MODE_NONE, 0, [NAN] * 7
        else:
            left, top, right, bottom = box
            mode, data = mav.CAMERA_TRACKING_MODE_RECTANGLE, mav.CAMERA_TRACKING_TARGET_DATA_IN_STATUS
            fields = [(left + right) / 2, (top + bottom) / 2, NAN, left, top, right, bottom]
        self._send(sender, sender.camera_tracking_image_status_encode(_TRACKING[state], mode, data, *fields))

    def _usec(self, stamp_ns: int, now_ns: int) -> int:
        """Capture time in microseconds of the autopilot's clock when it is known, else of the frames' own clock."""
        return self._clocks.autopilot_ns(min(stamp_ns, now_ns)) // 1000

    def _tell_safety(self, state: SafetyState) -> None:
        if state is not self._told[0]:
            self._told = (state, self._told[1])
            self._say(_SEVERITY[state], f"Perception {state.value}")

    def _tell_target(self, target: TargetStatus) -> None:
        if target.state == self._told[1]:
            return
        self._told = (self._told[0], target.state)
        if target.state in ("LOST", "FAILED"):
            self._say(mav.MAV_SEVERITY_WARNING, f"Target {target.state}: {target.message}".rstrip(": "))

    def _say(self, severity: int, text: str) -> None:
        self._send(self._mav, self._mav.statustext_encode(severity, text[:50].encode("ascii", "replace")))

    def _received(self) -> Iterator[Any]:
        data = self._transport.read()
        if data:
            yield from self._mav.parse_buffer(data) or ()

    def _timesync(self, message: Any) -> None:
        if message.tc1 == 0:
            self._send(self._mav, self._mav.timesync_encode(self._clock_ns(), message.ts1))
        else:
            self._clocks.timesync(message.ts1, message.tc1, self._clock_ns())

    def _for_us(self, message: Any) -> bool:
        return (message.target_system in (0, self._c.system_id)
                and message.target_component in (0, self._c.component_id, self._c.camera_component_id))

    def _command(self, message: Any) -> list[LinkCommand]:
        """One COMMAND_LONG to us: acknowledge it, and return what the tracker must do."""
        values = [float(getattr(message, f"param{i}")) for i in range(1, 5)]
        commands: list[LinkCommand] = []
        result = mav.MAV_RESULT_ACCEPTED
        if message.command in (mav.MAV_CMD_CAMERA_TRACK_POINT, mav.MAV_CMD_CAMERA_TRACK_RECTANGLE):
            point = message.command == mav.MAV_CMD_CAMERA_TRACK_POINT
            used = values[:2] if point else values
            if all(0.0 <= v <= 1.0 for v in used):  # NaN fails as well
                commands.append(LinkCommand("track_point" if point else "track_rectangle", tuple(used)))
            else:
                result = mav.MAV_RESULT_DENIED
        elif message.command == mav.MAV_CMD_CAMERA_STOP_TRACKING:
            commands.append(LinkCommand("track_stop"))
        elif message.command == mav.MAV_CMD_REQUEST_CAMERA_INFORMATION or (
                message.command == mav.MAV_CMD_REQUEST_MESSAGE
                and values[0] == mav.MAVLINK_MSG_ID_CAMERA_INFORMATION):
            self._ack(message, result)
            self._send_camera_information()
            return commands
        elif not (message.command == mav.MAV_CMD_SET_MESSAGE_INTERVAL
                  and values[0] == mav.MAVLINK_MSG_ID_CAMERA_TRACKING_IMAGE_STATUS):  # that one we stream anyway
            if message.target_component == 0:  # meant for somebody who knows it
                return commands
            result = mav.MAV_RESULT_UNSUPPORTED
        self._ack(message, result)
        return commands

    def _ack(self, command: Any, result: int) -> None:
        as_camera = command.target_component == self._c.camera_component_id and self._c.camera_component_id
        sender = self._camera if as_camera else self._mav
        self._send(sender, sender.command_ack_encode(command.command, result, 0, 0, command.get_srcSystem(),
                                                     command.get_srcComponent()))

    def _send_camera_information(self) -> None:
        sender = self._camera if self._c.camera_component_id else self._mav
        width, height = self._image_size or (0, 0)
        flags = mav.CAMERA_CAP_FLAGS_HAS_TRACKING_POINT | mav.CAMERA_CAP_FLAGS_HAS_TRACKING_RECTANGLE
        version = [int(n) for n in __version__.split(".")[:3] if n.isdecimal()]
        firmware = sum(n << (8 * i) for i, n in enumerate(version))
        name = [*b"uav_perception".ljust(32, b"\0")]
        self._send(sender, sender.camera_information_encode(
            self._clock_ns() // 1_000_000 % 2**32, name, name, firmware, NAN, NAN, NAN, width, height, 0, flags, 0,
            b""))


def _twist(before: Pose | None, pose: Pose) -> tuple[F64, F64]:
    """Mean velocity and turn rate between two poses, in the later body FLU; NaN when they do not belong together."""
    unknown = np.full(3, np.nan)
    if before is None or before.reset_counter != pose.reset_counter or before.parent != pose.parent:
        return unknown, unknown
    gap_ns = pose.stamp_ns - before.stamp_ns
    if not 0 < gap_ns <= TWIST_MAX_GAP_NS:
        return unknown, unknown
    now, then = matrix_from_quaternion(pose.quaternion_wxyz), matrix_from_quaternion(before.quaternion_wxyz)
    seconds = gap_ns / 1e9
    velocity = now.T @ (pose.position_m - before.position_m) / seconds
    return np.asarray(velocity), np.asarray(so3_log(then.T @ now) / seconds)


def make_link(config: FlightLinkConfig) -> MavlinkLink:
    """Open the link.

    Raises:
        LinkError: the address is malformed, the port is taken, the device is missing.
    """
    return MavlinkLink(config, open_transport(config.url, config.baud))
