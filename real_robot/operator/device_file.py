"""`DeviceFile`: what devices have in common that are a file which the kernel writes to."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path

from real_robot.operator.contract import OperatorError, OperatorInput, OperatorState
from real_robot.operator.held import Controls, check_action
from real_robot.operator.stream import Stream, StreamLostError

__all__ = ["DeviceFile"]


class DeviceFile(OperatorInput):
    """Opened by `connect`, read to its end by each `read`, gone when the kernel says so.

    Such devices speak of changes alone: a switch that is held still is silent. Each `read` asks the kernel for more,
    which answers with an error from the moment on in which the device is unplugged, so that this one counts as
    released within a tick. silence: seconds without a word after which the switch counts as released nevertheless, for
    devices whose receiver stays plugged in when they fail; they have to be moved all the time then.

    name: in messages. buttons: {number: action}, one of them the deadman. chunk: bytes of one read. advice: what to do
    when it cannot be opened.
    """

    def __init__(
        self, name: str, buttons: Mapping[int, str], timeout: float, silence: float | None, chunk: int, advice: str
    ) -> None:
        self.buttons = {int(n): check_action(f"{name}.buttons.{n}", action) for n, action in buttons.items()}
        if "deadman" not in self.buttons.values():
            raise OperatorError(f"{name}.buttons: no button is the deadman; without one the arm never moves")
        self.controls = Controls(name, timeout, silence)
        self._chunk, self._advice = chunk, advice
        self._stream: Stream | None = None

    @abstractmethod
    def find(self) -> Path:
        """The file. Raises OperatorError when there is none."""

    @abstractmethod
    def forget(self) -> None:
        """The device is opened: nothing that it said before counts."""

    @abstractmethod
    def take(self, data: bytes, now: float) -> None:
        """What one read gave, told to `controls`."""

    def connect(self) -> None:
        self.disconnect()
        self.forget()
        self._stream = Stream(self.find(), self._advice)
        self.controls.ready()

    def disconnect(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()
            self.controls.lose("disconnected")

    def read(self, now: float) -> OperatorState:
        self.controls.begin(now)
        try:
            while self._stream is not None and (data := self._stream.read(self._chunk)):
                self.take(data, now)
        except StreamLostError as error:
            self.disconnect()
            self.controls.lose(str(error))
        return self.controls.state(now)

    def clear_stop(self) -> None:
        self.controls.clear_stop()
