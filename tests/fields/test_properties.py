"""Properties of fields over random data, centres and angles."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equidiff.fields import (
    FieldError,
    LocalPosition,
    Position,
    RelativePosition,
    RelativeYaw,
    Rotation,
    RotationDelta,
    Scalars,
    SymmetricYaw,
    field_from_json,
)
from equidiff.rotations import from_matrix, rotation_about_z, to_matrix
from equidiff.testing import check_field

numbers = st.floats(-2, 2)
points = st.tuples(numbers, numbers, numbers)
centres = st.tuples(numbers, numbers)
angles = st.floats(-7, 7)
quats = st.tuples(numbers, numbers, numbers, numbers).filter(lambda q: math.hypot(*q) > 0.1)


def _tensor(values: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@given(points, centres, angles)
def test_positions_turn_about_the_centre(point: tuple[float, ...], centre: tuple[float, float], angle: float) -> None:
    field, x = Position("p", centre=centre), _tensor(point)
    turned = field.rotate(x, angle)
    fixed = _tensor((*centre, point[2]))
    torch.testing.assert_close(field.rotate(fixed, angle), fixed, rtol=0, atol=1e-9)
    torch.testing.assert_close((turned - fixed).norm(), (x - fixed).norm(), rtol=0, atol=1e-9)
    assert turned[2] == x[2]
    decoded = field.irreps.rotate(field.decode({"p": x}), angle)
    torch.testing.assert_close(field.decode({"p": turned}), decoded, rtol=0, atol=1e-9)
    torch.testing.assert_close(field.encode(field.decode({"p": x}), {}), x, rtol=0, atol=1e-12)


@given(quats, angles, st.sampled_from(["quat_xyzw", "quat_wxyz", "rotvec", "matrix", "rot6d"]))
def test_orientations_turn_from_the_left(quat: tuple[float, ...], angle: float, storage: str) -> None:
    matrix = to_matrix(_tensor(quat), "quat_xyzw")
    field, x = Rotation("r", storage=storage), from_matrix(matrix, storage)
    want = rotation_about_z(angle, like=matrix) @ matrix
    torch.testing.assert_close(to_matrix(field.rotate(x, angle), storage), want, rtol=0, atol=1e-7)
    turned = field.irreps.rotate(field.decode({"r": x}), angle)
    torch.testing.assert_close(to_matrix(field.encode(turned, {}), storage), want, rtol=0, atol=1e-7)


@given(quats, quats, angles)
def test_deltas_are_conjugated(start: tuple[float, ...], delta: tuple[float, ...], angle: float) -> None:
    """Turning the scene, then applying the turned delta = applying the delta, then turning the scene."""
    pose, step = to_matrix(_tensor(start), "quat_xyzw"), to_matrix(_tensor(delta), "quat_xyzw")
    turn = rotation_about_z(angle, like=pose)
    for storage in ("matrix", "rotvec"):
        turned = RotationDelta("d", storage=storage).rotate(from_matrix(step, storage), angle)
        moved = to_matrix(turned, storage) @ (turn @ pose)
        torch.testing.assert_close(moved, turn @ (step @ pose), rtol=0, atol=1e-6)


@given(st.lists(st.floats(-1.5, 1.5), min_size=9, max_size=9), angles)
def test_delta_matrices_are_repaired_symmetrically(values: list[float], angle: float) -> None:
    field = RotationDelta("d", storage="matrix")
    features = torch.tensor(values, dtype=torch.float64)
    stored = field.encode(features, {})
    matrix = stored.view(3, 3)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(3).double(), rtol=0, atol=1e-9)
    assert torch.linalg.det(matrix) > 0.99
    singular = torch.linalg.svdvals(field.encode(features, {}).view(3, 3) * 0 + _entries(field, features))
    reflected = torch.linalg.det(_entries(field, features)) < 0
    # otherwise the nearest rotation is not unique
    if singular[2] > 1e-2 and (not reflected or singular[1] - singular[2] > 1e-2):
        turned = field.encode(field.irreps.rotate(features, angle), {})
        torch.testing.assert_close(turned, field.rotate(stored, angle), rtol=0, atol=1e-7)


def _entries(field: RotationDelta, features: torch.Tensor) -> torch.Tensor:
    """The matrix whose features these are: decode is linear and orthogonal."""
    basis = field.decode({"d": torch.eye(9, dtype=torch.float64)})
    return (basis @ features).view(3, 3)


@given(quats, st.sampled_from([1, 2, 3, 6]), st.integers(0, 5), st.sampled_from("xyz"))
def test_poses_that_look_equal_are_equal(quat: tuple[float, ...], fold: int, turns: int, axis: str) -> None:
    matrix = to_matrix(_tensor(quat), "quat_xyzw")
    field = SymmetricYaw("q", fold=fold, axis=axis, storage="matrix")
    if matrix[:2, "xyz".index(axis)].norm() < 1e-3:
        return  # the axis points up: it has no heading
    same = rotation_about_z(2 * math.pi * turns / fold, like=matrix) @ matrix
    first, second = (field.decode({"q": m.flatten()}) for m in (matrix, same))
    torch.testing.assert_close(first, second, rtol=0, atol=1e-6)


def _cube_turns() -> list[torch.Tensor]:
    half = math.pi / 2
    axes = [torch.tensor(v).double() for v in ((half, 0.0, 0.0), (0.0, half, 0.0), (0.0, 0.0, half))]
    a, b, c = (to_matrix(v, "rotvec") for v in axes)
    found: list[torch.Tensor] = [torch.eye(3).double()]
    for matrix in found:
        for turn in (a, b, c):
            new = matrix @ turn
            if not any(torch.allclose(new, old, atol=1e-6) for old in found):
                found.append(new)
    return found


@given(angles)
def test_a_cube_lying_on_any_face_shows_one_yaw(angle: float) -> None:
    turns = _cube_turns()
    assert len(turns) == 24
    yaw = rotation_about_z(torch.tensor(angle, dtype=torch.float64))
    field = SymmetricYaw("q", fold=4, axis="any", storage="matrix")
    seen = torch.stack([field.decode({"q": (yaw @ turn).flatten()}) for turn in turns])
    torch.testing.assert_close(seen, seen[:1].expand_as(seen), rtol=0, atol=1e-6)
    torch.testing.assert_close(
        seen[0], torch.tensor([math.cos(4 * angle), math.sin(4 * angle)]).double(), atol=1e-6, rtol=0
    )


def test_relative_yaw_reads_each_array_in_its_own_storage() -> None:
    field = RelativeYaw("cube", "hand", fold=1, storage="quat_wxyz", reference_storage="rotvec")
    assert [source.storage for source in field.sources] == ["quat_wxyz", "rotvec"]  # type: ignore[attr-defined]
    cube = from_matrix(rotation_about_z(torch.tensor(0.9)), "quat_wxyz")
    hand = from_matrix(rotation_about_z(torch.tensor(0.4)), "rotvec")
    want = torch.tensor([math.cos(0.5), math.sin(0.5)])
    torch.testing.assert_close(field.decode({"cube": cube, "hand": hand}), want, rtol=0, atol=1e-6)


def test_a_heading_that_does_not_exist_gives_finite_numbers() -> None:
    upright = from_matrix(torch.tensor([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]]), "quat_xyzw")  # x points down
    for fold in (1, 2, 3):
        assert torch.isfinite(SymmetricYaw("q", fold=fold).decode({"q": upright})).all()


def test_local_positions_do_not_see_the_world() -> None:
    field = LocalPosition("p", "hand", "rot")
    raw = {"p": torch.tensor([1.0, 1, 0]), "hand": torch.tensor([1.0, 0, 0])}
    quarter = from_matrix(rotation_about_z(math.pi / 2), "quat_xyzw")
    torch.testing.assert_close(field.decode({**raw, "rot": quarter}), torch.tensor([1.0, 0, 0]), rtol=0, atol=1e-6)


def test_declarations_that_make_no_sense_are_refused() -> None:
    for make, message in (
        (lambda: Scalars("joint_pos", size=7), "joint angles are not invariant .* knowingly=True"),
        (lambda: Scalars("a", size=0), "size must be an integer from 1 to 10000, got 0"),
        (lambda: Scalars("a", size=2.0), "got 2.0"),  # type: ignore[arg-type]
        (lambda: Rotation("r", storage="euler"), "'euler' is unknown"),
        (lambda: RotationDelta("d", storage="quat_xyzw"), "storage must be 'rotvec' or 'matrix'"),
        (lambda: SymmetricYaw("q", fold=0), "fold must be an integer from 1 to 1000, got 0"),
        (lambda: SymmetricYaw("q", axis="w"), "axis must be 'x', 'y', 'z' or 'any', got 'w'"),
        (lambda: SymmetricYaw("q", fold=2, axis="any"), "multiple of 4"),
        (lambda: RelativeYaw("q", "hand", reference_axis="up"), "yaw of 'hand': axis must be"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
    assert Scalars("joint_torque", knowingly=True).size == 1
    with pytest.raises(FieldError, match="may be an observation, not an action"):
        SymmetricYaw("q").encode(torch.zeros(2), {})


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"kind": "Postion", "key": "p"}, "'Postion' is unknown; did you mean 'Position'"),
        ({"kind": "Source", "key": "p"}, "'Source' is unknown"),
        ({"kind": ["Position"], "key": "p"}, "is unknown"),
        ({"kind": "Position", "key": "p", "center": [0, 0]}, "unknown argument 'center'; did you mean 'centre'"),
        ({"kind": "Position", "key": 3}, "'key' must be the name of an array, got 3"),
        ({"kind": "RelativePosition", "key": "p"}, "reference"),
        ({"kind": "Scalars", "key": "p", "size": 10**12}, "size must be an integer"),
        ("Position", "expected an object"),
    ],
)
def test_json_that_does_not_fit(node: object, message: str) -> None:
    with pytest.raises(FieldError, match=message):
        field_from_json(node)  # type: ignore[arg-type]


def test_relative_positions_do_not_need_a_centre() -> None:
    assert RelativePosition("a", "b").with_centre((1.0, 2.0)) == RelativePosition("a", "b")
    check_field(RelativePosition("a", "b"))
