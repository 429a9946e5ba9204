"""`Session`: episodes one after another, recorded, labelled by the operator and stored while the arm goes on."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from real_robot.operator.contract import Button
from real_robot.teleop.errors import RecordingError
from real_robot.teleop.loop import End, Tick
from real_robot.teleop.recorder import Recorder
from real_robot.teleop.store import EpisodeStore

__all__ = ["Session"]

_LABELS = {Button.SUCCESS: True, Button.FAILURE: False}


class Session:
    """A listener of the loop; use it as a context manager around `Loop.run`, so that all is stored, joined and closed.

    An episode begins with the first motion after the dead-man switch was pressed, and ends with success, failure or
    discard; without a label (stop, end, a fault, too long) it is kept unlabelled, which training leaves out.
    With no episode under way, success, failure and discard change the last stored one.
    """

    def __init__(self, recorder: Recorder, store: EpisodeStore, say: Callable[[str], None] = print) -> None:
        self._recorder, self._store, self._say = recorder, store, say
        self._worker = ThreadPoolExecutor(1, "store")
        self._jobs: list[Future[str]] = []
        self._label: bool | None = None
        self._ended = False  # the episode was, and waits for its last steps
        self._released = True

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            if self._recorder.recording:
                self._keep(self._label if self._ended else None)
            self._jobs.append(self._worker.submit(self._join))
        finally:
            self._worker.shutdown(wait=True)
            self._store.close()
        first: RecordingError | None = None
        while self._jobs:
            try:
                self._report()
            except RecordingError as full:
                self._say(f"error: {full}")
                first = first or full
        if error is None and first is not None:
            raise first

    def __call__(self, tick: Tick) -> End | None:
        recorder = self._recorder
        recorder(tick)
        pressed = tick.wish.pressed
        if not tick.wish.enabled:
            self._released = True
        if self._ended and recorder.complete:
            self._keep(self._label)
        if recorder.recording and not self._ended:
            self._running(tick)
        elif not recorder.recording:
            for button in (Button.SUCCESS, Button.FAILURE, Button.DISCARD):
                if button in pressed:
                    self._jobs.append(self._worker.submit(self._change, button))
            if tick.active and self._released and (tick.wish.twist.any() or Button.GRIPPER in pressed):
                self._released = False
                recorder.begin(tick.now)
                self._say("episode: recording")
        self._report()
        return End.END if Button.END in pressed else None

    def _running(self, tick: Tick) -> None:
        pressed = tick.wish.pressed
        if Button.DISCARD in pressed:
            self._recorder.discard()
            self._say("episode: discarded")
            return
        labels = [label for button, label in _LABELS.items() if button in pressed]
        if labels or self._recorder.seconds(tick.now) >= self._recorder.settings.longest:
            self._label, self._ended = (min(labels) if labels else None), True  # both at once: a failure
            self._recorder.end(tick.now)

    def _keep(self, label: bool | None) -> None:
        self._ended, self._label = False, None
        steps = self._recorder.finish()
        if steps is None:
            self._say("episode: the arm did not move; nothing to store")
            return

        def store() -> str:
            number = self._store.add(steps.join(), label)
            return f"episode {number}: {len(steps)} steps, {_word(label)}, stored"

        self._jobs.append(self._worker.submit(store))

    def _change(self, button: Button) -> str:
        if not self._store.episodes:
            return "no episode to label yet"
        if button is Button.DISCARD:
            return f"episode {self._store.delete_last().number}: deleted"
        last = self._store.relabel_last(_LABELS[button])
        return f"episode {last.number}: now {_word(last.success)}"

    def _join(self) -> str:
        path = self._store.finish()
        if path is None:
            return "nothing was recorded"
        return f"{path}: {len(self._store.episodes)} episodes"

    def _report(self) -> None:
        """Say what was done. Raises RecordingError of what failed."""
        while self._jobs and self._jobs[0].done():
            self._say(self._jobs.pop(0).result())


def _word(label: bool | None) -> str:
    return {True: "success", False: "failure", None: "unlabelled"}[label]
