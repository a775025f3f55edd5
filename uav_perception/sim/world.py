"""What does not move: the painted ground with its relief, and one static mesh of buildings, trees and clutter."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import MissingDependency
from ..records import F32, F64, I32, U8
from .materials import linear
from .mesh import Mesh, grid, merge

TERRAIN, WALL, ROOF, LEAF, PLAIN = range(5)  # kinds of static faces
_LINEAR = linear(np.arange(256) / 255.0)


def renderer_types() -> tuple[Any, Any]:
    """Embree's scene and mesh; raises MissingDependency without the extra ``sim``."""
    try:
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene
    except ImportError as e:
        raise MissingDependency(f"no renderer: {e}", "the package embreex", "pip install 'uav_perception[sim]'") from e
    return EmbreeScene, TriangleMesh


def ray_caster(mesh: Mesh) -> Any:
    """An Embree scene of ``mesh``."""
    scene_type, mesh_type = renderer_types()
    scene = scene_type()
    mesh_type(scene, np.ascontiguousarray(mesh.vertices, np.float32), np.ascontiguousarray(mesh.faces, np.int32))
    return scene


def wave_height_m(waves: F64, x: ArrayLike, y: ArrayLike) -> F64:
    """Height of ``Ground.waves`` at world x, y."""
    px, py = np.asarray(x, np.float64), np.asarray(y, np.float64)
    z = np.zeros(np.broadcast(px, py).shape)
    for amplitude, kx, ky, phase in waves:
        z = z + amplitude * np.sin(kx * px + ky * py + phase)
    return z


@dataclass(frozen=True, eq=False)
class Ground:
    """A square painting of the ground around the origin, mirrored beyond its edges, over gentle waves of relief.

    ``paint`` (S, S, 3) display BGR and ``warmth`` (S/4, S/4) uint8 (128 = mean) have north up: row 0 is +y.
    ``waves`` (N, 4): amplitude m, wave vector x and y in rad/m, phase.
    """

    paint: U8
    warmth: U8
    detail: U8
    size_m: float
    waves: F64

    def height_m(self, x: ArrayLike, y: ArrayLike) -> F64:
        """Height of the ground at world x, y."""
        return wave_height_m(self.waves, x, y)

    def normal(self, x: float, y: float) -> F64:
        """Unit normal of the ground at one point."""
        gradient = np.zeros(2)
        for amplitude, kx, ky, phase in self.waves:
            gradient += amplitude * np.cos(kx * x + ky * y + phase) * np.array([kx, ky])
        n = np.array([-gradient[0], -gradient[1], 1.0])
        return np.asarray(n / np.linalg.norm(n))

    @cached_property
    def _pyramid(self) -> list[U8]:
        levels = [self.paint]
        while levels[-1].shape[0] > 64:
            half = cv2.resize(levels[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
            levels.append(np.asarray(half, np.uint8))
        return levels

    def _texels(self, x: F32, y: F32, texture: U8) -> tuple[F32, F32]:
        side, size = texture.shape[0], self.size_m
        u = size - np.abs(size - np.mod(x + size / 2, 2 * size))  # mirrored: 0..size, then back
        v = size - np.abs(size - np.mod(size / 2 - y, 2 * size))
        k = np.float32(side / self.size_m)
        return (u * k - 0.5).astype(np.float32), (v * k - 0.5).astype(np.float32)

    def albedo(self, x: F32, y: F32, footprint_m: F32) -> F32:
        """Linear BGR (N, 3) at points (N,), each averaged over about ``footprint_m``."""
        lod = np.log2(np.maximum(footprint_m * np.float32(self.paint.shape[0] / self.size_m), 1.0)) + 0.5
        level = np.minimum(lod.astype(np.int8), len(self._pyramid) - 1)
        out = np.empty((len(x), 3), np.uint8)
        for i in range(int(level.min()), int(level.max()) + 1):
            here = np.flatnonzero(level == i)
            if len(here):
                u, v = self._texels(x[here], y[here], self._pyramid[i])
                out[here] = _remap(self._pyramid[i], u, v)
        color: F32 = cv2.LUT(out[:, None], _LINEAR)[:, 0]  # type: ignore[assignment]
        fine = np.flatnonzero(footprint_m < 0.1)
        if len(fine):  # grain finer than the painting, fading out where a pixel covers more
            grain = self.detail[(y[fine] * 50).astype(np.int32) % 512, (x[fine] * 50).astype(np.int32) % 512]
            gain = np.clip(1.4 - footprint_m[fine] / 0.07, 0, 1) * np.float32(0.0028)
            color[fine] *= (1 + gain * (grain.astype(np.float32) - 128))[:, None]
        return color

    def warmth_at(self, x: F32, y: F32) -> F32:
        """Temperature offset (N,) in the units of ``materials.temperature``."""
        u, v = self._texels(x, y, self.warmth)
        return np.asarray((_remap(self.warmth, u, v).astype(np.float32) - 128) / 128, np.float32)


def _remap(texture: U8, u: F32, v: F32) -> Any:
    """Bilinear lookup at flat coordinates; OpenCV wants two-dimensional maps with short sides."""
    n, row = len(u), 1024
    padded = -(-n // row) * row
    grid_u, grid_v = np.zeros(padded, np.float32), np.zeros(padded, np.float32)
    grid_u[:n], grid_v[:n] = u, v
    out = cv2.remap(
        texture, grid_u.reshape(-1, row), grid_v.reshape(-1, row), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return out.reshape(padded, *texture.shape[2:])[:n]


@dataclass(frozen=True, eq=False)
class Shape:
    """A mesh with what rays need of it, made when first asked for."""

    mesh: Mesh

    @cached_property
    def normals(self) -> F32:
        return self.mesh.normals()

    @cached_property
    def caster(self) -> Any:
        return ray_caster(self.mesh)


@dataclass(frozen=True, eq=False)
class Static(Shape):
    """Faces of everything still, with attributes per face. ``color`` linear BGR, ``tag`` varies patterns."""

    kind: NDArray[np.uint8]
    color: F32
    warmth: F32
    tag: I32


@dataclass
class StaticBuilder:
    """Collects still meshes; their ``material`` is not used, the attributes are given here."""

    meshes: list[Mesh] = field(default_factory=list)
    kinds: list[NDArray[np.uint8]] = field(default_factory=list)
    colors: list[F32] = field(default_factory=list)
    warmths: list[F32] = field(default_factory=list)
    tags: list[I32] = field(default_factory=list)

    def add(self, mesh: Mesh, kind: int, color: ArrayLike, warmth: ArrayLike = 0.0, tag: int = 0) -> None:
        """``color`` is linear BGR: (3,) or one a face."""
        n = len(mesh.faces)
        self.meshes.append(mesh)
        self.kinds.append(np.full(n, kind, np.uint8))
        self.colors.append(np.array(np.broadcast_to(np.asarray(color, np.float32), (n, 3))))
        self.warmths.append(np.array(np.broadcast_to(np.asarray(warmth, np.float32), (n,))))
        self.tags.append(np.full(n, tag, np.int32))

    def add_terrain(self, ground: Ground, cell_m: float = 4.0, far_m: float = 6000.0) -> None:
        """The relief: fine over the painting and its mirror images' edge, coarse to the horizon."""
        half = 0.75 * ground.size_m
        near = np.arange(-half, half + cell_m, cell_m)
        steps = half + cell_m * np.cumsum(1.5 ** np.arange(1, 15))
        axis = np.concatenate([-steps[::-1], near, steps[1:]])
        axis = np.clip(axis, -far_m, far_m)
        x, y = np.meshgrid(axis, axis)
        fade = np.clip(1 - (np.maximum(abs(x), abs(y)) - half) / 200.0, 0, 1)
        z = ground.height_m(x, y) * fade
        self.add(grid(np.stack([x, y, z], -1), 0), TERRAIN, (0, 0, 0))

    def build(self) -> Static:
        return Static(
            merge(self.meshes),
            np.concatenate(self.kinds),
            np.concatenate(self.colors),
            np.concatenate(self.warmths),
            np.concatenate(self.tags),
        )


@dataclass(frozen=True, eq=False)
class World:
    """Ground and everything on it that stays."""

    ground: Ground
    static: Static
