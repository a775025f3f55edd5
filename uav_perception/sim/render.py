"""Rays to pictures: Embree finds what each pixel sees, numpy shades it. Truth comes from the pixel-centre rays.

Ray directions have unit depth in the camera frame and are never normalised, so that Embree's ray parameter *is* depth along
the optical axis, in the world and inside every object's own frame alike. Objects are traced in their own frames,
only where they or their shadows can be, so nothing is rebuilt from frame to frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..records import F32, F64, I32, Bool
from .materials import GLOSS
from .mesh import Mesh, transform
from .world import LEAF, TERRAIN, WALL, World, ray_caster

SKY, STATIC = -2, -1  # owners of hits that are no object


@dataclass(frozen=True, eq=False)
class Model:
    """A shape in its own frame with its ray caster, shared by all objects of that shape."""

    mesh: Mesh

    @cached_property
    def normals(self) -> F32:
        return self.mesh.normals()

    @cached_property
    def caster(self) -> Any:
        return ray_caster(self.mesh)

    @cached_property
    def corners(self) -> F64:
        """(8, 3) corners of the bounding box."""
        lo, hi = self.mesh.vertices.min(0), self.mesh.vertices.max(0)
        return np.array([[x, y, z] for x in (lo[0], hi[0]) for y in (lo[1], hi[1]) for z in (lo[2], hi[2])], np.float64)


@dataclass(frozen=True, eq=False)
class Object:
    """One thing at one moment. ``world_from_object`` (4, 4) may scale; ``palette`` and ``warmth`` go by material."""

    id: int
    class_id: int
    model: Model
    world_from_object: F64
    palette: F32
    warmth: F32


@dataclass(frozen=True, eq=False)
class Light:
    """``toward_sun`` is a unit vector; colours are linear BGR irradiances; ``haze_m`` the distance of 63 % haze."""

    toward_sun: F64
    sun: F32
    sky: F32
    haze: F32
    haze_m: float


@dataclass(frozen=True, eq=False)
class View:
    """A pinhole camera; with a rolling shutter ``world_from_camera`` is that of the middle row and ``row_poses`` has all."""

    K: F64
    width_px: int
    height_px: int
    world_from_camera: F64
    row_poses: F64 | None = None  # (H, 4, 4)


@dataclass(frozen=True, eq=False)
class Rendered:
    """``color`` (H, W, 3) linear BGR or (H, W) warmth; ``depth_m`` is inf at the sky; ``owner`` indexes the objects.

    ``outline_px`` (N, 5): x1, y1, x2, y2 and pixel count of each object's whole outline in the image (0 = outside).
    """

    color: F32
    depth_m: F32
    owner: I32
    outline_px: F64


@dataclass(eq=False)
class _Hits:
    px: F32
    py: F32
    origin: F32
    direction: F32
    depth: F32
    owner: I32
    prim: I32
    normal: F32


def _length(vectors: F32) -> F32:
    return np.asarray(np.sqrt(np.einsum("ni,ni->n", vectors, vectors)))


def _unit(vectors: F32) -> F32:
    return vectors / np.maximum(_length(vectors), np.float32(1e-20))[:, None]


def pixels_of(owner: I32) -> Iterator[tuple[int, Any]]:
    """(object, flat indices of what it owns) for each object that owns something."""
    flat = owner.ravel()
    owned = np.flatnonzero(flat >= 0)
    owned = owned[np.argsort(flat[owned], kind="stable")]
    starts = np.flatnonzero(np.diff(flat[owned], prepend=-1))
    for group in np.split(owned, starts[1:]) if len(owned) else ():
        yield int(flat[group[0]]), group


def _face_viewer(hits: _Hits) -> None:
    """Turn normals to the side the ray came from."""
    hits.normal[np.einsum("ni,ni->n", hits.normal, hits.direction) > 0] *= -1


Pick = Callable[[tuple[int, int, int, int]], Any]  # image rectangle (x1, y1, x2, y2) -> indices of rays


def _bounds(points_world: F64, view: View, pad_px: int = 1) -> tuple[int, int, int, int] | None:
    """The image rectangle that holds all points; None = out of sight."""
    r, t = view.world_from_camera[:3, :3], view.world_from_camera[:3, 3]
    p = (points_world - t) @ r
    if (p[:, 2] <= 0.05).all():
        return None
    w, h = view.width_px, view.height_px
    if (p[:, 2] <= 0.05).any():
        return 0, 0, w, h
    uv = p[:, :2] / p[:, 2:] * [view.K[0, 0], view.K[1, 1]] + view.K[:2, 2]
    pad = pad_px if view.row_poses is None else h // 12
    x1, y1 = np.floor(uv.min(0)).astype(int) - pad
    x2, y2 = np.ceil(uv.max(0)).astype(int) + pad + 1
    rect = max(x1, 0), max(y1, 0), min(x2, w), min(y2, h)
    return rect if rect[0] < rect[2] and rect[1] < rect[3] else None


class _Together:
    """All objects that show or cast shadows in a view as one ray caster (None when there are none)."""

    def __init__(self, view: View, objects: Sequence[Object], light: Light) -> None:
        vertices, faces, self.first, self.of = [], [], [], []
        n_vertices = n_faces = 0
        for i, thing in enumerate(objects):
            m = thing.world_from_object
            corners = thing.model.corners @ m[:3, :3].T + m[:3, 3]
            fall = (corners[:, 2:] - corners[:, 2].min() + 1.0) / max(light.toward_sun[2], 0.05)
            if _bounds(np.concatenate([corners, corners - fall * light.toward_sun]), view, 3) is None:
                continue
            mesh = thing.model.mesh
            vertices.append(transform(mesh.vertices, m))
            faces.append(mesh.faces + n_vertices)
            self.of.append(i)
            self.first.append(n_faces)
            n_vertices += len(mesh.vertices)
            n_faces += len(mesh.faces)
        self.mesh = Mesh(np.concatenate(vertices), np.concatenate(faces), np.zeros(n_faces, np.int32)) if vertices else None
        self.caster = ray_caster(self.mesh) if self.mesh else None

    def trace(self, hits: _Hits) -> None:
        """Put the objects in front of what ``hits`` found so far."""
        if self.mesh is None or self.caster is None:
            return
        found = self.caster.run(hits.origin, hits.direction, output=True)
        front = np.flatnonzero((found["primID"] >= 0) & (found["tfar"] < hits.depth))
        face = found["primID"][front]
        which = np.searchsorted(self.first, face, side="right") - 1
        hits.depth[front] = found["tfar"][front]
        hits.owner[front] = np.asarray(self.of, np.int32)[which]
        hits.prim[front] = face - np.asarray(self.first, np.int32)[which]
        hits.normal[front] = _unit(found["Ng"][front])  # its sign is settled by the viewer's side

    def blocks(self, start: F32, toward: F32) -> Bool:
        """Which of the (N, 3) points have an object between them and the sun."""
        if self.caster is None or len(start) == 0:
            return np.zeros(len(start), bool)
        rays = np.ascontiguousarray(np.broadcast_to(toward, start.shape))
        return np.asarray(self.caster.run(np.ascontiguousarray(start), rays, query="OCCLUDED") >= 0)


class Renderer:
    """Draws a world with objects. Deterministic: equal inputs give equal pixels."""

    def __init__(self, world: World) -> None:
        self.world = world

    def render(self, view: View, objects: Sequence[Object], light: Light, thermal: bool = False) -> Rendered:
        """One picture with its truth; edges are supersampled four times."""
        w, h = view.width_px, view.height_px
        ys, xs = np.divmod(np.arange(w * h, dtype=np.int32), w)
        rows = np.arange(w * h, dtype=np.int32).reshape(h, w)

        def whole(rect: tuple[int, int, int, int]) -> Any:
            x1, y1, x2, y2 = rect
            return rows[y1:y2, x1:x2].ravel()

        hits = self._rays(view, xs.astype(np.float32), ys.astype(np.float32))
        self._trace_static(hits)
        outline = self._trace(hits, view, objects, whole)
        together = _Together(view, objects, light)
        color, lit = self._shade(hits, view, objects, light, whole, thermal, together)
        edge = np.flatnonzero(self._edges(hits, color, lit, h, w))
        if len(edge):
            slot = np.full(w * h, -1, np.int32)
            slot[edge] = np.arange(len(edge), dtype=np.int32)
            slot = slot.reshape(h, w)
            n = len(edge)

            def some(rect: tuple[int, int, int, int]) -> Any:
                x1, y1, x2, y2 = rect
                s = slot[y1:y2, x1:x2].ravel()
                s = s[s >= 0]
                return np.concatenate([s, s + n, s + 2 * n, s + 3 * n])

            offsets = np.array([[-0.125, -0.375], [0.375, -0.125], [0.125, 0.375], [-0.375, 0.125]], np.float32)
            fine = self._rays(view, (xs[edge] + offsets[:, :1]).ravel(), (ys[edge] + offsets[:, 1:]).ravel())
            self._trace_static(fine)
            together.trace(fine)
            _face_viewer(fine)
            samples, _ = self._shade(fine, view, objects, light, some, thermal, together)
            color[edge] = samples.reshape(4, n, *color.shape[1:]).mean(0)
        shape = (h, w) if thermal else (h, w, 3)
        return Rendered(color.reshape(shape), hits.depth.reshape(h, w), hits.owner.reshape(h, w), outline)

    @staticmethod
    def _rays(view: View, px: F32, py: F32) -> _Hits:
        k, n = view.K.astype(np.float32), len(px)
        in_camera = np.stack([(px - k[0, 2]) / k[0, 0], (py - k[1, 2]) / k[1, 1], np.ones_like(px)], 1)
        if view.row_poses is None:
            origin = np.broadcast_to(view.world_from_camera[:3, 3].astype(np.float32), (n, 3))
            direction = transform(in_camera, view.world_from_camera[:3, :3])
        else:
            poses = view.row_poses[np.clip(np.rint(py).astype(int), 0, view.height_px - 1)]
            origin = poses[:, :3, 3].astype(np.float32)
            direction = np.einsum("nij,nj->ni", poses[:, :3, :3].astype(np.float32), in_camera)
        return _Hits(px, py, np.ascontiguousarray(origin), np.ascontiguousarray(direction, np.float32), np.empty(0, np.float32),
                     np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.float32))

    def _trace_static(self, hits: _Hits) -> None:
        static = self.world.static
        found = static.caster.run(hits.origin, hits.direction, output=True)
        hits.prim = found["primID"]
        missed = hits.prim < 0
        hits.depth = found["tfar"].copy()
        hits.depth[missed] = np.inf
        hits.owner = np.where(missed, SKY, STATIC).astype(np.int32)
        hits.normal = static.normals[hits.prim]

    @staticmethod
    def _trace(hits: _Hits, view: View, objects: Sequence[Object], pick: Pick) -> F64:
        """Each object in its own frame, where it can be: exact, and it shows the outline behind other things too."""
        outline = np.zeros((len(objects), 5))
        for i, thing in enumerate(objects):
            rect = _bounds(thing.model.corners @ thing.world_from_object[:3, :3].T + thing.world_from_object[:3, 3], view)
            rays = pick(rect) if rect is not None else ()
            if len(rays) == 0:
                continue
            inverse = np.linalg.inv(thing.world_from_object)
            found = thing.model.caster.run(transform(hits.origin[rays], inverse),
                                           transform(hits.direction[rays], inverse[:3, :3]), output=True)
            inside = found["primID"] >= 0
            if not inside.any():
                continue
            x, y = hits.px[rays[inside]], hits.py[rays[inside]]
            outline[i] = x.min(), y.min(), x.max() + 1, y.max() + 1, inside.sum()
            nearer = inside & (found["tfar"] < hits.depth[rays])
            front = rays[nearer]
            hits.depth[front] = found["tfar"][nearer]
            hits.prim[front] = found["primID"][nearer]
            hits.owner[front] = i
            hits.normal[front] = _unit(transform(thing.model.normals[found["primID"][nearer]], inverse[:3, :3].T))
        _face_viewer(hits)
        return outline

    def _shade(self, hits: _Hits, view: View, objects: Sequence[Object], light: Light, pick: Pick,
               thermal: bool, together: _Together) -> tuple[F32, Bool]:
        finite = np.where(np.isfinite(hits.depth), hits.depth, 0).astype(np.float32)
        point = hits.origin + finite[:, None] * hits.direction
        lit, open_sky = self._light(hits, point, view, objects, light, pick, together)
        if thermal:
            return self._warmth(hits, point, objects, lit, open_sky, light), lit
        albedo, gloss = self._albedo(hits, point, objects, view)
        sun = np.einsum("ni,i->n", hits.normal, light.toward_sun.astype(np.float32))
        leaf = (hits.owner == STATIC) & (self.world.static.kind[hits.prim] == LEAF)
        sun = np.where(leaf, 0.35 + 0.5 * np.abs(sun), np.maximum(sun, 0)) * lit
        ambient = (0.62 + 0.38 * hits.normal[:, 2]) * open_sky
        color = albedo * (sun[:, None] * light.sun + ambient[:, None] * light.sky)
        shiny = np.flatnonzero(gloss > 0)
        if len(shiny):
            color[shiny] += self._mirror(hits.direction[shiny], hits.normal[shiny], gloss[shiny], lit[shiny], light)
        clear = np.exp(-finite / np.float32(light.haze_m))[:, None]
        color = color * clear + light.haze * (1 - clear)
        sky = hits.owner == SKY
        if sky.any():
            up = _unit(hits.direction[sky])[:, 2]
            color[sky] = light.haze + (light.sky * 0.9 - light.haze) * np.clip(up * 2.5, 0, 1)[:, None]
        return color.astype(np.float32), lit

    @staticmethod
    def _mirror(direction: F32, normal: F32, gloss: F32, lit: Bool, light: Light) -> F32:
        """Sky and sun in paint and glass (Schlick's Fresnel term, Blinn-Phong sun)."""
        d = _unit(direction)
        cosine = np.clip(-np.einsum("ni,ni->n", d, normal), 0, 1)
        fresnel = gloss + (1 - gloss) * (1 - cosine) ** 5 * 0.6
        mirrored_z = d[:, 2] + 2 * cosine * normal[:, 2]
        sky = light.sky * (0.25 + 0.75 * np.clip(mirrored_z * 1.5 + 0.2, 0, 1))[:, None]
        half = _unit(light.toward_sun.astype(np.float32) - d)
        spot = np.clip(np.einsum("ni,ni->n", half, normal), 0, 1) ** 80
        return np.asarray(fresnel[:, None] * sky + (6 * gloss * spot * lit)[:, None] * light.sun, np.float32)

    def _light(self, hits: _Hits, point: F32, view: View, objects: Sequence[Object], light: Light,
               pick: Pick, together: _Together) -> tuple[Bool, F32]:
        """Which points the sun reaches, and the share of the sky that is open (darker beside and under objects)."""
        toward = light.toward_sun.astype(np.float32)
        start = point + 0.03 * hits.normal
        solid = hits.owner != SKY
        leaf = (hits.owner == STATIC) & (self.world.static.kind[hits.prim] == LEAF)
        lit = solid & (leaf | (np.einsum("ni,i->n", hits.normal, toward) > 0))
        ask = np.flatnonzero(lit)
        towards = np.ascontiguousarray(np.broadcast_to(toward, (len(ask), 3)))
        lit[ask] = self.world.static.caster.run(np.ascontiguousarray(start[ask]), towards, query="OCCLUDED") < 0
        ask = ask[lit[ask]]
        lit[ask] = ~together.blocks(start[ask], toward)
        open_sky = np.ones(len(point), np.float32)
        for thing in objects:
            m, lo, hi = thing.world_from_object, thing.model.corners[0], thing.model.corners[7]
            skirt = 0.7 * (hi[2] - lo[2])
            foot = np.array([[x, y, 0.0] for x in (lo[0] - skirt, hi[0] + skirt) for y in (lo[1] - skirt, hi[1] + skirt)])
            rect = _bounds(foot @ m[:3, :3].T + m[:3, 3], view)
            rays = pick(rect) if rect is not None else ()
            if len(rays) == 0:
                continue
            rays = rays[hits.owner[rays] == STATIC]
            local = transform(point[rays], np.linalg.inv(m))
            out = np.maximum(np.abs(local[:, :2] - 0.5 * (lo + hi)[:2].astype(np.float32)) - 0.5 * (hi - lo)[:2].astype(np.float32), 0)
            beside = np.hypot(out[:, 0], out[:, 1])
            above = np.clip(1 - local[:, 2] / np.float32(max(hi[2], 0.1)), 0, 1)
            shade = np.where(beside > 0, 0.45 * np.exp(-beside / (0.5 * skirt)), 0.85) * above
            open_sky[rays] *= (1 - shade).astype(np.float32)
        return lit, open_sky

    def _albedo(self, hits: _Hits, point: F32, objects: Sequence[Object], view: View) -> tuple[F32, F32]:
        static = self.world.static
        albedo = np.zeros((len(point), 3), np.float32)
        gloss = np.zeros(len(point), np.float32)
        still = np.flatnonzero(hits.owner == STATIC)
        kind = static.kind[hits.prim[still]]
        ground = still[kind == TERRAIN]
        if len(ground):
            tilt = -np.einsum("ni,ni->n", hits.direction[ground], hits.normal[ground])
            tilt /= _length(hits.direction[ground])
            footprint = hits.depth[ground] / np.float32(view.K[0, 0]) / np.sqrt(np.clip(tilt, 0.02, 1))
            albedo[ground] = self.world.ground.albedo(point[ground, 0], point[ground, 1], footprint)
        built = still[kind != TERRAIN]
        if len(built):
            albedo[built] = static.color[hits.prim[built]]
            walls = built[static.kind[hits.prim[built]] == WALL]
            windows = walls[self._windows(point[walls], hits.normal[walls], static.tag[hits.prim[walls]])]
            albedo[windows] = 0.03
            gloss[windows] = 0.08
            rough = built[static.kind[hits.prim[built]] != LEAF]
            grain = self.world.ground.detail[(point[rough, 0] * 9 + point[rough, 2] * 5).astype(np.int32) % 512,
                                             (point[rough, 1] * 9 + point[rough, 2] * 5).astype(np.int32) % 512]
            albedo[rough] *= (1 + 0.0016 * (grain.astype(np.float32) - 128))[:, None]
        for i, mine in pixels_of(hits.owner):
            material = objects[i].model.mesh.material[hits.prim[mine]]
            albedo[mine] = objects[i].palette[material]
            gloss[mine] = GLOSS[material]
        return albedo, gloss

    @staticmethod
    def _windows(point: F32, normal: F32, tag: I32) -> Bool:
        """Rows of windows on walls, their pitch by the building's tag."""
        along = point[:, 0] * normal[:, 1] - point[:, 1] * normal[:, 0]
        pitch = 2.0 + 0.5 * (tag % 5)
        u, v = np.mod(along / pitch, 1), np.mod(point[:, 2] / (2.8 + 0.3 * (tag % 3)), 1)
        ribbon = tag % 4 == 0
        return np.asarray((ribbon | ((u > 0.25) & (u < 0.75))) & (v > 0.35) & (v < 0.8) & (tag % 7 != 6))

    def _warmth(self, hits: _Hits, point: F32, objects: Sequence[Object], lit: Bool, open_sky: F32, light: Light) -> F32:
        static = self.world.static
        warm = static.warmth[hits.prim].copy()
        ground = np.flatnonzero((hits.owner == STATIC) & (static.kind[hits.prim] == TERRAIN))
        warm[ground] = self.world.ground.warmth_at(point[ground, 0], point[ground, 1])
        still = hits.owner == STATIC
        sun = float(light.sun.mean())
        warm[still] += (0.12 * sun * (lit[still] - 0.5)) - 0.25 * (1 - open_sky[still])
        grain = self.world.ground.detail[(point[:, 0] * 6).astype(np.int32) % 512, (point[:, 1] * 6).astype(np.int32) % 512]
        warm[still] += 0.0006 * (grain[still].astype(np.float32) - 128)
        for i, mine in pixels_of(hits.owner):
            warm[mine] = objects[i].warmth[objects[i].model.mesh.material[hits.prim[mine]]]
            warm[mine] += 0.08 * (0.4 * hits.normal[mine, 0] - 0.6 * hits.normal[mine, 2])
        warm[hits.owner == SKY] = -1.0
        return np.asarray(warm, np.float32)

    def _edges(self, hits: _Hits, color: F32, lit: Bool, h: int, w: int) -> Bool:
        """Pixels where one sample is not enough."""
        static = self.world.static
        kind = np.where(hits.owner == STATIC, static.kind[hits.prim], 99).astype(np.int32)
        luma = np.sqrt(np.maximum(color if color.ndim == 1 else color.mean(1), 0))
        quiet = ((kind == TERRAIN) | (kind == LEAF)).reshape(h, w)
        group = (hits.owner * 128 + kind).reshape(h, w)
        light, bright = lit.reshape(h, w), luma.reshape(h, w)
        edge = np.zeros((h, w), bool)
        for axis in (0, 1):
            a = (slice(None, -1), slice(None)) if axis == 0 else (slice(None), slice(None, -1))
            b = (slice(1, None), slice(None)) if axis == 0 else (slice(None), slice(1, None))
            step = (group[a] != group[b]) | ((light[a] != light[b]) & ~(quiet[a] & (group[a] % 128 == LEAF)))
            step |= (np.abs(bright[a] - bright[b]) > 0.06) & ~(quiet[a] & quiet[b])
            edge[a] |= step
            edge[b] |= step
        return edge.ravel()
