"""Whether a task can be simulated and filmed, found out in a process of its own whose memory is then free again."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from equidiff.config import did_you_mean
from equidiff.demo.progress import ended, tail_of
from equidiff.demo.settings import DemoError
from equidiff.hydra_app import told

__all__ = ["check_camera"]

_TOLD = 2  # exit status of the process if what it prints is for the user


def check_camera(task: Mapping[str, Any], camera: str, root: Path) -> None:
    """Build the task of a resolved config and take a picture of it. Takes some seconds. root: the checkout.

    Raises DemoError if the simulator, a part of it or the camera is missing.
    """
    command = [sys.executable, "-m", __name__]
    question = json.dumps({"task": task, "camera": camera})
    # a session of its own: Ctrl-C reaches only this process, which then ends that one
    done = subprocess.run(
        command, cwd=root, input=question, capture_output=True, text=True, check=False, start_new_session=True
    )
    if done.returncode == _TOLD:
        raise DemoError(done.stdout.strip())
    if done.returncode != 0:
        raise DemoError(
            f"the simulation of {task['name']} could not be started ({ended(done.returncode)})\n{tail_of(done.stderr)}"
        )


def _take_picture(task: Mapping[str, Any], camera: str) -> None:
    from equidiff.sim.env import make_env

    env = make_env(task)
    try:
        known = [env.model.camera(i).name for i in range(env.model.ncam)]
        if camera not in known:
            raise DemoError(
                f"camera: {task['name']} has no {camera!r}{did_you_mean(camera, known)} There are: {', '.join(known)}"
            )
        env.reset(seed=0)
        env.render_frame(camera, 64, 64)
    finally:
        env.close()


def _main() -> int:
    question = json.load(sys.stdin)
    try:
        _take_picture(question["task"], question["camera"])
    except Exception as error:
        message = told(error)
        if message is None:
            raise
        print(message)
        return _TOLD
    return 0


if __name__ == "__main__":
    sys.exit(_main())
