"""Several devices as one, the scripted operator, and what settings are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from real_robot.operator import (
    Bindings,
    Button,
    Composite,
    Gamepad,
    Moment,
    OperatorError,
    OperatorInput,
    OperatorState,
    ScriptedOperator,
    SpaceMouse,
    TerminalKeyboard,
)

CONFIGS = Path(__file__).parents[2] / "configs"


def device(*script: Moment) -> ScriptedOperator:
    device = ScriptedOperator(script)
    device.connect()
    return device


def test_motion_is_the_sum_of_those_that_are_held() -> None:
    both = Composite(
        [
            device(Moment(0, (1, 0.25, 0, 0, 0, 0), pressed=("gripper",))),
            device(Moment(0, (1, 0, 0, 0, 0, -1)), Moment(1, (1, 0, 0, 0, 0, 0), enabled=False, pressed=("success",))),
        ]
    )
    first, then = both.read(0), both.read(1)
    assert first.enabled
    assert first.twist.tolist() == [1, 0.25, 0, 0, 0, -1]
    assert first.pressed == {Button.GRIPPER}
    assert then.twist.tolist() == [1, 0.25, 0, 0, 0, 0]
    assert then.pressed == {Button.SUCCESS}


def test_any_stop_stops_until_all_are_cleared() -> None:
    both = Composite(
        [device(Moment(0, (1, 0, 0, 0, 0, 0))), device(Moment(0, enabled=False), Moment(1, enabled=False, stop=True))]
    )
    assert both.read(0).enabled
    state = both.read(1)
    assert state.stop
    assert not state.enabled
    assert not state.twist.any()
    assert both.read(2).stop
    both.clear_stop()
    assert both.read(3).enabled


def test_nothing_moves_without_the_device_that_has_the_stop() -> None:
    mover, stopper = device(Moment(0, (1, 0, 0, 0, 0, 0))), device(Moment(0, enabled=False))
    both = Composite([mover, stopper])
    assert both.read(0).enabled
    stopper.disconnect()
    state = both.read(0.1)
    assert not state.enabled
    assert state.lost
    assert not state.twist.any()


def test_a_device_that_does_not_open_leaves_none_open(tmp_path: Path) -> None:
    first = ScriptedOperator([Moment(0)])
    with pytest.raises(OperatorError):
        Composite([first, Gamepad(tmp_path / "js0")]).connect()
    assert first.read(0).lost


def test_a_script_is_followed() -> None:
    operator = device(Moment(0.5, (0, 0, 1, 0, 0, 0)), Moment(1, pressed=("end",)))
    assert not operator.read(10).enabled
    assert operator.read(10.5).twist[2] == 1
    assert operator.read(10.9).pressed == set()
    assert operator.read(12).pressed == {Button.END}
    assert operator.read(13).pressed == set()


@pytest.mark.parametrize("twist", [[0, 0, 0, 0, 0, 1.01], [float("nan")] * 6, [0, 0, 0]])
def test_a_state_out_of_range_cannot_be_made(twist: list[float]) -> None:
    with pytest.raises(ValueError, match="expected 6 numbers"):
        OperatorState(0, True, False, twist)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Bindings({"w": "+x"}), "none means stop"),
        (lambda: Bindings({"w": "+w", "esc": "stop"}), r"keys.w: expected \+ or - and one of x, y"),
        (lambda: Bindings({"w": "stopp"}), "keys.w: no action 'stopp'; did you mean 'stop'"),
        (lambda: Gamepad(buttons={1: "stop"}), "no button is the deadman"),
        (lambda: SpaceMouse(buttons={1: "gripper"}), "no button is the deadman"),
        (lambda: SpaceMouse(timeout=0), "expected a timeout"),
        (lambda: Composite([]), "at least one device"),
        (lambda: ScriptedOperator([Moment(1), Moment(0)]), "in the order of their start"),
    ],
)
def test_mistakes_in_settings_are_named(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(OperatorError, match=message):
        make()


@pytest.mark.parametrize(
    ("name", "kind"),
    [("terminal", TerminalKeyboard), ("spacemouse", Composite), ("gamepad", Composite), ("keyboard", OperatorInput)],
)
def test_the_configs_make_operators(name: str, kind: type) -> None:
    with initialize_config_dir(str(CONFIGS / "operator"), version_base="1.3"):
        assert isinstance(instantiate(compose(name)), kind)
