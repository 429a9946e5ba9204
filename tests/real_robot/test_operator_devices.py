"""Operator devices on real byte streams: FIFOs for joystick and HID, a pseudo-terminal for keys; and unplugged."""

from __future__ import annotations

import struct
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from operator_toys import AXIS, BUTTON, INITIAL, LEFT, NONE, Fifo, Terminal, event, report

from real_robot.operator import Button, Gamepad, Keyboard, OperatorError, OperatorState, SpaceMouse, TerminalKeyboard
from real_robot.operator.spacemouse import find_spacemouse

pytestmark = pytest.mark.realtime


@pytest.fixture
def fifo(tmp_path: Path) -> Fifo:
    return Fifo(tmp_path / "device")


@pytest.fixture
def pad(fifo: Fifo) -> Iterator[Gamepad]:
    with Gamepad(fifo.path, timeout=1.0) as pad:
        pad.read(0.0)
        yield pad


def held(state: OperatorState) -> list[float]:
    assert state.enabled, state.note
    return state.twist.round(3).tolist()


def released(state: OperatorState, why: str) -> None:
    assert not state.enabled
    assert not state.twist.any()
    assert why in state.note


# -- gamepad -------------------------------------------------------------------------------------------


def test_a_pad_moves_while_its_switch_is_held(pad: Gamepad, fifo: Fifo) -> None:
    fifo.write(event(AXIS, 1, -32767) + event(AXIS, 0, 16384))
    released(pad.read(0.1), "not pressed yet")
    fifo.write(event(BUTTON, 4, 1))
    assert held(pad.read(0.2)) == [1, -0.5, 0, 0, 0, 0]
    fifo.write(event(AXIS, 1, 0) + event(AXIS, 3, -32768))
    assert held(pad.read(0.3)) == [0, -0.5, 0, 0, 0, 1]
    fifo.write(event(BUTTON, 4, 0))
    released(pad.read(0.4), "released")


def test_events_cut_in_the_middle_are_joined(pad: Gamepad, fifo: Fifo) -> None:
    whole = event(BUTTON, 4, 1) + event(AXIS, 1, -32767)
    for i in range(len(whole)):
        assert not pad.read(0.1).twist.any()
        fifo.write(whole[i : i + 1])
    assert held(pad.read(0.1))[0] == 1


def test_buttons_count_once(pad: Gamepad, fifo: Fifo) -> None:
    fifo.write(event(BUTTON, 0, 1) + event(BUTTON, 0, 0) + event(BUTTON, 3, 1))
    assert pad.read(0.1).pressed == {Button.GRIPPER, Button.SUCCESS}
    assert pad.read(0.2).pressed == set()


def test_what_was_held_when_the_pad_was_opened_is_no_press(fifo: Fifo) -> None:
    fifo.write(event(BUTTON | INITIAL, 4, 1) + event(BUTTON | INITIAL, 3, 1) + event(AXIS | INITIAL, 1, -32767))
    with Gamepad(fifo.path) as pad:
        pad.read(0.0)
        fifo.write(event(BUTTON | INITIAL, 4, 1))
        released(pad.read(0.1), "not pressed yet")
        fifo.write(event(BUTTON, 4, 0) + event(BUTTON, 4, 1))
        assert held(pad.read(0.2))[0] == 1  # the axis' initial state is its state


def test_a_stop_at_opening_is_a_stop(fifo: Fifo) -> None:
    fifo.write(event(BUTTON | INITIAL, 1, 1))
    with Gamepad(fifo.path) as pad:
        assert pad.read(0.0).stop


def test_an_unplugged_pad_is_released(pad: Gamepad, fifo: Fifo) -> None:
    fifo.write(event(BUTTON, 4, 1) + event(AXIS, 1, -32767))
    assert held(pad.read(0.1))[0] == 1
    fifo.unplug()
    state = pad.read(0.11)
    released(state, "closed")
    assert state.lost
    released(pad.read(0.12), "closed")


@pytest.fixture
def wireless(fifo: Fifo) -> Iterator[Gamepad]:
    """Its receiver stays plugged in when its battery is empty."""
    with Gamepad(fifo.path, timeout=1.0, silence=1.0) as pad:
        pad.read(0.0)
        yield pad


def test_a_switch_that_is_held_still_stays_held_until_it_is_released_or_unplugged(pad: Gamepad, fifo: Fifo) -> None:
    for end, why in ((lambda: fifo.write(event(BUTTON, 4, 0)), "released"), (fifo.unplug, "closed")):
        fifo.write(event(BUTTON, 4, 1))
        for i in range(6000):  # a minute in which the pad says nothing
            assert pad.read(0.01 * i).enabled
        end()
        released(pad.read(60.0), why)
        pad.read(0.0)


def test_a_silent_wireless_pad_is_released_until_pressed_anew(wireless: Gamepad, fifo: Fifo) -> None:
    pad = wireless
    fifo.write(event(BUTTON, 4, 1) + event(AXIS, 1, -32767))
    for now in (0.1, 0.6, 1.0):
        assert held(pad.read(now))[0] == 1
    released(pad.read(1.2), "silent for more than 1 s")
    fifo.write(event(AXIS, 1, -32000))  # the pad is back, but nobody knows what the switch did meanwhile
    released(pad.read(1.3), "silent for more than 1 s")
    fifo.write(event(BUTTON, 4, 0) + event(BUTTON, 4, 1))
    assert held(pad.read(1.4))[0] == 0.977


def test_what_waited_to_be_read_moves_nothing_but_stops(pad: Gamepad, fifo: Fifo) -> None:
    fifo.write(event(AXIS, 1, -32767) + event(BUTTON, 4, 1) + event(BUTTON, 3, 1))
    state = pad.read(5.0)  # the last read was at 0
    released(state, "was not asked for more than 1 s")
    assert not state.pressed
    fifo.write(event(BUTTON, 1, 1))
    assert pad.read(9.0).stop


def test_a_stop_stays_until_cleared_and_the_switch_is_pressed_anew(pad: Gamepad, fifo: Fifo) -> None:
    fifo.write(event(BUTTON, 4, 1) + event(BUTTON, 1, 1) + event(BUTTON, 1, 0))
    state = pad.read(0.1)
    assert state.stop
    released(state, "stop is latched")
    fifo.write(event(BUTTON, 4, 0) + event(BUTTON, 4, 1))
    assert pad.read(0.2).stop
    pad.clear_stop()
    state = pad.read(0.3)
    assert not state.stop
    released(state, "pressed anew after a stop")
    fifo.write(event(BUTTON, 4, 0) + event(BUTTON, 4, 1))
    assert held(pad.read(0.4)) == [0] * 6


def test_a_stop_survives_unplugging(pad: Gamepad, fifo: Fifo) -> None:
    fifo.write(event(BUTTON, 1, 1))
    fifo.unplug()
    assert pad.read(0.1).stop
    assert pad.read(0.2).stop


def test_a_pad_that_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="js7: No such file or directory; plug the pad in"):
        Gamepad(tmp_path / "js7").connect()


# -- SpaceMouse ----------------------------------------------------------------------------------------


@pytest.fixture
def mouse(fifo: Fifo) -> Iterator[SpaceMouse]:
    with SpaceMouse(fifo.path, timeout=0.5) as mouse:
        mouse.read(0.0)
        fifo.write(LEFT)
        mouse.read(0.0)
        yield mouse


@pytest.mark.parametrize(
    ("reports", "twist"),
    [
        ([report(1, 0, -350, 0)], [1, 0, 0, 0, 0, 0]),  # pushed away from the operator
        ([report(1, 350, 0, 0)], [0, -1, 0, 0, 0, 0]),  # to the right
        ([report(1, 0, 0, -175)], [0, 0, 0.5, 0, 0, 0]),  # lifted
        ([report(2, 0, 0, 350)], [0, 0, 0, 0, 0, -1]),  # turned clockwise, seen from above
        ([report(1, 0, -350, 0), report(2, -35, 0, 0)], [1, 0, 0, 0, 0.1, 0]),
        ([report(1, 0, -350, 0, 0, -70, 0)], [1, 0, 0, 0.2, 0, 0]),  # wireless: all in one report
        ([report(1, 0, -30000, 0)], [1, 0, 0, 0, 0, 0]),
        ([report(1, 0, -350, 0), bytes([0x17, 80, 0])], [1, 0, 0, 0, 0, 0]),  # battery
    ],
)
def test_reports_are_decoded(mouse: SpaceMouse, fifo: Fifo, reports: list[bytes], twist: list[float]) -> None:
    for one in reports:
        fifo.write(one)
        state = mouse.read(0.1)
    assert held(state) == pytest.approx(twist)


def test_decoding_agrees_with_pyspacemouse(mouse: SpaceMouse, fifo: Fifo) -> None:
    tomllib = pytest.importorskip("tomllib")
    package = pytest.importorskip("pyspacemouse")
    table = tomllib.loads((Path(package.__file__).parent / "devices.toml").read_text())["SpaceMouseCompact"]
    numbers = np.random.default_rng(0).integers(-350, 351, 6)
    packets = {1: report(1, *numbers[:3]), 2: report(2, *numbers[3:])}
    for packet in packets.values():
        fifo.write(packet)
        state = mouse.read(0.1)
    theirs = {}
    for name, (channel, low, _, sign) in table["mappings"].items():
        value = struct.unpack_from("<h", packets[channel], low)[0]
        theirs[name] = sign * value / table["axis_scale"]
    # their x is to the right and y away from the operator; their yaw counts clockwise from above
    ours = [theirs["y"], -theirs["x"], theirs["z"], theirs["roll"], theirs["pitch"], -theirs["yaw"]]
    assert held(state) == pytest.approx(ours, abs=1e-3)


def test_buttons_of_the_mouse(mouse: SpaceMouse, fifo: Fifo) -> None:
    fifo.write(b"\x03\x03\x00")
    assert mouse.read(0.1).pressed == {Button.GRIPPER}
    fifo.write(NONE)
    released(mouse.read(0.2), "released")


def test_a_mouse_at_rest_stays_held_and_an_unplugged_one_is_released_at_once(mouse: SpaceMouse, fifo: Fifo) -> None:
    fifo.write(report(1, 0, -350, 0))
    assert held(mouse.read(0.4))[0] == 1
    fifo.write(report(1, 0, 0, 0))
    for i in range(40, 6000):
        assert not held(mouse.read(0.01 * i))[0]
    fifo.unplug()
    assert mouse.read(60.0).lost


def test_a_silent_wireless_mouse_is_released_in_time(fifo: Fifo) -> None:
    with SpaceMouse(fifo.path, timeout=0.5, silence=0.5) as mouse:
        mouse.read(0.4)
        fifo.write(LEFT)
        assert mouse.read(0.4).enabled
        assert mouse.read(0.7).enabled
        released(mouse.read(0.91), "silent")
        fifo.write(NONE)
        mouse.read(0.92)
        fifo.write(LEFT)
        assert mouse.read(0.93).enabled


def test_the_mouse_is_found_among_others(tmp_path: Path) -> None:
    for name, identity in (("hidraw0", "0003:0000046D:0000C52B"), ("hidraw3", "0003:0000256F:0000C635")):
        (tmp_path / name / "device").mkdir(parents=True)
        (tmp_path / name / "device" / "uevent").write_text(f"DRIVER=hid-generic\nHID_ID={identity}\nHID_NAME=x\n")
    assert find_spacemouse(tmp_path) == Path("/dev/hidraw3")
    with pytest.raises(OperatorError, match="none found under"):
        find_spacemouse(tmp_path / "none")


# -- terminal ------------------------------------------------------------------------------------------


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    terminal.close()


@pytest.fixture
def keys(terminal: Terminal) -> Iterator[TerminalKeyboard]:
    with TerminalKeyboard(terminal.program, timeout=0.15) as keys:
        keys.read(0.0)
        yield keys


def read(keys: TerminalKeyboard, now: float) -> OperatorState:
    """The line discipline hands the bytes on in its own time."""
    time.sleep(0.02)
    return keys.read(now)


def test_a_held_key_is_its_own_switch(keys: TerminalKeyboard, terminal: Terminal) -> None:
    for now in (0.1, 0.2, 0.3):  # it repeats
        terminal.type(b"w")
        assert held(read(keys, now)) == [1, 0, 0, 0, 0, 0]
        assert held(read(keys, now + 0.05))[0] == 1
    released(read(keys, 0.46), "silent for more than 0.15 s")
    terminal.type(b"J")
    assert held(read(keys, 0.5)) == [0, 0, 0, 0, 0, 1]
    terminal.type(b" ")
    assert held(read(keys, 0.55)) == [0] * 6


def test_the_dead_man_key_counts_from_its_first_repeat_on(keys: TerminalKeyboard, terminal: Terminal) -> None:
    """A tap moves nothing, and the keyboard's delay before the first repeat is no release."""
    terminal.type(b" ")
    released(read(keys, 0.1), "keep the dead-man key down until it repeats")
    assert not read(keys, 0.2).enabled
    for now in (0.6, 0.69, 0.78, 0.87):  # a slow console repeats each 92 ms
        terminal.type(b" ")
        assert read(keys, now).enabled == (now > 0.6)
        assert read(keys, now + 0.05).enabled == (now > 0.6)
    released(read(keys, 1.03), "silent for more than 0.15 s")
    terminal.type(b" ")  # a tap soon after the release
    released(read(keys, 1.1), "keep the dead-man key down")


def test_keys_are_not_echoed_and_the_terminal_is_restored(terminal: Terminal) -> None:
    before = termios.tcgetattr(terminal.program)
    with TerminalKeyboard(terminal.program):
        assert not termios.tcgetattr(terminal.program)[3] & (termios.ECHO | termios.ICANON)
    assert termios.tcgetattr(terminal.program) == before


def test_another_key_takes_the_place_of_the_held_one(keys: TerminalKeyboard, terminal: Terminal) -> None:
    terminal.type(b"w")
    assert held(read(keys, 0.1))[0] == 1
    terminal.type(b"g")
    state = read(keys, 0.15)
    released(state, "another key")
    assert state.pressed == {Button.GRIPPER}
    terminal.type(b"\r")
    assert read(keys, 0.2).pressed == {Button.SUCCESS}


def test_escape_stops_and_arrows_do_not(keys: TerminalKeyboard, terminal: Terminal) -> None:
    terminal.type(b"\x1b[A\x1b[3~")
    assert not read(keys, 0.1).stop
    terminal.type(b"w\x1bw")
    state = read(keys, 0.2)
    assert state.stop
    released(state, "stop is latched")
    keys.clear_stop()
    terminal.type(b"w")
    assert held(read(keys, 0.3))[0] == 1


def test_a_lost_connection_is_a_released_switch(keys: TerminalKeyboard, terminal: Terminal) -> None:
    terminal.type(b"w")
    assert held(read(keys, 0.1))[0] == 1
    terminal.hang_up()
    state = read(keys, 0.12)
    released(state, "terminal")
    assert state.lost


def test_no_terminal_says_what_to_do(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w+b") as file, pytest.raises(OperatorError, match=r"not a terminal .*\(ssh -t\)"):
        TerminalKeyboard(file.fileno()).connect()


# -- keyboard under a display --------------------------------------------------------------------------


class Listener(threading.Thread):
    """Stands for pynput's thread, which needs a display; the keys are pynput's own."""

    def __init__(self, pressed: Callable[[Any], None], released: Callable[[Any], None]) -> None:
        super().__init__(daemon=True)
        self.pressed, self.released, self.ended = pressed, released, threading.Event()

    def run(self) -> None:
        self.ended.wait()

    def stop(self) -> None:
        self.ended.set()


@pytest.fixture
def keyboard() -> Iterator[Keyboard]:
    with Keyboard(timeout=0.8, listener=Listener) as keyboard:
        keyboard.read(0.0)
        yield keyboard


@pytest.fixture
def pynput(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("PYNPUT_BACKEND", "dummy")
    return pytest.importorskip("pynput.keyboard", reason="pynput is not installed (extra operator)")


def test_several_keys_at_a_time(keyboard: Keyboard, pynput: Any) -> None:
    listener = keyboard._listener
    w, a, space = (pynput.KeyCode.from_char(c) for c in "wA ")
    listener.pressed(w)
    listener.pressed(a)
    released(keyboard.read(0.1), "not pressed yet")
    listener.pressed(space)
    assert held(keyboard.read(0.2)) == [1, 1, 0, 0, 0, 0]
    listener.released(w)
    assert held(keyboard.read(0.3)) == [0, 1, 0, 0, 0, 0]
    listener.released(space)
    released(keyboard.read(0.4), "released")


def test_repeats_keep_a_key_held_and_count_once(keyboard: Keyboard) -> None:
    listener = keyboard._listener
    for key in ("space", "w", "g"):
        listener.pressed(key)
    assert keyboard.read(0.1).pressed == {Button.GRIPPER}
    for now in (0.7, 1.3, 1.9):
        listener.pressed("g")
        state = keyboard.read(now)
        assert held(state)[0] == 1
        assert not state.pressed
    assert keyboard.read(2.6).enabled
    released(keyboard.read(2.75), "silent")
    listener.pressed("space")  # a repeat of a key that was down all the time
    released(keyboard.read(2.8), "silent")


def test_a_display_that_goes_away_releases(keyboard: Keyboard) -> None:
    keyboard._listener.pressed("space")
    assert keyboard.read(0.1).enabled
    listener = keyboard._listener
    listener.stop()
    listener.join()
    state = keyboard.read(0.2)
    released(state, "the display is gone")
    assert state.lost


def test_without_a_display_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynput", None)
    with pytest.raises(OperatorError, match="take operator=terminal"):
        Keyboard().connect()
