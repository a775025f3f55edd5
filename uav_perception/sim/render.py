"""Rays to pictures: Embree finds what each pixel sees, ``shading`` colours it. Truth comes from the pixel-centre rays.

Objects are traced in their own frames, only where they can be; nothing static is ever rebuilt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..records import F32, F64, I32, Bool
from .mesh import transform
from .rays import SKY, STATIC, Hits, Light, Object, Pick, Together, View, bounds, face_viewer, unit
from .shading import Shader
from .world import LEAF, TERRAIN, World


@dataclass(frozen=True, eq=False)
class Rendered:
    """``color`` (H, W, 3) linear BGR or (H, W) warmth; ``depth_m`` is inf at the sky; ``owner`` indexes the objects.

    ``outline_px`` (N, 5): x1, y1, x2, y2 and pixel count of each object's whole outline in the image (0 = outside).
    """

    color: F32
    depth_m: F32
    owner: I32
    outline_px: F64


class Renderer:
    """Draws a world with objects. Deterministic: equal inputs give equal pixels."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.shader = Shader(world)

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
        together = Together(view, objects, light)
        color, lit = self.shader.shade(hits, view, objects, light, whole, thermal, together)
        edge = np.flatnonzero(self._edges(hits, color, lit, h, w))
        if len(edge):
            n = len(edge)
            slot: Any = np.full((h, w), -1, np.int32)
            slot.reshape(-1)[edge] = np.arange(n, dtype=np.int32)

            def some(rect: tuple[int, int, int, int]) -> Any:
                x1, y1, x2, y2 = rect
                s = slot[y1:y2, x1:x2].ravel()
                s = s[s >= 0]
                return np.concatenate([s, s + n, s + 2 * n, s + 3 * n])

            offsets = np.array([[-0.125, -0.375], [0.375, -0.125], [0.125, 0.375], [-0.375, 0.125]], np.float32)
            fine = self._rays(view, (xs[edge] + offsets[:, :1]).ravel(), (ys[edge] + offsets[:, 1:]).ravel())
            self._trace_static(fine)
            together.trace(fine)
            face_viewer(fine)
            samples, _ = self.shader.shade(fine, view, objects, light, some, thermal, together)
            color[edge] = samples.reshape(4, n, *color.shape[1:]).mean(0)
        shape = (h, w) if thermal else (h, w, 3)
        return Rendered(color.reshape(shape), hits.depth.reshape(h, w), hits.owner.reshape(h, w), outline)

    @staticmethod
    def _rays(view: View, px: F32, py: F32) -> Hits:
        k, n = view.K.astype(np.float32), len(px)
        in_camera = np.stack([(px - k[0, 2]) / k[0, 0], (py - k[1, 2]) / k[1, 1], np.ones_like(px)], 1)
        if view.row_poses is None:
            origin = np.broadcast_to(view.world_from_camera[:3, 3].astype(np.float32), (n, 3))
            direction = transform(in_camera, view.world_from_camera[:3, :3])
        else:
            poses = view.row_poses[np.clip(np.rint(py).astype(int), 0, view.height_px - 1)]
            origin = poses[:, :3, 3].astype(np.float32)
            direction = np.einsum("nij,nj->ni", poses[:, :3, :3].astype(np.float32), in_camera)
        return Hits(
            px,
            py,
            np.ascontiguousarray(origin),
            np.ascontiguousarray(direction, np.float32),
            np.empty(0, np.float32),
            np.empty(0, np.int32),
            np.empty(0, np.int32),
            np.empty(0, np.float32),
        )

    def _trace_static(self, hits: Hits) -> None:
        static = self.world.static
        found = static.caster.run(hits.origin, hits.direction, output=True)
        hits.prim = found["primID"]
        missed = hits.prim < 0
        hits.depth = found["tfar"].copy()
        hits.depth[missed] = np.inf
        hits.owner = np.where(missed, SKY, STATIC).astype(np.int32)
        hits.normal = static.normals[hits.prim]

    @staticmethod
    def _trace(hits: Hits, view: View, objects: Sequence[Object], pick: Pick) -> F64:
        """Each object in its own frame, where it can be: exact, and it shows the outline behind other things too."""
        outline = np.zeros((len(objects), 5))
        for i, thing in enumerate(objects):
            rect = bounds(
                thing.model.corners @ thing.world_from_object[:3, :3].T + thing.world_from_object[:3, 3], view
            )
            rays = pick(rect) if rect is not None else ()
            if len(rays) == 0:
                continue
            inverse = np.linalg.inv(thing.world_from_object)
            found = thing.model.caster.run(
                transform(hits.origin[rays], inverse), transform(hits.direction[rays], inverse[:3, :3]), output=True
            )
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
            hits.normal[front] = unit(transform(thing.model.normals[found["primID"][nearer]], inverse[:3, :3].T))
        face_viewer(hits)
        return outline

    def _edges(self, hits: Hits, color: F32, lit: Bool, h: int, w: int) -> Bool:
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
