"""The client's connection: spec, version, time-outs, a server that goes away and comes back, TLS."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgpack
import numpy as np
import pytest
from planner_toys import SECRET, SPEC, TOKEN, Scripted, answer, checkpoint, request, until
from websockets.sync.server import ServerConnection, serve

from equidiff.spec import Horizon
from real_robot.planner import PlannerError
from real_robot.planners import RemotePlanner
from real_robot.server.access import AccessError, Token, client_tls, server_tls
from real_robot.server.limits import Limits
from real_robot.server.serve import PolicyServer
from real_robot.server.thread import serving
from real_robot.server.wire import SUBPROTOCOL, pack_answer, pack_hello, unpack_request

pytestmark = pytest.mark.realtime

OTHER = dataclasses.replace(SPEC, horizon=Horizon(obs=2, predict=8, execute=3))


@contextmanager
def remote(port: int, **more: object) -> Iterator[RemotePlanner]:
    options = {"timeout": 60.0, "pauses": (0.02, 0.2), **more}
    planner = RemotePlanner(f"ws://127.0.0.1:{port}", TOKEN, **options)  # type: ignore[arg-type]
    try:
        yield planner
    finally:
        planner.close()


@contextmanager
def impostor(talk: Callable[[ServerConnection], None]) -> Iterator[int]:
    """A server that says what `talk` says."""
    server = serve(talk, "127.0.0.1", 0, subprotocols=[SUBPROTOCOL], compression=None)  # type: ignore[list-item]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.socket.getsockname()[1]
    finally:
        server.shutdown()
        thread.join()


def test_the_wrong_token_is_told_at_once() -> None:
    with serving(PolicyServer(Scripted(), TOKEN)) as port:
        begin = time.monotonic()
        with pytest.raises(PlannerError, match="refused with 401: the token is missing or wrong") as caught:
            RemotePlanner(f"ws://127.0.0.1:{port}", Token("y" * 40), connect_timeout=60)
        assert time.monotonic() - begin < 30
        assert "y" * 40 not in str(caught.value)


def test_another_spec_than_expected_is_refused() -> None:
    with serving(PolicyServer(Scripted(), TOKEN)) as port:
        with remote(port, expected=SPEC) as planner:
            assert planner.connected
        with pytest.raises(PlannerError, match=r"another spec than expected.\n  horizon: it has .*6.*, expected .*8"):
            RemotePlanner(f"ws://127.0.0.1:{port}", TOKEN, expected=OTHER, connect_timeout=60)


def test_a_server_of_another_version_is_refused() -> None:
    newer = {"type": "hello", "protocol": 2, "spec": json.dumps(SPEC.to_json()), "version": "9"}

    def talk(connection: ServerConnection) -> None:
        connection.send(msgpack.packb(newer))
        connection.recv()

    with impostor(talk) as port, pytest.raises(PlannerError, match="speaks version 2, this side 1; install the same"):
        RemotePlanner(f"ws://127.0.0.1:{port}", TOKEN, connect_timeout=60)


def test_nobody_there() -> None:
    with pytest.raises(PlannerError, match=r"ws://127.0.0.1:9: .*trying again"):
        RemotePlanner("ws://127.0.0.1:9", TOKEN, connect_timeout=0.5)


def test_waits_for_a_server_that_starts_later() -> None:
    with serving(PolicyServer(Scripted(), TOKEN)) as port:
        pass
    found: list[bool] = []

    def come() -> None:
        with remote(port, connect_timeout=60.0) as planner:
            found.append(planner.connected)

    thread = threading.Thread(target=come)
    thread.start()
    time.sleep(0.2)
    with serving(PolicyServer(Scripted(), TOKEN), port=port):
        thread.join(60)
    assert found == [True]


def test_a_late_answer_is_dropped_and_the_next_one_is_right() -> None:
    toy = Scripted()
    with serving(PolicyServer(toy, TOKEN)) as port, remote(port, timeout=0.1) as planner:
        toy.go.clear()
        planner.submit(request(1, value=100.0))
        with pytest.raises(PlannerError, match=r"request 1: no answer within 0.1 s"):
            answer(planner)
        planner._desk._timeout = 60.0
        planner.submit(request(2, value=3.0))
        toy.go.set()
        plan = answer(planner)
        assert (plan.number, plan.actions[0, 0]) == (2, 4.0)
        assert planner.connected


def test_submit_returns_before_the_policy_is_done() -> None:
    toy = Scripted()
    with serving(PolicyServer(toy, TOKEN)) as port, remote(port) as planner:
        toy.go.clear()
        planner.submit(request(1))
        assert planner.poll() is None
        toy.go.set()
        answer(planner)


def test_the_server_goes_and_comes_back() -> None:
    toy = Scripted()
    with serving(PolicyServer(toy, TOKEN)) as port:
        planner = RemotePlanner(f"ws://127.0.0.1:{port}", TOKEN, timeout=60, pauses=(0.02, 0.2))
        planner.submit(request(1))
        assert answer(planner).number == 1
        toy.go.clear()
        planner.submit(request(2))
        toy.go.set()
    try:
        until(lambda: not planner.connected)
        with pytest.raises(PlannerError, match="trying again"):
            planner.poll()
        with pytest.raises(PlannerError, match="trying again"):
            planner.submit(request(3))
        with serving(PolicyServer(toy, TOKEN), port=port):
            until(lambda: planner.connected)
            assert planner.poll() is None  # nothing of before
            planner.submit(request(4, value=7.0))
            plan = answer(planner)
            assert (plan.number, plan.actions[0, 0]) == (4, 8.0)
        until(lambda: not planner.connected)
        with serving(PolicyServer(Scripted(OTHER), TOKEN), port=port):  # with another checkpoint
            until(lambda: "another spec" in (planner._desk.gone or ""))
            with pytest.raises(PlannerError, match="another spec than expected"):
                planner.poll()
    finally:
        planner.close()


def test_pauses_grow() -> None:
    with serving(PolicyServer(Scripted(), TOKEN)) as port:
        planner = RemotePlanner(f"ws://127.0.0.1:{port}", TOKEN, pauses=(0.01, 0.04))
    slept: list[float] = []

    async def record(seconds: float) -> None:
        slept.append(seconds)
        await _sleep(0)

    _sleep = asyncio.sleep
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("real_robot.planners.remote.asyncio.sleep", record)
        until(lambda: len(slept) >= 6)
    planner.close()
    assert [s for s in slept if s > 0][-3:] == [0.04, 0.04, 0.04]
    assert max(slept) == 0.04


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (lambda n: b"\xc1 nonsense", "not msgpack"),
        (lambda n: pack_answer(n, np.full((5, 4), np.nan), 0.1), "finite"),
        (lambda n: pack_answer(n, np.zeros((3, 4)), 0.1), "expected .5, 4."),
    ],
)
def test_an_answer_that_is_no_plan(reply: Callable[[int], bytes], message: str) -> None:
    def talk(connection: ServerConnection) -> None:
        connection.send(pack_hello(SPEC, "x"))
        for data in connection:
            assert isinstance(data, bytes)
            connection.send(reply(unpack_request(data)[0]))

    with impostor(talk) as port, remote(port) as planner:
        planner.submit(request(1))
        with pytest.raises(PlannerError, match=message):
            answer(planner)


def test_a_busy_or_hasty_client_learns_why() -> None:
    limits = Limits(max_hz=0.01, burst=1)
    with serving(PolicyServer(Scripted(), TOKEN, limits=limits)) as port, remote(port) as planner:
        planner.submit(request(1))
        answer(planner)
        planner.submit(request(2))
        with pytest.raises(PlannerError, match=r"too fast: at most 0.01 requests per second"):
            answer(planner)


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        ("http://127.0.0.1:1", {}, "expected ws://"),
        ("ws://127.0.0.1:1/x", {}, "expected ws://"),
        ("ws://:1", {}, "expected ws://"),
        ("ws://192.0.2.1:1", {}, "token in the clear"),
        ("ws://robot.lab:1", {}, "token in the clear"),
        ("ws://127.0.0.1:1", {"ca": Path("x")}, "only a wss://"),
    ],
)
def test_addresses(url: str, options: dict[str, Path], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RemotePlanner(url, TOKEN, **options)  # type: ignore[arg-type]


# -- TLS -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("making a certificate needs openssl")
    folder = tmp_path_factory.mktemp("tls")
    made = (
        f"{openssl} req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1 "
        f"-addext subjectAltName=IP:127.0.0.1 -keyout {folder}/key.pem -out {folder}/cert.pem"
    )
    subprocess.run(made.split(), check=True, capture_output=True)
    (folder / "key.pem").chmod(0o600)
    return folder / "cert.pem", folder / "key.pem"


def test_tls_with_an_authority_of_ones_own(certificate: tuple[Path, Path]) -> None:
    with serving(PolicyServer(Scripted(), TOKEN), tls=server_tls(*certificate)) as port:
        planner = RemotePlanner(f"wss://127.0.0.1:{port}", TOKEN, timeout=60, ca=certificate[0])
        planner.submit(request(1, value=5.0))
        assert answer(planner).actions[0, 0] == 6.0
        planner.close()
        with pytest.raises(PlannerError, match="certificate is not trusted"):  # not known to the system
            RemotePlanner(f"wss://127.0.0.1:{port}", TOKEN, connect_timeout=60)
        with pytest.raises(PlannerError, match=r"certificate is not trusted.*localhost"):  # made for the address
            RemotePlanner(f"wss://localhost:{port}", TOKEN, ca=certificate[0], connect_timeout=60)
        with pytest.raises(PlannerError, match="trying again"):  # a client without TLS
            RemotePlanner(f"ws://127.0.0.1:{port}", TOKEN, connect_timeout=1.0)


def test_tls_is_recent_and_verified(certificate: tuple[Path, Path]) -> None:
    client = client_tls(certificate[0])
    assert client.check_hostname
    assert client.verify_mode == ssl.CERT_REQUIRED
    for context in (client, server_tls(*certificate)):
        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_tls_files_are_checked(certificate: tuple[Path, Path], tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    shutil.copy(certificate[1], key)
    key.chmod(0o604)
    with pytest.raises(AccessError, match="everybody may read the key"):
        server_tls(certificate[0], key)
    with pytest.raises(AccessError, match="no certificate with its key"):
        server_tls(tmp_path / "none.pem", certificate[1])
    key.chmod(0o600)
    key.write_text("nonsense")
    with pytest.raises(AccessError, match="no certificate with its key"):
        server_tls(certificate[0], key)
    with pytest.raises(AccessError, match="no certificate of an authority"):
        client_tls(key)


# -- the whole command -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command_serves_is_killed_and_comes_back(tmp_path: Path) -> None:
    saved = checkpoint(tmp_path)

    def start(port: int) -> tuple[subprocess.Popen[str], int]:
        process = subprocess.Popen(
            [sys.executable, "-m", "real_robot.server", f"checkpoint={saved}", f"port={port}", "seed=1"],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "EQUIDIFF_TOKEN": SECRET},
        )
        assert process.stdout is not None
        for line in process.stdout:
            assert SECRET not in line
            if line.startswith("serving at ws://127.0.0.1:"):
                return process, int(line.rpartition(":")[2])
        raise AssertionError("it ended before it served")

    def end(process: subprocess.Popen[str], number: int) -> int:
        process.send_signal(number)
        code = process.wait(60)
        assert process.stdout is not None
        process.stdout.close()
        return code

    first, port = start(0)
    try:
        with remote(port, connect_timeout=60.0) as planner:
            planner.submit(request(1))
            answer(planner)
            end(first, signal.SIGKILL)
            until(lambda: not planner.connected)
            with pytest.raises(PlannerError, match="trying again"):
                planner.submit(request(2))
            first, again = start(port)
            assert again == port
            until(lambda: planner.connected)
            planner.submit(request(3))
            assert answer(planner).number == 3
        assert end(first, signal.SIGTERM) == 0
    finally:
        if first.poll() is None:
            end(first, signal.SIGKILL)
