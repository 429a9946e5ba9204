"""`ProcessPlanner`: the policy in a process of its own, so that a crash or a stall of it is not the loop's."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from equidiff.spec import Spec
from real_robot.planner import Planner, PlannerError
from real_robot.planners.desk import Desk
from real_robot.planners.local import explain, seeded
from real_robot.planners.run import run_policy, warm_up
from real_robot.planners.worker import Worker
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
    """Loads a checkpoint in a spawned process (`Worker`) and waits until it is warm.

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
        setup = _Setup(str(checkpoint), device, seed, threads)
        self._worker = Worker("the policy's process", _child, setup, start_timeout=start_timeout, largest=ANSWER_BYTES)
        try:
            self._spec = unpack_hello(self._worker.first).spec
        except WireError as error:
            self._worker.close()
            answer = unpack_answer(self._worker.first)
            raise PlannerError(answer.message if isinstance(answer, Failure) else str(error)) from None
        self._worker.listen(self._hear, self._desk.lose)

    @property
    def spec(self) -> Spec:
        return self._spec

    @property
    def pid(self) -> int | None:
        """Of the policy's process."""
        return self._worker.pid

    @property
    def alive(self) -> bool:
        """Whether the policy's process runs."""
        return self._worker.alive

    def submit(self, request: PlanRequest) -> None:
        number = self._desk.start(self._spec, request)
        try:
            self._worker.send(pack_request(number, request))
        except (PlannerError, WireError) as error:
            self._desk.fail(number, str(error))

    def _hear(self, message: bytes) -> None:
        answer = unpack_answer(message)
        if isinstance(answer, Failure):
            self._desk.fail(answer.id, answer.message)
        else:
            self._desk.finish(self._spec, answer.id, answer.actions, answer.computed_in)

    def poll(self) -> Plan | None:
        return self._desk.poll()

    def close(self) -> None:
        self._desk.close()
        self._worker.close()


# -- in the other process --------------------------------------------------------------------------------


def _child(pipe: Connection, setup: _Setup) -> None:
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
