"""`ArrayEncoder`: what the encoders of pictures, grids and clouds have in common."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from equidiff.fields import ArrayField
from equidiff.nn import check_counts
from equidiff.spec import Spec
from equidiff.symmetry import Symmetry

__all__ = ["ArrayEncoder"]


class ArrayEncoder(nn.Module):
    """Encodes the decoded array of one field: (B, To, *field.features) -> regular features (B, To, N, channels).

    With `invariant`, it gives (B, To, channels) that do not turn. Abstract. `reads` are the kinds of field the
    encoder understands. Raises ValueError if the spec observes no such field under `key`.
    """

    reads: ClassVar[tuple[type[ArrayField], ...]] = (ArrayField,)
    invariant: ClassVar[bool] = False

    def __init__(self, spec: Spec, symmetry: Symmetry, key: str, channels: int) -> None:
        super().__init__()
        found = {name: f for name, f in spec.observation.arrays.items() if isinstance(f, self.reads)}
        if key not in found:
            kinds, have = " or ".join(kind.__name__ for kind in self.reads), ", ".join(found) or "none"
            raise ValueError(f"{type(self).__name__}: key={key!r} is not an observed {kinds}; there are: {have}")
        check_counts(type(self).__name__, channels=channels)
        self.spec, self.symmetry, self.key, self.channels = spec, symmetry, key, channels
        self.field = found[key]
