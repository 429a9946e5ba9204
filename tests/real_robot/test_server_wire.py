"""Messages come back as they went, and nothing else gets through the decoder."""

from __future__ import annotations

import json
import struct
import tracemalloc
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from planner_toys import SPEC, request

from real_robot.server.wire import (
    Answer,
    Failure,
    WireError,
    pack_answer,
    pack_arrays,
    pack_failure,
    pack_hello,
    pack_request,
    request_bytes,
    unpack_answer,
    unpack_arrays,
    unpack_hello,
    unpack_request,
)  # fmt: skip
from real_robot.types import PlanRequest

READERS = (unpack_request, unpack_hello, unpack_answer)
DTYPES = ("uint8", "uint16", "int32", "int64", "float32", "float64")


def message(**changed: Any) -> bytes:
    """A request of which something is changed."""
    at = {"dtype": "float32", "shape": [2, 3], "data": bytes(24)}
    plain = {"type": "plan", "id": 1, "observation": {"at": at}, "previous": None, "frozen": 0}
    return msgpack.packb({**plain, **changed})


@given(
    st.sampled_from(DTYPES),
    st.lists(st.integers(0, 4), max_size=4),
    st.integers(0, 2**53),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_requests_come_back(dtype: str, shape: list[int], number: int, chunk: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    array = (rng.normal(size=shape) * 100).astype(dtype)
    previous = rng.normal(size=(3, 4)) if chunk else None
    asked = PlanRequest(5, 1.5, {"a/b": array, "swapped": array.astype(array.dtype.newbyteorder(">"))}, previous, 2)
    found, got = unpack_request(pack_request(number, asked))
    assert found == number
    assert got.frozen == 2
    for value in got.observation.values():
        assert value.dtype == dtype
        np.testing.assert_array_equal(value, array)
    if previous is None:
        assert got.previous is None
    else:
        np.testing.assert_array_equal(got.previous, previous)


def test_arrays_that_are_not_contiguous_come_back() -> None:
    array = np.arange(24.0).reshape(2, 3, 4).transpose(2, 0, 1)[:, ::-1]
    _, got = unpack_request(pack_request(1, PlanRequest(1, 0.0, {"a": array})))
    np.testing.assert_array_equal(got.observation["a"], array)


def test_answers_come_back() -> None:
    actions = np.random.default_rng(0).normal(size=(5, 4))
    answer = unpack_answer(pack_answer(3, actions, 0.25))
    assert isinstance(answer, Answer)
    assert (answer.id, answer.computed_in) == (3, 0.25)
    np.testing.assert_array_equal(answer.actions, actions)
    assert unpack_answer(pack_failure(4, "no")) == Failure(4, "no")
    hello = unpack_hello(pack_hello(SPEC, "1.2"))
    assert (hello.spec, hello.version) == (SPEC, "1.2")


@pytest.mark.parametrize("dtype", [object, complex, "U3", "M8[s]", np.float16, bool])
def test_other_dtypes_are_not_sent(dtype: Any) -> None:
    with pytest.raises(WireError, match="bad: dtype"):
        pack_request(1, PlanRequest(1, 0.0, {"bad": np.zeros(2, dtype)}))


def array(**changed: Any) -> dict[str, Any]:
    return {"at": {"dtype": "float32", "shape": [2, 3], "data": bytes(24), **changed}}


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "not msgpack"),
        (message()[:-1], "not msgpack"),
        (message() + b"\0", "not msgpack"),
        (msgpack.packb([1, 2]), "got list"),
        (message(type="hello"), "type plan"),
        (message(type=["plan"]), "type plan"),
        (message(more=1), "expected the keys"),
        (message(id=-1), "id: expected"),
        (message(id=True), "id: expected"),
        (message(id=2**60), "id: expected"),
        (message(frozen=0.5), "frozen: expected"),
        (message(observation=[]), "observation: expected"),
        (message(observation={"at": 1}), "'at': expected an array"),
        (message(observation=array(dtype="object")), "dtype 'object'"),
        (message(observation=array(dtype="O")), "dtype 'O'"),
        (message(observation=array(dtype="float32,float32")), "dtype"),
        (message(observation=array(dtype=["float32"])), "dtype"),
        (message(observation=array(shape=[2, 4])), "needs 32 bytes, got 24"),
        (message(observation=array(shape=[2**31 - 1, 2**31 - 1])), "bytes, got 24"),
        (message(observation=array(shape=[2**40])), "shape"),
        (message(observation=array(shape=[-2, -3])), "shape"),
        (message(observation=array(shape=[True, 6])), "shape"),
        (message(observation=array(shape=[1] * 9)), "shape"),
        (message(observation=array(shape=6)), "shape"),
        (message(observation=array(data="x" * 24)), "got str"),
        (message(observation=array(data=[0] * 24)), "got list"),
        (message(observation={b"at": 1}), "no text"),
        (message(previous=array()["at"]), "previous: expected"),
        (b"\x82" + msgpack.packb("type") + msgpack.packb("plan") + msgpack.packb("type") + b"\x01", "comes twice"),
        (msgpack.packb(msgpack.ExtType(1, b"x")), "not msgpack"),
        (msgpack.packb({"type": msgpack.Timestamp(1)}), "not msgpack"),
        (b"\x91" * 100_000 + b"\xc0", "not msgpack"),
        (b"\xdd\xff\xff\xff\xff", "not msgpack"),  # a list of four thousand million
        (b"\xdf\xff\xff\xff\xff", "not msgpack"),
        (b"\xc6\xff\xff\xff\xff", "not msgpack"),
        (msgpack.packb([[[]] * 60] * 60), "lists and maps"),
    ],
)
def test_says_what_is_wrong(data: bytes, fault: str) -> None:
    with pytest.raises(WireError, match=fault):
        unpack_request(data)


def test_hello_of_another_version_and_with_a_bad_spec() -> None:
    tree = {"type": "hello", "protocol": 1, "spec": json.dumps(SPEC.to_json()), "version": "0"}
    assert unpack_hello(msgpack.packb(tree)).spec == SPEC
    with pytest.raises(WireError, match="speaks version 2, this side 1; install the same version"):
        unpack_hello(msgpack.packb({**tree, "protocol": 2}))
    for bad in ("{", "[]", "{}", "[" * 100_000, '{"observation": [{"kind": "os.system"}]}'):
        with pytest.raises(WireError, match="spec"):
            unpack_hello(msgpack.packb({**tree, "spec": bad}))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_answers_are_finite(value: float) -> None:
    with pytest.raises(WireError, match="finite"):
        unpack_answer(pack_answer(1, np.full((2, 2), value), 0.1))
    with pytest.raises(WireError, match="computed_in"):
        unpack_answer(pack_answer(1, np.zeros((2, 2)), value))


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=40),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["type", "plan", "id", "observation", "dtype", "shape", "data", "x"]), inner)
    ),
    max_leaves=12,
)


@given(st.binary(max_size=200) | ANYTHING.map(msgpack.packb))
@example(b"\x80")
def test_nothing_but_wire_errors(data: bytes) -> None:
    for read in READERS:
        try:
            read(data)
        except WireError:
            continue


@given(st.data())
def test_a_damaged_message_is_refused_or_still_sound(data: st.DataObject) -> None:
    """Some bytes of a good message are changed, cut out or put in."""
    good = bytearray(pack_request(1, request(previous=np.zeros((3, 4)), frozen=1)))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(good) - 1))
        kind = data.draw(st.integers(0, 2))
        if kind == 0:
            good[at] = data.draw(st.integers(0, 255))
        elif kind == 1:
            del good[at : at + data.draw(st.integers(1, 8))]
        else:
            good[at:at] = data.draw(st.binary(min_size=1, max_size=8))
    try:
        _, got = unpack_request(bytes(good))
    except WireError:
        return
    assert sum(value.nbytes for value in got.observation.values()) <= len(good)


@pytest.mark.parametrize(
    "data",
    [
        message(observation=array(shape=[2**31 - 1] * 8)),
        b"\xdd\x7f\xff\xff\xff" + bytes(1000),
        b"\xdc\xff\xff" * 20_000,  # lists of 65535, each the first entry of the one before
        b"\x9f" * 60_000,
        msgpack.packb([[[]] * 60] * 60),
        struct.pack(">BI", 0xDD, 60_000) + b"\x90" * 60_000,
    ],
)
def test_memory_stays_within_a_small_multiple_of_the_message(data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(WireError):
            unpack_request(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000 + 4 * len(data)


def test_the_largest_request_of_a_spec() -> None:
    numbers = 2 * (3 + 1) + 6 * 4
    assert request_bytes(SPEC) == 8 * numbers + 64 * 1024
    full = pack_request(2**53, request(previous=np.zeros((6, 4)), frozen=6))
    assert len(full) < request_bytes(SPEC)


def test_arrays_alone_come_back_or_the_reason_why_not() -> None:
    sent = {"picture/top": np.array([4, 5]), "tool/wrist": np.eye(4)[None].repeat(2, 0)}
    found = unpack_arrays(pack_arrays(7, sent))
    assert not isinstance(found, Failure)
    number, arrays = found
    assert number == 7
    assert arrays.keys() == sent.keys()
    for key, value in sent.items():
        np.testing.assert_array_equal(arrays[key], value)
    assert unpack_arrays(pack_failure(8, "overwritten")) == Failure(8, "overwritten")
    with pytest.raises(WireError, match="flags: dtype bool cannot be sent"):
        pack_arrays(1, {"flags": np.array([True])})
    for nonsense in ({"type": "arrays", "id": 1, "arrays": [1]}, {"type": "arrays", "id": -1, "arrays": {}}):
        with pytest.raises(WireError, match=r"arrays: expected|id: expected"):
            unpack_arrays(msgpack.packb(nonsense))
