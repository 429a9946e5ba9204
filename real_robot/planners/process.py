"""`ProcessPlanner`: the policy in a process of its own, so that a crash or a stall of it is not the loop's."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

from equidiff.spec import Spec
from real_robot.planner import Planner, PlannerError
from real_robot.planners.desk import Desk
from real_robot.planners.local import explain, seeded
from real_robot.planners.run import run_policy, warm_up
from real_robot.server.wire import (
    ANSWER_BYTES,
    Failure,
    WireError,
    installed_version,
    pack_answer,
    pack_failure,
    pack_hello,
    pack_request,
    unpack_answer,
    unpack_hello,
    unpack_request,
)  # fmt: skip
from real_robot.types import Plan, PlanRequest

__all__ = ["ProcessPlanner"]


@dataclass(frozen=True)
class _Setup:
    checkpoint: str
    device: str
    seed: int | None
    threads: int | None


class ProcessPlanner(Planner):
    """Loads a checkpoint in a spawned process and waits until it is warm.

    The process ignores Ctrl-C (the loop decides when it ends), is killed by `close`, and ends when this process does.
    timeout: seconds until a request is given up. start_timeout: until the policy must be loaded. threads: of torch
    there. Raises PlannerError if the policy cannot be loaded.
    """

    def __init__(
        self,
        checkpoint: Path | str,
        *,
        device: str = "cpu",
        timeout: float = 1.0,
        start_timeout: float = 120.0,
        seed: int | None = None,
        threads: int | None = None,
    ) -> None:
        self._desk = Desk(timeout)
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        setup = _Setup(str(checkpoint), device, seed, threads)
        self._process = context.Process(target=_child, args=(theirs, setup), name="policy", daemon=True)
        self._process.start()
        theirs.close()  # so that the end of the child is the end of the pipe
        self._sender = ThreadPoolExecutor(1, "to the policy")
        self._sending: Future[None] | None = None
        self._receiver: threading.Thread | None = None
        try:
            self._spec = self._meet(start_timeout)
        except BaseException:
            self.close()
            raise
        self._receiver = threading.Thread(target=self._receive, name="from the policy", daemon=True)
        self._receiver.start()

    def _meet(self, timeout: float) -> Spec:
        if not wait([self._pipe, self._process.sentinel], timeout):
            raise PlannerError(f"the policy's process was not ready within {timeout:g} s")
        try:
            first = self._pipe.recv_bytes(ANSWER_BYTES)
        except (OSError, EOFError):
            raise PlannerError(self._death()) from None
        try:
            return unpack_hello(first).spec
        except WireError as error:
            answer = unpack_answer(first)
            raise PlannerError(answer.message if isinstance(answer, Failure) else str(error)) from None

    def _death(self) -> str:
        self._process.join(1.0)
        code = self._process.exitcode
        how = "by itself" if code is None else f"signal {-code}" if code < 0 else f"exit code {code}"
        return f"the policy's process has ended ({how}); start the run again"

    @property
    def spec(self) -> Spec:
        return self._spec

    @property
    def pid(self) -> int | None:
        """Of the policy's process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the policy's process runs."""
        return self._process.is_alive()

    def submit(self, request: PlanRequest) -> None:
        number = self._desk.start(self._spec, request)
        if self._sending is not None and not self._sending.done():
            self._desk.fail(number, "the policy's process does not take requests")
            return
        try:
            message = pack_request(number, request)
        except WireError as error:
            self._desk.fail(number, str(error))
            return
        # in a thread, because a process that hangs does not empty its pipe; a broken pipe is told by the receiver
        self._sending = self._sender.submit(self._pipe.send_bytes, message)

    def _receive(self) -> None:
        while (message := self._next()) is not None:
            try:
                answer = unpack_answer(message)
            except WireError as error:
                self._desk.lose(f"the policy's process answered nonsense: {error}")
                return
            if isinstance(answer, Failure):
                self._desk.fail(answer.id, answer.message)
            else:
                self._desk.finish(self._spec, answer.id, answer.actions, answer.computed_in)
        self._desk.lose(self._death())

    def _next(self) -> bytes | None:
        """The next message, or None when the process has ended."""
        try:
            ready = wait([self._pipe, self._process.sentinel])
            return self._pipe.recv_bytes(ANSWER_BYTES) if self._pipe in ready else None
        except (OSError, EOFError):
            return None

    def poll(self) -> Plan | None:
        return self._desk.poll()

    def close(self) -> None:
        self._desk.close()
        self._process.kill()
        self._process.join(5.0)
        self._sender.shutdown(wait=False, cancel_futures=True)
        if self._receiver is not None:
            self._receiver.join(5.0)
        self._pipe.close()


# -- in the other process --------------------------------------------------------------------------------


def _child(pipe: Connection, setup: _Setup) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch

    from equidiff.checkpoint import CheckpointError, load_policy

    if setup.threads is not None:
        torch.set_num_threads(setup.threads)
    try:
        policy = load_policy(setup.checkpoint, setup.device)
        warm_up(policy)
    except (CheckpointError, RuntimeError, ValueError) as error:
        pipe.send_bytes(pack_failure(0, str(error)))
        return
    generator = seeded(setup.seed)
    pipe.send_bytes(pack_hello(policy.spec, installed_version()))
    worker = ThreadPoolExecutor(1)
    while True:
        try:
            number, request = unpack_request(pipe.recv_bytes())
        except (OSError, EOFError):  # the parent is gone
            return
        done = worker.submit(run_policy, policy, request, generator)
        failure = done.exception()
        if failure is None:
            answer = pack_answer(number, done.result().actions, done.result().computed_in)
        else:
            answer = pack_failure(number, explain(failure))
        try:
            pipe.send_bytes(answer)
        except OSError:
            return


def _end_with_parent() -> None:
    """A policy that computes for long does not look at its pipe."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        signal.raise_signal(signal.SIGKILL)
