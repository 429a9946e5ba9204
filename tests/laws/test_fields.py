"""Laws 1 and 2 for every field and storage form."""

import inspect

import pytest
import torch
from law_toys import ACTIONS, config, random_batch

from equidiff import fields
from equidiff.compose import make_spec
from equidiff.fields import Field
from equidiff.fields.presets import state_observation
from equidiff.testing import check_field

STORAGES = ("quat_xyzw", "quat_wxyz", "rotvec", "matrix", "rot6d")
FIELDS = [
    fields.Scalars("gripper", size=2),
    fields.Position("cube_pos"),
    fields.Displacement("velocity"),
    *(fields.Rotation("r", storage=s) for s in STORAGES),
    *(fields.RotationDelta("d", storage=s) for s in ("rotvec", "matrix")),
    fields.RotationDelta("d", as_matrix=True),
    fields.RotationDelta("d", as_matrix=True, projection="quaternion"),
    *(fields.Rotation("r", storage=s, projection="first_row") for s in STORAGES),
    *(fields.DownwardRotation("r", storage=s) for s in STORAGES),
    fields.Height("cube_pos"),
    fields.RelativePosition("cube_pos", "eef_pos"),
    *(fields.LocalPosition("cube_pos", "eef_pos", "eef_rot", storage=s) for s in STORAGES),
    *(fields.LocalRotation("r", "f", storage=s, frame_storage=STORAGES[i - 1]) for i, s in enumerate(STORAGES)),
    *(fields.SymmetricYaw("r", fold=n, axis=a, storage=s) for n, a, s in [(1, "x", "rotvec"), (2, "y", "quat_wxyz")]),
    *(fields.SymmetricYaw("r", fold=n, axis=a) for n, a in [(3, "z"), (4, "any"), (8, "any"), (6, "x")]),
    *(
        fields.RelativeYaw("r", "f", fold=n, axis=a, reference_axis=b, storage=s, reference_storage=t)
        for n, a, b, s, t in [
            (1, "x", "y", "quat_xyzw", "quat_wxyz"),
            (2, "y", "x", "matrix", "rotvec"),
            (4, "any", "x", "rot6d", "quat_xyzw"),
        ]
    ),
    *(kind("front", height=n, width=n) for kind in (fields.Image, fields.Depth) for n in (5, 6)),
    *(kind("wrist", height=5, width=7, view="body") for kind in (fields.Image, fields.Depth)),
    *(fields.Voxels("voxels", size=n) for n in (5, 6)),
    *(fields.PointCloud("cloud", points=9, colour=c, origin=o) for c, o in [(True, ""), (False, ""), (True, "p")]),
]


@pytest.mark.parametrize("field", FIELDS, ids=str)
def test_field_keeps_the_laws(field: Field) -> None:
    check_field(field)


def test_every_kind_of_field_is_in_the_table() -> None:
    kinds = {
        k for k in vars(fields).values() if inspect.isclass(k) and issubclass(k, Field) and not inspect.isabstract(k)
    }
    assert kinds == {type(field) for field in FIELDS}


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("invariants", [False, True])
def test_the_common_observation_keeps_the_laws(absolute: bool, invariants: bool) -> None:
    objects = {"cube": {"fold": 4}, "mug": {"fold": None}, "bar": {"fold": 2}}
    for field in state_observation(objects, absolute=absolute, invariants=invariants):
        check_field(field)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("angle", [torch.pi / 4, torch.pi / 2, -2.1, "each"])
def test_a_whole_batch_decodes_to_its_irreps(action: str, angle: float | str) -> None:
    spec = make_spec(config(action=action, overrides=["obs.fields.absolute=true"]))
    batch = random_batch(spec, dtype=torch.float64)
    turn = torch.linspace(-3, 3, 5, dtype=torch.float64) if angle == "each" else angle
    turned = spec.rotate(batch, turn)
    per_step = turn[:, None] if isinstance(turn, torch.Tensor) else turn
    observation, actions = spec.observation.decode(batch["obs"]), spec.decode_action(batch["action"], batch["obs"])
    torch.testing.assert_close(
        spec.observation.decode(turned["obs"]),
        spec.observation.irreps.rotate(observation, per_step),
        rtol=0,
        atol=1e-10,
    )
    torch.testing.assert_close(
        spec.decode_action(turned["action"], turned["obs"]),
        spec.action.irreps.rotate(actions, per_step),
        rtol=0,
        atol=1e-10,
    )
    again = spec.decode_action(spec.encode_action(actions, batch["obs"]), batch["obs"])
    torch.testing.assert_close(again, actions, rtol=0, atol=1e-10)
