"""Processes that step environments for rollouts, one action chunk at a time.

Each worker holds some environments ("slots"). The parent starts an episode in a slot and sends action
chunks; the worker executes a chunk and answers with the latest observations. The connection itself is
the queue: while the parent runs the policy for some slots, the workers step the others.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Protocol, runtime_checkable

import numpy as np

__all__ = ["Environment", "Finished", "Footage", "Ready", "RolloutError", "WorkerPool", "end_with_parent", "one_thread"]

Observation = dict[str, np.ndarray]


class RolloutError(RuntimeError):
    """A rollout that could not be finished; the message names the seed and the cause."""


class Environment(Protocol):
    """What the rollouts use of a gymnasium environment."""

    def reset(self, *, seed: int) -> tuple[Observation, dict[str, Any]]:
        """Start the episode of this seed; {key: (*shape)}."""

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """One control step of action (A,); info["success"] tells whether the task is solved now."""

    def render_frame(self, camera: str, width: int, height: int) -> np.ndarray:
        """Picture (height, width, 3), uint8."""


@runtime_checkable
class Seeing(Protocol):
    """An environment with cameras: `blind` is set while its observations are not needed, because looking takes time."""

    blind: bool


@dataclass(frozen=True)
class Footage:
    """Which pictures of an episode to keep: every `every` control steps, and always the first and last."""

    camera: str = "agentview"
    width: int = 256
    height: int = 256
    every: int = 2


@dataclass(frozen=True)
class Ready:
    """An episode that needs its next chunk. `history`: {key: (To, *shape)}, oldest first."""

    slot: int
    seed: int
    history: Observation


@dataclass(frozen=True)
class Finished:
    """An episode that ended. `frames`: (F, H, W, 3) uint8 or None; `busy_s`: seconds spent in the environment."""

    slot: int
    seed: int
    success: bool
    success_any: bool
    steps: int
    busy_s: float
    frames: np.ndarray | None = None


@dataclass(frozen=True)
class _Start:
    slot: int
    seed: int
    footage: Footage | None


@dataclass(frozen=True)
class _Act:
    slot: int
    actions: np.ndarray


@dataclass(frozen=True)
class _Failed:
    seed: int | None
    text: str


@dataclass(frozen=True)
class _Limits:
    """Fixed for the life of a worker."""

    history: int
    horizon: int
    stop_on_success: bool


@dataclass
class _Episode:
    seed: int
    history: deque[Observation]
    footage: Footage | None
    steps: int = 0
    success: bool = False
    success_any: bool = False
    over: bool = False
    busy_s: float = 0.0
    frames: list[np.ndarray] = field(default_factory=list)
    last_frame: int = -1


class WorkerPool:
    """`workers` spawned processes that share `slots` environments made by `make_env`.

    make_env: picklable callable without arguments (a class, a function of a module, functools.partial).
    history: number of observations To sent with each `Ready`; the first one is repeated at the start.
    horizon: control steps after which an episode ends. timeout: seconds without any answer from a
    worker that has work, after which RolloutError is raised. Closing twice is fine.
    """

    def __init__(
        self,
        make_env: Callable[[], Environment],
        *,
        workers: int,
        slots: int,
        history: int,
        horizon: int,
        stop_on_success: bool = False,
        timeout: float = 600.0,
    ) -> None:
        if workers < 1 or slots < 1:
            raise ValueError(f"WorkerPool: expected workers >= 1 and slots >= 1, got workers={workers}, slots={slots}")
        self.slots, self.timeout = slots, timeout
        self._connections: list[Connection] = []
        self._processes: list[BaseProcess] = []
        self._active: dict[int, int] = {}  # slot -> seed
        limits = _Limits(history, horizon, stop_on_success)
        context = multiprocessing.get_context("spawn")
        try:
            with one_thread():
                for _ in range(min(workers, slots)):
                    ours, theirs = context.Pipe()
                    process = context.Process(target=_work, args=(theirs, make_env, limits), daemon=True)
                    process.start()
                    theirs.close()  # so that the death of the worker ends the connection
                    self._connections.append(ours)
                    self._processes.append(process)
        except BaseException:
            self.close()
            raise

    def start(self, slot: int, seed: int, footage: Footage | None = None) -> None:
        """Begin the episode of `seed` in an idle slot."""
        self._active[slot] = seed
        self._send(slot, _Start(slot, seed, footage))

    def act(self, slot: int, actions: np.ndarray) -> None:
        """Execute a chunk (execute, A) in the episode of this slot."""
        self._send(slot, _Act(slot, actions))

    def receive(self, block: bool = True) -> list[Ready | Finished]:
        """Answers that arrived; waits for at least one if `block`. Raises RolloutError if a worker failed."""
        ready = wait(self._connections, self.timeout if block else 0)
        if block and not ready:
            seeds = ", ".join(map(str, sorted(self._active.values())))
            raise RolloutError(
                f"rollouts: no answer from the workers for {self.timeout:.0f} s (seeds under way: {seeds})"
            )
        answers: list[Ready | Finished] = []
        for connection in ready:
            assert isinstance(connection, Connection)
            answers.extend(self._drain(connection))
        return answers

    def close(self) -> None:
        """End the workers; those that do not answer are terminated."""
        for connection in self._connections:
            connection.close()  # ends the worker's recv
        for process in self._processes:
            process.join(timeout=2.0)
            if process.is_alive():
                process.terminate()
                process.join(timeout=2.0)
            if process.is_alive():
                process.kill()
                process.join()
        self._connections, self._processes, self._active = [], [], {}

    def _drain(self, connection: Connection) -> Iterator[Ready | Finished]:
        try:
            while connection.poll():
                answer = connection.recv()
                if isinstance(answer, _Failed):
                    where = (
                        "while making the environment"
                        if answer.seed is None
                        else f"in the episode of seed {answer.seed}"
                    )
                    raise RolloutError(f"rollouts: the environment failed {where}:\n{answer.text}")
                if isinstance(answer, Finished):
                    self._active.pop(answer.slot, None)
                yield answer
        except (EOFError, OSError) as error:
            number = self._connections.index(connection)
            process = self._processes[number]
            process.join(timeout=5.0)
            seeds = [seed for slot, seed in self._active.items() if slot % len(self._connections) == number]
            advice = (
                "the system kills a process like this when memory runs out: give fewer workers"
                if process.exitcode == -signal.SIGKILL
                else "run one of them with workers=1 to see why"
            )
            raise RolloutError(
                f"rollouts: worker {number} died with exit code {process.exitcode} while it had the seeds "
                f"{', '.join(map(str, sorted(seeds))) or 'none'}; {advice}"
            ) from error

    def _send(self, slot: int, message: object) -> None:
        connection = self._connections[slot % len(self._connections)]
        try:
            connection.send(message)
        except (BrokenPipeError, OSError):
            list(self._drain(connection))  # raises with what the worker said last
            raise


def end_with_parent() -> None:
    """Call it in a worker of a pool: without it, the worker of a process that was killed would go on."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "this is no worker"

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Children started inside use one thread each."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


def _work(connection: Connection, make_env: Callable[[], Environment], limits: _Limits) -> None:
    """Main loop of a worker: ends when the connection closes, whatever happened to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    environments: dict[int, Environment] = {}
    episodes: dict[int, _Episode] = {}
    seed: int | None = None
    try:
        while True:
            message = connection.recv()
            if isinstance(message, _Start):
                seed = None
                if message.slot not in environments:
                    environments[message.slot] = make_env()
                    _no_threads()
                seed = message.seed
                episodes[message.slot] = _begin(environments[message.slot], message, limits)
            else:
                assert isinstance(message, _Act)
                seed = episodes[message.slot].seed
                _execute(environments[message.slot], episodes[message.slot], message.actions, limits)
            connection.send(_answer(message.slot, episodes[message.slot]))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except Exception:  # noqa: BLE001 - whatever it is, the parent raises it
        with contextlib.suppress(OSError):  # the parent may be gone
            connection.send(_Failed(seed, traceback.format_exc()))


def _no_threads() -> None:
    """The cores belong to the other workers. torch is not imported for it: that takes seconds."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def _begin(env: Environment, message: _Start, limits: _Limits) -> _Episode:
    began = time.perf_counter()
    if isinstance(env, Seeing):
        env.blind = False
    observation, _ = env.reset(seed=message.seed)
    history = deque([observation] * limits.history, maxlen=limits.history)
    episode = _Episode(message.seed, history, message.footage)
    _film(env, episode, last=False)
    episode.busy_s += time.perf_counter() - began
    return episode


def _execute(env: Environment, episode: _Episode, actions: np.ndarray, limits: _Limits) -> None:
    began = time.perf_counter()
    for left, action in zip(range(len(actions) - 1, -1, -1), actions, strict=True):
        if isinstance(env, Seeing):  # the policy sees only the last steps of a chunk
            env.blind = left >= limits.history
        observation, _, terminated, truncated, info = env.step(action)
        episode.history.append(observation)
        episode.steps += 1
        episode.success = bool(info["success"])
        episode.success_any |= episode.success
        stop = limits.stop_on_success and episode.success
        episode.over = stop or terminated or truncated or episode.steps >= limits.horizon
        _film(env, episode, last=episode.over)
        if episode.over:
            break
    episode.busy_s += time.perf_counter() - began


def _film(env: Environment, episode: _Episode, last: bool) -> None:
    footage = episode.footage
    if footage is None or not (last or episode.steps % footage.every == 0) or episode.last_frame == episode.steps:
        return
    episode.frames.append(env.render_frame(footage.camera, footage.width, footage.height))
    episode.last_frame = episode.steps


def _answer(slot: int, episode: _Episode) -> Ready | Finished:
    if not episode.over:
        keys = episode.history[-1]
        history = {key: np.stack([step[key] for step in episode.history]) for key in keys}
        return Ready(slot, episode.seed, history)
    frames = np.stack(episode.frames) if episode.frames else None
    return Finished(slot, episode.seed, episode.success, episode.success_any, episode.steps, episode.busy_s, frames)
