"""The TCP servers of the fake, one thread for each client, on one loopback address and the real ports."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
import struct
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable

from real_robot.fakes.ur_controller.controller import Controller
from real_robot.fakes.ur_controller.rtde import KIND, Recipe, RtdeError, input_type, output_type, package, split

__all__ = ["DASHBOARD", "GRIPPER", "RTDE", "SCRIPT", "Servers"]

RTDE, SCRIPT, SECONDARY, DASHBOARD, GRIPPER = 30004, 30003, 30002, 29999, 63352
_SCRIPT_END = re.compile(rb"^end\s*?\n", re.MULTILINE)
_LONGEST_SCRIPT = 1 << 20


class _Client(ABC):
    """One connection; `serve` runs in its thread until the other side or `close` ends it."""

    def __init__(self, sock: socket.socket, controller: Controller) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket, self.controller = sock, controller

    def close(self) -> None:
        """With a reset, as a controller that is switched off."""
        with contextlib.suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()

    def serve(self) -> None:
        try:
            self.greet()
            while data := self.socket.recv(65536):
                self.controller.going.wait()
                self.receive(data)
        except (OSError, RtdeError, ValueError, struct.error) as error:
            self.controller.messages.append(f"{type(self).__name__}: {error}")
        finally:
            self.end()
            self.socket.close()

    def greet(self) -> None:  # noqa: B027 - some say nothing
        """What the server says first."""

    def end(self) -> None:  # noqa: B027 - most have nothing to tidy
        """The connection is gone."""

    @abstractmethod
    def receive(self, data: bytes) -> None:
        """Bytes came."""


class RtdeClient(_Client):
    """30004."""

    def __init__(self, sock: socket.socket, controller: Controller) -> None:
        super().__init__(sock, controller)
        self._buffer = bytearray()
        self._inputs: dict[int, Recipe] = {}
        self._output: Recipe | None = None
        self._every = 1
        self._started = False
        self._late: deque[tuple[float, bytes]] = deque()
        self._sending = threading.Lock()

    def greet(self) -> None:
        with self.controller.lock:
            self.controller.listeners.append(self.cycle)

    def end(self) -> None:
        with self.controller.lock:
            if self.cycle in self.controller.listeners:
                self.controller.listeners.remove(self.cycle)

    def receive(self, data: bytes) -> None:
        self._buffer += data
        for kind, body in split(self._buffer):
            if kind == KIND.DATA:
                self._data(body)
            else:
                answer = self._answer(kind, body)
                with self._sending:
                    self.socket.sendall(package(kind, answer))

    def _data(self, body: bytes) -> None:
        recipe = self._inputs.get(body[0])
        if recipe is None:
            raise RtdeError(f"no input recipe {body[0]}")
        self.controller.write_inputs(recipe.unpack(body[1:]))

    def _answer(self, kind: int, body: bytes) -> bytes:
        if kind == KIND.VERSION:
            return bytes([struct.unpack(">H", body)[0] == 2])
        if kind == KIND.CONTROLLER:
            return struct.pack(">4I", *self.controller.settings.version, 0, 0)
        if kind == KIND.OUTPUTS:
            (frequency,), names = struct.unpack(">d", body[:8]), self._names(body[8:])
            self._output = Recipe(1, names, tuple(map(output_type, names)))
            self._every = max(1, round(500 / frequency))
            return bytes([1]) + ",".join(self._output.types).encode()
        if kind == KIND.INPUTS:
            names = self._names(body)
            recipe = Recipe(len(self._inputs) + 1, names, tuple(map(input_type, names)))
            self._inputs[recipe.number] = recipe
            return bytes([recipe.number]) + ",".join(recipe.types).encode()
        if kind in (KIND.START, KIND.PAUSE):
            self._started = kind == KIND.START and self._output is not None
            return bytes([self._started or kind == KIND.PAUSE])
        raise RtdeError(f"a package of kind {kind} is not understood")

    @staticmethod
    def _names(body: bytes) -> tuple[str, ...]:
        return tuple(name for name in body.decode("ascii").split(",") if name)

    def cycle(self, number: int) -> None:
        """Send this cycle's measurement; called by the controller."""
        if not self._started or self._output is None:
            return
        if number % self._every == 0 and "NOT_FOUND" not in self._output.types:
            body = self._output.pack(self.controller.read_outputs(self._output.names))
            self._late.append((time.monotonic() + self.controller.network_delay, package(KIND.DATA, body)))
        while self._late and self._late[0][0] <= time.monotonic():
            self._send(self._late.popleft()[1])

    def _send(self, data: bytes) -> None:
        try:
            with self._sending:
                sent = self.socket.send(data, socket.MSG_DONTWAIT)
            if sent == len(data):
                return
        except OSError as error:
            self.controller.messages.append(f"RTDE client lost: {error}")
        self._started = False  # one that does not read is let go
        self.close()


class ScriptClient(_Client):
    """30002 and 30003: takes programs; the state that the real ones send is left out."""

    def greet(self) -> None:
        self._text = b""

    def receive(self, data: bytes) -> None:
        self._text += data
        while end := _SCRIPT_END.search(self._text):
            script, self._text = self._text[: end.end()], self._text[end.end() :]
            self.controller.upload(script.decode("utf-8", "replace"))
        if len(self._text) > _LONGEST_SCRIPT:
            raise ValueError("a script without an end")


class DashboardSession(_Client):
    """29999: lines of text."""

    def greet(self) -> None:
        self._line = b""
        self.socket.sendall(b"Connected: Universal Robots Dashboard Server\n")

    def receive(self, data: bytes) -> None:
        self._line += data
        while b"\n" in self._line:
            line, self._line = self._line.split(b"\n", 1)
            self.socket.sendall((self._answer(line.decode("ascii").strip()) + "\n").encode())

    def _answer(self, line: str) -> str:
        c = self.controller
        playing = {1: "STOPPED", 2: "PLAYING", 4: "PAUSED"}[c.runtime]
        if line == "stop":
            c.stop_program("dashboard: stop")
            return "Stopped"
        if line == "play":
            return "Starting program" if c.play() else "Failed to execute: play"
        if line == "unlock protective stop":
            return c.unlock()
        known = {
            "PolyscopeVersion": "URSoftware {}.{}.0.0 (Jan 01 2022)".format(*c.settings.version),
            "is in remote control": str(c.remote).lower(),
            "robotmode": "Robotmode: " + {7: "RUNNING", 3: "POWER_OFF"}[c.robot_mode],
            "safetystatus": "Safetystatus: "
            + {1: "NORMAL", 3: "PROTECTIVE_STOP", 7: "ROBOT_EMERGENCY_STOP"}[c.safety_mode],
            "safetymode": "Safetymode: "
            + {1: "NORMAL", 3: "PROTECTIVE_STOP", 7: "ROBOT_EMERGENCY_STOP"}[c.safety_mode],
            "running": f"Program running: {str(c.runtime == 2).lower()}",
            "programState": f"{playing} rtde_control",
            "get robot model": "UR5",
            "get serial number": "20210000000",
            "close safety popup": "closing safety popup",
            "close popup": "closing popup",
            "power on": "Powering on",
            "brake release": "Brake releasing",
            "quit": "Disconnected",
        }
        return known.get(line, f"could not understand: {line}")


class GripperSession(_Client):
    """63352."""

    def greet(self) -> None:
        self._line = b""

    def receive(self, data: bytes) -> None:
        self._line += data
        while b"\n" in self._line:
            line, self._line = self._line.split(b"\n", 1)
            with self.controller.lock:
                answer = self.controller.gripper.answer(line.decode("ascii"))
            self.socket.sendall(answer.encode())


class Servers:
    """All of them; only a loopback address is taken, since nothing here asks who calls."""

    def __init__(self, controller: Controller, address: str) -> None:
        if not ipaddress.ip_address(address).is_loopback:
            raise ValueError(f"address: expected one of 127.0.0.0/8, for this has no authentication, got {address}")
        self._controller = controller
        self._clients: list[_Client] = []
        self._lock = threading.Lock()
        self._listening: list[socket.socket] = []
        kinds: dict[int, Callable[[socket.socket, Controller], _Client]] = {
            RTDE: RtdeClient, SCRIPT: ScriptClient, SECONDARY: ScriptClient, DASHBOARD: DashboardSession,
            GRIPPER: GripperSession,
        }  # fmt: skip
        self.refusing = False
        for port, kind in kinds.items():
            server = socket.create_server((address, port))
            self._listening.append(server)
            threading.Thread(target=self._accept, args=(server, kind), daemon=True, name=f"port-{port}").start()

    def _accept(self, server: socket.socket, kind: Callable[[socket.socket, Controller], _Client]) -> None:
        while True:
            try:
                sock, _ = server.accept()
            except OSError:  # closed
                return
            client = kind(sock, self._controller)
            if self.refusing:
                client.close()
                continue
            with self._lock:
                self._clients = [c for c in self._clients if c.socket.fileno() >= 0] + [client]
            threading.Thread(target=client.serve, daemon=True).start()

    def drop(self) -> None:
        """Reset every connection."""
        with self._lock:
            clients, self._clients = self._clients, []
        for client in clients:
            client.close()

    def close(self) -> None:
        """No connection any more, nor a new one."""
        for server in self._listening:
            server.close()
        self.drop()
