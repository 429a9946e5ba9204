"""Storage forms of rotations, as properties of random and of awkward rotations."""

import math
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equidiff.rotations import (
    first_row_rotation,
    from_matrix,
    nearest_rotation,
    quaternion_rotvec,
    rotation_about_z,
    storage_size,
    to_matrix,
)

STORAGES = ("quat_xyzw", "quat_wxyz", "rotvec", "matrix", "rot6d")
angles = st.floats(-math.pi, math.pi)
components = st.floats(-1, 1)
directions = st.tuples(components, components, components).filter(lambda v: math.hypot(*v) > 1e-2)
# awkward: nothing, nearly nothing, nearly half a turn, half a turn
lengths = st.one_of(
    st.floats(0, math.pi),
    st.sampled_from([0.0, 1e-9, 1e-5, math.pi - 1e-3, math.pi - 1e-6, math.pi - 1e-9, math.pi]),
)


def _matrix(direction: tuple[float, float, float], length: float) -> torch.Tensor:
    """Rodrigues' formula, independent of the code under test."""
    x, y, z = torch.nn.functional.normalize(torch.tensor(direction, dtype=torch.float64), dim=0)
    o = torch.zeros((), dtype=torch.float64)
    cross = torch.stack([torch.stack([o, -z, y]), torch.stack([z, o, -x]), torch.stack([-y, x, o])])
    return torch.eye(3).double() + math.sin(length) * cross + (1 - math.cos(length)) * cross @ cross


@given(directions, lengths, st.sampled_from(STORAGES))
def test_storing_and_reading_gives_the_rotation(
    direction: tuple[float, float, float], length: float, storage: str
) -> None:
    matrix = _matrix(direction, length)
    stored = from_matrix(matrix, storage)
    assert stored.shape == (storage_size(storage),)
    torch.testing.assert_close(to_matrix(stored, storage), matrix, rtol=0, atol=1e-7)


@given(directions, lengths)
def test_rotation_vectors_are_the_short_ones(direction: tuple[float, float, float], length: float) -> None:
    rotvec = from_matrix(_matrix(direction, length), "rotvec")
    assert rotvec.norm() <= math.pi + 1e-9
    assert rotvec.norm().item() == pytest.approx(length, abs=1e-6)


@given(directions, st.floats(-20, 20))
def test_long_rotation_vectors_are_read_modulo_whole_turns(
    direction: tuple[float, float, float], length: float
) -> None:
    unit = torch.nn.functional.normalize(torch.tensor(direction, dtype=torch.float64), dim=0)
    torch.testing.assert_close(to_matrix(unit * length, "rotvec"), _matrix(direction, length), rtol=0, atol=1e-9)


@given(directions, lengths, st.floats(1e-3, 1e3), st.sampled_from([-1, 1]))
def test_quaternions_of_any_length_and_sign_in_both_orders(
    direction: tuple[float, float, float], length: float, scale: float, sign: int
) -> None:
    matrix = _matrix(direction, length)
    unit = torch.nn.functional.normalize(torch.tensor(direction, dtype=torch.float64), dim=0)
    xyz, w = unit * math.sin(length / 2), torch.tensor([math.cos(length / 2)], dtype=torch.float64)
    factor = sign * scale
    torch.testing.assert_close(to_matrix(factor * torch.cat([xyz, w]), "quat_xyzw"), matrix, rtol=0, atol=1e-9)
    torch.testing.assert_close(to_matrix(factor * torch.cat([w, xyz]), "quat_wxyz"), matrix, rtol=0, atol=1e-9)
    xyzw = from_matrix(matrix, "quat_xyzw")
    assert xyzw[3] >= 0
    torch.testing.assert_close(from_matrix(matrix, "quat_wxyz"), xyzw[[3, 0, 1, 2]])


@given(st.lists(components, min_size=6, max_size=6), angles)
def test_nearest_rotation_commutes_with_turns_about_the_vertical(values: list[float], angle: float) -> None:
    rows = torch.tensor(values, dtype=torch.float64).view(2, 3)
    nearest = nearest_rotation(rows)
    torch.testing.assert_close(nearest @ nearest.T, torch.eye(3).double(), rtol=0, atol=1e-6)
    assert torch.linalg.det(nearest) > 0.99
    if torch.linalg.svdvals(rows)[1] > 1e-2:  # otherwise the nearest rotation is not unique
        turn = rotation_about_z(torch.tensor(angle, dtype=torch.float64))
        torch.testing.assert_close(nearest_rotation(turn[:2, :2] @ rows), turn @ nearest, rtol=0, atol=1e-9)


@given(st.lists(components, min_size=6, max_size=6), directions, lengths)
def test_nearest_rotation_is_the_nearest(
    values: list[float], direction: tuple[float, float, float], length: float
) -> None:
    rows = torch.tensor(values, dtype=torch.float64).view(2, 3)
    distance = (nearest_rotation(rows)[:2] - rows).norm()
    assert distance <= (_matrix(direction, length)[:2] - rows).norm() + 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "rows",
    [[[0.0, 0, 0], [0, 0, 0]], [[1.0, 0, 0], [2, 0, 0]], [[0.0, 0, 0], [0, 3, 0]], [[1e-8, 0, 0], [0, 1e-8, 0]]],
)
def test_degenerate_rows_still_give_a_rotation(rows: list[list[float]], dtype: torch.dtype) -> None:
    matrix = nearest_rotation(torch.tensor(rows, dtype=dtype))
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(3, dtype=dtype), rtol=0, atol=1e-5)
    assert torch.linalg.det(matrix) > 0.99


def test_nearest_rotation_does_not_depend_on_scale() -> None:
    rows = torch.randn(20, 2, 3, generator=torch.Generator().manual_seed(0))
    for scale in (1e-6, 1e-3, 1e3):
        torch.testing.assert_close(nearest_rotation(rows * scale), nearest_rotation(rows), rtol=0, atol=1e-4)


def test_gram_schmidt_would_not_commute() -> None:
    """Why the usual rot6d map is not used: it treats the first row as exact."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(2, 3, generator=generator, dtype=torch.float64)

    def gram_schmidt(rows: torch.Tensor) -> torch.Tensor:
        first = rows[0] / rows[0].norm()
        second = rows[1] - (rows[1] @ first) * first
        return torch.stack([first, second / second.norm()])

    turn = rotation_about_z(torch.tensor(0.7, dtype=torch.float64))[:2, :2]
    assert (gram_schmidt(turn @ rows) - turn @ gram_schmidt(rows)).abs().max() > 0.01


@given(angles, angles)
def test_turns_about_z_add_up(a: float, b: float) -> None:
    turns = torch.tensor([a, b, a + b], dtype=torch.float64)
    first, second, both = rotation_about_z(turns)
    torch.testing.assert_close(first @ second, both, rtol=0, atol=1e-12)
    up = torch.tensor([0.0, 0, 1]).double()
    torch.testing.assert_close(first @ up, up)


def test_a_quarter_turn_takes_x_to_y() -> None:
    torch.testing.assert_close(
        rotation_about_z(math.pi / 2) @ torch.tensor([1.0, 0, 0]), torch.tensor([0.0, 1, 0]), rtol=0, atol=1e-6
    )


def test_errors_name_the_form_and_what_came() -> None:
    with pytest.raises(ValueError, match="'euler' is unknown; expected one of quat_xyzw, quat_wxyz, rotvec"):
        storage_size("euler")
    with pytest.raises(ValueError, match=re.escape("quat_xyzw needs 4 values, got shape (5, 3)")):
        to_matrix(torch.zeros(5, 3), "quat_xyzw")
    with pytest.raises(ValueError, match="'euler' is unknown"):
        from_matrix(torch.eye(3), "euler")


@given(directions, lengths)
def test_all_ways_back_to_a_rotation_agree_on_rotations(direction: tuple[float, float, float], length: float) -> None:
    matrix = _matrix(direction, length)
    torch.testing.assert_close(first_row_rotation(matrix[:2]), matrix, rtol=0, atol=1e-9)
    torch.testing.assert_close(to_matrix(quaternion_rotvec(matrix), "rotvec"), matrix, rtol=0, atol=1e-7)


def test_off_the_rotations_the_ways_back_differ_as_they_say() -> None:
    rows = torch.tensor([[2.0, 0.0, 0.0], [1.0, 1.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(first_row_rotation(rows), torch.eye(3).double())  # the first row is exact
    assert (nearest_rotation(rows)[0, 1] - torch.eye(3)[0, 1]).abs() > 0.1
    stretched = 1.2 * rotation_about_z(0.5, like=rows)
    trace = 1 + 1.2 * (2 * math.cos(0.5) + 1)  # 4 w^2
    w, z = math.sqrt(trace) / 2, 2.4 * math.sin(0.5) / (2 * math.sqrt(trace))
    want = torch.tensor([0.0, 0.0, math.hypot(w, z) * 2 * math.atan2(z, w)]).double()
    torch.testing.assert_close(quaternion_rotvec(stretched), want, rtol=0, atol=1e-6)
