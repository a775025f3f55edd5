"""Roads, junctions, parking lots and what lines them: painted on the ground and kept as routes for the traffic."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from ..records import F64
from . import ground as g
from .ground import Painter, relief
from .scenery import building, clutter, hedge, lamp, tree
from .world import StaticBuilder, World, wave_height_m

ROADWAY = (g.ASPHALT, g.NEW_ASPHALT, g.WHITE, g.YELLOW, g.BLUE)


def resample(points: ArrayLike, step_m: float = 1.0) -> F64:
    """A polyline with points every ``step_m``."""
    p = np.asarray(points, np.float64)
    s = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(p, axis=0), axis=1))])
    at = np.linspace(0, s[-1], max(2, int(s[-1] / step_m) + 1))
    return np.stack([np.interp(at, s, p[:, 0]), np.interp(at, s, p[:, 1])], 1)


def offset(points: F64, left_m: float) -> F64:
    """A polyline shifted to its left."""
    d = np.gradient(points, axis=0)
    d /= np.maximum(np.linalg.norm(d, axis=1, keepdims=True), 1e-9)
    return points + left_m * np.stack([-d[:, 1], d[:, 0]], 1)


def bend(start: F64, start_direction: F64, end: F64, end_direction: F64) -> F64:
    """A smooth turn (cubic Bezier curve)."""
    reach = 0.5 * np.linalg.norm(end - start)
    p = np.stack([start, start + reach * start_direction, end - reach * end_direction, end])
    t = np.linspace(0, 1, 24)[:, None]
    return np.asarray((1 - t) ** 3 * p[0] + 3 * t * (1 - t) ** 2 * p[1] + 3 * t**2 * (1 - t) * p[2] + t**3 * p[3])


@dataclass(frozen=True, eq=False)
class Route:
    """A way to drive: points every metre; ``stop_m`` is where red light of ``group`` holds (None = never)."""

    points: F64
    speed_m_s: float
    stop_m: float | None = None
    group: int = 0


@dataclass(frozen=True, eq=False)
class Place:
    """A finished world and where things may be and go. ``slots`` (N, 3): x, y, yaw of parked vehicles."""

    world: World
    routes: tuple[Route, ...]
    footpaths: tuple[F64, ...]
    slots: F64
    racks: F64  # (N, 3) parked two-wheelers
    focus: F64  # (2,) where the action is


@dataclass
class Plan:
    """A place under construction."""

    rng: np.random.Generator
    size_m: float = 256.0
    side_px: int = 3072
    base: int = g.GRASS
    hills_m: float = 0.8
    routes: list[Route] = field(default_factory=list)
    footpaths: list[F64] = field(default_factory=list)
    slots: list[tuple[float, float, float]] = field(default_factory=list)
    racks: list[tuple[float, float, float]] = field(default_factory=list)
    leafless: float = 0.0
    focus: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        self.painter = Painter(self.size_m, self.rng, self.base, self.side_px)
        self.static = StaticBuilder()
        self.waves = relief(self.rng, self.hills_m)
        self.yellow_center = self.rng.random() < 0.4

    @property
    def half(self) -> float:
        return self.size_m / 2

    def z(self, x: float, y: float) -> float:
        return float(wave_height_m(self.waves, x, y))

    def road(
        self,
        center: F64,
        n_forward: int,
        n_back: int,
        lane_m: float = 3.3,
        walk_m: float = 3.0,
        curb_parking: bool = False,
        routes: bool = True,
    ) -> float:
        """A two-way road along ``center`` (right-hand traffic); returns half its width with parking lanes."""
        p, rng = self.painter, self.rng
        center = resample(center)
        left, right = n_back * lane_m, n_forward * lane_m
        extra = 2.3 if curb_parking else 0.3
        if walk_m > 0:
            p.line(offset(center, (left - right) / 2), left + right + 2 * (extra + walk_m), g.CONCRETE)
            p.line(offset(center, (left - right) / 2), left + right + 2 * (extra + 0.2), g.PAVING)
        p.line(offset(center, (left - right) / 2), left + right + 2 * extra, p.road)
        for _ in range(int(rng.integers(0, 6))):  # repairs
            k = int(rng.integers(0, len(center)))
            p.rectangle(
                center[k] + rng.normal(0, 2, 2),
                (rng.uniform(1, 9), rng.uniform(0.8, 3)),
                rng.uniform(0, 6.3),
                rng.choice([g.ASPHALT, g.NEW_ASPHALT]),
            )
        for side in (left, -right):
            if rng.random() < 0.8:
                p.line(offset(center, side), 0.13, p.marking)
        for i in range(1, n_back):
            p.dashes(offset(center, i * lane_m), 0.13, 3, rng.choice([3, 6, 9]), p.marking)
        for i in range(1, n_forward):
            p.dashes(offset(center, -i * lane_m), 0.13, 3, rng.choice([3, 6, 9]), p.marking)
        middle = g.YELLOW if self.yellow_center else p.marking
        if n_back and n_forward:
            if n_back + n_forward > 2:
                for side in (-0.13, 0.13):
                    p.line(offset(center, side), 0.12, middle)
            else:
                p.dashes(center, 0.13, 3, 5, middle)
        if curb_parking:
            for side in (left + 1.15, -right - 1.15):
                along = offset(center, side)
                for k in range(4, len(along) - 5, 6):
                    d = along[k + 1] - along[k]
                    yaw = float(np.arctan2(d[1], d[0])) + (np.pi if side > 0 else 0.0)
                    self.slots.append((*along[k], yaw))
        if walk_m > 0:
            for side in (left + extra + walk_m / 2, -right - extra - walk_m / 2):
                self.footpaths.append(offset(center, side))
        if routes:
            for i in range(n_forward):
                self.routes.append(Route(offset(center, -(i + 0.5) * lane_m), rng.uniform(8, 15)))
            for i in range(n_back):
                self.routes.append(Route(offset(center, (i + 0.5) * lane_m)[::-1].copy(), rng.uniform(8, 15)))
        return max(left, right) + extra

    def junction(
        self, center: ArrayLike, arms: list[tuple[float, int, int]], lane_m: float = 3.3, roundabout_m: float = 0.0
    ) -> None:
        """Roads (angle, lanes in, lanes out) meeting at ``center``; with traffic lights, or around an island."""
        c, p, rng = np.asarray(center, np.float64), self.painter, self.rng
        lengths = 1.5 * self.size_m
        widest = max(max(a[1], a[2]) for a in arms) * lane_m
        box = roundabout_m + 8.0 if roundabout_m else widest * 1.15 + 2.0
        curve = {a[0]: rng.normal(0, 0.08) for a in arms}

        def arm_line(angle: float, start: float) -> F64:
            r = np.arange(start, lengths, 1.0)
            turn = angle + curve[angle] * np.clip((r - 30) / 100, 0, 2)
            return np.asarray(c + r[:, None] * np.stack([np.cos(turn), np.sin(turn)], 1))

        parking = rng.random() < 0.3
        for angle, n_in, n_out in arms:
            self.road(
                arm_line(angle, box * 0.5), n_out, n_in, lane_m, rng.uniform(2, 5), parking and not roundabout_m, False
            )
        if roundabout_m:
            p.disc(c, roundabout_m + 8.5, g.CONCRETE)
            p.disc(c, roundabout_m + 7.5, p.road)
            p.disc(c, roundabout_m + 0.3, g.CONCRETE)
            p.disc(c, roundabout_m - 0.3, rng.choice([g.GRASS, g.DRY, g.PAVING, g.GRAVEL]))
            if roundabout_m > 9 and rng.random() < 0.5:
                p.disc(c, roundabout_m * 0.4, rng.choice([g.PAVING, g.CONCRETE, g.GRASS]))
        else:
            p.disc(c, box, p.road)
            corners = [c + 1.35 * box * np.array([np.cos(a[0]), np.sin(a[0])]) for a in arms]
            if len(corners) > 2:
                p.polygon(np.array(sorted(corners, key=lambda q: np.arctan2(*(q - c)[::-1]))), p.road)
        zebra = rng.random() < 0.75
        for k, (angle, n_in, n_out) in enumerate(arms):
            line = arm_line(angle, box)
            if zebra:
                self._zebra(line[1:6], n_in * lane_m, n_out * lane_m)
            if n_in and len(arms) > 2:
                d = line[7] - line[6]
                left = np.array([-d[1], d[0]])
                p.line(np.stack([line[6] + 0.1 * left, line[6] + left * n_in * lane_m]), 0.4, p.marking)
            inbound = [offset(line, (i + 0.5) * lane_m)[::-1] for i in range(n_in)]
            for i, lane in enumerate(inbound):
                if rng.random() < 0.5 and not roundabout_m:
                    self._arrow(lane[-16], lane[-12], int(rng.integers(0, 3)))
                for j, (other, _, other_out) in enumerate(arms):
                    if j == k or not other_out:
                        continue
                    turn = (other - angle + np.pi) % (
                        2 * np.pi
                    ) - np.pi  # 0 = straight on, > 0 = right... of the driver
                    out = offset(arm_line(other, box), -(min(i, other_out - 1) + 0.5) * lane_m)
                    self.routes.append(self._through(c, lane, out, roundabout_m, k, len(arms), turn))

    def _through(self, c: F64, lane: F64, out: F64, roundabout_m: float, arm: int, arms: int, turn: float) -> Route:
        d_in, d_out = lane[-1] - lane[-2], out[1] - out[0]
        speed = self.rng.uniform(7, 13)
        if not roundabout_m:
            middle = bend(lane[-1], d_in / np.linalg.norm(d_in), out[0], d_out / np.linalg.norm(d_out))
            stop = len(lane) - 8.0 if arms > 2 else None
            return Route(resample(np.concatenate([lane, middle[1:-1], out])), speed, stop, arm % 2)
        radius = roundabout_m + 3.8
        start = np.arctan2(*(lane[-1] - c)[::-1]) + 0.25
        end = np.arctan2(*(out[0] - c)[::-1]) - 0.25
        angle = np.linspace(start, start + (end - start) % (2 * np.pi), 40)
        ring = c + radius * np.stack([np.cos(angle), np.sin(angle)], 1)
        return Route(resample(np.concatenate([lane, ring, out])), min(speed, 8.0))

    def _zebra(self, line: F64, left_m: float, right_m: float) -> None:
        d = line[-1] - line[0]
        d /= np.linalg.norm(d)
        side = np.array([-d[1], d[0]])
        for q in np.arange(-right_m + 0.4, left_m, 1.0):
            self.painter.line(np.stack([line[0] + q * side, line[-1] + q * side]), 0.5, self.painter.marking)
        middle = line.mean(0)
        self.footpaths.append(resample(np.stack([middle - (right_m + 4) * side, middle + (left_m + 4) * side])))

    def _arrow(self, tail: F64, tip: F64, kind: int) -> None:
        p, d = self.painter, (tip - tail) / np.linalg.norm(tip - tail)
        side = np.array([-d[1], d[0]])
        p.line(np.stack([tail, tip]), 0.18, p.marking)
        head = tip if kind == 0 else tail + 0.6 * (tip - tail)
        ahead = d if kind == 0 else side * (1 if kind == 1 else -1)
        across = np.array([-ahead[1], ahead[0]])
        p.polygon(np.stack([head + 1.3 * ahead, head + 0.4 * across, head - 0.4 * across]), p.marking)

    def parking(
        self, center: ArrayLike, rows: int, columns: int, yaw: float, slot: tuple[float, float] = (5.2, 2.6)
    ) -> None:
        """Double rows of slots with aisles between them."""
        c, p, rng = np.asarray(center, np.float64), self.painter, self.rng
        turn = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
        depth, width = slot
        aisle = rng.uniform(6, 7.5)
        pitch = 2 * depth + aisle
        surface = rng.choice([p.road, g.ASPHALT, g.NEW_ASPHALT, g.CONCRETE, g.GRAVEL], p=[0.5, 0.2, 0.1, 0.15, 0.05])
        extent = (columns * width + 2 * aisle, rows * pitch + 3)
        p.rectangle(c, (extent[0] + 2, extent[1] + 2), yaw, g.CONCRETE)
        p.rectangle(c, extent, yaw, surface)
        islands = rng.random() < 0.4
        for row in range(rows):
            y0 = (row - (rows - 1) / 2) * pitch
            for k in range(columns + 1):
                x = (k - columns / 2) * width
                p.line(c + np.array([[x, y0 - depth], [x, y0 + depth]]) @ turn.T, 0.11, p.marking)
            p.line(c + np.array([[-columns * width / 2, y0], [columns * width / 2, y0]]) @ turn.T, 0.11, p.marking)
            for k in range(columns):
                x = (k + 0.5 - columns / 2) * width
                at = c + turn @ np.array([x, y0])
                if islands and k % 8 == 7:
                    p.rectangle(at, (width * 0.9, 2 * depth * 0.9), yaw, g.GRASS)
                    if rng.random() < 0.8:
                        x, y = at
                        tree(self.static, rng, x, y, self.z(x, y), rng.uniform(1.5, 3), rng.random() < self.leafless)
                    continue
                for s in (-1, 1):
                    place = c + turn @ np.array([x, y0 + s * depth / 2])
                    facing = yaw + s * np.pi / 2 + (np.pi if rng.random() < 0.35 else 0.0)
                    self.slots.append((*place, facing))
        for row in range(rows + 1):
            y = (row - rows / 2) * pitch
            run = c + np.array([[-extent[0] / 2, y], [extent[0] / 2, y]]) @ turn.T
            self.footpaths.append(resample(run))
            if 0 < row < rows or rng.random() < 0.5:
                way = resample(run if row % 2 else run[::-1])
                self.routes.append(Route(way, rng.uniform(2, 5)))

    def free(self, x: float, y: float, reach: float, pavements: bool = False) -> bool:
        """Whether nothing but open ground (and ``pavements``) lies within ``reach``."""
        blocked = {*ROADWAY, g.PATCH} | (set() if pavements else {g.CONCRETE, g.PAVING} - {self.base})
        if max(abs(x), abs(y)) > self.half * 1.2:
            return False
        dx, dy = np.meshgrid(np.linspace(-reach, reach, 9), np.linspace(-reach, reach, 9))
        return not np.isin(self.painter.at(x + dx, y + dy), list(blocked)).any()

    def buildings(
        self, count: int, height: tuple[float, float], size: tuple[float, float], yaw: float | None = None
    ) -> None:
        """Up to ``count`` buildings where the ground is open."""
        rng = self.rng
        for _ in range(count * 4):
            if count == 0:
                return
            x, y = rng.uniform(-self.half, self.half, 2)
            length, width = rng.uniform(*size), rng.uniform(0.5, 0.8) * rng.uniform(*size)
            turn = (yaw if yaw is not None else 0.0) + rng.integers(0, 2) * np.pi / 2 + rng.normal(0, 0.02)
            if not self.free(x, y, 0.55 * float(np.hypot(length, width))):
                continue
            self.painter.rectangle((x, y), (length + 3, width + 3), turn, g.PATCH)
            building(self.static, rng, np.array([x, y]), (length, width), turn, rng.uniform(*height), self.z(x, y))
            count -= 1

    def trees(self, count: int, radius: tuple[float, float] = (1.2, 4.5), near_road: float = 0.5) -> None:
        """Single trees and groups; ``near_road`` is the share set along footpaths, overhanging the roadway."""
        rng, bare = self.rng, self.rng.random() < self.leafless
        for _ in range(count):
            if self.footpaths and rng.random() < near_road:
                path = self.footpaths[rng.integers(len(self.footpaths))]
                x, y = path[rng.integers(len(path))] + rng.normal(0, 0.6, 2)
                if np.isin(self.painter.at(x, y), ROADWAY):
                    continue
            else:
                x, y = rng.uniform(-self.half, self.half, 2)
                if not self.free(x, y, 0.7):
                    continue
            if max(abs(x), abs(y)) < self.half * 1.1:
                tree(self.static, rng, x, y, self.z(x, y), rng.uniform(*radius), bare)

    def furnish(self, lamps: int, clutters: int, hedges: int) -> None:
        """Lamps along footpaths, and things that look like vehicles but are none."""
        rng = self.rng
        for _ in range(lamps if self.footpaths else 0):
            path = self.footpaths[rng.integers(len(self.footpaths))]
            x, y = path[rng.integers(len(path))]
            if max(abs(x), abs(y)) < self.half:
                lamp(self.static, rng, x, y, self.z(x, y), rng.uniform(0, 6.3))
        for _ in range(clutters * 3):
            x, y = rng.uniform(-self.half, self.half, 2)
            if clutters and self.free(x, y, 1.5, pavements=True):
                clutter(self.static, rng, x, y, self.z(x, y), rng.uniform(0, 6.3))
                clutters -= 1
        for _ in range(hedges):
            x, y = rng.uniform(-self.half, self.half, 2)
            run = np.array([x, y]) + np.cumsum(rng.normal(0, 0.15, (6, 2)) + 3 * rng.choice([[0, 1], [1, 0]]), 0)
            if all(self.free(q[0], q[1], 1.0) for q in run):
                hedge(self.static, rng, run, self.z(*run[0]))

    def _wear(self) -> None:
        """Years of use: oil and rubber along the lanes, cracks, worn tracks across open ground."""
        rng, p = self.rng, self.painter
        strength = rng.uniform(0, 22)
        for route in self.routes:
            for side in (-0.8, 0.0, 0.8):
                p.stain(
                    offset(route.points, side + rng.normal(0, 0.1)),
                    rng.uniform(0.3, 0.9),
                    128 - int(strength * rng.uniform(0.3, 1.0)),
                )
        for _ in range(int(rng.integers(20, 90))):
            line = rng.uniform(-self.half, self.half, 2) + np.cumsum(rng.normal(0, rng.uniform(0.5, 4), (9, 2)), 0)
            p.stain(line, rng.choice([0.3, 0.5, 1.5]), int(rng.choice([96, 108, 118, 138, 148])))

    def finish(self) -> Place:
        """Paint the ground, close the mesh."""
        self._wear()
        ground = self.painter.finish(self.waves)
        self.static.add_terrain(ground)
        inside = self.half * 1.1
        slots = np.array([s for s in self.slots if max(abs(s[0]), abs(s[1])) < inside] or np.zeros((0, 3)))
        racks = np.array([s for s in self.racks if max(abs(s[0]), abs(s[1])) < inside] or np.zeros((0, 3)))
        paths = tuple(p for p in map(self._inside, self.footpaths) if len(p) > 3)
        routes = tuple(self._cut(r) for r in self.routes)
        return Place(
            World(ground, self.static.build()),
            tuple(r for r in routes if len(r.points) > 12),
            paths,
            slots,
            racks,
            np.asarray(self.focus),
        )

    def _inside(self, points: F64) -> F64:
        return np.asarray(points[np.abs(points).max(1) < self.half * 1.1])

    def _cut(self, route: Route) -> Route:
        """The part of a route over the painting, and a bit beyond."""
        near = np.flatnonzero(np.abs(route.points).max(1) < self.half * 1.15)
        if len(near) < 2:
            return Route(np.zeros((0, 2)), 1.0)
        stop = None if route.stop_m is None else route.stop_m - near[0]
        return Route(route.points[near[0] : near[-1] + 1], route.speed_m_s, stop, route.group)
