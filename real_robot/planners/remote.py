"""`RemotePlanner`: the policy behind a server, on this machine or another one."""

from __future__ import annotations

import asyncio
import logging
import ssl
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.typing import Subprotocol

from equidiff.spec import Spec
from real_robot.planner import Planner, PlannerError
from real_robot.planners.desk import Desk
from real_robot.server.access import Token, client_tls, is_loopback
from real_robot.server.wire import (
    ANSWER_BYTES,
    SUBPROTOCOL,
    Failure,
    WireError,
    pack_request,
    unpack_answer,
    unpack_hello,
)  # fmt: skip
from real_robot.settings import SettingsError
from real_robot.types import Plan, PlanRequest

__all__ = ["RemotePlanner"]

# its debug messages would show the token
_LOG = logging.getLogger("real_robot.planners.websockets")
_LOG.setLevel(logging.WARNING)
_FINAL = (400, 401, 403, 404, 426)  # trying again does not help


class _RefusedError(Exception):
    """The server will never do."""


class RemotePlanner(Planner):
    """Keeps one connection in a thread of its own, and comes back with growing pauses when it is lost.

    url: ws://127.0.0.1:8600 or wss://host:port. expected: the Spec the policy must have, None for whatever it has first
    (after a reconnection it must be the same in any case). timeout: seconds until a request is given up.
    connect_timeout: until the first connection must stand. ca: PEM file of the authority of the server's certificate.
    insecure: allow ws:// to another machine, where everybody on the way can read the token and change the plans.
    pauses: first and longest between attempts, seconds. Raises PlannerError if the server cannot be reached, refuses
    the token, speaks another version, or has another Spec.

    While the connection is down `submit` and `poll` raise PlannerError at once; they work again when it is back.
    """

    def __init__(
        self,
        url: str,
        token: Token,
        *,
        expected: Spec | None = None,
        timeout: float = 1.0,
        connect_timeout: float = 10.0,
        ca: Path | None = None,
        insecure: bool = False,
        pauses: tuple[float, float] = (0.1, 5.0),
    ) -> None:
        self._options = _options(url, ca, insecure, connect_timeout)
        self._url, self._token, self._pauses = url, token, pauses
        self._spec = expected
        self._desk = Desk(timeout)
        self._desk.lose(f"{url}: not connected yet")
        self._settled = threading.Event()  # connected once, or refused for good
        self._refused = False
        self._loop = asyncio.new_event_loop()
        self._outbox: bytes | None = None
        self._filled = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name="policy client", daemon=True)
        self._thread.start()
        if not self._settled.wait(connect_timeout) or self._refused or self._spec is None:
            why = self._desk.gone or f"{url}: no connection"
            self.close()
            raise PlannerError(why)

    @property
    def spec(self) -> Spec:
        assert self._spec is not None
        return self._spec

    @property
    def connected(self) -> bool:
        """Whether a request would be sent at once."""
        return self._desk.gone is None

    def submit(self, request: PlanRequest) -> None:
        number = self._desk.start(self.spec, request)
        try:
            message = pack_request(number, request)
        except WireError as error:
            self._desk.fail(number, str(error))
            return
        try:
            self._loop.call_soon_threadsafe(self._put, message)
        except RuntimeError:  # the loop was closed meanwhile
            self._desk.lose(f"{self._url}: the planner is closed")

    def poll(self) -> Plan | None:
        return self._desk.poll()

    def close(self) -> None:
        self._desk.close()
        try:
            self._loop.call_soon_threadsafe(self._cancel)
        except RuntimeError:  # closed already
            return
        self._thread.join(5.0)

    # -- in the thread -----------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._task = self._loop.create_task(self._keep_connected())
            self._loop.run_until_complete(asyncio.wait({self._task}))
            if not self._task.cancelled() and self._task.exception() is not None:
                raise self._task.exception()  # type: ignore[misc]  # a mistake of ours: shown by the thread's hook
        finally:
            if not self._refused:
                self._desk.lose(f"{self._url}: the client has ended")
            self._settled.set()
            self._loop.close()

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _put(self, message: bytes) -> None:
        self._outbox = message  # in place of one that was given up before it was sent
        self._filled.set()

    async def _keep_connected(self) -> None:
        pause = self._pauses[0]
        while True:
            began = time.monotonic()
            try:
                async with connect(self._url, additional_headers=self._token.header(), **self._options) as connection:
                    await self._greet(connection)
                    self._outbox = None
                    self._filled.clear()
                    self._desk.regain()
                    self._settled.set()
                    await self._talk(connection)
                    why = _closed(connection)
            except InvalidStatus as error:
                text = (error.response.body or b"")[:500].decode(errors="replace").strip()
                why = f"refused with {error.response.status_code}: {text}"
                if error.response.status_code in _FINAL:
                    return self._refuse(why)
            except _RefusedError as error:
                return self._refuse(str(error))
            except ssl.SSLCertVerificationError as error:
                return self._refuse(
                    f"its certificate is not trusted ({error.verify_message}); give its authority: ca=FILE"
                )
            except (OSError, WebSocketException, WireError) as error:  # TimeoutError is an OSError
                why = f"{error}" or type(error).__name__
            if time.monotonic() - began > self._pauses[1]:
                pause = self._pauses[0]  # it had stood for a while
            self._desk.lose(f"{self._url}: {why}; trying again")
            await asyncio.sleep(pause)
            pause = min(2 * pause, self._pauses[1])

    def _refuse(self, why: str) -> None:
        self._refused = True
        self._desk.lose(f"{self._url}: {why}")

    async def _greet(self, connection: ClientConnection) -> None:
        async with asyncio.timeout(self._options["open_timeout"]):
            first = await connection.recv(decode=False)
        try:
            hello = unpack_hello(first)
        except WireError as error:
            raise _RefusedError(str(error)) from error
        if self._spec is None:
            self._spec = hello.spec
        elif hello.spec != self._spec:
            raise _RefusedError(f"its policy has another spec than expected.{difference(hello.spec, self._spec)}")

    async def _talk(self, connection: ClientConnection) -> None:
        """Send and receive until the connection ends."""
        both = {asyncio.create_task(self._send(connection)), asyncio.create_task(self._receive(connection))}
        try:
            done, _ = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)
        for task in done:
            if not isinstance(task.exception(), ConnectionClosed):
                task.result()

    async def _send(self, connection: ClientConnection) -> None:
        while True:
            await self._filled.wait()
            self._filled.clear()
            message, self._outbox = self._outbox, None
            if message is not None:
                await connection.send(message)

    async def _receive(self, connection: ClientConnection) -> None:
        while True:
            answer = unpack_answer(await connection.recv(decode=False))
            if isinstance(answer, Failure):
                self._desk.fail(answer.id, answer.message)
            else:
                self._desk.finish(self.spec, answer.id, answer.actions, answer.computed_in)


def _options(url: str, ca: Path | None, insecure: bool, timeout: float) -> dict[str, Any]:
    """For `connect`; refuses what would send the token in the clear."""
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or not parts.hostname or parts.path.strip("/") or parts.query:
        raise SettingsError(f"url: expected ws://host:port or wss://host:port, got {url!r}")
    secure = parts.scheme == "wss"
    if not secure and not insecure and not is_loopback(parts.hostname):
        raise SettingsError(
            f"url: {url} would send the token in the clear to another machine; use wss:// with a certificate at the "
            "server, an ssh tunnel, or insecure=true on a network that is yours alone"
        )
    if ca is not None and not secure:
        raise SettingsError(f"ca: only a wss:// address has a certificate to verify, got {url}")
    return {
        "ssl": client_tls(ca) if secure else None,
        # said again, so that no redirection leads the token to another place
        "host": parts.hostname,
        "port": parts.port or (443 if secure else 80),
        "subprotocols": [Subprotocol(SUBPROTOCOL)],
        "compression": None,
        "proxy": None,
        "open_timeout": min(timeout, 5.0),
        "ping_interval": 2.0,
        "ping_timeout": 5.0,
        "close_timeout": 0.5,
        "max_size": ANSWER_BYTES,
        "logger": _LOG,
    }


def _closed(connection: ClientConnection) -> str:
    reason = connection.close_reason
    return f"the connection is lost ({connection.close_code}{f': {reason}' if reason else ''})"


def difference(found: Spec, expected: Spec) -> str:
    """The entries in which two specs differ, one a line."""
    a, b = found.to_json(), expected.to_json()
    return "".join(f"\n  {key}: it has {a[key]}, expected {b[key]}" for key in a if a[key] != b[key])
