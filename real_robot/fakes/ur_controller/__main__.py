"""Run the fake controller: python -m real_robot.fakes.ur_controller address=127.0.0.2 [key=value ...]

Keys: address (loopback only), version (5.11), unlock_after (seconds, 5), paused (true), parent (false: with true it
ends with its standard input). On standard input it takes one JSON object a line, {"do": NAME, ...}, see `handle`.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from real_robot.fakes.ur_controller.controller import Controller, Settings
from real_robot.fakes.ur_controller.servers import Servers

KEYS = {"address": "127.0.0.2", "version": "5.11", "unlock_after": "5", "paused": "true", "parent": "false"}


def _arguments(words: list[str]) -> dict[str, str]:
    out = dict(KEYS)
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key not in KEYS:
            raise SystemExit(f"{word}: expected key=value with a key of {', '.join(KEYS)}")
        out[key] = value
    return out


def _requests(controller: Controller, servers: Servers) -> dict[str, Callable[..., Any]]:
    def status() -> dict[str, Any]:
        with controller.lock:
            return {
                "joints": [float(x) for x in controller.arm.joints],
                "velocities": [float(x) for x in controller.arm.velocities],
                "pose": controller.history[-1][1] if controller.history else None,
                "safety_mode": controller.safety_mode,
                "runtime": controller.runtime,
                "time": controller.time,
                "gripper": controller.gripper.position,
                "counts": dict(controller.counts),
                "messages": list(controller.messages),
            }

    def history(since: float) -> list[Any]:
        with controller.lock:
            return [entry for entry in controller.history if entry[0] >= since]

    def servo_times(since: float) -> list[Any]:
        with controller.lock:
            return [entry for entry in controller.servo_times if entry[0] >= since]

    def reset() -> None:
        servers.refusing = False
        controller.reset()

    def delay(seconds: float) -> None:
        controller.network_delay = seconds

    def refuse(refusing: bool) -> None:
        servers.refusing = refusing

    def remote(on: bool) -> None:
        controller.remote = on

    def settings(**changes: Any) -> None:
        for key, value in changes.items():
            setattr(controller.settings, key, value)

    def block_gripper(at: float | None) -> None:
        controller.gripper.blocked_at = at

    return {
        "status": status,
        "history": history,
        "servo_times": servo_times,
        "reset": reset,
        "delay": delay,
        "refuse": refuse,
        "remote": remote,
        "settings": settings,
        "block_gripper": block_gripper,
        "protective_stop": controller.protective_stop,
        "emergency_stop": controller.emergency_stop,
        "release_emergency": controller.release_emergency,
        "freeze": controller.freeze,
        "push": lambda wrench: controller.push(np.array(wrench)),
        "stop_program": lambda: controller.stop_program("stopped on the pendant"),
        "drop": servers.drop,
    }


def main() -> None:
    arguments = _arguments(sys.argv[1:])
    major, minor = map(int, arguments["version"].split("."))
    settings = Settings((major, minor), float(arguments["unlock_after"]), arguments["paused"] == "true")
    controller = Controller(settings)
    servers = Servers(controller, arguments["address"])
    end = threading.Event()
    cycling = threading.Thread(target=controller.run, args=(end,), daemon=True, name="cycle")
    cycling.start()
    print(json.dumps({"ready": arguments["address"]}), flush=True)
    requests = _requests(controller, servers)
    try:
        for line in sys.stdin:
            request = json.loads(line)
            name = request.pop("do", None)
            if name in requests:
                answer = {"answer": requests[name](**request)}
            else:
                answer = {"error": f"do: expected one of {', '.join(requests)}, got {name!r}"}
            print(json.dumps(answer), flush=True)
        if arguments["parent"] != "true":
            cycling.join()
    except KeyboardInterrupt:
        pass
    end.set()
    cycling.join(2.0)
    servers.close()


if __name__ == "__main__":
    main()
