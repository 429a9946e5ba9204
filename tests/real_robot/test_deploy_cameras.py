"""`real_robot.deploy` with cameras: from a video file and a RealSense to the policy, and the frame that they share."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import deploy_toys
import numpy as np
import pytest

pytest.importorskip("cv2", reason="needs OpenCV (extra robot)")
pytest.importorskip("pyrealsense2", reason="needs pyrealsense2 and libusb-1.0", exc_type=ImportError)
pytest.importorskip("rtde_control", reason="ur-rtde is not installed (extra ur)")

from camera_deployment import (
    BASE,
    HAND,
    HEIGHT,
    HZ,
    WIDTH,
    calibrations,
    checkpoint,
    software_realsense,
    video,
)

from equidiff.checkpoint import load_policy
from equidiff.hydra_app import run_app
from real_robot import build
from real_robot.calibration.__main__ import main as calibrate
from real_robot.deploy import main
from real_robot.drivers.realsense import RealSenseSettings
from real_robot.planners import ProcessPlanner
from real_robot.poses import Pose
from real_robot.types import PlanRequest

pytestmark = pytest.mark.realtime

HELD = "{_target_: real_robot.operator.ScriptedOperator, script: [{_target_: real_robot.operator.Moment, start: 0}]}"
PLACE = [f"robot.base_yaw={BASE.yaw}", f"robot.base_position=[{','.join(map(str, BASE.position))}]"]


class Loaded:
    """In place of a planner, where none is asked: starting one takes seconds."""

    def __init__(self, path: Path | str, **settings: object) -> None:
        self.spec = load_policy(path).spec

    def close(self) -> None:
        """Nothing was opened."""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("policy"))


def program(monkeypatch: pytest.MonkeyPatch, entry: Callable[..., int], name: str, *arguments: str) -> int:
    """The exit code of a program, run in this process."""
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    with pytest.raises(SystemExit) as end:
        run_app(entry, name, "doc")
    return int(end.value.code or 0)


def deploy(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    return program(monkeypatch, main, "deploy", f"+operator={HELD}", *arguments)


@pytest.mark.slow
@pytest.mark.sim
def test_pictures_arrive_are_aligned_and_reach_the_policy(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ur_bench import fresh_fake

    asked: list[PlanRequest] = []
    submit = ProcessPlanner.submit

    def overhear(planner: ProcessPlanner, request: PlanRequest) -> None:
        asked.append(request)
        submit(planner, request)

    monkeypatch.setattr(ProcessPlanner, "submit", overhear)
    monkeypatch.setitem(
        build._CAMERAS, "realsense", lambda name, node: partial(software_realsense, RealSenseSettings(name, **node))
    )
    files = calibrations(tmp_path)
    film, size = video(tmp_path / "top.avi", 200), f"width: {WIDTH}, height: {HEIGHT}"
    code = deploy(
        monkeypatch, "robot=ur5e", f"robot.address={fresh_fake().address}", f"checkpoint={saved}", *PLACE,
        f"+cameras.top={{driver: opencv, source: {film}, {size}, fps: {HZ}, stale: 5, calibration: {files['top']}}}",
        f"+cameras.wrist={{driver: realsense, {size}, fps: 30, stale: 5, calibration: {files['wrist']}}}",
        "safety.box.low=[-1,-1,-0.2]", "safety.box.high=[1,1,1.5]", "safety.cone=null", f"run_dir={tmp_path}/run",
        "run.longest=2.5", "run.start=60", "run.max_late=2", "run.max_state_age=2", "safety.max_state_age=2",
        "run.max_observation_age=2", "robot.max_state_age=0.5", "robot.lost_after=4", "robot.watchdog_hz=1",
        "robot.command_timeout=0.4", "policy.timeout=9",
    )  # fmt: skip
    assert code == 0
    folder = tmp_path / "run/episode000"
    rows = [json.loads(line) for line in (folder / "run.jsonl").read_text().splitlines()]
    ticks = [row for row in rows if row["kind"] == "tick"]
    assert ticks[-1]["pose"][2] - ticks[0]["pose"][2] > deploy_toys.RISE
    frames = [row for row in rows if row["kind"] == "frame"]
    stamps = {name: [row["stamp"] for row in frames if row["camera"] == name] for name in ("top", "wrist")}
    assert min(map(len, stamps.values())) > 10
    assert {"report.html", "video.mp4"} <= {path.name for path in folder.iterdir()}

    plans = {row["number"]: row for row in rows if row["kind"] == "plan"}
    assert len(plans) > 1
    assert all(0 < plan["perceived_in"] < plan["received"] - plan["requested"] for plan in plans.values())
    for request in asked:
        assert request.sights == ()
        assert request.stamp in {*stamps["top"], *stamps["wrist"]}  # of the newest picture that both cameras have
        image, cloud = request.observation["top_image"], request.observation["point_cloud"]
        # the middle of the video's picture, a history of one control step, which is one picture of the video
        assert image.shape == (2, HEIGHT, HEIGHT, 3)
        grey = image[:, 0, 0, 0].astype(int)
        assert (image[:, :, : WIDTH // 2 - 8] == grey[:, None, None, None]).all()
        assert not image[:, :, WIDTH // 2 - 8 :].any()
        assert 0 <= (grey[1] - grey[0]) % 200 <= 3
        for step in range(2):
            tool = Pose.from_quat(
                request.observation["robot0_eef_pos"][step], request.observation["robot0_eef_quat_site"][step]
            )
            seen = (tool @ HAND).inverse()
            depth = (cloud[step, :, :3] @ seen.rotation.T + seen.position)[:, 2]
            number = np.rint(cloud[step, :, 3] * 255)
            assert (number == number[0]).all()
            assert depth == pytest.approx(1 + number / 1000, abs=5e-3)  # the arm moves slowly


@pytest.mark.slow
@pytest.mark.sim
@pytest.mark.parametrize(
    ("level", "arguments", "said"),
    [
        (None, [], "error: calibration: nobody measured the symmetry axis of this arm"),
        ((0.5, 0.0), ["calibration.max_tilt=0.6"], "camera 'top': symmetry axis refused: base z is tilted by 0.50"),
        ((0.5, 0.0), ["robot.base_yaw=0.6"], "camera 'top' was calibrated with the base at"),
    ],
)
def test_a_frame_that_is_not_the_policys_is_refused_before_anything_is_connected(
    saved: Path,
    tmp_path: Path,
    level: tuple[float, float] | None,
    arguments: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("real_robot.session.ProcessPlanner", Loaded)
    files = calibrations(tmp_path, level)
    code = deploy(
        monkeypatch, "robot=ur5e", "robot.address=127.0.0.9", f"checkpoint={saved}", *PLACE,
        f"+cameras.top={{driver: opencv, source: none.avi, calibration: {files['top']}}}",
        f"+cameras.wrist={{driver: realsense, calibration: {files['wrist']}}}",
        "safety.box.low=[-1,-1,-0.2]", "safety.box.high=[1,1,1.5]", *arguments,
    )  # fmt: skip
    assert code == 2
    assert said in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.sim
def test_a_policy_without_cameras_needs_a_measured_base_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("real_robot.session.ProcessPlanner", Loaded)
    state = deploy_toys.checkpoint(tmp_path)
    common = [
        "robot=ur5e", "robot.address=127.0.0.9", f"checkpoint={state}", *PLACE,
        "safety.box.low=[-1,-1,-0.2]", "safety.box.high=[1,1,1.5]",
    ]  # fmt: skip
    assert deploy(monkeypatch, *common) == 2
    told = capsys.readouterr().err
    assert "make=base" in told
    assert "calibration.unmeasured_axis=true" in told

    base = tmp_path / "base.json"
    place = [argument.replace("robot.base_", "base.") for argument in PLACE]
    level = ["make=base", f"out={base}", "axis.level=[0.2,-0.1]"]
    assert program(monkeypatch, calibrate, "calibrate", *level, *place) == 0
    for arguments, words in (
        ([f"calibration.base={base}"], "base z is tilted by 0.22"),
        (["calibration.unmeasured_axis=true"], "the symmetry axis of this arm was not measured"),
    ):
        capsys.readouterr()
        assert deploy(monkeypatch, *common, *arguments) == 2
        told = capsys.readouterr()
        assert words in told.out
        assert "error: UR arm at 127.0.0.9" in told.err  # so far did it get: there is none
