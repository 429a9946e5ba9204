"""`Worker`: a process that takes messages and answers them, whose crash or stall is not the loop's."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection, wait
from typing import Any

from real_robot.planner import PlannerError

__all__ = ["Worker"]


class Worker:
    """Spawns `work(pipe, setup)` and waits for its first message, which is `first`.

    The process ignores Ctrl-C (the loop decides when it ends), is killed by `close`, and ends when this process does.
    what: the process in words, for errors. start_timeout: seconds until the first message. largest: bytes of a message
    that is taken. Raises PlannerError when none comes.
    """

    def __init__(
        self,
        what: str,
        work: Callable[[Connection, Any], None],
        setup: object,
        *,
        start_timeout: float,
        largest: int,
    ) -> None:
        self._what, self._largest = what, largest
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_enter, args=(theirs, work, setup), name=what, daemon=True)
        self._process.start()
        theirs.close()  # so that the end of the child is the end of the pipe
        self._sender = ThreadPoolExecutor(1, f"to {what}")
        self._before: Future[None] | None = None
        self._sending: Future[None] | None = None
        self._receiver: threading.Thread | None = None
        try:
            self.first = self._meet(start_timeout)
        except BaseException:
            self.close()
            raise

    def _meet(self, timeout: float) -> bytes:
        if not wait([self._pipe, self._process.sentinel], timeout):
            raise PlannerError(f"{self._what} was not ready within {timeout:g} s")
        try:
            return self._pipe.recv_bytes(self._largest)
        except (OSError, EOFError):
            raise PlannerError(self._death()) from None

    def _death(self) -> str:
        self._process.join(1.0)
        code = self._process.exitcode
        how = "by itself" if code is None else f"signal {-code}" if code < 0 else f"exit code {code}"
        return f"{self._what} has ended ({how}); start the run again"

    @property
    def pid(self) -> int | None:
        """Of the process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.is_alive()

    @property
    def busy(self) -> bool:
        """Whether it has not taken the last message yet."""
        return self._sending is not None and not self._sending.done()

    def listen(self, heard: Callable[[bytes], None], lost: Callable[[str], None]) -> None:
        """From now on, in a thread: `heard` with each message, and `lost` with the reason when there are no more.

        What `heard` raises as ValueError is such a reason: an answer that is nonsense.
        """
        self._receiver = threading.Thread(
            target=self._receive, args=(heard, lost), name=f"from {self._what}", daemon=True
        )
        self._receiver.start()

    def _receive(self, heard: Callable[[bytes], None], lost: Callable[[str], None]) -> None:
        while (message := self._next()) is not None:
            try:
                heard(message)
            except ValueError as error:
                lost(f"{self._what} answered nonsense: {error}")
                return
        lost(self._death())

    def _next(self) -> bytes | None:
        """The next message, or None when the process has ended."""
        try:
            ready = wait([self._pipe, self._process.sentinel])
            return self._pipe.recv_bytes(self._largest) if self._pipe in ready else None
        except (OSError, EOFError):
            return None

    def send(self, message: bytes) -> None:
        """Returns at once. PlannerError when the process has not taken the one before the last yet; a broken pipe is
        told by `lost`.

        One may wait: the thread that sent the last one may not have noticed yet that it was taken, even answered.
        """
        if self._before is not None and not self._before.done():
            raise PlannerError(f"{self._what} does not take requests")
        # in a thread, because a process that hangs does not empty its pipe
        self._before, self._sending = self._sending, self._sender.submit(self._pipe.send_bytes, message)

    def close(self) -> None:
        """Idempotent, never raises."""
        self._process.kill()
        self._process.join(5.0)
        self._sender.shutdown(wait=False, cancel_futures=True)
        if self._receiver is not None and self._receiver is not threading.current_thread():
            self._receiver.join(5.0)
        self._pipe.close()


# -- in the other process --------------------------------------------------------------------------------


def _enter(pipe: Connection, work: Callable[[Connection, Any], None], setup: object) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    work(pipe, setup)


def _end_with_parent() -> None:
    """A process that computes for long does not look at its pipe."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        signal.raise_signal(signal.SIGKILL)
