"""Success that depends on what happened before: Kitchen wants the stove to have been on with the full pot on it.

MimicGen's Kitchen keeps this beside the simulator's state, in flags that robosuite's own step brings up to date. They
are not in a stored state, so a state put back alone never counts as solved.
"""

from __future__ import annotations

from typing import Any

__all__ = ["forget", "look", "remembers", "show"]

_FLAGS = ("has_stove_turned_on", "has_stove_turned_on_with_pot_and_object")


def remembers(env: Any) -> bool:
    """Whether the success of a robosuite environment depends on earlier states."""
    return hasattr(env, _FLAGS[0])


def look(env: Any) -> None:
    """Bring the flags up to date with the current state, as robosuite's own step does."""
    if remembers(env):
        env._post_process()


def show(env: Any) -> None:
    """Let the stoves that are on glow: robosuite's own step does it, putting a stored state back does not."""
    if remembers(env):
        for number, stove in env.stoves.items():
            on = env.sim.data.qpos[env.button_qpos_addrs[number]] >= 0
            stove.set_sites_visibility(env.sim, bool(on))


def forget(env: Any) -> None:
    """Start of an episode."""
    if remembers(env):
        env.buttons_on = dict.fromkeys(env.buttons_on, False)
        for flag in _FLAGS:
            setattr(env, flag, False)
