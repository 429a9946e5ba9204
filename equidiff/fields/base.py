"""`Field`: one named quantity, how it is stored, how it turns about the vertical, how it may be scaled."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from equidiff.symmetry import Irreps

__all__ = ["Affine", "ArrayField", "Field", "FieldError", "Moments", "Source", "field_from_json"]

Mode = Literal["gaussian", "range"]


class FieldError(ValueError):
    """Data or a declaration that does not fit a field; the message says what was expected and the fix."""


@dataclass(frozen=True)
class Affine:
    """normalised = (x - offset) / scale, both (..., size)."""

    offset: Tensor
    scale: Tensor


@dataclass(frozen=True)
class Moments:
    """Statistics of samples (n, ..., size) over the first dimension, all in float64."""

    mean: Tensor
    square: Tensor
    minimum: Tensor
    maximum: Tensor
    norm: Tensor  # (..., blocks): largest block norm

    @classmethod
    def of(cls, samples: Tensor, irreps: Irreps) -> Moments:
        """Moments of `samples` (n, ..., size)."""
        x = samples.double()
        return cls(x.mean(0), (x * x).mean(0), x.amin(0), x.amax(0), irreps.block_norms(x).amax(0))


_KINDS: dict[str, type[Field]] = {}


@dataclass(frozen=True)
class Field(ABC):
    """A quantity that enters or leaves the policy.

    `decode` turns stored arrays into features whose law under rotation is `irreps`; `encode` goes back.
    Fields are immutable, hold no data and survive a round trip through JSON.
    """

    key: str

    vector: ClassVar[bool] = True
    """Whether the features are a vector of irreps; False for pictures, grids and clouds (see ArrayField)."""
    invertible: ClassVar[bool] = True
    """Whether `encode` exists, so that the field may be an action."""
    scaled: ClassVar[bool] = True
    """False where the values have a natural unit scale (rotations, unit vectors)."""
    floor: ClassVar[float] = 5e-3
    """Smallest scale the normaliser may divide by (metres, for positions): below it, variation is noise."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _KINDS[cls.__name__] = cls

    @property
    def name(self) -> str:
        """Unique name within a space."""
        return self.key

    @property
    @abstractmethod
    def irreps(self) -> Irreps:
        """Law of the features under rotation about the vertical."""

    @property
    @abstractmethod
    def sources(self) -> tuple[Source, ...]:
        """The stored arrays the field reads; the first is the one `encode` writes."""

    @abstractmethod
    def decode(self, raw: Mapping[str, Tensor]) -> Tensor:
        """Stored arrays {key: (..., *shape)} -> features (..., irreps.size)."""

    @abstractmethod
    def encode(self, features: Tensor, raw: Mapping[str, Tensor]) -> Tensor:
        """Features (..., size) -> stored array of the first source; `raw` gives the other sources."""

    def fit(self, moments: Moments, mode: Mode = "gaussian") -> Affine:
        """Offset and scale (..., size) that commute with every rotation.

        Scalars are centred and scaled one by one; pairs keep their origin and share one scale: their
        root mean square per axis ("gaussian") or largest length ("range": values end in [-1, 1]).
        """
        irreps = self.irreps
        if not self.scaled:
            return Affine(torch.zeros_like(moments.mean), torch.ones_like(moments.mean))
        scalar = torch.tensor([k == 0 for k in irreps.frequency_of_entry])
        block = torch.tensor(irreps.block_of_entry)
        pair = moments.square.new_zeros(moments.norm.shape).index_add_(-1, block, moments.square)
        if mode == "gaussian":
            offset = moments.mean
            scale = (moments.square - moments.mean**2).clamp(min=0).sqrt()
            length = irreps.per_entry((pair / 2).sqrt())
        elif mode == "range":
            offset = (moments.maximum + moments.minimum) / 2
            scale = (moments.maximum - moments.minimum) / 2
            length = irreps.per_entry(moments.norm)
        else:
            raise FieldError(f"normaliser mode: expected 'gaussian' or 'range', got {mode!r}")
        offset = torch.where(scalar, offset, torch.zeros_like(offset))
        return Affine(offset, torch.where(scalar, scale, length).clamp(min=self.floor))

    @property
    def entries(self) -> Tensor | None:
        """Orthogonal (size, size) map from the numbers that clip="entries" clips to the features; None: the same."""
        return None

    def translate(self, features: Tensor, metres: Tensor) -> Tensor:
        """Features (..., size) of a scene moved by metres (..., 2) along x and y; unchanged if they are relative."""
        return features

    def with_centre(self, centre: tuple[float, float]) -> Field:
        """The same field about a workspace centre (x, y) in metres, if it depends on one."""
        return self

    def to_json(self) -> dict[str, Any]:
        """JSON form: kind and arguments."""
        return {"kind": type(self).__name__, **dataclasses.asdict(self)}


class Source(Field):
    """A field that is stored as it is: one array with its own rotation law in storage form."""

    dtype: ClassVar[torch.dtype | None] = None
    """What the array is stored as; None: floating point."""

    @property
    def sources(self) -> tuple[Source, ...]:
        return (self,)

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of the stored array without batch and time."""

    @abstractmethod
    def rotate(self, stored: Tensor, angle: Tensor | float) -> Tensor:
        """Turn the stored array (..., *shape) about the vertical through the workspace centre."""


class ArrayField(Field):
    """An observation that is not a vector: a picture, a grid or a set of points, with its own law.

    It has no part in `Space.decode`'s vector; an encoder that names its key reads the decoded array.
    """

    vector: ClassVar[bool] = False
    invertible: ClassVar[bool] = False
    scaled: ClassVar[bool] = False

    @property
    def irreps(self) -> Irreps:
        return Irreps(())

    @property
    @abstractmethod
    def features(self) -> tuple[int, ...]:
        """Shape of the decoded array without batch and time."""

    @abstractmethod
    def turn(self, features: Tensor, angle: Tensor | float) -> Tensor:
        """Turn the decoded array (..., *features) about the vertical; `angle` is a scalar or (...)."""

    @abstractmethod
    def exact(self, angle: float) -> bool:
        """Whether `turn` by this angle (radians) is free of interpolation."""

    def translate(self, features: Tensor, metres: Tensor) -> Tensor:
        raise FieldError(
            f"{type(self).__name__}({self.key!r}) does not say what it becomes when the scene moves; give it a method "
            "translate, or leave out augment=crop"
        )

    def encode(self, features: Tensor, raw: Mapping[str, Tensor]) -> Tensor:
        raise FieldError(
            f"{type(self).__name__}({self.key!r}) can only be observed, it has no stored form to go back to"
        )


def field_from_json(node: Mapping[str, Any]) -> Field:
    """Build a field from `Field.to_json`; only kinds that are already imported can be named."""
    if not isinstance(node, Mapping):
        raise FieldError(f"field: expected an object with 'kind' and 'key', got {node!r}")
    arguments = dict(node)
    kind = arguments.pop("kind", None)
    if not isinstance(kind, str) or kind not in _KINDS or inspect.isabstract(_KINDS[kind]):
        close = difflib.get_close_matches(str(kind), _KINDS, n=1)
        raise FieldError(
            f"field kind {kind!r} is unknown"
            + (f"; did you mean {close[0]!r}?" if close else "")
            + " Kinds of your own must be imported before the spec that names them is loaded."
        )
    cls = _KINDS[kind]
    known = {f.name for f in dataclasses.fields(cls)}
    unknown = sorted(set(arguments) - known)
    if unknown:
        close = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise FieldError(f"{kind}: unknown argument {unknown[0]!r}{hint}; known: {', '.join(sorted(known))}")
    if not isinstance(arguments.get("key"), str):
        raise FieldError(f"{kind}: 'key' must be the name of an array, got {arguments.get('key')!r}")
    arguments = {k: tuple(v) if isinstance(v, list) else v for k, v in arguments.items()}
    try:
        return cls(**arguments)
    except TypeError as error:
        raise FieldError(f"{kind}({arguments['key']!r}): {error}") from error
