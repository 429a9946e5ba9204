"""The messages between a planner and the process that plans: msgpack, arrays as (dtype name, shape, bytes), no pickle.

A message is one msgpack map. To the policy:

    {"type": "plan", "id", "observation": {key: array}, "previous": array or nil, "frozen"}

and back, first of all `hello`, then one answer for each request:

    {"type": "hello", "protocol", "spec": JSON text, "version"}
    {"type": "plan", "id", "actions": array, "computed_in"}
    {"type": "error", "id", "message"}

Between processes of one machine there are arrays alone as well, both ways: {"type": "arrays", "id", "arrays"}.

An array is {"dtype": name, "shape": [n, ...], "data": bytes}, little-endian, in C order. `id` counts a planner's
requests. Whatever does not have exactly this form is refused with a WireError, before as much memory is reserved as it
claims to need.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from equidiff.fields import FieldError
from equidiff.spec import Spec, SpecError
from equidiff.untrusted import UntrustedError, parse_json
from real_robot.types import Array, PlanRequest

__all__ = [
    "ANSWER_BYTES", "PROTOCOL", "SUBPROTOCOL", "Answer", "Failure", "Hello", "WireError", "installed_version",
    "pack_answer", "pack_arrays", "pack_failure", "pack_hello", "pack_request", "request_bytes", "unpack_answer",
    "unpack_arrays", "unpack_hello", "unpack_request",
]  # fmt: skip

PROTOCOL = 1
SUBPROTOCOL = f"equidiff.policy.v{PROTOCOL}"
ANSWER_BYTES = 4 * 2**20
"""The largest message that a planner takes: a hello or an answer."""

_DTYPES = {
    name: np.dtype(name).newbyteorder("<") for name in ("uint8", "uint16", "int32", "int64", "float32", "float64")
}
_SPARE = 64 * 1024  # bytes of a request beside its arrays
_DIMENSIONS = 8
_LIST, _MAP, _CONTAINERS = 64, 256, 1024  # bound the objects that a message can make, however it is nested
_LARGEST_ID = 2**53
_LONGEST_TEXT = 2000  # characters of an error


class WireError(ValueError):
    """Bytes that are no message of this protocol."""


@dataclass(frozen=True)
class Hello:
    """What a policy tells of itself. version: of equidiff there."""

    protocol: int
    spec: Spec
    version: str


@dataclass(frozen=True, eq=False)
class Answer:
    """actions (k, A), float64, and the seconds the policy took."""

    id: int
    actions: Array
    computed_in: float


@dataclass(frozen=True)
class Failure:
    """A request that could not be answered."""

    id: int
    message: str


def installed_version() -> str:
    """Of equidiff, "unknown" where it is not installed as a package."""
    try:
        return metadata.version("equidiff")
    except metadata.PackageNotFoundError:
        return "unknown"


def request_bytes(spec: Spec) -> int:
    """The largest request that a policy with this spec has a use for, in bytes."""
    numbers = sum(spec.horizon.obs * math.prod(shape) for shape in spec.observation.shapes.values())
    return 8 * (numbers + spec.horizon.predict * spec.action_size) + _SPARE


# -- to bytes ------------------------------------------------------------------------------------------


def pack_request(number: int, request: PlanRequest) -> bytes:
    """The request as message `number`; a copy. WireError that names the key for a dtype that cannot be sent."""
    return _pack(
        type="plan",
        id=number,
        observation={key: _array(key, value) for key, value in request.observation.items()},
        previous=None if request.previous is None else _array("previous", request.previous),
        frozen=request.frozen,
    )


def pack_arrays(number: int, arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """{name: array} as message `number`; a copy. WireError that names the array for a dtype that cannot be sent."""
    return _pack(type="arrays", id=number, arrays={key: _array(key, value) for key, value in arrays.items()})


def pack_hello(spec: Spec, version: str) -> bytes:
    """The first message to a planner."""
    return _pack(type="hello", protocol=PROTOCOL, spec=json.dumps(spec.to_json()), version=version)


def pack_answer(number: int, actions: Array, computed_in: float) -> bytes:
    """The answer to message `number`."""
    return _pack(type="plan", id=number, actions=_array("actions", actions), computed_in=computed_in)


def pack_failure(number: int, message: str) -> bytes:
    """Why message `number` has no answer."""
    return _pack(type="error", id=number, message=message[:_LONGEST_TEXT])


def _array(name: str, value: NDArray[Any]) -> dict[str, Any]:
    array = np.asarray(value)
    stored = _DTYPES.get(array.dtype.name)
    if stored is None:
        raise WireError(f"{name}: dtype {array.dtype} cannot be sent; use one of {', '.join(_DTYPES)}")
    flat = np.ascontiguousarray(array, stored).reshape(-1)
    return {"dtype": array.dtype.name, "shape": array.shape, "data": flat.view(np.uint8).data}


def _pack(**message: Any) -> bytes:
    # room for all from the start: growing the buffer copies everything again and again
    size = sum(node["data"].nbytes for node in _nodes(message)) + _SPARE
    packed: bytes = msgpack.Packer(buf_size=size).pack(message)
    return packed


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """The arrays in a message that is about to be packed."""
    if isinstance(tree, dict):
        if "data" in tree and isinstance(tree["data"], memoryview):
            yield tree
        else:
            for value in tree.values():
                yield from _nodes(value)


# -- from bytes ----------------------------------------------------------------------------------------


def unpack_request(data: bytes) -> tuple[int, PlanRequest]:
    """(number of the message, the request with number and stamp 0); its arrays are views of `data`, read-only."""
    message = _message(data, {"plan": ("id", "observation", "previous", "frozen")})
    observation, previous = _read_arrays("observation", message["observation"]), message["previous"]
    if previous is not None:
        previous = _read_array("previous", previous)
        if previous.dtype != np.float64 or previous.ndim != 2:
            raise WireError(f"previous: expected (k, A) float64, got {previous.shape} {previous.dtype}")
    return _whole(message, "id"), PlanRequest(
        number=0,
        stamp=0.0,
        observation=observation,
        previous=previous,
        frozen=_whole(message, "frozen"),
    )


def unpack_arrays(data: bytes) -> tuple[int, dict[str, NDArray[Any]]] | Failure:
    """(number of the message, {name: array}), views of `data`, read-only; or why there are none."""
    message = _message(data, {"arrays": ("id", "arrays"), "error": ("id", "message")})
    number = _whole(message, "id")
    if message["type"] == "error":
        return Failure(number, _text(message, "message")[:_LONGEST_TEXT])
    return number, _read_arrays("arrays", message["arrays"])


def unpack_hello(data: bytes) -> Hello:
    """The first message of a policy, of any version of the protocol."""
    message = _message(data, {"hello": ("protocol", "spec", "version")})
    protocol = _whole(message, "protocol")
    if protocol != PROTOCOL:
        raise WireError(
            f"protocol: the policy's side speaks version {protocol}, this side {PROTOCOL}; "
            "install the same version of equidiff on both"
        )
    try:
        spec = Spec.from_json(parse_json(_text(message, "spec").encode()))
    except (SpecError, FieldError, UntrustedError) as error:
        raise WireError(f"spec: {error}") from error
    return Hello(protocol, spec, _text(message, "version"))


def unpack_answer(data: bytes) -> Answer | Failure:
    """What became of a request. The actions are finite, (k, A) float64."""
    message = _message(data, {"plan": ("id", "actions", "computed_in"), "error": ("id", "message")})
    number = _whole(message, "id")
    if message["type"] == "error":
        return Failure(number, _text(message, "message")[:_LONGEST_TEXT])
    actions, seconds = _read_array("actions", message["actions"]), message["computed_in"]
    if actions.dtype != np.float64 or actions.ndim != 2 or not np.isfinite(actions).all():
        raise WireError(f"actions: expected (k, A) finite float64, got {actions.shape} {actions.dtype}")
    if not isinstance(seconds, float) or not 0 <= seconds < math.inf:
        raise WireError(f"computed_in: expected seconds >= 0, got {seconds!r}")
    return Answer(number, actions, seconds)


def _message(data: bytes, kinds: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    """A map of one of these types with exactly its keys."""
    message = _tree(data)
    kind = message.get("type") if isinstance(message, dict) else None
    if not isinstance(kind, str) or kind not in kinds:
        raise WireError(f"expected a message of type {' or '.join(kinds)}, got {_kind(message)} of type {kind!r:.40}")
    if message.keys() != {"type", *kinds[kind]}:
        raise WireError(f"{kind}: expected the keys {', '.join(kinds[kind])}, got {sorted(message)!r:.200}")
    tree: dict[str, Any] = message
    return tree


def _tree(data: bytes) -> Any:
    containers = 0

    def count() -> None:
        nonlocal containers
        containers += 1
        if containers > _CONTAINERS:
            raise WireError(f"more than {_CONTAINERS} lists and maps")

    def to_dict(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
        count()
        out = dict(pairs)
        if len(out) != len(pairs) or not all(isinstance(key, str) for key in out):
            raise WireError("a map with a key that is no text, or that comes twice")
        return out

    def to_list(values: list[Any]) -> list[Any]:
        count()
        return values

    try:
        return msgpack.unpackb(
            data,
            object_pairs_hook=to_dict,
            list_hook=to_list,
            max_array_len=_LIST,
            max_map_len=_MAP,
            max_ext_len=0,
        )
    except WireError:
        raise
    except ValueError as error:  # all of msgpack's own errors, too
        raise WireError(f"not msgpack ({error or type(error).__name__})") from error


def _read_arrays(name: str, node: Any) -> dict[str, NDArray[Any]]:
    if not isinstance(node, dict):
        raise WireError(f"{name}: expected {{key: array}}, got {_kind(node)}")
    return {key: _read_array(key, value) for key, value in node.items()}


def _read_array(name: str, node: Any) -> NDArray[Any]:
    if not isinstance(node, dict) or node.keys() != {"dtype", "shape", "data"}:
        raise WireError(f"{name!r:.60}: expected an array as dtype, shape and data, got {_kind(node)}")
    named, shape, data = node["dtype"], node["shape"], node["data"]
    dtype = _DTYPES.get(named) if isinstance(named, str) else None
    if dtype is None:
        raise WireError(f"{name!r:.60}: dtype {named!r:.40}, expected one of {', '.join(_DTYPES)}")
    whole = isinstance(shape, list) and all(type(n) is int and 0 <= n < 2**31 for n in shape)
    if not whole or len(shape) > _DIMENSIONS:
        raise WireError(f"{name!r:.60}: shape {shape!r:.80}, expected up to {_DIMENSIONS} lengths")
    if not isinstance(data, bytes) or len(data) != math.prod(shape) * dtype.itemsize:
        held = len(data) if isinstance(data, bytes) else _kind(data)
        raise WireError(
            f"{name!r:.60}: shape {shape} of {named} needs {math.prod(shape) * dtype.itemsize} bytes, got {held}"
        )
    return np.frombuffer(data, dtype).reshape(shape)


def _whole(message: Mapping[str, Any], key: str) -> int:
    value = message[key]
    if type(value) is not int or not 0 <= value <= _LARGEST_ID:
        raise WireError(f"{key}: expected a whole number >= 0, got {value!r:.40}")
    return value


def _text(message: Mapping[str, Any], key: str) -> str:
    value = message[key]
    if not isinstance(value, str):
        raise WireError(f"{key}: expected text, got {_kind(value)}")
    return value


def _kind(value: Any) -> str:
    return type(value).__name__
