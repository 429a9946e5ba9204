"""From a composed config to a spec and a policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf

from equidiff.config import ConfigError, build
from equidiff.perception import PerceptionSettings, check_overhead
from equidiff.policy import DiffusionPolicy
from equidiff.spec import Horizon, Space, Spec, Workspace

__all__ = ["make_policy", "make_spec", "policy_tree"]


def make_spec(config: Mapping[str, Any]) -> Spec:
    """Spec from the nodes task (centre, bounds, control_hz), obs, action and horizon of a config.

    Raises PerceptionError if a picture is declared overhead and obs.perception places its camera elsewhere.
    """
    for node in ("task", "obs", "action", "horizon"):
        if node not in config:
            raise ConfigError(f"config has no node {node!r}; it needs task, obs, action and horizon")
    task, horizon = config["task"], config["horizon"]
    spec = Spec(
        observation=Space(tuple(build(config["obs"]["fields"]))),
        action=Space(tuple(build(config["action"]["fields"]))),
        horizon=Horizon(
            obs=config["obs"]["horizon"],
            predict=horizon["predict"],
            execute=horizon["execute"],
            latency=horizon.get("latency", 0),
        ),
        workspace=Workspace(centre=tuple(task["centre"]), bounds=task.get("bounds")),
        control_hz=float(task["control_hz"]),
    )
    if config["obs"].get("perception") and any(getattr(f, "overhead", False) for f in spec.observation.fields):
        centre = spec.workspace.centre
        seen = PerceptionSettings.from_config(config["obs"]["perception"], spec.workspace.bounds, centre)
        check_overhead(spec.observation.arrays, seen.own_poses, centre)
    return spec


def policy_tree(config: Mapping[str, Any]) -> dict[str, Any]:
    """The resolved policy sub-tree: what `build` needs and a checkpoint stores."""
    composed = OmegaConf.create(config) if isinstance(config, dict) else config
    tree = OmegaConf.to_container(composed, resolve=True)
    policy = tree.get("policy") if isinstance(tree, dict) else None
    if not isinstance(policy, dict):
        raise ConfigError("config has no node 'policy'")
    return policy


def make_policy(tree: Mapping[str, Any], spec: Spec) -> DiffusionPolicy:
    """Build the policy of a resolved policy tree for a spec."""
    policy: DiffusionPolicy = build(tree, spec=spec)
    return policy
