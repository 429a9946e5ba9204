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

import glob
import hashlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save_file
from torch import Tensor

from equidiff.config import ALLOWED, build, did_you_mean
from equidiff.fields import FieldError
from equidiff.policy import DiffusionPolicy
from equidiff.provenance import git_revision, versions
from equidiff.spec import Spec, SpecError
from equidiff.untrusted import AllocationLimit, UntrustedError, parse_json, parse_tree, read_listed, read_regular

__all__ = ["FORMAT", "CheckpointError", "inspect_checkpoint", "load_policy", "load_resume", "save_checkpoint"]

FORMAT = 1
_REQUIRED = frozenset({"policy.safetensors", "normalizer.safetensors", "spec.json", "policy.yaml", "probe.safetensors"})
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
    target = Path(path).resolve()
    temporary: Path | None = None
    try:
        _check_target(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        _tidy(target)
        temporary = Path(tempfile.mkdtemp(prefix=_temporary_prefix(target), dir=target.parent))
        _write(temporary, policy, policy_config, metrics or {}, data or {}, extra or {}, resume)
        _replace(temporary, target)
    except (OSError, SafetensorError) as error:
        kept = "; the previous checkpoint is kept" if target.is_dir() or _previous(target).is_dir() else ""
        raise CheckpointError(f"{target}: could not be saved ({error}){kept}") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
    return Path(path)


def load_policy(
    path: str | os.PathLike[str],
    device: str | torch.device = "cpu",
    *,
    spec: Spec | None = None,
    allow: Sequence[str] = (),
) -> DiffusionPolicy:
    """Load a policy in eval mode, after checking hashes, targets, keys and the stored probe.

    spec: if given, the checkpoint must be for exactly this spec. allow: further modules whose classes
    the checkpoint may name, only for checkpoints whose author you trust. Global random state is left
    alone. Raises CheckpointError.
    """
    where, manifest, files = _verified(Path(path), lambda name: not name.startswith("resume/"))
    for name in sorted(_REQUIRED - set(files)):
        raise CheckpointError(f"{where / 'manifest.json'}: does not list {name}; the checkpoint is incomplete")
    stored = _parse_spec(where, files["spec.json"])
    if spec is not None and spec != stored:
        raise CheckpointError(f"{where}: made for another spec.{_difference(stored, spec)}")
    state = _tensors(where, "policy.safetensors", files)
    state.update({f"normalizer.{k}": v for k, v in _tensors(where, "normalizer.safetensors", files).items()})
    probe = _tensors(where, "probe.safetensors", files)
    try:
        tree = parse_tree(files["policy.yaml"])
        with torch.random.fork_rng(devices=[]), AllocationLimit(sum(v.numel() for v in state.values())):
            policy = build(tree, allow=(*ALLOWED, *allow), spec=stored)
    except (TypeError, ValueError) as error:  # ConfigError, SpecError, FieldError and UntrustedError among them
        raise CheckpointError(f"{where / 'policy.yaml'}: {error}") from error
    if not isinstance(policy, DiffusionPolicy):
        raise CheckpointError(f"{where / 'policy.yaml'}: {tree['_target_']} is not a policy")
    _load_state(where, policy, state)
    policy.to(device).eval().requires_grad_(False)
    _check_probe(where, policy, probe, manifest)
    return policy


def load_resume(path: str | os.PathLike[str]) -> dict[str, Any]:
    """{"tensors": {group: {name: Tensor}}, "state": JSON} as given to save_checkpoint; verified."""
    where, _, files = _verified(Path(path), lambda name: name.startswith("resume/"))
    if "resume/state.json" not in files:
        raise CheckpointError(f"{where}: has no resume/ part, so training cannot go on from it")
    tensors = {Path(n).stem: _tensors(where, n, files) for n in files if n.endswith(".safetensors")}
    try:
        return {"tensors": tensors, "state": json.loads(files["resume/state.json"])}
    except ValueError as error:
        raise CheckpointError(f"{where / 'resume/state.json'}: damaged ({error})") from error


def inspect_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The manifest, after verifying every file."""
    return _verified(Path(path), lambda _: True)[1]


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
            stored = {k: v.detach().contiguous() for k, v in tensors.items()}
            save_file(stored, folder / "resume" / f"{group}.safetensors")
        (folder / "resume" / "state.json").write_text(json.dumps(resume.get("state", {})))
    names = sorted(str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file())
    manifest = {
        **extra,
        "format": FORMAT,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "git": git_revision(),
        "parameters": sum(p.numel() for p in policy.parameters()),
        "metrics": dict(metrics),
        "data": dict(data),
        "sha256": {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1))
    for file in folder.rglob("*"):
        _fsync(file)
    _fsync(folder)


def _check_target(target: Path) -> None:
    """Saving replaces the directory, so it must not be somebody's data."""
    if target.is_dir() and any(target.iterdir()) and not (target / "manifest.json").is_file():
        raise CheckpointError(f"{target}: has other content; choose a new name or an earlier checkpoint")
    if target.exists() and not target.is_dir():
        raise CheckpointError(f"{target}: is a file; a checkpoint is a directory, choose another name")


def _tidy(target: Path) -> None:
    """Undo what a kill while saving left behind."""
    previous = _previous(target)
    if previous.is_dir() and not target.exists():
        previous.rename(target)
    for left in target.parent.glob(f"{glob.escape(_temporary_prefix(target))}*"):
        shutil.rmtree(left, ignore_errors=True)


def _replace(temporary: Path, target: Path) -> None:
    previous = _previous(target)
    temporary.chmod(0o755)
    if previous.exists():
        shutil.rmtree(previous)
    earlier = target.exists()
    if earlier:
        target.rename(previous)
    try:
        temporary.rename(target)
    except OSError:
        if earlier:
            previous.rename(target)
        raise
    _fsync(target.parent)
    shutil.rmtree(previous, ignore_errors=True)


def _temporary_prefix(target: Path) -> str:
    return f".{target.name}.saving-"


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
    for key, source in policy.spec.observation.sources.items():
        values = torch.rand((1, policy.spec.horizon.obs, *source.shape), generator=generator) + 0.1
        probe[f"obs/{key}"] = values if source.dtype is None else (values * 200).to(source.dtype)
    probe["noise"] = torch.randn((1, *policy.noise_shape), generator=generator)
    training = policy.training
    policy.eval()
    try:
        probe["predicted"] = _run_probe(policy, probe, device)
    finally:
        policy.train(training)
    if not torch.isfinite(probe["predicted"]).all():
        raise CheckpointError("the policy gives actions that are not finite, training has diverged; it was not saved")
    return probe


def _probe_form(policy: DiffusionPolicy) -> dict[str, tuple[tuple[int, ...], torch.dtype | None]]:
    """Shape of each tensor of a probe, and its type unless it is any floating one."""
    horizon, action = policy.spec.horizon, policy.spec.action_size
    sources = policy.spec.observation.sources.items()
    form = {f"obs/{key}": ((1, horizon.obs, *source.shape), source.dtype) for key, source in sources}
    return {**form, "noise": ((1, *policy.noise_shape), None), "predicted": ((1, horizon.predict, action), None)}


def _run_probe(policy: DiffusionPolicy, probe: Mapping[str, Tensor], device: torch.device) -> Tensor:
    obs = {k.removeprefix("obs/"): v.to(device) for k, v in probe.items() if k.startswith("obs/")}
    steps = torch.zeros(policy.diffusion.inference_steps, *probe["noise"].shape, device=device)
    if not bool(policy.normalizer.fitted):
        raise CheckpointError("the policy's normaliser is not fitted; call policy.fit(batches) before saving")
    return policy.act(obs, noise=probe["noise"].to(device), step_noise=steps).predicted.cpu().contiguous()


# -- reading -------------------------------------------------------------------------------------------


def _verified(path: Path, wanted: Callable[[str], bool]) -> tuple[Path, dict[str, Any], dict[str, bytes]]:
    """The directory that was read, its manifest and the wanted files that it lists."""
    for last in (False, False, True):
        where = _current(path)
        identity = _identity(where)
        try:
            manifest = _manifest(where)
            return where, manifest, read_listed(where, manifest.get("sha256"), wanted)
        except UntrustedError as error:
            # a training run may have put a newer checkpoint in its place meanwhile
            if last or _identity(_current(path)) == identity:
                raise CheckpointError(str(error)) from error
    raise AssertionError("unreachable")


def _current(path: Path) -> Path:
    """`path`, or the earlier checkpoint if saving was cut off between the two renames of `_replace`."""
    path = path.resolve()
    if path.is_dir():
        return path
    previous = _previous(path)
    if previous.is_dir():
        warnings.warn(f"{path}: saving was interrupted or is under way; using the previous checkpoint", stacklevel=4)
        return previous
    near = did_you_mean(path.name, [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else [])
    raise CheckpointError(f"{path}: no such checkpoint directory{near}")


def _identity(where: Path) -> int | None:
    try:
        return where.stat().st_ino
    except FileNotFoundError:
        return None


def _manifest(where: Path) -> dict[str, Any]:
    if not (where / "manifest.json").exists():
        raise UntrustedError(f"{where}: has no manifest.json, so it is not a checkpoint of equidiff")
    try:
        manifest = parse_json(read_regular(where, "manifest.json"))
    except UntrustedError as error:
        raise UntrustedError(f"{where / 'manifest.json'}: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else None
        raise UntrustedError(
            f"{where}: format {found!r}, this version of equidiff reads {FORMAT}; install the matching version"
        )
    return manifest


def _tensors(where: Path, name: str, files: Mapping[str, bytes]) -> dict[str, Tensor]:
    try:
        return load_tensors(files[name])
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{where / name}: damaged ({error})") from error


def _parse_spec(where: Path, content: bytes) -> Spec:
    try:
        return Spec.from_json(parse_json(content))
    except (SpecError, FieldError, UntrustedError) as error:
        raise CheckpointError(f"{where / 'spec.json'}: {error}") from error


def _load_state(where: Path, policy: torch.nn.Module, given: dict[str, Tensor]) -> None:
    floating = {v.dtype for k, v in given.items() if v.is_floating_point() and not k.startswith("normalizer.")}
    if len(floating) == 1:
        policy.to(floating.pop())  # a policy saved in float64 comes back in float64
    expected = policy.state_dict()
    for problem, keys in (("lacks", expected.keys() - given.keys()), ("has unknown", given.keys() - expected.keys())):
        if keys:
            first = sorted(keys)[0]
            raise CheckpointError(f"{where / 'policy.safetensors'}: {problem} {len(keys)} tensors, first {first!r}")
    for key, value in given.items():
        if value.shape != expected[key].shape or value.dtype != expected[key].dtype:
            raise CheckpointError(
                f"{where}: {key!r} is {value.dtype} {tuple(value.shape)}, the model needs {expected[key].dtype} "
                f"{tuple(expected[key].shape)}"
            )
    policy.load_state_dict(given)


def _check_probe(where: Path, policy: DiffusionPolicy, probe: dict[str, Tensor], manifest: Mapping[str, Any]) -> None:
    at, device = where / "probe.safetensors", next(policy.parameters()).device
    expected = _probe_form(policy)
    for problem, names in (("lacks", expected.keys() - probe.keys()), ("has unknown", probe.keys() - expected.keys())):
        if names:
            raise CheckpointError(f"{at}: {problem} {min(names)!r}; save the policy again")
    for name, (shape, kind) in expected.items():
        found = probe[name]
        if tuple(found.shape) != shape or (found.dtype != kind if kind else not found.is_floating_point()):
            wanted = f"{shape} {kind or 'of a floating type'}"
            raise CheckpointError(f"{at}: {name!r} is {tuple(found.shape)} {found.dtype}, expected {wanted}")
    try:
        got, want = _run_probe(policy, probe, device), probe["predicted"]
    except (TypeError, ValueError, RuntimeError) as error:  # SpecError among them, for values that no field has
        raise CheckpointError(f"{at}: the policy cannot repeat what it did when it was saved ({error})") from error
    largest = float((got - want).abs().max())
    if not largest <= _PROBE_TOLERANCE * (1 + float(want.abs().max())):
        raise CheckpointError(
            f"{where}: the loaded policy gives another result than when it was saved (largest difference "
            f"{largest:.3g}). Saved with {manifest.get('versions')}, now {versions()}"
        )


def _difference(stored: Spec, wanted: Spec) -> str:
    a, b = stored.to_json(), wanted.to_json()
    lines = [f"\n  {k}: checkpoint {a[k]}, expected {b[k]}" for k in a if a[k] != b[k]]
    return "".join(lines)


def _plain(tree: Any) -> Any:
    """Tuples and mappings to lists and dicts, for safe YAML."""
    if isinstance(tree, Mapping):
        return {str(k): _plain(v) for k, v in tree.items()}
    if isinstance(tree, list | tuple):
        return [_plain(v) for v in tree]
    return tree
