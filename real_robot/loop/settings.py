"""`RunSettings`: the numbers of the loop."""

from __future__ import annotations

from dataclasses import dataclass, fields

from real_robot.settings import SettingsError

__all__ = ["RunSettings"]


@dataclass(frozen=True)
class RunSettings:
    """Seconds, but for `execute`: control steps of the policy after which it is asked again (None: as it was trained).

    longest: of an episode, from its first motion on. max_state_age, max_observation_age: older measurements of the
    arm, or observations for the policy, are not acted on. max_late: a tick that comes later stops the arm. start: until
    a first plan has to be there. hold: the longest hold, then the run ends. rest: the longest braking.
    """

    longest: float = 60.0
    execute: int | None = None
    max_state_age: float = 0.1
    max_observation_age: float = 0.3
    max_late: float = 0.1
    start: float = 10.0
    hold: float = 30.0
    rest: float = 3.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None and field.name == "execute":
                continue
            if not isinstance(value, int | float) or not 0 < value < 1e6:
                raise SettingsError(f"run.{field.name}: expected a number > 0, got {value}")
