"""Rendered flights: a named scene and a seed give frames with everything that is true about them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

import cv2
import numpy as np

from ..errors import InputError
from ..geometry import se3_exp, se3_inverse, so3_log
from ..records import F32, F64, I32, CameraModel, DepthMap, Frame
from .actors import CLASS_NAMES, Actor, Crowd, Density
from .layout import Place
from .look import Sensor, develop, develop_thermal, random_light
from .mesh import transform
from .places import PLACES
from .rays import Object, View, pixels_of
from .render import Rendered, Renderer
from .trajectories import Pilot
from .views import camera_matrix, visible_boxes
from .world import renderer_types

START_NS = 10**9  # the first frame's stamp
MIN_OUTLINE_PX = 4.0  # things whose longer side is smaller are left out of the truth
STEP_S = 0.05  # longest step of the traffic


@dataclass(frozen=True)
class SceneSpec:
    """What a scene's name stands for. Angles in degrees, as people say them."""

    place: str
    trajectory: str
    altitude_m: float
    look_down_deg: float
    speed_m_s: float
    density: Density = field(default_factory=Density)
    follow: str = "car"
    thermal: bool = False


# How fast a thing goes over the ground whose pixels move by themselves, and whose rest: a walker does 0.8 and more
MOVES_M_S, RESTS_M_S = 0.3, 0.1

SCENES: dict[str, SceneSpec] = {
    "street": SceneSpec("street", "survey", 30, 45, 6),
    "junction": SceneSpec("junction", "hover", 45, 55, 0, Density(40, 0.8, 40, 0.7)),
    "roundabout": SceneSpec("roundabout", "orbit", 50, 60, 5, Density(45, 0.6, 20)),
    "parking": SceneSpec("parking", "survey", 40, 90, 5, Density(20, 0.75, 40)),
    "town": SceneSpec("town", "follow", 35, 50, 0, Density(20, 0.7, 60)),
    "park": SceneSpec("park", "orbit", 20, 35, 4, Density(15, 0.6, 90)),
    "plaza": SceneSpec("plaza", "survey", 25, 50, 3, Density(20, 0.6, 120)),
    "field": SceneSpec("field", "follow", 60, 30, 0, Density(20, 0.5, 10)),
    "underpass": SceneSpec("underpass", "follow", 35, 50, 0, Density(15, 0.5, 15)),
    "avenue": SceneSpec("avenue", "follow", 40, 60, 0, Density(20, 0.5, 25)),
    "survey-high": SceneSpec("town", "survey", 120, 90, 10, Density(30, 0.7, 60)),
    "low-oblique": SceneSpec("street", "survey", 10, 15, 3, Density(30, 0.7, 50)),
    "night": SceneSpec("plaza", "orbit", 60, 60, 4, Density(20, 0.6, 100), thermal=True),
}


@dataclass(frozen=True)
class FlightOptions:
    """How a scene is filmed, and how many walk there; None = as the scene says. ``exposure_s`` blurs, ``readout_s`` > 0
    is a rolling shutter."""

    width_px: int = 640
    height_px: int = 480
    fps: float = 20.0
    seed: int = 0
    thermal: bool | None = None
    trajectory: str | None = None
    altitude_m: float | None = None
    look_down_deg: float | None = None
    fov_deg: float = 65.0
    exposure_s: float = 0.004
    readout_s: float = 0.0
    noise: float = 0.008
    haze_m: float | None = None
    walkers: int | None = None

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("width", self.width_px, 32, 4096),
            ("height", self.height_px, 32, 4096),
            ("fps", self.fps, 0.5, 240),
            ("seed", self.seed, 0, 2**31),
            ("field of view", self.fov_deg, 10, 120),
            ("noise", self.noise, 0, 0.5),
            ("exposure", self.exposure_s, 0, 1),
            ("rolling shutter", self.readout_s, 0, 0.2),
            ("altitude", self.altitude_m, 3, 150),
            ("look-down", self.look_down_deg, 15, 90),
            ("haze", self.haze_m, 10, 1e6),
            ("walkers", self.walkers, 0, 2000),
        ):
            if value is not None and not low <= value <= high:
                raise InputError(f"{name} {value}", f"{low} to {high}", "correct the argument")
        if self.trajectory is not None and self.trajectory not in Pilot.KINDS:
            raise InputError(
                f"trajectory {self.trajectory!r}", f"one of {', '.join(Pilot.KINDS)}", "correct the argument"
            )


@dataclass(frozen=True, eq=False)
class SimFrame:
    """A frame and its truth. Rows of the arrays of length N are objects with some outline in the image.

    Attributes:
        frame: picture with stamp and intrinsics.
        world_from_camera: (4, 4), optical frame in the world (ENU, metres).
        depth: metres along the optical axis; invalid at the sky.
        id_mask: (H, W) int32, object id of what each pixel centre sees; 0 = nothing that moves.
        object_id, class_id: (N,) int32. ``class_id`` indexes ``actors.CLASS_NAMES``.
        xyxy_px: (N, 4) float32 around the visible pixels exactly; all zero where nothing is visible.
        full_xyxy_px: (N, 4) float32 around the whole outline inside the image.
        visibility: (N,) float32, visible pixels / pixels of the whole outline.
        flow_px: (H, W, 2) float32, what pixel p shows was at p - flow in the previous frame; NaN at the first.
        own_px: (H, W) float32, by how much of it what pixel p shows has moved against the scene; 0 at the first.
        speed_m_s: (H, W) float32, of the thing that pixel p shows, over the ground; 0 at the first.
        height_agl_m: straight down to the ground.
    """

    frame: Frame
    world_from_camera: F64
    depth: DepthMap
    id_mask: I32
    object_id: I32
    class_id: I32
    xyxy_px: F32
    full_xyxy_px: F32
    visibility: F32
    flow_px: F32
    own_px: F32
    speed_m_s: F32
    height_agl_m: float


@lru_cache(maxsize=2)
def _place(name: str, seed: int) -> Place:
    """Places never change once made, so flights may share them."""
    return PLACES[name](np.random.default_rng([seed, 82]))


class Flight:
    """Iterate to get ``SimFrame``s without end; equal scene and options give equal frames, bit for bit.

    Raises:
        InputError: no such scene, or an option out of range.
        MissingDependency: without the extra ``sim``.
    """

    def __init__(self, scene: str, options: FlightOptions | None = None) -> None:
        if scene not in SCENES:
            raise InputError(f"scene {scene!r}", f"one of {', '.join(SCENES)}", "choose a scene by name")
        renderer_types()  # a missing renderer shows before any work
        self.options = options or FlightOptions()
        self.spec = SCENES[scene]
        o, spec = self.options, self.spec
        self.thermal = spec.thermal if o.thermal is None else o.thermal
        rng = np.random.default_rng([o.seed, 81])
        self.place = _place(spec.place, o.seed)
        density = spec.density if o.walkers is None else replace(spec.density, walkers=o.walkers)
        self.crowd = Crowd(self.place, np.random.default_rng([o.seed, 83]), density, self.thermal)
        self.renderer = Renderer(self.place.world)
        light = random_light(rng)
        light = replace(light, haze_m=o.haze_m or max(light.haze_m, 900.0))
        self.light = replace(light, sun=light.sun * 0) if self.thermal else light
        self.sensor = Sensor(
            exposure=rng.uniform(0.85, 1.15), blur_px=0.45 + 0.3 * self.thermal, noise=o.noise, sharpen=0.25
        )
        for _ in range(40):  # let the traffic find its pace
            self.crowd.step(0.1)
        self.target = self._choose_target()
        if self.target is not None:
            self.target.stays = True  # else the camera would go with it from one end of its road to the other at once
        focus = self.place.focus if self.target is None else np.array(self.target.place()[:2])
        heading = rng.uniform(0, 2 * np.pi) if self.target is None else self.target.place()[2] + rng.uniform(-0.5, 0.5)
        if (o.trajectory or spec.trajectory) == "survey":
            focus, heading = self._along_a_road(focus, heading)
        self.pilot = Pilot(
            o.trajectory or spec.trajectory,
            focus,
            o.altitude_m or spec.altitude_m,
            np.radians(o.look_down_deg or spec.look_down_deg),
            spec.speed_m_s or 4.0,
            heading,
            lambda x, y: float(self.place.world.ground.height_m(x, y)),
            rng,
        )
        self.camera = CameraModel(
            camera_matrix(o.width_px, o.height_px, np.radians(o.fov_deg)), np.zeros(5), o.width_px, o.height_px
        )

    def _choose_target(self) -> Actor | None:
        """For ``follow``: a driver of the wanted kind, moving, with much of its way ahead inside the place."""
        if (self.options.trajectory or self.spec.trajectory) != "follow":
            return None
        drivers = [
            a for a in self.crowd.actors if a.route is not None and a.kind == self.spec.follow and a.path is not None
        ]
        half = 0.45 * self.place.world.ground.size_m
        inside = [a for a in drivers if max(map(abs, a.place()[:2])) < half]
        return min(
            inside or drivers,
            key=lambda a: abs(a.along_m - 0.25 * len(a.path if a.path is not None else ())),
            default=None,
        )

    def _along_a_road(self, focus: F64, heading_rad: float) -> tuple[F64, float]:
        """The nearest point of the nearest road, and its direction there; as given when none is within 60 m."""
        ways = [route.points for route in self.place.routes]
        nearest = min(ways, key=lambda way: float(np.linalg.norm(way - focus, axis=1).min()), default=None)
        if nearest is None or np.linalg.norm(nearest - focus, axis=1).min() > 60:
            return focus, heading_rad
        k = int(np.clip(np.linalg.norm(nearest - focus, axis=1).argmin(), 1, len(nearest) - 2))
        ahead = nearest[k + 1] - nearest[k - 1]
        return nearest[k], float(np.arctan2(ahead[1], ahead[0]))

    def __iter__(self) -> Iterator[SimFrame]:
        return self.frames()

    def frames(self, skip: int = 0, every: int = 1) -> Iterator[SimFrame]:
        """Each ``every``-th frame from number ``skip`` on; the others are lived through but not drawn. Use once."""
        o, previous, n = self.options, None, 0
        dt = 1.0 / o.fps
        while True:
            objects = self.crowd.objects()
            target = np.array(self.target.place()[:2]) if self.target is not None else self.place.focus
            pose = self.pilot.pose(n * dt, dt if n else 0.0, target)
            if n >= skip and (n - skip) % every == 0:
                yield self._draw(n, pose, objects, previous)
            previous = (pose, {thing.id: thing.world_from_object for thing in objects})
            steps = int(np.ceil(dt / STEP_S))
            for _ in range(steps):
                self.crowd.step(dt / steps)
            n += 1

    def _draw(self, n: int, pose: F64, objects: list[Object], previous: tuple[F64, dict[int, F64]] | None) -> SimFrame:
        o = self.options
        rows = None
        if o.readout_s > 0 and previous is not None:
            motion = se3_inverse(previous[0]) @ pose
            twist = np.concatenate([motion[:3, 3], so3_log(motion[:3, :3])]) * o.fps * o.readout_s
            rows = np.stack([pose @ se3_exp(twist * (r / (o.height_px - 1) - 0.5)) for r in range(o.height_px)])
        view = View(self.camera.K, o.width_px, o.height_px, pose, rows)
        rendered = self.renderer.render(view, objects, self.light, self.thermal)
        flow, own, speed = self._flow(rendered, pose, objects, previous)
        color = rendered.color
        if previous is not None and o.exposure_s > 0:
            color = _motion_blur(color, flow * np.float32(o.exposure_s * o.fps))
        rng = np.random.default_rng([o.seed, 84, n])
        image = (
            develop_thermal(color, self.sensor, rng) if self.thermal else develop(color, self.sensor, self.light, rng)
        )
        boxes, pixels = visible_boxes(rendered, len(objects))
        whole = rendered.outline_px
        sides = np.maximum(whole[:, 2] - whole[:, 0], whole[:, 3] - whole[:, 1])
        keep = np.flatnonzero((whole[:, 4] > 0) & (sides >= MIN_OUTLINE_PX))
        ids = np.array([thing.id for thing in objects], np.int32)
        mask = (
            np.where(rendered.owner >= 0, ids[np.maximum(rendered.owner, 0)], 0)
            if len(ids)
            else np.zeros_like(rendered.owner)
        )
        stamp = START_NS + round(n * 1e9 / o.fps)
        valid = np.isfinite(rendered.depth_m)
        x, y, z = pose[:3, 3]
        return SimFrame(
            Frame(n, stamp, image, self.camera),
            pose,
            DepthMap(stamp, np.where(valid, rendered.depth_m, 0).astype(np.float32), valid, self.camera),
            mask.astype(np.int32),
            ids[keep],
            np.array([objects[i].class_id for i in keep], np.int32),
            boxes[keep],
            whole[keep, :4].astype(np.float32),
            (pixels[keep] / whole[keep, 4]).astype(np.float32),
            flow,
            own,
            speed,
            float(z - self.place.world.ground.height_m(x, y)),
        )

    @cached_property
    def _in_camera(self) -> F32:
        """(H, W, 3) rays of unit depth."""
        k, (h, w) = self.camera.K, (self.options.height_px, self.options.width_px)
        u, v = np.meshgrid(np.arange(w), np.arange(h))
        return np.stack([(u - k[0, 2]) / k[0, 0], (v - k[1, 2]) / k[1, 1], np.ones((h, w))], -1).astype(np.float32)

    def _flow(
        self, rendered: Rendered, pose: F64, objects: list[Object], previous: tuple[F64, dict[int, F64]] | None
    ) -> tuple[F32, F32, F32]:
        """Motion of every pixel since the previous frame, NaN when there is none; how much of it is a thing's own, and
        how fast that thing is."""
        h, w = rendered.depth_m.shape
        speed = np.zeros((h, w), np.float32)
        if previous is None:
            return np.full((h, w, 2), np.nan, np.float32), speed.copy(), speed
        depth = np.where(np.isfinite(rendered.depth_m), rendered.depth_m, np.float32(1e6))[..., None]
        seen = (self._in_camera * depth).reshape(-1, 3)
        resting = transform(seen, se3_inverse(previous[0]) @ pose)
        past = resting.copy()
        for i, mine in pixels_of(rendered.owner):
            before = previous[1][objects[i].id] @ np.linalg.inv(objects[i].world_from_object)
            past[mine] = transform(seen[mine], se3_inverse(previous[0]) @ before @ pose)
            way = objects[i].world_from_object[:3, 3] - previous[1][objects[i].id][:3, 3]
            speed.flat[mine] = np.linalg.norm(way) * self.options.fps
        focal = self.camera.K[[0, 1], [0, 1]].astype(np.float32)
        with np.errstate(divide="ignore", invalid="ignore"):
            was, rested = past[:, :2] / past[:, 2:], resting[:, :2] / resting[:, 2:]
            moved = (self._in_camera[..., :2] - was.reshape(h, w, 2)) * focal
            own = np.linalg.norm((was - rested) * focal, axis=1).reshape(h, w)
        ahead = (past[:, 2] > 0.01).reshape(h, w)
        own = np.where((rendered.owner >= 0) & ahead, own, 0)
        return np.where(ahead[..., None], moved, np.nan).astype(np.float32), own.astype(np.float32), speed


def _motion_blur(color: F32, smear_px: F32) -> F32:
    """Average along each pixel's own motion during the exposure, centred on the stamp."""
    smear = np.nan_to_num(smear_px, nan=0.0, posinf=0.0, neginf=0.0)
    longest = float(np.hypot(smear[..., 0], smear[..., 1]).max())
    if longest < 0.3:
        return color
    h, w = color.shape[:2]
    u, v = np.meshgrid(np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32))
    taps = int(np.clip(np.ceil(longest), 2, 9))
    total = np.zeros_like(color)
    for t in (np.arange(taps) + 0.5) / taps - 0.5:
        x, y = u + np.float32(t) * smear[..., 0], v + np.float32(t) * smear[..., 1]
        total += cv2.remap(color, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(total / taps, np.float32)


__all__ = ["CLASS_NAMES", "SCENES", "Flight", "FlightOptions", "SceneSpec", "SimFrame"]
