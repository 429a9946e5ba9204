"""The process that holds ur_rtde's control interface: python -m real_robot.drivers.ur_servo

A process of its own, because that interface may wait for minutes when a controller is silent, reconnects by itself
and uploads its script again, and then repeats the call it was in: this process can be ended at any moment, and then
nothing commands the arm any more. It needs nothing but ur_rtde, so that it starts fast.

It reads JSON lines, the first with the settings, and writes JSON lines. Times are of the computer's monotonic clock,
which processes share. Only the newest target is kept: nothing is queued. The arm moves while the driver's process says
so, by targets, or by signs of life while it is homing; without them it is stopped after `command_timeout`. Signals that
end programs are ignored: the end of its standard input is what ends it, after it has stopped the arm.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from typing import Any, TextIO

__all__ = ["main"]

_KICK = 0.02
"""Seconds between kicks of the controller's watchdog while there is nothing else to send."""
_LAST_WORD = 1.0
"""Seconds that a farewell may take before the process ends itself."""


class _Inbox:
    """What the other process wants: the newest target, and requests in their order."""

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self.changed = threading.Condition()
        self.target: dict[str, Any] | None = None
        self.requests: list[dict[str, Any]] = []
        self.alive = 0.0
        """When the other process last said that it lives, by its own stamp."""
        self.ended = False

    def read(self, stream: TextIO) -> None:
        """Until the stream ends, which is the other process's end too."""
        for line in stream:
            message = json.loads(line)
            with self.changed:
                if message["do"] == "servo":
                    waiting = self.target
                    if waiting is not None and message["stamp"] - waiting["stamp"] < self.patience / 2:
                        message["start"] = message["start"] or waiting["start"]  # it was to be the first
                    self.target = message
                elif message["do"] == "alive":
                    self.alive = message["stamp"]
                    continue
                else:
                    if message["do"] == "stop":
                        self.target = None
                    self.requests.append(message)
                self.changed.notify()
        with self.changed:
            self.ended = True
            self.changed.notify()
        threading.Timer(_LAST_WORD, os._exit, (1,)).start()

    def take(self, timeout: float) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
        with self.changed:
            if self.target is None and not self.requests and not self.ended:
                self.changed.wait(timeout)
            target, self.target = self.target, None
            requests, self.requests = self.requests, []
            return target, requests


class _Servo:
    def __init__(self, settings: dict[str, Any], control: Any, out: TextIO) -> None:
        self._settings, self._control, self._out = settings, control, out
        self._period = 1 / settings["command_hz"]
        self._servoing = self._homing = False
        self._heard = 0.0
        """When the other process wanted the motion that is under way."""

    def say(self, **message: Any) -> None:
        with contextlib.suppress(
            BrokenPipeError
        ):  # the driver's process is gone; what is to be done is done all the same
            self._out.write(json.dumps(message) + "\n")
            self._out.flush()

    def _stop(self, why: str, whatever: bool = False) -> None:
        """End the motion under way; `whatever`: and what else may move the arm."""
        servoing, homing = self._servoing, self._homing
        self._servoing = self._homing = False
        stopped = self._control.servoStop(self._settings["deceleration"]) if servoing else True
        if homing or whatever:
            self._control.stopJ(self._settings["joint_deceleration"], True)  # which says nothing
        if servoing or homing:
            self.say(event="stopped", why=why, ok=bool(stopped), at=time.monotonic())

    def _servo(self, target: dict[str, Any]) -> None:
        if not self._servoing and not target["start"]:
            self.say(event="refused", why="the arm was stopped before, since targets came too late")
            return
        pose, gain, lookahead = target["pose"], self._settings["gain"], self._settings["lookahead"]
        if self._control.servoL(pose, 0.0, 0.0, self._period, lookahead, gain):
            self._servoing, self._homing, self._heard = True, False, target["stamp"]
        else:
            self.say(event="refused", why="the controller did not take a target")

    def _home(self, request: dict[str, Any]) -> None:
        if time.monotonic() - request["stamp"] > self._settings["command_timeout"]:
            self.say(event="refused", why="the order to go home came too late")
        elif self._control.moveJ(request["joints"], request["speed"], request["acceleration"], True):
            self._homing, self._heard = True, request["stamp"]
        else:
            self.say(event="refused", why="the controller did not take the way home")

    def _serve(self, request: dict[str, Any]) -> bool:
        name = request["do"]
        if name == "stop":
            self._stop("stop", whatever=True)
        elif name == "movej":
            self._stop("movej")
            self._home(request)
        elif name == "arrived":
            self._homing = False
        elif name == "end":
            return False
        return True

    def run(self, inbox: _Inbox) -> None:
        patience = self._settings["command_timeout"]
        while True:
            target, requests = inbox.take(min(_KICK, patience / 4))
            if inbox.ended:
                self._stop("the driver's process is gone")
                return
            for request in requests:
                if not self._serve(request):
                    self._stop("end")
                    self._control.stopScript()
                    return
            now = time.monotonic()
            # one that waited while a call took long is no command any more
            if target is not None and now - target["stamp"] < patience / 2:
                self._servo(target)
            elif self._servoing and now - self._heard > patience:
                self._stop(f"no command for {patience} s")
            elif self._homing and now - max(self._heard, inbox.alive) > patience:
                why = f"no sign of life from the driver's process for {patience} s while homing"
                self._stop(why)
                self.say(event="refused", why=why)  # nobody may have seen where it went: not without recovery
            elif not requests:
                self._control.kickWatchdog()


def _connect(settings: dict[str, Any]) -> Any:
    from rtde_control import RTDEControlInterface

    flags = RTDEControlInterface.FLAG_UPLOAD_SCRIPT | RTDEControlInterface.FLAG_NO_EXT_FT
    control = RTDEControlInterface(settings["address"], -1.0, flags)
    control.setTcp(settings["tcp"])
    if settings["payload"] is not None:
        control.setPayload(settings["payload"][0], settings["payload"][1:])
    if settings["watchdog_hz"] and not control.setWatchdog(settings["watchdog_hz"]):
        raise RuntimeError("the controller did not take the watchdog")
    return control


def main() -> None:
    # a terminal sends Ctrl-C to all its processes, a service manager SIGTERM: the arm would run on until the watchdog
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # ur_rtde prints to the standard output
    settings = json.loads(sys.stdin.readline())
    try:
        control = _connect(settings)
    except (RuntimeError, ValueError) as error:  # what pybind11 makes of ur_rtde's exceptions
        out.write(json.dumps({"event": "failed", "why": str(error)}) + "\n")
        out.flush()
        os._exit(1)
    servo, inbox = _Servo(settings, control, out), _Inbox(settings["command_timeout"])
    threading.Thread(target=inbox.read, args=(sys.stdin,), daemon=True).start()
    servo.say(event="ready")
    servo.run(inbox)
    os._exit(0)  # the interface's own farewell takes half a second, and its threads may be stuck


if __name__ == "__main__":
    main()
