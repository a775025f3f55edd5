"""Triangle meshes and the few primitives everything here is built from. x forward, y left, z up, metres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..records import F32, F64, I32


@dataclass(frozen=True, eq=False)
class Mesh:
    """``vertices`` (V, 3) float32, ``faces`` (F, 3) int32 counter-clockwise from outside, ``material`` (F,) int32."""

    vertices: F32
    faces: I32
    material: I32

    def moved(self, offset: ArrayLike = (0, 0, 0), yaw_rad: float = 0.0, scale: ArrayLike = 1.0) -> Mesh:
        """Scaled, then turned about z, then shifted."""
        c, s = np.cos(yaw_rad), np.sin(yaw_rad)
        turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        v = (self.vertices * np.asarray(scale, np.float64)) @ turn.T + np.asarray(offset, np.float64)
        return Mesh(v.astype(np.float32), self.faces, self.material)

    def normals(self) -> F32:
        """(F, 3) unit normals of the faces."""
        a, b, c = (self.vertices[self.faces[:, i]] for i in range(3))
        n = np.cross(b - a, c - a)
        return np.asarray(n / np.maximum(np.linalg.norm(n, axis=1, keepdims=True), 1e-12), dtype=np.float32)


def transform(points: F32, matrix: ArrayLike) -> F32:
    """(N, 3) points turned by a (3, 3) matrix or moved by a (4, 4), many times faster than by numpy's product."""
    m = np.asarray(matrix, np.float64)
    if len(points) == 0:
        return points
    return np.asarray(cv2.transform(np.ascontiguousarray(points, np.float32)[:, None], m[:3]), np.float32)[:, 0]


def merge(meshes: Sequence[Mesh]) -> Mesh:
    """One mesh of many."""
    starts = np.cumsum([0] + [len(m.vertices) for m in meshes[:-1]])
    return Mesh(
        np.concatenate([m.vertices for m in meshes]),
        np.concatenate([m.faces + s for m, s in zip(meshes, starts, strict=True)]).astype(np.int32),
        np.concatenate([m.material for m in meshes]),
    )


def grid(points: ArrayLike, material: ArrayLike) -> Mesh:
    """A (R, C, 3) net of points as a surface; ``material`` broadcasts to its (R-1, C-1) cells."""
    p = np.asarray(points, np.float32)
    rows, cols = p.shape[:2]
    i = np.arange(rows * cols).reshape(rows, cols)
    a, b, c, d = i[:-1, :-1], i[:-1, 1:], i[1:, 1:], i[1:, :-1]
    faces = np.stack([np.stack([a, b, c], -1), np.stack([a, c, d], -1)], 2).reshape(-1, 3)
    cells = np.broadcast_to(np.asarray(material, np.int32), (rows - 1, cols - 1))
    return Mesh(p.reshape(-1, 3), faces.astype(np.int32), np.repeat(cells.ravel(), 2).astype(np.int32))


def fan(ring: ArrayLike, material: int) -> Mesh:
    """A convex polygon (N, 3)."""
    p = np.asarray(ring, np.float32)
    k = np.arange(1, len(p) - 1)
    return Mesh(p, np.stack([np.zeros_like(k), k, k + 1], 1).astype(np.int32), np.full(len(k), material, np.int32))


def loft(rings: ArrayLike, material: ArrayLike, cap_material: int) -> Mesh:
    """Skin over (S, R, 3) cross-sections ordered front to back, open at the bottom, closed by caps at both ends."""
    r = np.asarray(rings, np.float32)
    return merge([grid(r, material), fan(r[0, ::-1], cap_material), fan(r[-1], cap_material)])


def box(size: ArrayLike, center: ArrayLike, material: int, top_material: int | None = None, taper: float = 1.0) -> Mesh:
    """An axis-aligned box; the top is ``taper`` times as wide and long as the bottom."""
    x, y, z = np.asarray(size, np.float64) / 2
    base = np.array([[-x, -y, -z], [x, -y, -z], [x, y, -z], [-x, y, -z]])
    top = base * [taper, taper, -1]
    v = (np.concatenate([base, top]) + np.asarray(center, np.float64)).astype(np.float32)
    quads = np.array([[3, 2, 1, 0], [4, 5, 6, 7], [0, 1, 5, 4], [1, 2, 6, 5], [2, 3, 7, 6], [3, 0, 4, 7]])
    m = np.full(6, material)
    if top_material is not None:
        m[1] = top_material
    faces = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    return Mesh(v, faces.astype(np.int32), np.concatenate([m, m]).astype(np.int32))


def tube(
    start: ArrayLike, end: ArrayLike, radius: float, material: int, sides: int = 8, end_radius: float | None = None
) -> Mesh:
    """A closed cylinder or cone between two points."""
    a, b = np.asarray(start, np.float64), np.asarray(end, np.float64)
    axis = (b - a) / np.linalg.norm(b - a)
    side = np.cross(axis, [0.0, 0.0, 1.0] if abs(axis[2]) < 0.9 else [1.0, 0.0, 0.0])
    side /= np.linalg.norm(side)
    angle = np.linspace(0, 2 * np.pi, sides + 1)
    circle = np.cos(angle)[:, None] * side + np.sin(angle)[:, None] * np.cross(axis, side)
    far = radius if end_radius is None else end_radius
    rings = np.stack([b + far * circle, a + radius * circle])
    return merge([grid(rings, material), fan(rings[0, :-1], material), fan(rings[1, :-1][::-1], material)])


def ball(center: ArrayLike, radii: ArrayLike, material: int, sides: int = 8) -> Mesh:
    """A low-polygon ellipsoid."""
    lat = np.linspace(np.pi / 2, -np.pi / 2, sides // 2 + 1)
    lon = np.linspace(0, 2 * np.pi, sides + 1)
    p = np.stack(
        [
            np.cos(lat)[:, None] * np.cos(lon),
            np.cos(lat)[:, None] * np.sin(lon),
            np.sin(lat)[:, None] * np.ones_like(lon),
        ],
        -1,
    )
    return grid((p * np.asarray(radii) + np.asarray(center))[:, ::-1], material)


def cards(centers: F64, normals: F64, size: NDArray[np.float64], material: int, rng: np.random.Generator) -> Mesh:
    """Small randomly turned quads (leaves) at (N, 3) centres; ``size`` (N,) is half a side in metres."""
    n = normals + 0.7 * rng.normal(size=normals.shape)
    n /= np.linalg.norm(n, axis=1, keepdims=True)
    u = np.cross(n, rng.normal(size=n.shape))
    u /= np.maximum(np.linalg.norm(u, axis=1, keepdims=True), 1e-9)
    v = np.cross(n, u)
    u, v = u * size[:, None], v * size[:, None]
    corners = np.stack([centers - u - v, centers + u - v, centers + u + v, centers - u + v], 1)
    i = 4 * np.arange(len(centers))[:, None]
    faces = np.concatenate([i + np.array([0, 1, 2]), i + np.array([0, 2, 3])], 1).reshape(-1, 3)
    return Mesh(
        corners.reshape(-1, 3).astype(np.float32), faces.astype(np.int32), np.full(len(faces), material, np.int32)
    )
