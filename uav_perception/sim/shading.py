"""Light on what the rays found: sun, sky, shadows, paint and glass; or how warm it is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..records import F32, I32, Bool
from .materials import GLOSS
from .mesh import transform
from .rays import SKY, STATIC, Hits, Light, Object, Pick, Together, View, bounds, length, pixels_of, unit
from .world import LEAF, TERRAIN, WALL, World


class Shader:
    """Gives every hit its colour (linear BGR) or warmth."""

    def __init__(self, world: World) -> None:
        self.world = world

    def shade(
        self,
        hits: Hits,
        view: View,
        objects: Sequence[Object],
        light: Light,
        pick: Pick,
        thermal: bool,
        together: Together,
    ) -> tuple[F32, Bool]:
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
            up = unit(hits.direction[sky])[:, 2]
            color[sky] = light.haze + (light.sky * 0.9 - light.haze) * np.clip(up * 2.5, 0, 1)[:, None]
        return color.astype(np.float32), lit

    @staticmethod
    def _mirror(direction: F32, normal: F32, gloss: F32, lit: Bool, light: Light) -> F32:
        """Sky and sun in paint and glass (Schlick's Fresnel term, Blinn-Phong sun)."""
        d = unit(direction)
        cosine = np.clip(-np.einsum("ni,ni->n", d, normal), 0, 1)
        fresnel = gloss + (1 - gloss) * (1 - cosine) ** 5 * 0.6
        mirrored_z = d[:, 2] + 2 * cosine * normal[:, 2]
        sky = light.sky * (0.25 + 0.75 * np.clip(mirrored_z * 1.5 + 0.2, 0, 1))[:, None]
        half = unit(light.toward_sun.astype(np.float32) - d)
        spot = np.clip(np.einsum("ni,ni->n", half, normal), 0, 1) ** 80
        return np.asarray(fresnel[:, None] * sky + (6 * gloss * spot * lit)[:, None] * light.sun, np.float32)

    def _light(
        self,
        hits: Hits,
        point: F32,
        view: View,
        objects: Sequence[Object],
        light: Light,
        pick: Pick,
        together: Together,
    ) -> tuple[Bool, F32]:
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
            foot = np.array(
                [[x, y, 0.0] for x in (lo[0] - skirt, hi[0] + skirt) for y in (lo[1] - skirt, hi[1] + skirt)]
            )
            rect = bounds(foot @ m[:3, :3].T + m[:3, 3], view)
            rays = pick(rect) if rect is not None else ()
            if len(rays) == 0:
                continue
            rays = rays[hits.owner[rays] == STATIC]
            local = transform(point[rays], np.linalg.inv(m))
            out = np.maximum(
                np.abs(local[:, :2] - 0.5 * (lo + hi)[:2].astype(np.float32)) - 0.5 * (hi - lo)[:2].astype(np.float32),
                0,
            )
            beside = np.hypot(out[:, 0], out[:, 1])
            above = np.clip(1 - local[:, 2] / np.float32(max(hi[2], 0.1)), 0, 1)
            shade = np.where(beside > 0, 0.45 * np.exp(-beside / (0.5 * skirt)), 0.85) * above
            open_sky[rays] *= (1 - shade).astype(np.float32)
        return lit, open_sky

    def _albedo(self, hits: Hits, point: F32, objects: Sequence[Object], view: View) -> tuple[F32, F32]:
        static = self.world.static
        albedo = np.zeros((len(point), 3), np.float32)
        gloss = np.zeros(len(point), np.float32)
        still = np.flatnonzero(hits.owner == STATIC)
        kind = static.kind[hits.prim[still]]
        ground = still[kind == TERRAIN]
        if len(ground):
            tilt = -np.einsum("ni,ni->n", hits.direction[ground], hits.normal[ground])
            tilt /= length(hits.direction[ground])
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
            grain = self.world.ground.detail[
                (point[rough, 0] * 9 + point[rough, 2] * 5).astype(np.int32) % 512,
                (point[rough, 1] * 9 + point[rough, 2] * 5).astype(np.int32) % 512,
            ]
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

    def _warmth(
        self, hits: Hits, point: F32, objects: Sequence[Object], lit: Bool, open_sky: F32, light: Light
    ) -> F32:
        static = self.world.static
        warm = static.warmth[hits.prim].copy()
        ground = np.flatnonzero((hits.owner == STATIC) & (static.kind[hits.prim] == TERRAIN))
        warm[ground] = self.world.ground.warmth_at(point[ground, 0], point[ground, 1])
        still = hits.owner == STATIC
        sun = float(light.sun.mean())
        warm[still] += (0.12 * sun * (lit[still] - 0.5)) - 0.25 * (1 - open_sky[still])
        grain = self.world.ground.detail[
            (point[:, 0] * 6).astype(np.int32) % 512, (point[:, 1] * 6).astype(np.int32) % 512
        ]
        warm[still] += 0.0006 * (grain[still].astype(np.float32) - 128)
        for i, mine in pixels_of(hits.owner):
            warm[mine] = objects[i].warmth[objects[i].model.mesh.material[hits.prim[mine]]]
            warm[mine] += 0.08 * (0.4 * hits.normal[mine, 0] - 0.6 * hits.normal[mine, 2])
        warm[hits.owner == SKY] = -1.0
        return np.asarray(warm, np.float32)
