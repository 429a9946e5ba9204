"""Bring weights that were trained with the published code (pointW/equidiff) into a checkpoint of equidiff.

    python scripts/import_published.py state_dict=policy.safetensors experiment=equidiff_image_abs out=outputs/published
    python scripts/import_published.py state_dict=p.safetensors experiment=equidiff_voxel_rel task=coffee_d2 out=...

experiment is equidiff_image_abs, equidiff_image_rel, equidiff_voxel_abs or equidiff_voxel_rel; sizes other than the
published ones are overrides (encoder.channels=64 denoiser.widths=[256,512,1024]). state_dict is a safetensors file; a
pickle is never opened, so the weights' owner exports them first (docs/published.md has the five lines). Predicted
rotations become true ones as in the published code; rotations=nearest takes the way that turns with the scene. The
checkpoint is loaded and evaluated like any other: scripts/eval.py checkpoint=OUT. Exit status 2 if the weights do not
fit; the message names the key.
"""

from __future__ import annotations

import hashlib
import shlex
import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from equidiff.hydra_app import run_app


def main(config: DictConfig) -> None:
    print("loading ...", flush=True)
    import torch

    from equidiff.checkpoint import save_checkpoint
    from equidiff.compose import make_policy, make_spec, policy_tree
    from equidiff.perception import PerceptionSettings
    from equidiff.published import PublishedError, convert_policy, read_state

    tree: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    if tree["orientation"] not in ("hand", "site"):
        raise PublishedError(f"orientation: expected 'hand' or 'site', got {tree['orientation']!r}")
    path = Path(tree["state_dict"])
    state = read_state(path)
    relative = tree["action"]["control"] == "relative"
    ways = {"published": "quaternion" if relative else "first_row", "nearest": "nearest"}
    if tree["rotations"] not in ways:
        raise PublishedError(f"rotations: expected 'published' or 'nearest', got {tree['rotations']!r}")
    tree["action"]["fields"]["projection"] = ways[tree["rotations"]]
    settings, spec = policy_tree(config), make_spec(tree)
    if relative:
        settings["diffusion"]["clip"] = "entries"  # what the published relative policies clip
    torch.manual_seed(0)
    policy = make_policy(settings, spec).eval()
    remarks = convert_policy(state, policy, hand=tree["orientation"] == "hand")
    task, perception = tree["task"], tree["obs"]["perception"]
    seen = PerceptionSettings.from_config(perception, task.get("bounds"), tuple(task["centre"]))
    save_checkpoint(
        tree["out"],
        policy,
        settings,
        data={"published": {"file": path.name, "sha256": _sha256(path), "orientation": tree["orientation"]}},
        extra={
            "task": task,
            "control": tree["action"]["control"],
            # the owner's pictures were drawn by robosuite; which MuJoCo drew them is not known
            "perception": {"settings": seen.to_json(), "renderer": {"kind": "default"}, "versions": {}},
            "command": shlex.join(["python", *sys.argv]),
        },
    )
    for remark in remarks:
        print(f"remark: {remark}")
    count = sum(p.numel() for p in policy.parameters())
    print(f"{len(state)} tensors became {count:,} parameters: {tree['out']}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    run_app(main, "import_published", __doc__)
