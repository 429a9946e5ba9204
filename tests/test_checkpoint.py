"""Checkpoints: exact, kept when saving fails, refused when damaged, altered or hostile."""

import errno
import hashlib
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from law_toys import config, make, random_batch
from safetensors.torch import load_file, save_file

from equidiff import checkpoint
from equidiff.checkpoint import CheckpointError, inspect_checkpoint, load_policy, load_resume, save_checkpoint
from equidiff.compose import make_policy, make_spec, policy_tree
from equidiff.policy import DiffusionPolicy
from equidiff.untrusted import AllocationLimit, UntrustedError

FEW = ["diffusion.inference_steps=2"]
TREE = policy_tree(config(4, FEW))


@pytest.fixture(scope="module")
def policy() -> DiffusionPolicy:
    return make(4, FEW)


@pytest.fixture
def saved(tmp_path: Path, policy: DiffusionPolicy) -> Path:
    return save_checkpoint(tmp_path / "last", policy, TREE, metrics={"run": 1})


def _rewrite(saved: Path, name: str, content: bytes) -> None:
    """What somebody who wants to deceive would do: change a file and its hash."""
    (saved / name).write_bytes(content)
    manifest = json.loads((saved / "manifest.json").read_text())
    manifest["sha256"][name] = hashlib.sha256(content).hexdigest()
    (saved / "manifest.json").write_text(json.dumps(manifest))


def _edit_manifest(saved: Path, **changes: Any) -> None:
    manifest = json.loads((saved / "manifest.json").read_text())
    (saved / "manifest.json").write_text(json.dumps({**manifest, **changes}))


# -- round trip ----------------------------------------------------------------------------------------


def test_what_is_written(saved: Path, policy: DiffusionPolicy) -> None:
    names = {p.name for p in saved.iterdir()}
    assert names == {
        "manifest.json", "normalizer.safetensors", "policy.safetensors", "policy.yaml", "probe.safetensors", "spec.json"
    }  # fmt: skip
    manifest = inspect_checkpoint(saved)
    assert manifest["format"] == checkpoint.FORMAT
    assert manifest["metrics"] == {"run": 1}
    assert manifest["parameters"] == sum(p.numel() for p in policy.parameters())
    assert set(manifest["sha256"]) == names - {"manifest.json"}
    assert [p.name for p in saved.parent.iterdir()] == ["last"]


def test_double_precision_comes_back_in_double(tmp_path: Path) -> None:
    policy = make(4, FEW).double()
    loaded = load_policy(save_checkpoint(tmp_path / "last", policy, TREE))
    obs, noise = random_batch(policy.spec)["obs"], torch.randn(5, *policy.noise_shape)
    assert torch.equal(policy.act(obs, noise=noise).predicted, loaded.act(obs, noise=noise).predicted)
    assert loaded.act(obs).predicted.dtype == torch.float64


def test_resume_state_round_trip(tmp_path: Path, policy: DiffusionPolicy) -> None:
    tensors = {
        "optimizer": {"a.exp_avg": torch.randn(3), "a.step": torch.tensor(7.0)},
        "rng": {"torch": torch.get_rng_state()},
    }
    save_checkpoint(tmp_path / "last", policy, TREE, resume={"tensors": tensors, "state": {"step": 7}})
    got = load_resume(tmp_path / "last")
    assert got["state"] == {"step": 7}
    assert all(torch.equal(got["tensors"][g][k], v) for g, group in tensors.items() for k, v in group.items())
    load_policy(tmp_path / "last")


def test_random_state_is_left_alone(tmp_path: Path, policy: DiffusionPolicy) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    load_policy(save_checkpoint(tmp_path / "last", policy, TREE))
    assert torch.equal(before, torch.get_rng_state())


def test_saving_leaves_the_policy_as_it_was(tmp_path: Path) -> None:
    policy = make(4, FEW).train()
    save_checkpoint(tmp_path / "last", policy, TREE)
    assert policy.training
    assert all(p.requires_grad for p in policy.parameters())


# -- failures while saving -----------------------------------------------------------------------------


def _full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def _killed(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("fails", [_full, _killed])
@pytest.mark.parametrize(
    "step",
    [
        "Path.mkdir",
        "_tidy",
        "tempfile.mkdtemp",
        "save_file",
        "_fsync",
        "_make_probe",
        "json.dumps",
        "yaml.safe_dump",
        "_replace",
    ],
)
def test_the_previous_checkpoint_survives(
    saved: Path, policy: DiffusionPolicy, monkeypatch: pytest.MonkeyPatch, step: str, fails: Callable[..., None]
) -> None:
    before = {p.name: p.read_bytes() for p in saved.iterdir()}
    monkeypatch.setattr(f"equidiff.checkpoint.{step}", fails)
    expected, message = KeyboardInterrupt, None
    if fails is _full:
        expected, message = CheckpointError, r"No space left on device.*previous checkpoint is kept"  # type: ignore[assignment]
    with pytest.raises(expected, match=message):
        save_checkpoint(saved, policy, TREE, metrics={"run": 2})
    monkeypatch.undo()
    assert {p.name: p.read_bytes() for p in saved.iterdir()} == before
    assert [p.name for p in saved.parent.iterdir()] == ["last"]
    load_policy(saved)
    assert inspect_checkpoint(save_checkpoint(saved, policy, TREE, metrics={"run": 2}))["metrics"] == {"run": 2}


def test_what_an_interrupted_save_left_is_kept_if_the_next_one_fails(
    saved: Path, policy: DiffusionPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off between the two renames before, and no room to undo that now."""
    previous = saved.rename(saved.with_name(".last.previous"))
    monkeypatch.setattr(Path, "rename", _full)
    with pytest.raises(CheckpointError, match=r"No space left on device.*previous checkpoint is kept"):
        save_checkpoint(saved, policy, TREE, metrics={"run": 2})
    monkeypatch.undo()
    assert inspect_checkpoint(previous)["metrics"] == {"run": 1}


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, policy: DiffusionPolicy) -> None:
    (tmp_path / "file").write_text("n")
    with pytest.raises(CheckpointError, match=r"file/last: could not be saved \(.*file'\)$"):
        save_checkpoint(tmp_path / "file" / "last", policy, TREE)


@pytest.mark.parametrize("which", [0, 1])
def test_a_failing_rename_is_undone(
    saved: Path, policy: DiffusionPolicy, monkeypatch: pytest.MonkeyPatch, which: int
) -> None:
    rename, calls = Path.rename, []

    def failing(self: Path, target: Path) -> Path:
        calls.append(self)
        return _full() if len(calls) == which + 1 else rename(self, target)  # type: ignore[func-returns-value, return-value]

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(CheckpointError, match="No space left"):
        save_checkpoint(saved, policy, TREE, metrics={"run": 2})
    monkeypatch.undo()
    assert inspect_checkpoint(saved)["metrics"] == {"run": 1}
    assert [p.name for p in saved.parent.iterdir()] == ["last"]


def test_a_kill_between_the_two_renames(saved: Path, policy: DiffusionPolicy) -> None:
    """A real one: the process dies at once, nothing is cleaned up."""
    code = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parent / "laws")!r})
from pathlib import Path
from law_toys import make
from test_checkpoint import TREE, FEW
from equidiff.checkpoint import save_checkpoint
rename, calls = Path.rename, []
def dying(self, target):
    calls.append(self)
    if len(calls) == 2:
        os._exit(9)
    return rename(self, target)
Path.rename = dying
save_checkpoint({str(saved)!r}, make(4, FEW), TREE, metrics={{"run": 2}})
"""
    code = code.replace("from test_checkpoint import TREE, FEW\n", f"FEW, TREE = {FEW!r}, {TREE!r}\n")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 9, result.stderr
    assert not saved.exists()
    with pytest.warns(UserWarning, match="saving was interrupted or is under way; using the previous checkpoint"):
        load_policy(saved)
    assert not saved.exists()  # readers change nothing: the writer may be alive
    save_checkpoint(saved, policy, TREE, metrics={"run": 3})
    assert inspect_checkpoint(saved)["metrics"] == {"run": 3}
    assert [p.name for p in saved.parent.iterdir()] == ["last"]  # what the kill left is gone


def test_other_directories_and_files_are_not_overwritten(tmp_path: Path, policy: DiffusionPolicy) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "precious.txt").write_text("years of work")
    (tmp_path / "note").write_text("n")
    with pytest.raises(CheckpointError, match="has other content; choose a new name"):
        save_checkpoint(tmp_path / "data", policy, TREE)
    with pytest.raises(CheckpointError, match="is a file; a checkpoint is a directory"):
        save_checkpoint(tmp_path / "note", policy, TREE)
    assert (tmp_path / "data" / "precious.txt").read_text() == "years of work"


def test_a_diverged_policy_does_not_replace_a_good_one(saved: Path) -> None:
    diverged = make(4, FEW)
    with torch.no_grad():
        next(diverged.parameters()).fill_(torch.nan)
    with pytest.raises(CheckpointError, match="not finite, training has diverged; it was not saved"):
        save_checkpoint(saved, diverged, TREE)
    load_policy(saved)
    composed = config(4, FEW)
    with pytest.raises(CheckpointError, match="normaliser is not fitted"):
        save_checkpoint(saved, make_policy(policy_tree(composed), make_spec(composed)), TREE)


# -- damaged and altered -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["policy.safetensors", "normalizer.safetensors", "spec.json", "policy.yaml", "probe.safetensors"]
)
def test_tampered_and_missing_files(saved: Path, name: str) -> None:
    content = (saved / name).read_bytes()
    (saved / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CheckpointError, match=f"{name}: its sha256 differs from the manifest; damaged or altered"):
        load_policy(saved)
    (saved / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name}: missing; the checkpoint is incomplete, copy it again"):
        load_policy(saved)
    manifest = json.loads((saved / "manifest.json").read_text())
    del manifest["sha256"][name]
    (saved / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match=f"does not list {name}"):
        load_policy(saved)


@pytest.mark.parametrize("name", ["policy.safetensors", "probe.safetensors", "spec.json", "policy.yaml"])
@pytest.mark.parametrize("content", [b"", b"\xff\xfe rubbish", b"{", b"[]", b"null", b"[" * 20_000])
def test_rubbish_with_a_valid_hash(saved: Path, name: str, content: bytes) -> None:
    _rewrite(saved, name, content)
    with pytest.raises(CheckpointError, match=name):
        load_policy(saved)


def test_wrong_directories(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such checkpoint directory; did you mean 'last'"):
        load_policy(tmp_path / "lost")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"has no manifest\.json, so it is not a checkpoint of equidiff"):
        load_policy(tmp_path / "empty")
    with pytest.raises(CheckpointError, match="has no resume/ part, so training cannot go on from it"):
        load_resume(saved)
    for content in ("{", "[]", "null", "\0"):
        (saved / "manifest.json").write_text(content)
        with pytest.raises(CheckpointError, match=r"damaged|format None"):
            load_policy(saved)


def test_another_format_and_another_spec(saved: Path, policy: DiffusionPolicy) -> None:
    other = make_spec(config(4, [*FEW, "horizon.execute=2"]))
    with pytest.raises(
        CheckpointError,
        match=r"made for another spec\.\n  horizon: checkpoint .*'execute': 4.* expected .*'execute': 2",
    ):
        load_policy(saved, spec=other)
    load_policy(saved, spec=policy.spec)
    _edit_manifest(saved, format=2)
    with pytest.raises(CheckpointError, match="format 2, this version of equidiff reads 1; install"):
        load_policy(saved)


def test_parameters_that_do_not_fit(saved: Path) -> None:
    state = load_file(saved / "policy.safetensors")
    key = sorted(state)[0]
    for change, message in (
        ({k: v for k, v in state.items() if k != key}, f"lacks 1 tensors, first '{key}'"),
        ({**state, "extra": torch.zeros(1)}, "has unknown 1 tensors, first 'extra'"),
        ({**state, key: torch.zeros(1, 2, 3)}, f"'{key}' is torch.float32 \\(1, 2, 3\\), the model needs"),
        ({**state, key: state[key].int()}, f"'{key}' is torch.int32"),
    ):
        save_file(change, saved / "policy.safetensors")
        _rewrite(saved, "policy.safetensors", (saved / "policy.safetensors").read_bytes())
        with pytest.raises(CheckpointError, match=message):
            load_policy(saved)


def test_the_probe_notices_other_parameters(saved: Path) -> None:
    state = load_file(saved / "policy.safetensors")
    for value in (torch.zeros, lambda shape: torch.full(shape, torch.nan)):
        changed = {k: value(v.shape) for k, v in state.items()}
        save_file(changed, saved / "policy.safetensors")
        _rewrite(saved, "policy.safetensors", (saved / "policy.safetensors").read_bytes())
        with pytest.raises(CheckpointError, match=r"gives another result than when it was saved \(largest difference"):
            load_policy(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"noise": None}, "lacks 'noise'"),
        ({"predicted": None}, "lacks 'predicted'"),
        ({"obs/robot0_eef_pos": None}, "lacks 'obs/robot0_eef_pos'"),
        ({"more": torch.zeros(1)}, "has unknown 'more'"),
        ({"noise": torch.zeros(1, 3, 2)}, r"'noise' is \(1, 3, 2\) torch.float32, expected \(1, 8, 10\) of"),
        (
            {"noise": torch.zeros(1, 8, 10, dtype=torch.int32)},
            r"'noise' is .1, 8, 10. torch.int32, expected .1, 8, 10. of a floating type",
        ),
        ({"predicted": torch.zeros(2, 8, 10)}, r"'predicted' is \(2, 8, 10\) torch.float32, expected \(1, 8, 7\)"),
        ({"obs/robot0_eef_pos": torch.zeros(1, 1, 4)}, r"'obs/robot0_eef_pos' is \(1, 1, 4\) .*, expected \(1, 1, 3\)"),
        ({"obs/robot0_eef_pos": torch.full((1, 1, 3), torch.nan)}, "robot0_eef_pos.*(nan|finite)"),
    ],
)
def test_a_probe_that_does_not_fit(saved: Path, change: dict[str, torch.Tensor | None], message: str) -> None:
    probe = {**load_file(saved / "probe.safetensors"), **change}
    save_file({k: v for k, v in probe.items() if v is not None}, saved / "probe.safetensors")
    _rewrite(saved, "probe.safetensors", (saved / "probe.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match=rf"probe\.safetensors: .*{message}"):
        load_policy(saved)


# -- hostile -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["os.system", "subprocess.Popen", "torch.load", "builtins.exec"])
@pytest.mark.parametrize("where", ["root", "denoiser", "argument"])
def test_foreign_targets_run_nothing(saved: Path, tmp_path: Path, target: str, where: str) -> None:
    tree = yaml.safe_load((saved / "policy.yaml").read_text())
    node = {"_target_": target, "command": f"touch {tmp_path / 'ran'}"}
    if where == "root":
        tree = node
    elif where == "denoiser":
        tree["denoiser"] = node
    else:
        tree["denoiser"]["blocks"] = node
    _rewrite(saved, "policy.yaml", yaml.safe_dump(tree).encode())
    with pytest.raises(CheckpointError, match=f"'{target}' is not allowed"):
        load_policy(saved)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("x: ${oc.env:HOME}", "stores resolved values only"),
        ('x: "\\x24{oc.env:HOME}"', "stores resolved values only"),  # hidden from a search of the file
        ('"\\u0024{oc.env:HOME}": 1', "stores resolved values only"),
        ("x: !!python/object/apply:os.system [ls]", "damaged YAML"),
        ("x: &a [1]\ny: *a", "aliases"),
        ("x: 100000000000", "at most 1000000"),
        ("x: {", "damaged YAML"),
        ("1: 2", "key 1 is not text"),
        ("_args_: [1]", "'_args_' is not supported"),
        ("norm: 1", "no argument 'norm'; did you mean 'normalizer'"),
    ],
)
def test_tricks_in_the_tree(saved: Path, line: str, message: str) -> None:
    _rewrite(saved, "policy.yaml", (saved / "policy.yaml").read_bytes() + f"\n{line}\n".encode())
    with pytest.raises(CheckpointError, match=message):
        load_policy(saved)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "resume/../../outside", "a\0b"])
def test_listed_names_stay_inside(saved: Path, name: str) -> None:
    (saved.parent / "outside").write_bytes(b"secret")
    digest = hashlib.sha256(b"secret").hexdigest()
    _edit_manifest(saved, sha256={**json.loads((saved / "manifest.json").read_text())["sha256"], name: digest})
    with pytest.raises(CheckpointError, match="outside the checkpoint"):
        load_policy(saved)


def test_links_and_pipes(saved: Path, tmp_path: Path) -> None:
    content = (saved / "spec.json").read_bytes()
    (saved / "spec.json").unlink()
    (tmp_path / "elsewhere.json").write_bytes(content)
    (saved / "spec.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(CheckpointError, match="is a link that leaves the checkpoint"):
        load_policy(saved)
    (saved / "spec.json").unlink()
    os.mkfifo(saved / "spec.json")  # reading it would wait for ever
    with pytest.raises(CheckpointError, match="is not a regular file"):
        load_policy(saved)
    (saved / "spec.json").unlink()
    (saved / "spec.json").mkdir()
    with pytest.raises(CheckpointError, match=r"not a regular file|cannot be read"):
        load_policy(saved)
    (saved / "spec.json").rmdir()
    (saved / "kept.json").write_bytes(content)
    (saved / "spec.json").symlink_to("kept.json")
    load_policy(saved)
    (tmp_path / "link").symlink_to(saved)  # the directory itself may be reached by a link
    load_policy(tmp_path / "link")


@pytest.mark.parametrize(
    "change",
    [
        {"denoiser": {"channels": 900_000}},
        {"denoiser": {"step_embedding": 1_000_000}},
        {"symmetry": {"order": 1_000_000}},
        {"denoiser": {"blocks": 3, "channels": 60_000}},
    ],
    ids=str,
)
def test_a_tree_cannot_make_the_loader_take_the_machines_memory(saved: Path, change: dict[str, Any]) -> None:
    tree = yaml.safe_load((saved / "policy.yaml").read_text())
    for part, values in change.items():
        tree[part].update(values)
    _rewrite(saved, "policy.yaml", yaml.safe_dump(tree).encode())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match=r"do not account for|Symmetry\.order"):
        load_policy(saved)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**21  # kilobytes: 2 GiB


def test_the_allocation_limit_counts_before_it_allocates() -> None:
    for make_tensor in (
        lambda: torch.empty(10**6, 10**6),
        lambda: torch.randn(10**12),
        lambda: torch.zeros(10**12),
        lambda: torch.eye(10**6),
        lambda: torch.full((10**12,), 1.0),
        lambda: torch.arange(10**12),
        lambda: torch.linspace(0, 1, 10**12),
        lambda: torch.ones(1).repeat(10**12),
        lambda: torch.nn.Linear(10**6, 10**6),
        lambda: [torch.empty(10**8) for _ in range(10**6)],
    ):
        with pytest.raises(UntrustedError, match="do not account for"), AllocationLimit(stored=0):
            make_tensor()
    with AllocationLimit(stored=0):
        assert torch.nn.Linear(1000, 1000)(torch.ones(1, 1000)).shape == (1, 1000)


def test_a_root_that_is_not_a_policy(saved: Path) -> None:
    tree = {"_target_": "equidiff.normalizer.Normalizer"}
    _rewrite(saved, "policy.yaml", yaml.safe_dump(tree).encode())
    with pytest.raises(CheckpointError, match=r"equidiff\.normalizer\.Normalizer is not a policy"):
        load_policy(saved)


def test_a_spec_that_asks_for_too_much(saved: Path) -> None:
    spec = json.loads((saved / "spec.json").read_text())
    spec["horizon"]["predict"] = 10**9
    _rewrite(saved, "spec.json", json.dumps(spec).encode())
    with pytest.raises(CheckpointError, match=r"spec\.json: Horizon: lengths are integers up to 10000"):
        load_policy(saved)
