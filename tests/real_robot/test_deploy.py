"""`python -m real_robot.deploy`: a checkpoint on the simulated arm, and on a UR5e whose controller is the fake one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from deploy_toys import RISE, checkpoint
from disk_toys import small_disk

from equidiff.fields.presets import relative_action
from real_robot.records import read_records

pytestmark = pytest.mark.realtime

ROOT = Path(__file__).parents[2]
HELD = ["operator=terminal"]


def deploy(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "real_robot.deploy", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment, timeout=300)


def records(folder: Path, kind: str) -> list[dict[str, Any]]:
    lines = (folder / "run.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == kind]


@pytest.mark.slow
@pytest.mark.sim
@pytest.mark.parametrize("arm", ["panda", "ur5e"])
def test_on_the_simulated_arm_in_exact_time(tmp_path: Path, arm: str) -> None:
    done = deploy(
        "robot=sim", "robot.virtual=true", f"robot.arm={arm}", f"checkpoint={checkpoint(tmp_path)}", "run.longest=1.5",
        f"run_dir={tmp_path}/run", "episodes=2", "policy.delay=0.1", "robot.latency=0.01",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "0 of 2 episodes solved" in done.stdout
    for number in range(2):
        folder = tmp_path / f"run/episode{number:03d}"
        assert {"run.jsonl", "report.json", "report.html", "video.mp4"} == {path.name for path in folder.iterdir()}
        ticks = records(folder, "tick")
        height = [row["pose"][2] for row in ticks]
        assert height[-1] - height[0] > 2 * RISE
        assert records(folder, "fault") == []
        plans = records(folder, "plan")
        assert all(row["received"] - row["requested"] == pytest.approx(0.1, abs=0.011) for row in plans)
        assert records(folder, "end")[0]["reason"] == "1.5 s are over"
        assert json.loads((folder / "report.json").read_text())["plans"]["requested"] == len(plans) > 2


@pytest.mark.slow
@pytest.mark.sim
def test_a_disk_that_stays_full_ends_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record breaks off, which stops the arm; then the report cannot be written either."""
    from equidiff.hydra_app import run_app
    from real_robot.deploy import main

    saved = checkpoint(tmp_path)
    monkeypatch.setattr(
        sys, "argv",
        ["deploy", "robot=sim", "robot.virtual=true", f"checkpoint={saved}", f"run_dir={tmp_path}/run", "video=false"],
    )  # fmt: skip
    with small_disk(12_000), pytest.raises(SystemExit) as end:
        run_app(main, "deploy", "doc")
    told = capsys.readouterr()
    assert end.value.code == 2
    assert "File too large; no report of this run" in told.err
    assert len(told.err.strip().splitlines()) == 1
    assert "recording: " in told.out
    assert "-> stopped" in told.out  # before it was told: the arm stands
    # its last line is cut off
    ticks = [row for row in read_records(tmp_path / "run/episode000/run.jsonl") if row["kind"] == "tick"]
    assert ticks[-1]["t"] - ticks[0]["t"] < 5  # of 60 s


@pytest.mark.slow
@pytest.mark.sim
def test_a_condition_of_the_configuration_ends_an_episode(tmp_path: Path) -> None:
    done = deploy(
        "robot=sim", "robot.virtual=true", f"checkpoint={checkpoint(tmp_path)}", "run.longest=9", "video=false",
        f"run_dir={tmp_path}/run",
        "success={_target_: real_robot.success.Lifted, height: 0.0, width: [0.0, 0.2]}",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "episode 0: success, " in done.stdout
    assert "1 of 1 episodes solved" in done.stdout


@pytest.mark.slow
@pytest.mark.sim
def test_on_the_simulated_arm_in_real_time(tmp_path: Path) -> None:
    done = deploy(
        "robot=sim", f"checkpoint={checkpoint(tmp_path)}", "run.longest=2", f"run_dir={tmp_path}/run", "video=false",
        "run.max_late=2", "run.max_state_age=2", "run.max_observation_age=2", "safety.max_state_age=2",
        "policy.timeout=9", "policy.delay=0.3",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    plans = [row for row in records(tmp_path / "run/episode000", "plan") if row["requested"] is not None]
    assert plans
    assert all(row["received"] - row["requested"] > 0.3 - 0.01 for row in plans)
    height = [row["pose"][2] for row in records(tmp_path / "run/episode000", "tick")]
    assert height[-1] - height[0] > RISE


@pytest.mark.slow
@pytest.mark.sim
def test_on_a_ur5e_with_the_fake_controller(tmp_path: Path) -> None:
    from ur_bench import fresh_fake

    fake = fresh_fake()
    held = (
        "{_target_: real_robot.operator.ScriptedOperator, script: [{_target_: real_robot.operator.Moment, start: 0}]}"
    )
    done = deploy(
        "robot=ur5e", f"robot.address={fake.address}", f"checkpoint={checkpoint(tmp_path)}", f"+operator={held}",
        "calibration.unmeasured_axis=true",
        "safety.box.low=[-1,-1,-0.2]", "safety.box.high=[1,1,1.5]", "safety.cone=null", f"run_dir={tmp_path}/run",
        "run.longest=2.5", "run.max_late=2", "run.max_state_age=2", "safety.max_state_age=2", "policy.timeout=9",
        "run.max_observation_age=2", "robot.max_state_age=0.5", "robot.lost_after=4", "robot.watchdog_hz=1",
        "robot.command_timeout=0.4",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    folder = tmp_path / "run/episode000"
    ticks = records(folder, "tick")
    assert ticks[-1]["pose"][2] - ticks[0]["pose"][2] > RISE
    assert [row["target"] for row in records(folder, "transition")][-1] == "stopped"
    assert (folder / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["robot=ur5e", "robot.address=127.0.0.9"],
            "operator: is not set, and there is no terminal; an arm moves only while somebody holds",
        ),
        (["robot=sim", "robot.driver=sims"], "robot.driver: expected one of ur, franka, ros2, sim, got 'sims'"),
        (["robot=sim", "robot.task=liftt"], "no task 'liftt'; did you mean 'lift'?"),
        (["robot=sim", "schedule.stitch=sew"], "schedule.stitch: expected one of replace, blend, real_time, got 'sew'"),
        (["robot=sim", "run.longest=0"], "run.longest: expected a number > 0"),
        (["robot=sim", "robot.latency=-1"], "latency, jitter: expected seconds >= 0"),
        (["robot=sim", "robot.rate=0"], "clock.rate: expected a factor > 0"),
        (["robot=sim", "robot.virtual=true", "policy.delay=-1"], "delay: expected seconds >= 0"),
        (["robot=sim", "policy.delay=-1"], "policy.delay: expected seconds >= 0"),
        (["robot=sim", "success={_target_: real_robot.success.Lift, height: 1}"], "did you mean 'Lifted'"),
        (["robot=sim", "policy.server=http://gpu", "policy.token_file=none"], "no readable token"),
        (["robot=sim", "safety.angular.jerk=1"], "safety.angular: velocity"),
        ([*HELD, "robot=ur5e"], "robot.address is not set"),
        ([*HELD, "robot=ur5e", "robot.address=127.0.0.9", "robot.command_hz=9999"], "robot.command_hz: expected"),
        ([*HELD, "robot=ur5e", "robot.address=127.0.0.9", "robot.tcp=[1]"], "robot.tcp: expected (6,)"),
        ([*HELD, "robot=ros2", "robot.arm=ur6", "robot.joints=[a]"], "robot.arm: expected one of"),
        ([*HELD, "robot=franka", "robot.address=1.2.3.4", "robot.model=p"], "robot.model: expected"),
        (["robot=sim", "safety.linear.velocity=fast"], "safety.linear.velocity: expected a number, got 'fast'"),
    ],
)
@pytest.mark.slow
@pytest.mark.sim
def test_mistakes_are_told_in_a_line(
    tmp_path: Path,
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from equidiff.hydra_app import run_app
    from real_robot.deploy import main

    box = ["safety.box.low=[-1,-1,-1]", "safety.box.high=[1,1,1]"]
    monkeypatch.setattr(
        sys, "argv", ["deploy", f"checkpoint={checkpoint(tmp_path)}", f"run_dir={tmp_path}/run", *arguments, *box]
    )
    with pytest.raises(SystemExit) as end:
        run_app(main, "deploy", "doc")
    told = capsys.readouterr()
    assert end.value.code == 2
    assert words in told.err
    assert "Traceback" not in told.err


@pytest.mark.slow
@pytest.mark.sim
def test_policies_of_deltas_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from equidiff.hydra_app import run_app
    from real_robot.deploy import main

    path = checkpoint(tmp_path, relative_action())
    monkeypatch.setattr(
        sys, "argv", ["deploy", "robot=sim", "robot.virtual=true", f"checkpoint={path}", f"run_dir={tmp_path}/run"]
    )
    with pytest.raises(SystemExit) as end:
        run_app(main, "deploy", "doc")
    assert end.value.code == 2
    assert "train with action=absolute" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["deploy", "bench", "teleop", "server", "report", "calibration"])
@pytest.mark.slow
def test_every_program_tells_what_it_does(module: str) -> None:
    command = [sys.executable, "-m", f"real_robot.{module}", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"python -m real_robot.{module}" in done.stdout
    assert "Settings" in done.stdout
