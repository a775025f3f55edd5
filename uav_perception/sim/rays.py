"""What rays find: objects and views as the caster sees them, hits, and all objects together as casters of shadows.

Ray directions have unit depth in the camera frame and are never normalised, so that Embree's ray parameter *is* depth
along the optical axis, in the world and inside every object's own frame alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..records import F32, F64, I32, Bool
from .mesh import Mesh, transform
from .world import Shape, ray_caster

SKY, STATIC = -2, -1  # owners of hits that are no object


@dataclass(frozen=True, eq=False)
class Model(Shape):
    """A shape in its own frame with its ray caster, shared by all objects of that shape."""

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
    """A pinhole camera. With a rolling shutter ``row_poses`` has all, ``world_from_camera`` that of the middle row."""

    K: F64
    width_px: int
    height_px: int
    world_from_camera: F64
    row_poses: F64 | None = None  # (H, 4, 4)


@dataclass(eq=False)
class Hits:
    """What each of N rays met; filled in by tracing. ``prim`` is the face of the owner's mesh."""

    px: F32
    py: F32
    origin: F32
    direction: F32
    depth: F32
    owner: I32
    prim: I32
    normal: F32


def length(vectors: F32) -> F32:
    """Norms of (N, 3) vectors."""
    return np.asarray(np.sqrt(np.einsum("ni,ni->n", vectors, vectors)), np.float32)


def unit(vectors: F32) -> F32:
    """(N, 3) vectors of length 1."""
    return np.asarray(vectors / np.maximum(length(vectors), np.float32(1e-20))[:, None], np.float32)


def pixels_of(owner: I32) -> Iterator[tuple[int, Any]]:
    """(object, flat indices of what it owns) for each object that owns something."""
    flat = owner.ravel()
    owned = np.flatnonzero(flat >= 0)
    owned = owned[np.argsort(flat[owned], kind="stable")]
    starts = np.flatnonzero(np.diff(flat[owned], prepend=-1))
    for group in np.split(owned, starts[1:]) if len(owned) else ():
        yield int(flat[group[0]]), group


def face_viewer(hits: Hits) -> None:
    """Turn normals to the side the ray came from."""
    hits.normal[np.einsum("ni,ni->n", hits.normal, hits.direction) > 0] *= -1


Pick = Callable[[tuple[int, int, int, int]], Any]  # image rectangle (x1, y1, x2, y2) -> indices of rays


def bounds(points_world: F64, view: View, pad_px: int = 1) -> tuple[int, int, int, int] | None:
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


class Together:
    """All objects that show or cast shadows in a view as one ray caster (None when there are none)."""

    def __init__(self, view: View, objects: Sequence[Object], light: Light) -> None:
        vertices, faces, self.first, self.of = [], [], [], []
        n_vertices = n_faces = 0
        for i, thing in enumerate(objects):
            m = thing.world_from_object
            corners = thing.model.corners @ m[:3, :3].T + m[:3, 3]
            fall = (corners[:, 2:] - corners[:, 2].min() + 1.0) / max(light.toward_sun[2], 0.05)
            if bounds(np.concatenate([corners, corners - fall * light.toward_sun]), view, 3) is None:
                continue
            mesh = thing.model.mesh
            vertices.append(transform(mesh.vertices, m))
            faces.append(mesh.faces + n_vertices)
            self.of.append(i)
            self.first.append(n_faces)
            n_vertices += len(mesh.vertices)
            n_faces += len(mesh.faces)
        self.mesh = (
            Mesh(np.concatenate(vertices), np.concatenate(faces), np.zeros(n_faces, np.int32)) if vertices else None
        )
        self.caster = ray_caster(self.mesh) if self.mesh else None

    def trace(self, hits: Hits) -> None:
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
        hits.normal[front] = unit(found["Ng"][front])  # its sign is settled by the viewer's side

    def blocks(self, start: F32, toward: F32) -> Bool:
        """Which of the (N, 3) points have an object between them and the sun."""
        if self.caster is None or len(start) == 0:
            return np.zeros(len(start), bool)
        rays = np.ascontiguousarray(np.broadcast_to(toward, start.shape))
        return np.asarray(self.caster.run(np.ascontiguousarray(start), rays, query="OCCLUDED") >= 0)


