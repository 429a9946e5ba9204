"""What a checkpoint's resume/ part holds: raw weights, optimiser by parameter name, EMA, schedule, position."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from equidiff.train.settings import TrainError

__all__ = ["check_identity", "pack", "unpack"]


def pack(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: Any,
    ema: EMAModel | None,
    position: Mapping[str, Any],
) -> dict[str, Any]:
    """{"tensors": {group: {name: Tensor}}, "state": JSON} for save_checkpoint. Tensors are copies."""
    names = _names(model, optimizer)
    tensors: dict[str, dict[str, Tensor]] = {"weights": {k: v.clone() for k, v in model.state_dict().items()}}
    tensors["optimizer"] = {
        f"{slot}/{names[parameter]}": torch.as_tensor(value).clone()
        for parameter, slots in optimizer.state.items()
        for slot, value in slots.items()
    }
    if ema is not None:
        tensors["ema"] = {n: s.clone() for (n, _), s in zip(model.named_parameters(), ema.shadow_params, strict=True)}
    state = {
        "schedule": {k: v for k, v in schedule.state_dict().items() if k in ("last_epoch", "_step_count", "_last_lr")},
        "ema_step": None if ema is None else ema.optimization_step,
        **position,
    }
    return {"tensors": tensors, "state": state}


def unpack(
    stored: Mapping[str, Any],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: Any,
    ema: EMAModel | None,
) -> dict[str, Any]:
    """Put what `pack` stored back into the objects; returns the position. Raises TrainError if they do not fit."""
    tensors, state = stored["tensors"], dict(stored["state"])
    try:
        model.load_state_dict(tensors["weights"])
        parameters = dict(model.named_parameters())
        known = _names(model, optimizer)
        for entry, value in tensors.get("optimizer", {}).items():
            slot, _, name = entry.partition("/")
            parameter = parameters[name]
            if parameter not in known:
                raise KeyError(name)
            # the step counter stays where a fused optimiser keeps it: beside the parameter
            optimizer.state[parameter][slot] = value.to(parameter.device)
        if ema is not None:
            shadows = tensors["ema"]
            for (name, _), shadow in zip(model.named_parameters(), ema.shadow_params, strict=True):
                shadow.copy_(shadows[name])
            ema.optimization_step = int(state["ema_step"])
        schedule.load_state_dict({**schedule.state_dict(), **state["schedule"]})
        for group, rate in zip(optimizer.param_groups, state["schedule"]["_last_lr"], strict=True):
            group["lr"] = rate
    except (KeyError, RuntimeError, TypeError) as error:
        raise TrainError(
            f"resume: the stored state does not fit this run ({error}); start over in another run_dir"
        ) from error
    return state


def check_identity(stored: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise TrainError naming the settings that differ between the run that was stored and this one."""
    before, after = _flat(stored), _flat(now)
    differing = [k for k in sorted(before.keys() | after.keys()) if before.get(k) != after.get(k)]
    if differing:
        lines = "".join(f"\n  {k}: {before.get(k)!r} there, {after.get(k)!r} now" for k in differing[:8])
        raise TrainError(
            f"resume: this run differs from the one to go on with:{lines}\n"
            "Use the same settings, or start over in another run_dir"
        )


def _names(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[Tensor, str]:
    by_parameter: dict[Tensor, str] = {p: n for n, p in model.named_parameters()}
    return {p: by_parameter[p] for group in optimizer.param_groups for p in group["params"]}


def _flat(tree: Any, at: str = "") -> dict[str, Any]:
    if isinstance(tree, Mapping):
        return {k: v for key, sub in tree.items() for k, v in _flat(sub, f"{at}.{key}" if at else str(key)).items()}
    if isinstance(tree, list | tuple):
        return {k: v for i, sub in enumerate(tree) for k, v in _flat(sub, f"{at}[{i}]").items()} or {at: []}
    return {at: tree}
