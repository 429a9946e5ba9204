"""Whole episodes with the devices in an operator's hand: held for all of it, released, and gone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from loop_toys import SPEED, Bench, Ran
from operator_toys import BUTTON, LEFT, NONE, Fifo, Terminal, event

from real_robot.loop.settings import RunSettings
from real_robot.operator import Composite, Gamepad, OperatorInput, SpaceMouse, TerminalKeyboard

pytestmark = pytest.mark.sim
SOON = 0.45
HOME = np.array([0.1, 0.3, 0.0, -2.4, 0.0, 2.7, 0.8])
BESIDE = {"esc": "stop", "enter": "success", "n": "failure", "y": "recover", "q": "end"}


@dataclass
class Hand:
    """press: at the beginning; meanwhile: each tick, with the seconds since the press; release, vanish: the ends."""

    device: OperatorInput
    press: Callable[[], None]
    meanwhile: Callable[[float], None]
    release: Callable[[], None]
    vanish: Callable[[], None]
    terminal: Terminal
    notice: float
    """Seconds after which a release is noticed."""


class Repeats:
    """What a terminal sends for a key that is held: once, and from half a second on each 33 ms."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal, self.due, self.down = terminal, np.inf, False

    def press(self) -> None:
        self.terminal.type(b" ", arrived=True)
        self.due, self.down = 0.5, True

    def meanwhile(self, held: float) -> None:
        if self.down and held >= self.due:
            self.terminal.type(b" ", arrived=True)
            self.due += 0.033

    def release(self) -> None:
        self.down = False

    def vanish(self) -> None:
        self.down = False
        self.terminal.hang_up()


@contextmanager
def hand(name: str, folder: Path) -> Iterator[Hand]:
    """As configs/operator/NAME.yaml, but for the files."""
    terminal, fifo = Terminal(), Fifo(folder / "device")
    beside = TerminalKeyboard(terminal.program, keys=BESIDE)
    if name == "terminal":
        keys = Repeats(terminal)
        alone = TerminalKeyboard(terminal.program)
        made = Hand(alone, keys.press, keys.meanwhile, keys.release, keys.vanish, terminal, 0.17)
    else:
        down, up = (event(BUTTON, 4, 1), event(BUTTON, 4, 0)) if name == "gamepad" else (LEFT, NONE)
        device: OperatorInput = Gamepad(fifo.path) if name == "gamepad" else SpaceMouse(fifo.path)
        made = Hand(
            Composite([device, beside]),
            lambda: fifo.write(down), lambda held: None, lambda: fifo.write(up), fifo.unplug, terminal, 0.02,
        )  # fmt: skip
    with made.device:
        yield made
    terminal.close()


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


def run(bench: Bench, held: Hand, ends: dict[float, Callable[[], None]] | None = None, longest: float = 4.0) -> Ran:
    """Press at 0.1 s; what `ends` says at its times; then nothing."""
    begin = bench.clock.now()
    moments = {0.1: held.press, **(ends or {})}

    def watch(now: float) -> None:
        for when in [when for when in moments if now - begin >= when]:
            moments.pop(when)()
        if now - begin > 0.1:
            held.meanwhile(now - begin - 0.1)

    bench.world.listeners.append(watch)
    try:
        return bench.run(operator=held.device, home=HOME, settings=RunSettings(longest=longest))
    finally:
        bench.world.listeners.remove(watch)


DEVICES = ("gamepad", "spacemouse", "terminal")


@pytest.mark.parametrize("name", DEVICES)
def test_the_switch_is_held_for_a_whole_episode(bench: Bench, tmp_path: Path, name: str) -> None:
    with hand(name, tmp_path) as held:
        ran = run(bench, held)
    assert ran.faults == []
    assert ran.path == ["homing", "ready", "running", "holding", "stopped"]
    assert ran.result.reason == "4.0 s are over"
    assert ran.moved_after(ran.transitions[2][0]) > 3 * SPEED


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("how", ["release", "vanish"])
def test_a_release_and_a_device_that_vanishes_stop_the_arm(bench: Bench, tmp_path: Path, name: str, how: str) -> None:
    with hand(name, tmp_path) as held:
        ran = run(bench, held, {5.0: getattr(held, how)})
    assert ran.faults == ["operator_release"]
    holding = next(t for t, _, target in ran.transitions if target == "holding")
    assert 4.99 < holding < 5.0 + held.notice
    assert ran.stopped() < 5.0 + held.notice + SOON
    assert ran.moved_after(5.0) < SPEED * (held.notice + SOON)
    if how == "vanish":
        assert "device is lost" in ran.result.reason
        assert ran.result.seconds < 5.0 + held.notice + SOON


@pytest.mark.parametrize("name", ["gamepad", "terminal"])
def test_the_stop_on_the_keyboard_stops_whatever_is_held(bench: Bench, tmp_path: Path, name: str) -> None:
    with hand(name, tmp_path) as held:
        ran = run(bench, held, {1.0: lambda: held.terminal.type(b"\x1b", arrived=True)})  # on the way home
    assert ran.faults == ["operator_stop"]
    assert ran.stopped() < 1.0 + 0.02 + SOON


def test_a_tap_on_the_dead_man_key_of_a_terminal_moves_nothing(bench: Bench, tmp_path: Path) -> None:
    with hand("terminal", tmp_path) as held:
        ends = {0.2: held.release, 1.0: lambda: held.terminal.type(b"q", arrived=True)}
        ran = run(bench, held, ends)
    assert (ran.result.by, ran.path) == ("operator", ["homing", "stopped"])
    assert np.ptp(ran.positions, axis=0).max() < 0.002
