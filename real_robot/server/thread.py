"""A server in a thread of this process: for tests and measurements."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from real_robot.server.serve import PolicyServer

__all__ = ["serving"]


@contextmanager
def serving(server: PolicyServer, port: int = 0, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Listens on 127.0.0.1 inside the with block; gives the port."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="policy server", daemon=True)
    thread.start()
    try:
        yield asyncio.run_coroutine_threadsafe(server.start(port=port, tls=tls), loop).result(10)
    finally:
        asyncio.run_coroutine_threadsafe(server.close(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
