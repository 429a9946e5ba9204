"""The comparisons of policies that see: what their settings say is what is trained."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from equidiff.compose import make_policy, make_spec, policy_tree
from equidiff.demo.settings import load_settings
from equidiff.matching import count_parameters

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "configs" / "visual_evidence"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_the_policies_differ_in_their_symmetry_alone(name: str) -> None:
    settings = load_settings(FOLDER, name)
    assert settings.n_demo <= 100
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        configs = {
            key: compose("train", [f"task={settings.task}", "data.path=none", *settings.common, *policy.overrides])
            for key, policy in settings.policies.items()
        }
    equivariant, plain = configs["equivariant"], configs["plain"]
    order = equivariant.symmetry.order
    assert (order > 1, plain.symmetry.order) == (True, 1)
    assert plain.encoder.channels == order * equivariant.encoder.channels  # layers of the same width
    assert equivariant.obs == plain.obs == compose_obs(settings.observe)
    for part in ("trainer", "optim", "diffusion", "action", "horizon", "normalizer", "data", "augment"):
        assert equivariant[part] == plain[part], part
    sizes = {key: count_parameters(make_policy(policy_tree(c), make_spec(c))) for key, c in configs.items()}
    assert sizes["plain"] > 3 * sizes["equivariant"]


def compose_obs(name: str | None) -> object:
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return compose("train", ["task=lift", "data.path=none", f"obs={name}"]).obs


def test_help_names_the_comparisons() -> None:
    command = [sys.executable, "scripts/visual_evidence.py", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert f"Tasks: {', '.join(NAMES)}" in done.stdout
