"""`PolicyServer`: answers PlanRequests over websockets with one warm policy."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any

import numpy as np
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from equidiff.policy import Policy
from real_robot.planners.local import explain, seeded
from real_robot.planners.run import check_request, run_policy, warm_up
from real_robot.server.access import AccessError, Token, is_loopback
from real_robot.server.limits import Limits, RateLimit
from real_robot.server.wire import (
    SUBPROTOCOL,
    WireError,
    installed_version,
    pack_answer,
    pack_failure,
    pack_hello,
    request_bytes,
    unpack_request,
)  # fmt: skip
from real_robot.types import Plan, PlanRequest

__all__ = ["PolicyServer"]

_LOG = logging.getLogger(__name__)
# its debug messages would show tokens, and it tells of every scanner's broken handshake with a trace
_QUIET = logging.getLogger("real_robot.server.websockets")
_QUIET.setLevel(logging.CRITICAL)


class PolicyServer:
    """One policy in one thread; requests of all connections are answered one after the other.

    A connection is a websocket to / with the token in its Authorization header; GET /health tells that the server is
    up, and more to whoever has the token. The policy is warm once this exists. seed: of the noise.
    """

    def __init__(self, policy: Policy, token: Token, *, limits: Limits | None = None, seed: int | None = None) -> None:
        self._policy, self._token, self._limits = policy, token, limits or Limits()
        self._generator = seeded(seed)
        self.warmed_up_in = warm_up(policy)
        self._hello = pack_hello(policy.spec, installed_version())
        self._pending = 0
        self._started = time.monotonic()
        self._served = 0
        self._seconds: deque[float] = deque(maxlen=1000)
        self._worker = ThreadPoolExecutor(1, "policy")
        self._server: Server | None = None
        self._stopped: asyncio.Future[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether the policy is at work."""
        return self._pending > 0

    async def start(
        self, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None, insecure: bool = False
    ) -> int:
        """Listen; returns the port. AccessError for an address that others reach, without TLS or `insecure`."""
        if tls is None and not insecure and not is_loopback(host):
            raise AccessError(
                f"host={host}: other machines reach this address, and the token would pass in the clear; give "
                "tls.certificate and tls.key, or insecure=true on a network that is yours alone"
            )
        limits = self._limits
        self._stopped = asyncio.get_running_loop().create_future()
        server = self._server = await serve(
            self._talk,
            host,
            port,
            ssl=tls,
            ssl_handshake_timeout=None if tls is None else limits.handshake_s,
            create_connection=_counted(limits.connections),
            process_request=self._admit,
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            origins=[None],  # no page in a browser
            compression=None,  # a small message cannot become a large one
            open_timeout=limits.handshake_s,
            ping_interval=limits.keepalive_s,
            ping_timeout=limits.keepalive_s,
            close_timeout=1.0,
            max_size=request_bytes(self._policy.spec),
            max_queue=1,
            server_header=None,
            logger=_QUIET,
        )
        return int(next(iter(server.sockets)).getsockname()[1])

    async def close(self) -> None:
        """End all connections and stop listening."""
        if self._stopped is not None and not self._stopped.done():
            self._stopped.set_result(None)  # nobody waits for a policy that is stuck
        if self._server is not None:
            self._server.close(code=CloseCode.SERVICE_RESTART, reason="the server is stopping")
            await self._server.wait_closed()
        self._worker.shutdown(wait=False, cancel_futures=True)

    # -- before the websocket ------------------------------------------------------------------------------

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """None lets a websocket be opened."""
        header = request.headers.get_all("Authorization")
        known = len(header) == 1 and self._token.matches(header[0])
        if request.path == "/health":
            return _json(self._health(known))
        if request.path != "/":
            return connection.respond(HTTPStatus.NOT_FOUND, "there is / for policies and /health\n")
        if not known:
            _LOG.warning("%s: without the right token", _peer(connection))
            refusal = connection.respond(HTTPStatus.UNAUTHORIZED, "the token is missing or wrong\n")
            refusal.headers["WWW-Authenticate"] = "Bearer"
            return refusal
        offered = ",".join(request.headers.get_all("Sec-WebSocket-Protocol"))
        if SUBPROTOCOL not in [name.strip() for name in offered.split(",")]:
            return connection.respond(
                HTTPStatus.UPGRADE_REQUIRED,
                f"this server speaks {SUBPROTOCOL}, asked for was {offered[:100] or 'nothing'}; "
                "install the same version of equidiff on both sides\n",
            )
        return None

    def _health(self, known: bool) -> dict[str, Any]:
        health: dict[str, Any] = {"ok": True, "busy": self.busy, "version": installed_version()}
        if known:
            seconds = list(self._seconds)
            quantiles = [float(q) for q in np.quantile(seconds, (0.5, 0.99))] if seconds else [None, None]
            health |= {
                "up_s": time.monotonic() - self._started,
                "connections": len(self._server.connections) if self._server else 0,
                "waiting": self._pending,
                "served": self._served,
                "planning_s": dict(zip(("p50", "p99"), quantiles, strict=True)),
                "spec": self._policy.spec.to_json(),
            }
        return health

    # -- the websocket ---------------------------------------------------------------------------------------

    async def _talk(self, connection: ServerConnection) -> None:
        peer = _peer(connection)
        _LOG.info("%s: connected", peer)
        rate = RateLimit(self._limits.max_hz, self._limits.burst)
        try:
            await connection.send(self._hello)
            async for message in connection:
                if not rate.take():
                    reason = f"too fast: at most {self._limits.max_hz:g} requests per second"
                    await connection.close(CloseCode.POLICY_VIOLATION, reason)
                    break
                if isinstance(message, str):
                    await connection.close(CloseCode.UNSUPPORTED_DATA, "expected a binary message")
                    break
                try:
                    number, request = unpack_request(message)
                except WireError as error:
                    _LOG.warning("%s: %s", peer, error)
                    await connection.close(CloseCode.INVALID_DATA, _short(str(error)))
                    break
                await connection.send(await self._answer(number, request))
        except ConnectionClosed as error:
            _LOG.info("%s: %s", peer, error)
        _LOG.info("%s: gone", peer)

    async def _answer(self, number: int, request: PlanRequest) -> bytes:
        try:
            check_request(self._policy.spec, request)
        except ValueError as error:
            return pack_failure(number, str(error))
        if self._pending >= self._limits.connections:
            return pack_failure(number, f"busy: {self._pending} requests are waiting")
        work = asyncio.get_running_loop().run_in_executor(
            self._worker, run_policy, self._policy, request, self._generator
        )
        self._pending += 1
        work.add_done_callback(self._finished)
        assert self._stopped is not None
        ends: set[asyncio.Future[Any]] = {work, self._stopped}
        done, _ = await asyncio.wait(ends, timeout=self._limits.plan_s, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            return pack_failure(number, f"no plan within {self._limits.plan_s:g} s")
        if work not in done or work.cancelled():
            return pack_failure(number, "the server is stopping")
        failure = work.exception()
        if failure is not None:
            return pack_failure(number, explain(failure))
        plan = work.result()
        return pack_answer(number, plan.actions, plan.computed_in)

    def _finished(self, work: asyncio.Future[Plan]) -> None:
        self._pending -= 1
        if work.cancelled():
            return
        failure = work.exception()
        if failure is not None:
            _LOG.error("%s", explain(failure))
        else:
            self._served += 1
            self._seconds.append(work.result().computed_in)


def _counted(limit: int) -> type[ServerConnection]:
    """Connections that hang up at once when there are too many, before anything is read."""

    class Counted(ServerConnection):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            if len(self.server.handler_tasks) > limit:
                assert isinstance(transport, asyncio.Transport)
                transport.abort()

    return Counted


def _json(content: dict[str, Any]) -> Response:
    body = json.dumps(content).encode() + b"\n"
    headers = Headers({"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"})
    return Response(200, "OK", headers, body)


def _peer(connection: ServerConnection) -> str:
    address = connection.remote_address
    return f"{address[0]}:{address[1]}" if address else "?"


def _short(text: str) -> str:
    """A close frame holds 123 bytes."""
    return text.encode()[:120].decode(errors="ignore")
