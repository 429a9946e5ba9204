"""python -m real_robot.teleop as a user meets it."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from teleop_toys import Rig, ToyArm, ToyCamera, ToyGate, ended, episode, released

from equidiff.hydra_app import run_app
from real_robot.clock import ManualClock
from real_robot.operator import Moment, ScriptedOperator
from real_robot.teleop import __main__ as app
from real_robot.teleop.parts import Parts
from real_robot.teleop.store import list_episodes

pytestmark = pytest.mark.realtime


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The entry point, in this process; returns the exit code. script: what the operator does."""

    def run(*overrides: str, script: list[Moment] | None = None) -> int:
        monkeypatch.setattr(sys, "argv", ["teleop", *overrides])
        if script is not None:
            monkeypatch.setattr(app, "build", lambda node: ScriptedOperator(script))
        before = signal.getsignal(signal.SIGTERM)
        try:
            with pytest.raises(SystemExit) as ended:
                run_app(app.main, "teleop", app.__doc__)
        finally:
            signal.signal(signal.SIGTERM, before)
        assert isinstance(ended.value.code, int)
        return ended.value.code

    return run


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> ToyArm:
    clock = ManualClock(10.0, step=0.01)
    arm = ToyArm(clock)
    parts = Parts(arm, lambda robot: ToyGate(), {"scene": ToyCamera(clock, "scene")}, clock)
    monkeypatch.setattr("real_robot.teleop.parts.build_parts", lambda config: parts)
    return arm


def test_record_list_relabel_replay_delete(
    run: Callable[..., int], toy: ToyArm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = f"output={tmp_path / 'cups.hdf5'}"
    start = toy.pose
    script = [released(0), *episode(0.2, "success"), *episode(2.0, "success"), ended(4.0)]
    assert run(output, "picture_size=[20,20]", "control_hz=10", script=script) == 0
    assert not toy.connected
    with h5py.File(tmp_path / "cups.hdf5") as file:
        assert '"env_name": "cups"' in file["data"].attrs["env_args"]
        assert file["data/demo_0/obs/scene_image"].shape[1:] == (20, 20, 3)
    capsys.readouterr()
    assert run(output, "mode=relabel", "success=false") == 0
    assert run(output, "mode=list") == 0
    assert "episode    1     10 steps  failure" in capsys.readouterr().out
    toy.pose = toy._before = start
    assert run(output, "mode=replay", "episode=0", script=[released(0), Moment(0.1)]) == 0
    assert "all targets were reached" in capsys.readouterr().out
    assert run(output, "mode=delete") == 0
    assert [(e.number, e.success) for e in list_episodes(tmp_path / "cups.hdf5")] == [(0, True)]


def test_a_stop_shows_in_the_exit_code_and_keeps_the_episode(
    run: Callable[..., int], toy: ToyArm, tmp_path: Path
) -> None:
    script = [released(0), *episode(0.2, None)[:2], Moment(1.0, stop=True)]
    assert run(f"output={tmp_path / 'a.hdf5'}", script=script) == 1
    assert [e.success for e in list_episodes(tmp_path / "a.hdf5")] == [None]
    assert toy.stops


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "output is not set"),
        (["mode=recrod"], "mode=recrod: expected one of record, replay, list, relabel, delete, finish"),
        (["pilot.frame=tol"], "did you mean 'tool'"),
        (["recorder.gap=7"], "recorder.gap: expected 0.001 to 1, got 7"),
        (["operator=gampad"], "did you mean 'gamepad'"),
        (["sizes={front: [84, 84]}"], "sizes.front: no such camera; there are: scene"),
        (["mode=replay", "episode=3"], "no episode to replay"),
        (["mode=delete"], "no recording that this program made"),
    ],
)
def test_mistakes_are_answered_in_a_line(
    run: Callable[..., int],
    toy: ToyArm,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    overrides: list[str],
    message: str,
) -> None:
    output = [f"output={tmp_path / 'a.hdf5'}"] if overrides else []
    script = None if "operator=gampad" in overrides else [released(0)]
    assert run(*output, *overrides, script=script) == 2
    told = capsys.readouterr().err
    assert message in told
    assert "Traceback" not in told


def test_a_file_of_another_task_is_not_gone_on_with(
    run: Callable[..., int], toy: ToyArm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Rig(tmp_path / "a.hdf5", [released(0), *episode(0.2, "success"), ended(2.0)], cameras=0).run()
    before = (tmp_path / "a.hdf5").read_bytes()
    assert run(f"output={tmp_path / 'a.hdf5'}", script=[released(0)]) == 2
    assert "made with other settings" in capsys.readouterr().err
    assert (tmp_path / "a.hdf5").read_bytes() == before


def test_help_lists_the_choices(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    told = capsys.readouterr().out
    assert "gamepad, keyboard, spacemouse, terminal" in told
    assert "python -m real_robot.teleop output=demos.hdf5" in told


@pytest.mark.slow
@pytest.mark.sim
def test_a_simulated_arm_is_recorded_and_replayed_through_the_real_gate(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = f"output={tmp_path / 'demos.hdf5'}"
    script = [released(0), *episode(2.0, "success", push=(0.3, 0.6, -0.4, 0, 0, 0.5), seconds=1.5), ended(5.0)]
    assert run(output, "robot.virtual=true", script=script) == 0, capsys.readouterr()
    with h5py.File(tmp_path / "demos.hdf5") as file:
        demo = file["data/demo_0"]
        actions, position = demo["actions_abs"][:], demo["obs/robot0_eef_pos"][:]
    assert 28 <= len(actions) <= 40
    assert 0.9 < position[0, 2] < 1.2  # of the world in which the table is at 0.8 m
    assert position[:, 1].max() - position[0, 1] > 0.03
    # where the arm is later is where it was told to be
    assert np.abs(position[3:15] - actions[0:12, :3]).max() < 0.03
    assert run(output, "robot.virtual=true", "mode=replay", script=[released(0), Moment(0.2)]) == 0
    assert "all targets were reached" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.sim
def test_a_person_at_a_terminal_moves_the_simulated_arm(tmp_path: Path) -> None:
    path = tmp_path / "demos.hdf5"
    person, program = pty.openpty()
    # a busy machine runs late: turns of half a second are let through, and one press lasts for a second
    command = [sys.executable, "-u", "-m", "real_robot.teleop", f"output={path}", "operator.timeout=1.0", "stale=0.5"]
    command += ["safety.max_state_age=0.5", "recorder.gap=0.9", "robot.rate=0.5"]
    process = subprocess.Popen(command, stdin=program, stdout=subprocess.PIPE, text=True)
    os.close(program)
    assert process.stdout is not None
    said: list[str] = []
    try:
        for line in process.stdout:
            said.append(line)
            if "dead-man switch not pressed yet" in line:
                break
        end = time.monotonic() + 60
        while time.monotonic() < end and process.poll() is None:
            os.write(person, b"w")
            time.sleep(0.2)
            if time.monotonic() > end - 56:
                break
        os.write(person, b"\r")
        time.sleep(3)
        os.write(person, b"q")
        said += process.stdout.readlines()
        assert process.wait(timeout=120) == 0, "".join(said)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        os.close(person)
    (info,) = list_episodes(path)
    assert info.success
    with h5py.File(path) as file:
        moved = file["data/demo_0/obs/robot0_eef_pos"][:, 0]
        assert moved[-1] - moved[0] > 0.02
