"""Reading what somebody else wrote: files against a manifest, YAML without tricks, bounded memory.

A checkpoint may come from anywhere. Reading it must not run code, follow links out of its directory,
resolve environment variables, or reserve memory that its files do not account for.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["AllocationLimit", "UntrustedError", "parse_json", "parse_tree", "read_listed", "read_regular"]

_LARGEST_TEXT = 16 * 2**20  # bytes of a manifest, spec or tree; real ones have a few thousand
_DEEPEST = 64  # levels of a tree
_LARGEST_INTEGER = 1_000_000  # in a policy tree: channels, steps
_SPARE = 2**28  # elements that building a policy may use beyond its files (1 GiB of float32)


class UntrustedError(ValueError):
    """Content that is damaged or should not be trusted."""


def read_listed(where: Path, listed: Any, wanted: Callable[[str], bool]) -> dict[str, bytes]:
    """The wanted files of `listed` = {name: sha256} below `where`; each is read once, so what is hashed is used."""
    if not isinstance(listed, Mapping):
        raise UntrustedError(f"{where / 'manifest.json'}: has no table 'sha256'")
    contents = {}
    for name, expected in listed.items():
        path = Path(name)
        if path.is_absolute() or ".." in path.parts or "\0" in name:
            raise UntrustedError(f"{where / 'manifest.json'}: lists {name!r} outside the checkpoint")
        if wanted(name):
            contents[name] = read_regular(where, name)
            if hashlib.sha256(contents[name]).hexdigest() != expected:
                raise UntrustedError(
                    f"{where / name}: its sha256 differs from the manifest; damaged or altered, copy it again"
                )
    return contents


def read_regular(where: Path, name: str) -> bytes:
    """Content of a regular file that really lies below `where`; nothing else is opened for long."""
    if not (where / name).resolve().is_relative_to(where.resolve()):
        raise UntrustedError(f"{where / name}: is a link that leaves the checkpoint; copy the file itself (cp -rL)")
    try:
        # O_NONBLOCK: a pipe must not make the reader wait for ever
        descriptor = os.open(where / name, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        raise UntrustedError(f"{where / name}: missing; the checkpoint is incomplete, copy it again") from None
    except OSError as error:
        raise UntrustedError(f"{where / name}: cannot be read ({error})") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UntrustedError(f"{where / name}: is not a regular file")
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def parse_json(content: bytes) -> Any:
    """JSON of reasonable size and depth."""
    _check_size(content)
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UntrustedError(f"damaged JSON ({error})") from error


def parse_tree(content: bytes) -> dict[str, Any]:
    """A resolved config tree: plain YAML without anchors, tags, interpolations or absurd numbers."""
    _check_size(content)
    try:
        depth = 0
        for event in yaml.parse(content, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:
                raise UntrustedError(f"is nested more than {_DEEPEST} deep")
            if isinstance(event, yaml.AliasEvent):
                raise UntrustedError("contains YAML aliases, which can stand for any amount of memory")
        tree = yaml.safe_load(content)
        _check_values(tree)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise UntrustedError(f"damaged YAML ({error})") from error
    if not isinstance(tree, dict) or "_target_" not in tree:
        raise UntrustedError("expected a tree with '_target_'")
    return tree


def _check_size(content: bytes) -> None:
    if len(content) > _LARGEST_TEXT:
        raise UntrustedError(f"has {len(content)} bytes; at most {_LARGEST_TEXT} are expected")


def _check_values(tree: Any) -> None:
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            if not isinstance(key, str):
                raise UntrustedError(f"key {key!r} is not text")
            _check_values(key)
            _check_values(value)
    elif isinstance(tree, list):
        for value in tree:
            _check_values(value)
    elif isinstance(tree, str) and "${" in tree:
        # after parsing: an escape in the file may hide the dollar sign
        raise UntrustedError("contains '${': a checkpoint stores resolved values only")
    elif isinstance(tree, int) and abs(tree) > _LARGEST_INTEGER:
        raise UntrustedError(f"contains the number {tree}; at most {_LARGEST_INTEGER} is expected")


class AllocationLimit(TorchDispatchMode):
    """Refuses to create tensors of more elements in all than `stored` ones and a fixed reserve account for.

    The check comes before the memory is reserved, so that a tree that asks for a thousand times the
    stored parameters fails instead of taking the machine down.
    """

    def __init__(self, stored: int) -> None:
        super().__init__()
        self.limit, self.used = 8 * stored + _SPARE, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self.used += _elements(func, args, kwargs)
        if self.used > self.limit:
            raise UntrustedError(
                f"building the policy would take more than {self.limit} numbers, which its stored parameters do not "
                "account for; the tree and the parameters are not of the same policy"
            )
        return func(*args, **kwargs)


def _elements(func: Any, args: Any, kwargs: Mapping[str, Any]) -> int:
    """Elements of the tensor that a factory function is about to create; 0 for other functions."""
    name = func._schema.name.removeprefix("aten::")
    if name in ("empty", "zeros", "ones", "full", "rand", "randn", "empty_strided", "new_zeros", "new_empty", "repeat"):
        tensors = [a for a in args if isinstance(a, torch.Tensor)]
        size = next((a for a in args if isinstance(a, list | tuple)), kwargs.get("size", ()))
        count = math.prod(int(n) for n in size)
        return count * tensors[0].numel() if name == "repeat" and tensors else count
    if name == "eye":
        return int(args[0]) * int(args[1] if len(args) > 1 else args[0])
    if name in ("arange", "linspace"):
        numbers = [a for a in args if isinstance(a, int | float)]
        if name == "linspace":
            return int(numbers[-1])
        return int(abs(numbers[-1] - (numbers[0] if len(numbers) > 1 else 0))) + 1
    return 0
