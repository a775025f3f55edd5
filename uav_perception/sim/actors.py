"""Who moves and how: vehicles follow lanes by the Intelligent Driver Model, people walk paths, the rest is parked.

Source of the car-following law: Treiber, Hennecke, Helbing, "Congested traffic states in empirical observations and
microscopic simulations", Phys. Rev. E 62 (2000), eqs. 2 and 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..records import F32, F64
from . import people, vehicles
from .layout import Place, Route
from .materials import palette, temperature
from .mesh import Mesh
from .rays import Model, Object

CLASS_NAMES = ("person", "car", "truck", "bus", "two-wheeler")
CLASS_OF = {"person": 0, "car": 1, "van": 1, "truck": 2, "bus": 3, "two-wheeler": 4, "parked two-wheeler": 4}
VARIANTS = {"person": 12, "car": 40, "van": 10, "truck": 14, "bus": 8, "two-wheeler": 12, "parked two-wheeler": 12}
STRIDE_M, PHASES, LIGHT_S = 1.4, 8, 9.0
SEES_M = 45  # how far ahead a driver looks
_BUILD: dict[str, Callable[[np.random.Generator], Mesh]] = {
    "car": vehicles.car,
    "van": vehicles.van,
    "truck": vehicles.truck,
    "bus": vehicles.bus,
    "two-wheeler": vehicles.two_wheeler,
    "parked two-wheeler": lambda rng: vehicles.two_wheeler(rng, ridden=False),
}


@lru_cache(maxsize=512)
def model(kind: str, variant: int, phase: int = 0) -> Model:
    """One shape of the shared library; equal arguments give the equal shape."""
    rng = np.random.default_rng([len(kind), ord(kind[0]), variant])
    if kind == "person":
        return Model(people.person(rng, 2 * np.pi * phase / PHASES))
    return Model(_BUILD[kind](rng))


@dataclass(eq=False)
class Actor:
    """One moving or standing thing. ``along_m`` is the way gone on ``path``; standing things have no path."""

    id: int
    kind: str
    variant: int
    scale: F64
    palette: F32
    warmth: F32
    path: F64 | None
    along_m: float
    speed_m_s: float
    route: Route | None = None
    wish_m_s: float = 0.0
    side_m: float = 0.0
    still: tuple[float, float, float] = (0.0, 0.0, 0.0)
    headway_s: float = 1.4
    stays: bool = False  # halts at the end of its way, where another leaves the place

    @property
    def length_m(self) -> float:
        corners = model(self.kind, self.variant).corners
        return float(corners[7, 0] - corners[0, 0])

    def place(self) -> tuple[float, float, float]:
        """World x, y, yaw."""
        if self.path is None:
            return self.still
        k = float(np.clip(self.along_m, 0, len(self.path) - 1.001))
        i = int(k)
        a, b = self.path[max(i - 1, 0)], self.path[min(i + 2, len(self.path) - 1)]
        d = (b - a) / max(float(np.linalg.norm(b - a)), 1e-9)
        at = self.path[i] + (k - i) * (self.path[i + 1] - self.path[i]) + self.side_m * np.array([-d[1], d[0]])
        return float(at[0]), float(at[1]), float(np.arctan2(d[1], d[0])) + (np.pi if self.speed_m_s < 0 else 0.0)

    def object(self, place: Place) -> Object:
        """The actor as the renderer sees it, standing on the ground."""
        x, y, yaw = self.place()
        ground = place.world.ground
        up = ground.normal(x, y) if self.kind != "person" else np.array([0.0, 0.0, 1.0])
        forward = np.array([np.cos(yaw), np.sin(yaw), 0.0])
        forward = forward - up * (forward @ up)
        forward /= np.linalg.norm(forward)
        pose = np.eye(4)
        pose[:3, :3] = np.stack([forward, np.cross(up, forward), up], 1) * self.scale
        pose[:3, 3] = x, y, ground.height_m(x, y)
        phase = int(self.along_m / STRIDE_M * PHASES) % PHASES if self.kind == "person" and self.path is not None else 0
        return Object(
            self.id, CLASS_OF[self.kind], model(self.kind, self.variant, phase), pose, self.palette, self.warmth
        )


@dataclass(frozen=True)
class Density:
    """Shares and counts of what populates a place."""

    traffic_per_km: float = 25.0
    parked: float = 0.7
    walkers: int = 30
    queue: float = 0.5  # chance that vehicles wait where a light holds them


class Crowd:
    """All actors of a place, moved in steps. Deterministic given the seed."""

    def __init__(self, place: Place, rng: np.random.Generator, density: Density, night: bool = False) -> None:
        self.place, self.rng, self.night = place, rng, night
        self.actors: list[Actor] = []
        self.time_s = 0.0
        self._traffic(density)
        for x, y, yaw in place.slots:
            if rng.random() < density.parked:
                self._add(
                    self._vehicle_kind(0.0, 0.0),
                    still=(x + rng.normal(0, 0.15), y + rng.normal(0, 0.15), yaw + rng.normal(0, 0.03)),
                )
        for x, y, yaw in place.racks:
            if rng.random() < 0.8:
                self._add("parked two-wheeler", still=(x, y, yaw))
        for _ in range(density.walkers if place.footpaths else 0):
            path = place.footpaths[rng.integers(len(place.footpaths))]
            if rng.random() < 0.15:
                k = rng.integers(len(path))
                for _ in range(int(rng.integers(1, 5))):  # people who stand and talk
                    x, y = path[k] + rng.normal(0, 0.9, 2)
                    self._add("person", still=(x, y, rng.uniform(0, 6.3)))
            else:
                speed = rng.normal(1.3, 0.25) * rng.choice([-1, 1])
                self._add(
                    "person", path=path, along=rng.uniform(0, len(path) - 1), speed=speed, side=rng.normal(0, 0.8)
                )

    def _vehicle_kind(self, heavy: float = 0.14, wheels: float = 0.06) -> str:
        return str(
            self.rng.choice(
                ["car", "van", "truck", "bus", "two-wheeler"],
                p=[1 - 0.08 - heavy - wheels, 0.08, heavy * 0.65, heavy * 0.35, wheels],
            )
        )

    def _add(
        self,
        kind: str,
        *,
        path: F64 | None = None,
        along: float = 0.0,
        speed: float = 0.0,
        side: float = 0.0,
        route: Route | None = None,
        still: tuple[float, float, float] = (0.0, 0.0, 0.0),
    ) -> Actor:
        rng = self.rng
        scale = rng.uniform(0.95, 1.05, 3) if kind != "person" else np.full(3, rng.uniform(0.9, 1.1))
        actor = Actor(
            len(self.actors) + 1,
            kind,
            int(rng.integers(VARIANTS[kind])),
            scale,
            palette(rng, kind),
            temperature(rng, kind, self.night),
            path,
            along,
            speed,
            route,
            speed,
            side,
            still,
            rng.uniform(1.0, 1.8),
        )
        self.actors.append(actor)
        return actor

    def _traffic(self, density: Density) -> None:
        """Set vehicles on the routes with random gaps, nowhere two in one spot."""
        rng, taken = self.rng, np.zeros((0, 3))
        for n in rng.permutation(len(self.place.routes)):
            route = self.place.routes[n]
            queue = route.stop_m is not None and rng.random() < density.queue
            at = route.stop_m - 2.0 if queue and route.stop_m else len(route.points) - 3.0
            while at > 3:
                kind = self._vehicle_kind()
                length = model(kind, 0).corners[7, 0] * 2 if kind in ("bus", "truck") else 4.6
                at -= length / 2
                k = int(np.clip(at, 0, len(route.points) - 1))
                spot = np.array([*route.points[k], length / 2])
                clear = len(taken) == 0 or bool(
                    (np.linalg.norm(taken[:, :2] - spot[:2], axis=1) > taken[:, 2] + spot[2] + 1.0).all()
                )
                if clear and at > 3:
                    taken = np.vstack([taken, spot])
                    side = rng.normal(0, 0.25)
                    if kind == "two-wheeler":
                        side -= 1.0
                    speed = 0.0 if queue else route.speed_m_s * rng.uniform(0.8, 1.1)
                    actor = self._add(kind, path=route.points, along=at, speed=speed, side=side, route=route)
                    actor.wish_m_s = route.speed_m_s * rng.uniform(0.8, 1.15) * (0.5 if kind == "two-wheeler" else 1.0)
                queue = queue and rng.random() < 0.8
                at -= length / 2 + (
                    rng.uniform(1.2, 3.5) if queue else 2.5 + rng.exponential(1000 / density.traffic_per_km)
                )

    def objects(self) -> list[Object]:
        return [a.object(self.place) for a in self.actors]

    def step(self, dt_s: float) -> None:
        """Advance all actors by ``dt_s`` (use at most 0.1 s)."""
        drivers = [a for a in self.actors if a.route is not None]
        spots = np.array([(*a.place(), a.length_m, a.speed_m_s) for a in drivers]).reshape(-1, 5)
        green = int(self.time_s / LIGHT_S) % 2
        for k, a in enumerate(drivers):
            gap, closing = self._ahead(a, k, spots)
            for stop in self._halts(a, green):
                to_line = stop - a.along_m - a.length_m / 2
                if -1 < to_line < gap:
                    gap, closing = max(to_line, 0.1), a.speed_m_s
            wanted = 2.0 + max(0.0, a.speed_m_s * a.headway_s + a.speed_m_s * closing / (2 * np.sqrt(1.5 * 2.5)))
            pull = 1.5 * (1 - (a.speed_m_s / max(a.wish_m_s, 0.5)) ** 4 - (wanted / max(gap, 0.5)) ** 2)
            a.speed_m_s = float(np.clip(a.speed_m_s + max(pull, -7.0) * dt_s, 0, None))
        for a in self.actors:
            if a.path is None:
                continue
            a.along_m += a.speed_m_s * dt_s
            end = len(a.path) - 1.001
            if 0 <= a.along_m <= end:
                continue
            if a.route is not None and not a.stays:
                a.along_m = 0.0  # leaves the place at one end, another enters at the other
            else:
                a.along_m, a.speed_m_s = float(np.clip(a.along_m, 0, end)), 0.0 if a.stays else -a.speed_m_s
        self.time_s += dt_s

    @staticmethod
    def _halts(actor: Actor, green: int) -> Iterator[float]:
        """Where on its way, in metres along it, this driver must halt."""
        route = actor.route
        if route is not None and route.stop_m is not None and route.group != green and route.stop_m > actor.along_m:
            yield route.stop_m
        if actor.stays and actor.path is not None and len(actor.path) - actor.along_m < SEES_M:
            yield len(actor.path) - 1.0

    @staticmethod
    def _ahead(actor: Actor, k: int, spots: F64) -> tuple[float, float]:
        """Free way and closing speed to the nearest vehicle on this driver's path within 45 m."""
        near = np.flatnonzero((np.abs(spots[:, :2] - spots[k, :2]).max(1) < SEES_M) & (np.arange(len(spots)) != k))
        assert actor.path is not None
        i = int(actor.along_m)
        way = actor.path[i + 1 : i + 1 + SEES_M : 2]
        if len(near) == 0 or len(way) == 0:
            return 1e3, 0.0
        apart = np.linalg.norm(spots[near, None, :2] - way[None], axis=2)
        on_way = apart.min(1) < 1.9
        facing = np.cos(spots[near, 2] - spots[k, 2]) > -0.3  # oncoming traffic keeps to its own lane
        blocking = np.flatnonzero(on_way & facing)
        if len(blocking) == 0:
            return 1e3, 0.0
        distance = 1 + 2 * apart[blocking].argmin(1)
        first = blocking[distance.argmin()]
        gap = float(distance.min()) - 0.5 * (actor.length_m + spots[near[first], 3])
        return max(gap, 0.1), float(actor.speed_m_s - spots[near[first], 4])
