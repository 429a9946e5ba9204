"""Proofs for your own fields, encoders and denoisers: `check_field` and `assert_equivariant`.

Both raise AssertionError with the angle, the error and the tolerance, so they fit any test runner.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from equidiff.denoisers import Denoiser
from equidiff.encoders import (
    ArrayEncoder,
    FrameAveraged,
    ObservationEncoder,
    SO2StateEncoder,
    SoftObservationEncoder,
    StateEncoder,
)
from equidiff.fields import (
    ArrayField,
    DownwardRotation,
    Field,
    FieldError,
    Moments,
    Rotation,
    RotationDelta,
    Source,
    field_from_json,
)
from equidiff.fields.base import Mode
from equidiff.nn import GroupLayerNorm, GroupLinear, Lift, Project
from equidiff.rotations import from_matrix, to_matrix
from equidiff.spec import Batch, Spec
from equidiff.symmetry import Irreps, Symmetry

__all__ = ["Law", "assert_equivariant", "check_field", "random_actions", "random_batch", "random_source"]

Law = Irreps | ArrayField | Literal["regular", "invariant"]
"""How a tensor turns: a vector (..., size), a decoded array, regular features (..., N, C), or not at all."""

_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}
_ORDERS = (1, 2, 3, 4, 5, 8, 16)
_ANGLES = (math.pi / 4, math.pi / 2, 2.0, -3.0)


def assert_equivariant(
    function: Callable[..., Tensor],
    in_irreps: Law | Sequence[Law] | None = None,
    out_irreps: Law | None = None,
    symmetry: Symmetry | None = None,
    *,
    inputs: Sequence[Tensor] | None = None,
    angles: Sequence[float] | None = None,
    dtype: torch.dtype = torch.float64,
    tolerance: float | None = None,
    samples: int = 3,
    seed: int = 0,
) -> None:
    """Assert f(g x) = g f(x) for a module or any function of tensors.

    in_irreps, out_irreps, symmetry, inputs: taken from the module for the layers, encoders and
    denoisers of this package. For others, vectors are drawn as (samples, size); regular features need
    `inputs`. angles: radians, by default all N of the symmetry at which no input is interpolated.
    tolerance: relative to the largest output, by default that of `dtype`. A module is tested as a copy in
    eval mode with random parameters,
    because zero biases and zero-initialised layers would hide errors.

    >>> from equidiff.nn import Lift
    >>> assert_equivariant(Lift(Irreps((1, 0)), Symmetry(8), channels=4))
    >>> assert_equivariant(lambda x: x * x, Irreps((1,)), Irreps((1,)), Symmetry(4))
    Traceback (most recent call last):
    AssertionError: not equivariant at 90.0 degrees: f(g x) and g f(x) differ by ...
    """
    __tracebackhide__ = True
    generator = torch.Generator().manual_seed(seed)
    laws: tuple[Law, ...] | None = None
    if isinstance(function, nn.Module):
        laws, out_known, symmetry_known, shapes = _declared(function)
        out_irreps, symmetry = out_irreps or out_known, symmetry or symmetry_known
        if inputs is None and shapes is not None:
            inputs = [_draw_input(shape, samples, generator) for shape in shapes]
        twin = _randomised(function, dtype, generator)
        function = _separate_arrays(twin) if isinstance(twin, ObservationEncoder | SoftObservationEncoder) else twin
    if in_irreps is not None:
        laws = (in_irreps,) if isinstance(in_irreps, Irreps | ArrayField | str) else tuple(in_irreps)
    if laws is None or out_irreps is None or symmetry is None:
        raise TypeError("assert_equivariant: pass in_irreps, out_irreps and symmetry; they cannot be inferred here")
    if inputs is None:
        if not all(isinstance(law, Irreps) for law in laws):
            raise TypeError("assert_equivariant: pass inputs=[...] for features that are not vectors")
        inputs = [_draw_input((law.size,), samples, generator) for law in laws if isinstance(law, Irreps)]
    if angles is None:
        arrays = [law for law in laws if isinstance(law, ArrayField)]
        angles = [angle for angle in symmetry.angles if all(array.exact(angle) for array in arrays)]
    inputs = [x.to(dtype) if x.is_floating_point() else x for x in inputs]
    tolerance = _TOLERANCE[dtype] if tolerance is None else tolerance
    with torch.no_grad():
        before = function(*inputs)
        largest = float(before.abs().max())
        if not 0 < largest < math.inf:
            raise AssertionError(f"nothing was tested: the largest output is {largest}")
        for angle in angles:
            turned = function(*(_turn(x, law, angle, symmetry) for x, law in zip(inputs, laws, strict=True)))
            error = float((turned - _turn(before, out_irreps, angle, symmetry)).abs().max()) / max(largest, 1.0)
            if not error <= tolerance:
                raise AssertionError(
                    f"not equivariant at {math.degrees(angle):.1f} degrees: f(g x) and g f(x) differ by {error:.3g}, "
                    f"tolerance {tolerance:.3g} ({', '.join(map(str, laws))} -> {out_irreps}, C_{symmetry.order})"
                )


def _declared(module: nn.Module) -> tuple[tuple[Law, ...] | None, Law | None, Symmetry | None, Any]:
    """Input laws, output law, symmetry and input shapes (without samples) that a module declares."""
    if isinstance(module, Lift):
        return (module.irreps,), "regular", module.symmetry, [(module.irreps.size,)]
    if isinstance(module, Project):
        return ("regular",), module.irreps, module.symmetry, [(module.symmetry.order, module.channels)]
    if isinstance(module, GroupLinear):
        return ("regular",), "regular", module.symmetry, [(module.symmetry.order, module.inputs)]
    if isinstance(module, GroupLayerNorm):
        return ("regular",), "regular", module.symmetry, [(module.symmetry.order, module.channels)]
    if isinstance(module, ObservationEncoder | SoftObservationEncoder):
        space, steps = module.spec.observation, module.spec.horizon.obs
        arrays = space.arrays.values()
        sizes = [(steps, space.irreps.size), *((steps, *field.features) for field in arrays)]
        return (space.irreps, *arrays), "regular", module.symmetry, sizes
    if isinstance(module, StateEncoder | SO2StateEncoder):
        irreps = module.spec.observation.irreps
        return (irreps,), "regular", module.symmetry, [(module.spec.horizon.obs, irreps.size)]
    if isinstance(module, FrameAveraged):
        seen: Irreps | ArrayField = module.field or module.spec.observation.irreps
        size = (seen.size,) if isinstance(seen, Irreps) else seen.features
        kind: Law = "invariant" if module.invariant else "regular"
        return (seen,), kind, module.symmetry, [(module.spec.horizon.obs, *size)]
    if isinstance(module, ArrayEncoder):
        law: Law = "invariant" if module.invariant else "regular"
        return (module.field,), law, module.symmetry, [(module.spec.horizon.obs, *module.field.features)]
    if isinstance(module, Denoiser):
        horizon, irreps = module.spec.horizon, module.spec.action.irreps
        condition = (horizon.obs, module.symmetry.order, module.condition_channels)
        shapes = [(horizon.predict, irreps.size), None, condition]
        return (irreps, "invariant", "regular"), irreps, module.symmetry, shapes
    return None, None, None, None


def _separate_arrays(encoder: ObservationEncoder | SoftObservationEncoder) -> Callable[..., Tensor]:
    """The same function of the vector features and each array in its own argument."""
    names = tuple(encoder.spec.observation.arrays)
    return lambda features, *arrays: encoder(features, dict(zip(names, arrays, strict=True)))


def _draw_input(shape: tuple[int, ...] | None, samples: int, generator: torch.Generator) -> Tensor:
    """Standard normal (samples, *shape); without a shape, diffusion steps (samples,)."""
    if shape is None:
        return torch.randint(100, (samples,), generator=generator)
    return torch.randn((samples, *shape), generator=generator, dtype=torch.float64)


def _randomised(module: nn.Module, dtype: torch.dtype, generator: torch.Generator) -> nn.Module:
    twin = copy.deepcopy(module).to("cpu", dtype).eval()
    with torch.no_grad():
        for parameter in twin.parameters():
            fan = parameter.shape[-1] if parameter.ndim > 1 else 4
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(noise / math.sqrt(fan))
    return twin


def _turn(x: Tensor, law: Law, angle: float, symmetry: Symmetry) -> Tensor:
    if isinstance(law, Irreps):
        return law.rotate(x, angle)
    if isinstance(law, ArrayField):
        return law.turn(x, angle)
    if law == "invariant":
        return x
    steps = angle * symmetry.order / (2 * math.pi)
    if abs(steps - round(steps)) > 1e-9:
        raise ValueError(f"regular features of C_{symmetry.order} cannot turn by {math.degrees(angle):.4g} degrees")
    return symmetry.act(x, round(steps))


def check_field(field: Field, samples: Mapping[str, Tensor] | None = None, *, seed: int = 0) -> None:
    """Prove laws 1 and 2 for a field: storage, rotation, representation, normaliser and JSON.

    samples: {key: (n, *shape)} stored arrays to test with; by default random ones, which suit positions,
    rotations and anything that may take any value. Raises AssertionError with the law that is broken.

    >>> from equidiff.fields import Position, SymmetricYaw
    >>> check_field(Position("cube_pos"))
    >>> check_field(SymmetricYaw("cube_quat", fold=4, axis="any"))
    """
    __tracebackhide__ = True
    generator = torch.Generator().manual_seed(seed)
    centred = field.with_centre((0.3, -0.2))
    for tested in (field, centred) if centred != field else (field,):
        raw = {
            source.key: random_source(source, 16, generator)
            if samples is None
            else _stored(source, samples[source.key])
            for source in tested.sources
        }
        _check_storage(tested, raw)
        _check_rotation(tested, raw)
        if tested.vector:
            _check_fit(tested, raw)
    if field.vector:
        _check_representation(field)
    again = field_from_json(json.loads(json.dumps(field.to_json())))
    if again != field or hash(again) != hash(field):
        raise AssertionError(f"{field}: its JSON gives {again}")


def random_source(source: Source, count: int, generator: torch.Generator | None = None) -> Tensor:
    """(count, *shape) float64: random values that the stored array may have."""
    storage = getattr(source, "storage", None)
    if isinstance(source, DownwardRotation):
        yaw = torch.randn(count, 2, generator=generator, dtype=torch.float64)
        return source.encode(yaw, {})
    if isinstance(source, RotationDelta) and source.as_matrix:
        vector = torch.randn(count, 3, generator=generator, dtype=torch.float64)
        return from_matrix(to_matrix(vector, "rotvec"), str(storage))  # shorter than pi
    if isinstance(source, Rotation) or (isinstance(source, RotationDelta) and storage == "matrix"):
        quat = torch.randn(count, 4, generator=generator, dtype=torch.float64)
        return from_matrix(to_matrix(quat, "quat_xyzw"), str(storage))
    if source.dtype is not None:
        return torch.randint(256, (count, *source.shape), generator=generator).to(source.dtype)
    return torch.randn((count, *source.shape), generator=generator, dtype=torch.float64)


def random_batch(
    spec: Spec, count: int, generator: torch.Generator | None = None, dtype: torch.dtype = torch.float32
) -> Batch:
    """A batch that the spec takes: {"obs": {key: (count, To, *shape)}, "action": (count, Tp, A)}, as it is stored."""
    steps = spec.horizon.obs
    obs = {key: _chunks(source, count, steps, generator, dtype) for key, source in spec.observation.sources.items()}
    return {"obs": obs, "action": random_actions(spec, count, generator, dtype)}


def random_actions(
    spec: Spec, count: int, generator: torch.Generator | None = None, dtype: torch.dtype = torch.float32
) -> Tensor:
    """(count, Tp, A): random chunks of stored actions."""
    steps = spec.horizon.predict
    parts = [_chunks(field.sources[0], count, steps, generator, dtype) for field in spec.action.fields]
    return torch.cat(parts, -1)


def _chunks(source: Source, count: int, steps: int, generator: torch.Generator | None, dtype: torch.dtype) -> Tensor:
    made = random_source(source, count * steps, generator).reshape(count, steps, *source.shape)
    return made.to(source.dtype or dtype)


def _stored(source: Source, samples: Tensor) -> Tensor:
    return samples.double() if source.dtype is None else samples.to(source.dtype)


def _check_storage(field: Field, raw: dict[str, Tensor]) -> None:
    __tracebackhide__ = True
    kept = {key: value.clone() for key, value in raw.items()}
    features = field.decode(raw)
    first = field.sources[0]
    count = raw[first.key].shape[0]
    size = field.features if isinstance(field, ArrayField) else (field.irreps.size,)
    if tuple(features.shape) != (count, *size):
        law = "" if isinstance(field, ArrayField) else f", irreps {field.irreps} say {field.irreps.size}"
        raise AssertionError(f"{field}: decode gives {tuple(features.shape)}, expected {(count, *size)}{law}")
    others = {source.key: raw[source.key] for source in field.sources[1:]}
    if field.invertible:
        _same_stored(f"{field}: encode(decode(x)) is not x", first, field.encode(features, others), raw[first.key])
    else:
        try:
            field.encode(features, others)
        except FieldError:
            pass
        else:
            raise AssertionError(f"{field}: is not invertible, so encode must raise FieldError")
    for key, value in kept.items():
        if not torch.equal(value, raw[key]):
            raise AssertionError(f"{field}: decode or encode changes its input {key!r}")


def _check_rotation(field: Field, raw: dict[str, Tensor]) -> None:
    __tracebackhide__ = True
    free = not isinstance(field, ArrayField) or field.exact(0.7)  # any angle without interpolation
    first, second = (0.7, 1.9) if free else (math.pi / 2, math.pi)
    for source in field.sources:
        x = raw[source.key]
        _same_stored(f"{source}: a turn by 0 changes it", source, source.rotate(x, 0.0), x)
        _same_stored(
            f"{source}: turns by {first:.3g} and {second:.3g} are not a turn by {first + second:.3g}",
            source,
            source.rotate(source.rotate(x, first), second),
            source.rotate(x, first + second),
        )
    features = field.decode(raw)
    each = torch.linspace(-3, 3, features.shape[0], dtype=torch.float64)
    for angle in (*_ANGLES, each) if free else (math.pi / 2, math.pi, -math.pi / 2):
        turned = field.decode({s.key: s.rotate(raw[s.key], angle) for s in field.sources})
        degrees = "an angle of each sample" if isinstance(angle, Tensor) else f"{math.degrees(angle):.1f} degrees"
        want = field.turn(features, angle) if isinstance(field, ArrayField) else field.irreps.rotate(features, angle)
        _same(f"{field}: decode(rotate(x)) is not rho decode(x) at {degrees}", turned, want)


def _check_representation(field: Field) -> None:
    __tracebackhide__ = True
    for angle in _ANGLES:
        matrix = field.irreps.matrix(angle)
        _same(f"{field}: irreps are not orthogonal", matrix @ matrix.T, torch.eye(field.irreps.size).double())
    for order in _ORDERS:
        symmetry = Symmetry(order)
        representation = field.irreps.representation(symmetry)
        for n, element in enumerate(representation.group.elements):
            want = torch.as_tensor(representation(element), dtype=torch.float64)
            _same(f"{field}: irreps differ from escnn's in C_{order}", field.irreps.matrix(symmetry.angles[n]), want)


def _check_fit(field: Field, raw: dict[str, Tensor]) -> None:
    __tracebackhide__ = True
    features = field.decode(raw)
    modes: tuple[Mode, ...] = ("gaussian", "range")
    for mode in modes:
        for name, data in (("random", features), ("constant", features[:1].expand_as(features))):
            affine = field.fit(Moments.of(data, field.irreps), mode)
            if not (
                torch.isfinite(affine.offset).all() and torch.isfinite(affine.scale).all() and (affine.scale > 0).all()
            ):
                raise AssertionError(f"{field}: fit({mode!r}) of {name} data gives a scale that is not finite and > 0")
            for angle in _ANGLES:
                first = (field.irreps.rotate(features, angle) - affine.offset) / affine.scale
                after = field.irreps.rotate((features - affine.offset) / affine.scale, angle)
                _same(f"{field}: fit({mode!r}) does not commute with {math.degrees(angle):.1f} degrees", first, after)


def _same_stored(what: str, source: Source, got: Tensor, want: Tensor) -> None:
    """Compares rotations as rotations: two quaternions, or rotation vectors, may stand for one."""
    __tracebackhide__ = True
    if got.shape == want.shape and isinstance(source, Rotation | DownwardRotation):
        got, want = to_matrix(got, source.storage), to_matrix(want, source.storage)
    if source.dtype is not None:
        got, want = got.double(), want.double()  # torch cannot subtract uint16
    _same(what, got, want)


def _same(what: str, got: Tensor, want: Tensor, tolerance: float = 1e-9) -> None:
    __tracebackhide__ = True
    if got.shape != want.shape:
        raise AssertionError(f"{what}: shape {tuple(got.shape)}, expected {tuple(want.shape)}")
    error = float((got - want).abs().max()) / max(1.0, float(want.abs().max()))
    if not error <= tolerance:
        raise AssertionError(f"{what}: error {error:.3g}, tolerance {tolerance:.3g}")
