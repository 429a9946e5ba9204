"""The operator's hands: dead-man switch, emergency stop, motion and buttons, from keyboard, SpaceMouse or gamepad.

None of this is a safety-rated device: the red button of the arm's own controller is.
"""

from real_robot.operator.composite import Composite
from real_robot.operator.contract import Button, OperatorError, OperatorInput, OperatorState
from real_robot.operator.gamepad import Gamepad
from real_robot.operator.keyboard import Keyboard
from real_robot.operator.keys import Bindings
from real_robot.operator.scripted import Moment, ScriptedOperator
from real_robot.operator.spacemouse import SpaceMouse
from real_robot.operator.terminal import TerminalKeyboard

__all__ = [
    "Bindings",
    "Button",
    "Composite",
    "Gamepad",
    "Keyboard",
    "Moment",
    "OperatorError",
    "OperatorInput",
    "OperatorState",
    "ScriptedOperator",
    "SpaceMouse",
    "TerminalKeyboard",
]
