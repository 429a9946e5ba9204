"""Who gets in, what a client may do, and that no bytes bring the server down."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import re
import resource
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from planner_toys import SECRET, SPEC, TOKEN, Scripted, answer, request, until
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from real_robot.planners import RemotePlanner
from real_robot.server.access import AccessError, Token, make_token, read_token
from real_robot.server.limits import Limits
from real_robot.server.serve import PolicyServer
from real_robot.server.thread import serving
from real_robot.server.wire import (
    SUBPROTOCOL,
    Answer,
    Failure,
    pack_request,
    request_bytes,
    unpack_answer,
    unpack_hello,
)

pytestmark = pytest.mark.realtime

HEADER = {"Authorization": f"Bearer {SECRET}"}


@pytest.fixture(scope="module")
def toy() -> Scripted:
    return Scripted()


@pytest.fixture(scope="module")
def port(toy: Scripted) -> Iterator[int]:
    limits = Limits(connections=4, max_hz=1000, burst=1000, handshake_s=1.0)
    with serving(PolicyServer(toy, TOKEN, limits=limits), port=0) as port:
        yield port


def opened(port: int, **more: Any) -> Any:
    options = {"additional_headers": HEADER, "subprotocols": [SUBPROTOCOL], "compression": None, "proxy": None}
    return connect(f"ws://127.0.0.1:{port}/", **{**options, **more})


def still_good(port: int) -> None:
    """A good client is served."""
    with opened(port) as client:
        assert unpack_hello(client.recv()).spec == SPEC
        client.send(pack_request(9, request(value=2.0)))
        got = unpack_answer(client.recv(60))
        assert isinstance(got, Answer)
        assert (got.id, got.actions[0, 0]) == (9, 3.0)


def health(port: int, **headers: str) -> Any:
    with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/health", headers=headers)) as reply:
        assert reply.headers["Content-Type"] == "application/json"
        return json.load(reply)


# -- who gets in -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": SECRET},
        {"Authorization": f"Bearer {SECRET[:-1]}"},
        {"Authorization": f"Bearer {SECRET}x"},
        {"Authorization": f"bearer  {SECRET}"},
        {"Authorization": "Basic YTpi"},
        {"Authorization": "Bearer \xff"},
        [("Authorization", f"Bearer {SECRET}"), ("Authorization", "Bearer x")],
    ],
)
def test_without_the_token_nobody_gets_in(port: int, headers: Any) -> None:
    with pytest.raises(InvalidStatus) as caught, opened(port, additional_headers=headers):
        pass
    assert caught.value.response.status_code == 401
    assert caught.value.response.headers["WWW-Authenticate"] == "Bearer"
    assert SECRET.encode() not in (caught.value.response.body or b"")
    still_good(port)


@pytest.mark.parametrize("offered", [None, ["equidiff.policy.v2"]])
def test_another_version_is_refused_with_the_fix(port: int, offered: Any) -> None:
    with pytest.raises(InvalidStatus) as caught, opened(port, subprotocols=offered):
        pass
    assert caught.value.response.status_code == 426
    assert b"this server speaks equidiff.policy.v1" in caught.value.response.body


def test_pages_in_a_browser_are_refused(port: int) -> None:
    with pytest.raises(InvalidStatus) as caught, opened(port, origin="https://example.org"):
        pass
    assert caught.value.response.status_code == 403


def test_health_tells_little_to_strangers(port: int) -> None:
    known = health(port, Authorization=HEADER["Authorization"])
    for stranger in (health(port), health(port, Authorization="Bearer wrong")):
        assert stranger.keys() == {"ok", "busy", "version"}
        assert stranger["ok"] is True
    assert known["spec"] == json.loads(json.dumps(SPEC.to_json()))
    assert {"served", "connections", "waiting", "planning_s", "up_s"} <= known.keys()
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/other")


def test_health_answers_while_the_policy_works(port: int, toy: Scripted) -> None:
    before = health(port, **HEADER)["served"]
    toy.go.clear()
    try:
        with opened(port) as client:
            client.recv()
            client.send(pack_request(1, request()))
            until(lambda: health(port)["busy"])
            toy.go.set()
            client.recv(60)
        assert not health(port)["busy"]
    finally:
        toy.go.set()
    after = health(port, **HEADER)
    assert after["served"] == before + 1
    assert after["planning_s"]["p99"] >= after["planning_s"]["p50"] > 0


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "robot.lab", ""])
def test_other_machines_only_with_tls_or_said_so(host: str) -> None:
    server = PolicyServer(Scripted(), TOKEN)
    with pytest.raises(AccessError, match="insecure=true"):
        asyncio.run(server.start(host))


def test_insecure_is_possible_if_said() -> None:
    async def run() -> int:
        server = PolicyServer(Scripted(), TOKEN)
        port = await server.start("0.0.0.0", insecure=True)
        await server.close()
        return port

    assert asyncio.run(run()) > 0


def test_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "new" / "token"
    make_token(file)
    value = file.read_text().strip()
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(value) >= 40
    assert read_token(file).matches(f"Bearer {value}")
    assert not read_token(file).matches(None)
    with pytest.raises(AccessError, match="exists already"):
        make_token(file)
    file.chmod(0o640)
    with pytest.raises(AccessError, match=r"mode 0640\); chmod 600"):
        read_token(file)
    with pytest.raises(AccessError, match="no readable token"):
        read_token(tmp_path / "none")
    monkeypatch.delenv("EQUIDIFF_TOKEN", raising=False)
    with pytest.raises(AccessError, match="no token: set EQUIDIFF_TOKEN"):
        read_token()
    monkeypatch.setenv("EQUIDIFF_TOKEN", "short")
    with pytest.raises(AccessError, match="at least 32 characters") as caught:
        read_token()
    assert "short" not in str(caught.value)
    monkeypatch.setenv("EQUIDIFF_TOKEN", value)
    assert read_token().matches(f"Bearer {value}")
    assert value not in repr(read_token())


def test_the_token_is_in_no_log(port: int, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    with caplog.at_level(logging.DEBUG):
        planner = RemotePlanner(f"ws://127.0.0.1:{port}", TOKEN, timeout=60)
        planner.submit(request())
        answer(planner)
        planner.close()
    assert "connected" in caplog.text  # so that it has looked
    ours = [r.getMessage() for r in caplog.records if r.name.startswith("real_robot")]
    assert not any(SECRET in line for line in ours)
    assert SECRET not in "".join(capfd.readouterr())


# -- what a client may do --------------------------------------------------------------------------------


def test_a_message_that_is_too_large(port: int) -> None:
    with opened(port) as client:
        client.recv()
        client.send(bytes(request_bytes(SPEC) + 1))
        with pytest.raises(ConnectionClosed) as caught:
            client.recv(60)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1009
    still_good(port)


def test_too_fast(toy: Scripted) -> None:
    limits = Limits(max_hz=0.01, burst=3)
    with serving(PolicyServer(toy, TOKEN, limits=limits)) as port, opened(port) as client:
        client.recv()
        for number in range(3):
            client.send(pack_request(number, request()))
            assert isinstance(unpack_answer(client.recv(60)), Answer)
        client.send(pack_request(3, request()))
        with pytest.raises(ConnectionClosed) as caught:
            client.recv(60)
        assert caught.value.rcvd is not None
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (
            1008,
            "too fast: at most 0.01 requests per second",
        )
        still_good(port)


def test_too_many_connections(toy: Scripted) -> None:
    with serving(PolicyServer(toy, TOKEN, limits=Limits(connections=2, handshake_s=60))) as port:
        with socket.create_connection(("127.0.0.1", port)), opened(port) as client:
            client.recv()
            with socket.create_connection(("127.0.0.1", port), timeout=30) as third:
                assert _ended(third)  # hung up at once
            client.send(pack_request(1, request()))
            assert isinstance(unpack_answer(client.recv(60)), Answer)
        until(lambda: health(port, **HEADER)["connections"] == 0)
        still_good(port)


def test_a_connection_that_says_nothing_is_dropped(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as silent:
        silent.sendall(b"GET / HTTP/1.1\r\n")
        silent.settimeout(30)
        silent.recv(1000)  # returns when the server hangs up
        until(lambda: _ended(silent))


def _ended(connection: socket.socket) -> bool:
    try:
        return connection.recv(1000) == b""
    except ConnectionResetError:
        return True


def test_a_request_that_does_not_fit_is_answered_with_why(port: int) -> None:
    with opened(port) as client:
        client.recv()
        asked = request(1)
        del asked.observation["grip"]
        client.send(pack_request(1, asked))
        got = unpack_answer(client.recv(60))
        assert isinstance(got, Failure)
        assert "'grip' is missing" in got.message
        client.send(pack_request(2, request(2)))
        assert isinstance(unpack_answer(client.recv(60)), Answer)


def test_a_policy_that_is_stuck(toy: Scripted) -> None:
    with serving(PolicyServer(toy, TOKEN, limits=Limits(connections=3, plan_s=0.05))) as port:
        toy.go.clear()
        try:
            with opened(port) as client:
                client.recv()
                texts = []
                for number in range(4):
                    client.send(pack_request(number, request()))
                    got = unpack_answer(client.recv(60))
                    assert isinstance(got, Failure)
                    texts.append(got.message)
        finally:
            toy.go.set()
        assert texts[:3] == ["no plan within 0.05 s"] * 3
        assert "busy: 3 requests" in texts[3]
        until(lambda: not health(port)["busy"])


def test_a_stuck_policy_does_not_keep_the_server_from_stopping() -> None:
    toy = Scripted()
    try:
        with serving(PolicyServer(toy, TOKEN, limits=Limits(plan_s=60))) as port:
            toy.go.clear()
            with opened(port) as client:
                client.recv()
                client.send(pack_request(1, request()))
                until(lambda: health(port)["busy"])
                begin = time.monotonic()
        assert time.monotonic() - begin < 20
    finally:
        toy.go.set()


def test_any_exception_of_the_policy_is_told_and_survived(port: int, toy: Scripted) -> None:
    for error in (RuntimeError("out of memory"), KeyError("x"), ZeroDivisionError(), RecursionError("deep")):
        toy.error = error
        try:
            with opened(port) as client:
                client.recv()
                client.send(pack_request(1, request()))
                got = unpack_answer(client.recv(60))
        finally:
            toy.error = None
        assert isinstance(got, Failure)
        assert type(error).__name__ in got.message
    still_good(port)


# -- noise -----------------------------------------------------------------------------------------------

HOSTILE = {
    "nothing": b"",
    "random": bytes(np.random.default_rng(0).integers(0, 256, 5000, dtype=np.uint8)),
    "truncated": pack_request(1, request())[:-3],
    "deep": b"\x91" * 60_000,
    "wide": b"\xdd\xff\xff\xff\xff",
    "huge shape": msgpack.packb(
        {
            "type": "plan",
            "id": 1,
            "observation": {"at": {"dtype": "float64", "shape": [2**31 - 1] * 3, "data": b""}},
            "previous": None,
            "frozen": 0,
        }
    ),
    "wrong dtype": pack_request(1, request()).replace(b"float64", b"objects"),
    "another message": b"\x81\xa4type\xa5hello",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_messages_end_the_connection_only(port: int, name: str) -> None:
    with opened(port) as client:
        client.recv()
        client.send(HOSTILE[name])
        with pytest.raises(ConnectionClosed) as caught:
            client.recv(60)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1007
    still_good(port)


def test_text_is_refused(port: int) -> None:
    with opened(port) as client:
        client.recv()
        client.send("plan, please")
        with pytest.raises(ConnectionClosed) as caught:
            client.recv(60)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1003


_fuzz = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


@_fuzz
@given(st.binary(max_size=400))
def test_random_bytes_on_the_socket(port: int, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as stranger:
        stranger.sendall(data)
    still_good(port)


@_fuzz
@given(st.binary(max_size=200), st.booleans())
def test_random_frames_and_messages(port: int, data: bytes, raw: bool) -> None:
    with opened(port, close_timeout=0.1) as client:
        client.recv()
        if raw:
            client.socket.sendall(data)  # not even frames
        else:
            client.send(data)
    still_good(port)


def test_memory_is_bounded_under_noise(port: int) -> None:
    """Three hundred of the largest messages leave nothing behind."""
    junk = bytes(request_bytes(SPEC) - 100)

    def attack(times: int) -> float:
        closed = 0
        for _ in range(times):
            with opened(port) as client:
                client.recv()
                client.send(junk)
                try:
                    client.recv(60)
                except ConnectionClosed:
                    closed += 1
        assert closed == times
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    logging.disable(logging.CRITICAL)  # what pytest keeps of the log would grow
    try:
        before = attack(100)
        grown = attack(300) - before
    finally:
        logging.disable(logging.NOTSET)
    assert grown < 8e6  # 300 of them are 20 MB
    still_good(port)


# -- the command -----------------------------------------------------------------------------------------


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {key: value for key, value in os.environ.items() if key != "EQUIDIFF_TOKEN"}
    return subprocess.run(
        [sys.executable, "-m", "real_robot.server", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
        env={**env, **environment},
    )


@pytest.mark.slow
def test_the_command_makes_a_token_and_refuses_without_one(tmp_path: Path) -> None:
    done = command(f"make_token={tmp_path / 'token'}")
    assert done.returncode == 0, done.stderr
    value = (tmp_path / "token").read_text().strip()
    assert value not in done.stdout + done.stderr
    done = command(f"checkpoint={tmp_path}")
    assert done.returncode == 2
    assert "no token: set EQUIDIFF_TOKEN" in done.stderr
    assert "Traceback" not in done.stderr
    done = command(f"checkpoint={tmp_path / 'none'}", EQUIDIFF_TOKEN=value)
    assert done.returncode == 2
    assert re.search("no such checkpoint", done.stderr)
    assert value not in done.stdout + done.stderr


def test_a_short_token_is_refused() -> None:
    with pytest.raises(AccessError, match="at least 32"):
        Token("x" * 31)
    with pytest.raises(AccessError, match="without spaces"):
        Token("x" * 31 + " y")
