"""Checkpoints: a directory of safetensors and JSON, written atomically, verified when read. No pickle.

    policy.safetensors      parameters (the EMA's) and declared statistics of everything but the normaliser
    normalizer.safetensors  what the normaliser was fitted to
    spec.json               the Spec
    policy.yaml             the resolved policy sub-tree of the config
    probe.safetensors       one observation, its noise and the chunk sampled from them when saving
    manifest.json           format version, library versions, git revision, data, metrics, sha256 of each file
    resume/                 optional: raw weights, optimiser, random state, position (see load_resume)
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load as load_tensors
from safetensors.torch import save_file
from torch import Tensor

from equidiff.config import ALLOWED, ConfigError, build, did_you_mean
from equidiff.fields import FieldError
from equidiff.policy import DiffusionPolicy
from equidiff.spec import Spec, SpecError

__all__ = ["FORMAT", "CheckpointError", "inspect_checkpoint", "load_policy", "load_resume", "save_checkpoint"]

FORMAT = 1
_PROBE_TOLERANCE = 1e-3  # other BLAS, other order of additions, amplified over the sampler's steps


class CheckpointError(RuntimeError):
    """A checkpoint that is missing, damaged, altered or made for something else; says which file and the fix."""


def save_checkpoint(
    path: str | os.PathLike[str],
    policy: DiffusionPolicy,
    policy_config: Mapping[str, Any],
    *,
    metrics: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
    resume: Mapping[str, Any] | None = None,
) -> Path:
    """Write a checkpoint directory and put it in place of an earlier one; returns its path.

    policy_config: the resolved tree `build` made the policy from. metrics, data, extra: JSON for the
    manifest (task, command, fingerprints). resume: {"tensors": {group: {name: Tensor}}, "state": JSON}.
    If anything fails on the way (a full disk, a kill), the earlier checkpoint is still there.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        _write(temporary, policy, policy_config, metrics or {}, data or {}, extra or {}, resume)
        _replace(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return target


def load_policy(
    path: str | os.PathLike[str],
    device: str | torch.device = "cpu",
    *,
    spec: Spec | None = None,
    allow: Sequence[str] = (),
) -> DiffusionPolicy:
    """Load a policy in eval mode, after checking hashes, targets, keys and the stored probe.

    spec: if given, the checkpoint must be for exactly this spec. allow: further modules whose classes
    the checkpoint may name, only for checkpoints whose author you trust. Raises CheckpointError.
    """
    where = _recover(Path(path))
    manifest, files = _verified(where)
    stored = _parse_spec(where, files["spec.json"])
    if spec is not None and spec != stored:
        raise CheckpointError(f"{where}: made for another spec.{_difference(stored, spec)}")
    try:
        tree = _parse_yaml(where, files["policy.yaml"])
        policy = build(tree, allow=(*ALLOWED, *allow), spec=stored)
    except (ConfigError, SpecError, FieldError, TypeError, ValueError) as error:
        raise CheckpointError(f"{where / 'policy.yaml'}: {error}") from error
    _load_state(where, policy, load_tensors(files["policy.safetensors"]), load_tensors(files["normalizer.safetensors"]))
    policy.to(device).eval().requires_grad_(False)
    _check_probe(where, policy, load_tensors(files["probe.safetensors"]), manifest)
    return policy  # type: ignore[no-any-return]


def load_resume(path: str | os.PathLike[str]) -> dict[str, Any]:
    """{"tensors": {group: {name: Tensor}}, "state": JSON} as given to save_checkpoint; verified."""
    where = _recover(Path(path))
    _, files = _verified(where)
    if "resume/state.json" not in files:
        raise CheckpointError(f"{where}: has no resume/ part, so training cannot go on from it")
    tensors = {
        Path(name).stem: load_tensors(content)
        for name, content in files.items()
        if name.startswith("resume/") and name.endswith(".safetensors")
    }
    return {"tensors": tensors, "state": json.loads(files["resume/state.json"])}


def inspect_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The manifest, after verifying every file."""
    return _verified(_recover(Path(path)))[0]


# -- writing -------------------------------------------------------------------------------------------


def _write(
    folder: Path,
    policy: DiffusionPolicy,
    policy_config: Mapping[str, Any],
    metrics: Mapping[str, Any],
    data: Mapping[str, Any],
    extra: Mapping[str, Any],
    resume: Mapping[str, Any] | None,
) -> None:
    state, normalizer = _split_state(policy)
    save_file(state, folder / "policy.safetensors")
    save_file(normalizer, folder / "normalizer.safetensors")
    save_file(_make_probe(policy), folder / "probe.safetensors")
    (folder / "spec.json").write_text(json.dumps(policy.spec.to_json(), indent=1))
    (folder / "policy.yaml").write_text(yaml.safe_dump(_plain(policy_config), sort_keys=False))
    if resume is not None:
        (folder / "resume").mkdir()
        for group, tensors in resume.get("tensors", {}).items():
            save_file({k: v.detach().contiguous() for k, v in tensors.items()}, folder / "resume" / f"{group}.safetensors")
        (folder / "resume" / "state.json").write_text(json.dumps(resume.get("state", {})))
    names = sorted(str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file())
    manifest = {
        "format": FORMAT,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": _versions(),
        "git": _git_revision(),
        "parameters": sum(p.numel() for p in policy.parameters()),
        "metrics": dict(metrics),
        "data": dict(data),
        **extra,
        "sha256": {name: _sha256((folder / name).read_bytes()) for name in names},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1))
    for file in folder.rglob("*"):
        _fsync(file)
    _fsync(folder)


def _replace(temporary: Path, target: Path) -> None:
    previous = _previous(target)
    os.chmod(temporary, 0o755)
    if target.exists():
        if previous.exists():
            shutil.rmtree(previous)
        os.rename(target, previous)
    os.rename(temporary, target)
    _fsync(target.parent)
    shutil.rmtree(previous, ignore_errors=True)


def _recover(path: Path) -> Path:
    """A kill between the two renames of `_replace` leaves the earlier checkpoint under `.NAME.previous`."""
    previous = _previous(path)
    if not path.exists() and previous.exists():
        warnings.warn(f"{path}: saving was interrupted; using the previous checkpoint", stacklevel=3)
        os.rename(previous, path)
    return path


def _previous(path: Path) -> Path:
    return path.parent / f".{path.name}.previous"


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _split_state(policy: DiffusionPolicy) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    state = {k: v.detach().cpu().contiguous() for k, v in policy.state_dict().items()}
    prefix = "normalizer."
    normalizer = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    return {k: v for k, v in state.items() if not k.startswith(prefix)}, normalizer


def _make_probe(policy: DiffusionPolicy) -> dict[str, Tensor]:
    """A fixed observation and what the policy makes of it, so that loading proves the same function."""
    generator = torch.Generator().manual_seed(0)
    probe, device = {}, next(policy.parameters()).device
    for key, shape in policy.spec.observation.shapes.items():
        probe[f"obs/{key}"] = torch.rand((1, policy.spec.horizon.obs, *shape), generator=generator) + 0.1
    probe["noise"] = torch.randn((1, *policy.noise_shape), generator=generator)
    training = policy.training
    policy.eval()
    probe["predicted"] = _run_probe(policy, probe, device)
    policy.train(training)
    return probe


def _run_probe(policy: DiffusionPolicy, probe: Mapping[str, Tensor], device: torch.device) -> Tensor:
    obs = {k.removeprefix("obs/"): v.to(device) for k, v in probe.items() if k.startswith("obs/")}
    steps = torch.zeros(policy.diffusion.inference_steps, *probe["noise"].shape, device=device)
    if not bool(policy.normalizer.fitted):
        raise CheckpointError("the policy's normaliser is not fitted; call policy.fit(batches) before saving")
    return policy.act(obs, noise=probe["noise"].to(device), step_noise=steps).predicted.cpu().contiguous()


# -- reading -------------------------------------------------------------------------------------------


def _verified(where: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Manifest and the content of every file it lists; each file is read once, so what is hashed is what is used."""
    if not where.is_dir():
        near = did_you_mean(where.name, [p.name for p in where.parent.iterdir()] if where.parent.is_dir() else [])
        raise CheckpointError(f"{where}: no such checkpoint directory{near}")
    try:
        manifest = json.loads((where / "manifest.json").read_text())
    except FileNotFoundError:
        raise CheckpointError(f"{where}: has no manifest.json, so it is not a checkpoint of equidiff") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{where / 'manifest.json'}: damaged ({error})") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else None
        raise CheckpointError(f"{where}: format {found!r}, this version of equidiff reads {FORMAT}; install the matching version")
    contents = {}
    for name, expected in manifest["sha256"].items():
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise CheckpointError(f"{where / 'manifest.json'}: lists {name!r} outside the checkpoint")
        try:
            contents[name] = (where / name).read_bytes()
        except FileNotFoundError:
            raise CheckpointError(f"{where / name}: missing; the checkpoint is incomplete, copy it again") from None
        if _sha256(contents[name]) != expected:
            raise CheckpointError(f"{where / name}: its sha256 differs from the manifest; damaged or altered, copy it again")
    required = {"policy.safetensors", "normalizer.safetensors", "spec.json", "policy.yaml", "probe.safetensors"}
    for name in sorted(required - set(contents)):
        raise CheckpointError(f"{where / 'manifest.json'}: does not list {name}; the checkpoint is incomplete")
    return manifest, contents


def _parse_spec(where: Path, content: bytes) -> Spec:
    try:
        return Spec.from_json(json.loads(content))
    except (SpecError, FieldError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{where / 'spec.json'}: {error}") from error


def _parse_yaml(where: Path, content: bytes) -> dict[str, Any]:
    tree = yaml.safe_load(content)
    if not isinstance(tree, dict) or "_target_" not in tree:
        raise ConfigError("expected a tree with '_target_'")
    if b"${" in content:
        raise ConfigError("contains '${': a checkpoint stores resolved values only")
    return tree


def _load_state(where: Path, policy: torch.nn.Module, state: dict[str, Tensor], normalizer: dict[str, Tensor]) -> None:
    given = {**state, **{f"normalizer.{k}": v for k, v in normalizer.items()}}
    expected = policy.state_dict()
    for problem, keys in (("lacks", expected.keys() - given.keys()), ("has unknown", given.keys() - expected.keys())):
        if keys:
            raise CheckpointError(f"{where / 'policy.safetensors'}: {problem} {len(keys)} tensors, first {sorted(keys)[0]!r}")
    for key, value in given.items():
        if value.shape != expected[key].shape:
            raise CheckpointError(
                f"{where}: {key!r} has shape {tuple(value.shape)}, the model needs {tuple(expected[key].shape)}"
            )
    policy.load_state_dict(given)


def _check_probe(where: Path, policy: DiffusionPolicy, probe: dict[str, Tensor], manifest: Mapping[str, Any]) -> None:
    device = next(policy.parameters()).device
    got, want = _run_probe(policy, probe, device), probe["predicted"]
    error = float((got - want).abs().max()) if got.shape == want.shape else float("inf")
    if not error <= _PROBE_TOLERANCE * (1 + float(want.abs().max())):
        raise CheckpointError(
            f"{where}: the loaded policy gives another result than when it was saved (largest difference {error:.3g}). "
            f"Saved with {manifest.get('versions')}, now {_versions()}"
        )


def _difference(stored: Spec, wanted: Spec) -> str:
    a, b = stored.to_json(), wanted.to_json()
    lines = [f"\n  {k}: checkpoint {a[k]}, expected {b[k]}" for k in a if a[k] != b[k]]
    return "".join(lines)


# -- provenance ----------------------------------------------------------------------------------------


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in ("equidiff", "torch", "escnn", "diffusers"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def _git_revision() -> str | None:
    try:
        result = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _plain(tree: Any) -> Any:
    """Tuples and mappings to lists and dicts, for safe YAML."""
    if isinstance(tree, Mapping):
        return {str(k): _plain(v) for k, v in tree.items()}
    if isinstance(tree, list | tuple):
        return [_plain(v) for v in tree]
    return tree


