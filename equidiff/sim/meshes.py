"""Render-only copies of a model whose meshes have fewer faces. Physics never sees them."""

from __future__ import annotations

import copy
import functools
import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

import fast_simplification
import numpy as np

from equidiff.folders import cache_folder
from equidiff.sim.backend import load_mujoco

mujoco = load_mujoco()

__all__ = ["with_fewer_faces"]

_ARRAYS = ("vertices", "faces", "normals", "corners")
_SMOOTH = np.cos(np.radians(50))  # faces at a smaller angle share a smooth edge


def with_fewer_faces(model: Any, ratio: float, fewest: int, most: int) -> Any:
    """A copy of the model in which each mesh keeps `ratio` of its faces, but from `fewest` to `most` of them.

    Meshes that are drawn with a texture stay as they are: their texture coordinates belong to the faces.
    """
    drawn = copy.copy(model)
    textured = _textured(model)
    for mesh in range(drawn.nmesh):
        faces = int(drawn.mesh_facenum[mesh])
        target = int(np.clip(faces * ratio, fewest, most))
        if faces <= 1.2 * target or mesh in textured:
            continue
        vertices, corners, normals, normal_of_corner = _simplified(*_mesh(drawn, mesh), target)
        first, room = int(drawn.mesh_vertadr[mesh]), int(drawn.mesh_vertnum[mesh])
        at, normal_at, normal_room = int(drawn.mesh_faceadr[mesh]), *_normal_range(drawn, mesh)
        fitted, index = _fitted(normals, normal_of_corner, normal_room)
        if len(vertices) > room or len(corners) > faces:
            continue
        drawn.mesh_vert[first : first + len(vertices)] = vertices
        drawn.mesh_face[at : at + len(corners)] = corners
        drawn.mesh_normal[normal_at : normal_at + len(fitted)] = fitted
        drawn.mesh_facenormal[at : at + len(corners)] = index
        drawn.mesh_facenum[mesh] = len(corners)
    return drawn


def _textured(model: Any) -> set[int]:
    """Meshes of geoms whose material has a texture."""
    is_mesh = model.geom_type == mujoco.mjtGeom.mjGEOM_MESH
    material = np.where(model.geom_matid >= 0, model.geom_matid, 0)
    if not model.nmat:
        return set()
    textured = np.asarray(model.mat_texid).reshape(model.nmat, -1).max(1) >= 0  # several a material since MuJoCo 3.2
    has_texture = (model.geom_matid >= 0) & textured[material]
    return set(model.geom_dataid[is_mesh & has_texture].tolist())


def _mesh(model: Any, mesh: int) -> tuple[np.ndarray, np.ndarray]:
    first, at = int(model.mesh_vertadr[mesh]), int(model.mesh_faceadr[mesh])
    vertices = model.mesh_vert[first : first + int(model.mesh_vertnum[mesh])]
    return np.array(vertices, np.float32), np.array(model.mesh_face[at : at + int(model.mesh_facenum[mesh])], np.int32)


def _normal_range(model: Any, mesh: int) -> tuple[int, int]:
    return int(model.mesh_normaladr[mesh]), int(model.mesh_normalnum[mesh])


def _simplified(vertices: np.ndarray, faces: np.ndarray, target: int) -> tuple[np.ndarray, ...]:
    """Vertices, faces, normals and the normal of each face's corners; kept on disk by content."""
    key = hashlib.sha256(vertices.tobytes() + faces.tobytes() + f"{target} 2".encode()).hexdigest()[:32]
    path = cache_folder() / "meshes" / f"{key}.npz"
    if path.exists():
        return _stored(path)
    # welded first: the simplification would tear a mesh whose faces do not share their vertices
    welded, index = np.unique(np.round(vertices, 6), axis=0, return_inverse=True)
    joined = index.reshape(-1)[faces]
    whole = (joined[:, 0] != joined[:, 1]) & (joined[:, 1] != joined[:, 2]) & (joined[:, 0] != joined[:, 2])
    few, corners = welded.astype(np.float32), joined[whole].astype(np.int32)
    for _ in range(4):  # meshes of many pieces need several passes
        before = len(corners)
        if before <= 1.2 * target:
            break
        few, corners = fast_simplification.simplify(few, corners, target_count=target, agg=5)
        if len(corners) > 0.95 * before:
            break
    normals = _corner_normals(few, corners)
    made = (few.astype(np.float32), corners.astype(np.int32), normals, np.arange(3 * len(corners)).reshape(-1, 3))
    _store(path, dict(zip(_ARRAYS, made, strict=True)))
    return made


@functools.lru_cache(maxsize=512)  # tasks that are rebuilt at a reset have the same meshes each time
def _stored(path: Path) -> tuple[np.ndarray, ...]:
    with np.load(path, allow_pickle=False) as arrays:
        return tuple(arrays[name] for name in _ARRAYS)


def _corner_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(3 F, 3): for each corner the area-weighted mean normal of the faces about its vertex that bend little."""
    triangles = vertices[faces]
    area = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    unit = area / np.maximum(np.linalg.norm(area, axis=1, keepdims=True), 1e-12)
    about: list[list[int]] = [[] for _ in range(len(vertices))]
    for number, face in enumerate(faces):
        for vertex in face:
            about[vertex].append(number)
    normals = np.empty((len(faces), 3, 3), np.float32)
    for number, face in enumerate(faces):
        for corner, vertex in enumerate(face):
            near = np.array(about[vertex])
            total = area[near[unit[near] @ unit[number] > _SMOOTH]].sum(0)
            if not total.any():
                total = unit[number]
            normals[number, corner] = total / max(float(np.linalg.norm(total)), 1e-12)
    return normals.reshape(-1, 3)


def _fitted(normals: np.ndarray, index: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray]:
    """Normals rounded until the different ones fit into `room`."""
    digits = 3
    while len(normals) > room:
        rounded, inverse = np.unique(np.round(normals, digits), axis=0, return_inverse=True)
        if len(rounded) <= room or digits == 0:
            kept = rounded[:room]
            length = np.maximum(np.linalg.norm(kept, axis=1, keepdims=True), 1e-9)
            return kept / length, np.minimum(inverse.reshape(-1), room - 1)[index]
        digits -= 1
    return normals, index


def _store(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Written under another name first: several processes may start at once, and one may be killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
        try:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            Path(file.name).unlink()
            raise
    Path(file.name).replace(path)
