"""Imported weights give the published policy's own condition, denoiser output and sampled chunk."""

import functools
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from plain_policy import STEPS, PlainPolicy
from safetensors.torch import save_file
from torch import Tensor

from equidiff.checkpoint import inspect_checkpoint, load_policy
from equidiff.compose import make_policy, make_spec, policy_tree
from equidiff.policy import DiffusionPolicy
from equidiff.published import PublishedError, action_order, convert_policy, observation_order, read_state
from equidiff.rotations import from_matrix, to_matrix

ROOT = Path(__file__).parents[2]
SIZES = [
    "encoder.channels=16",
    "denoiser.widths=[8,16]",
    "denoiser.step_embedding=16",
    f"diffusion.inference_steps={STEPS}",
]
KINDS = ("image_abs", "image_rel", "voxel_abs", "voxel_rel")
HAND_IN_SITE = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


@functools.cache
def _theirs(kind: str) -> PlainPolicy:
    torch.manual_seed(3)
    return PlainPolicy(image=kind.startswith("image"), relative=kind.endswith("rel")).eval()


def _state(kind: str) -> dict[str, Tensor]:
    return {name: value.detach().clone().contiguous() for name, value in _theirs(kind).state_dict().items()}


@functools.cache
def _spare(kind: str, *overrides: str) -> DiffusionPolicy:
    """One whose weights do not matter."""
    return _ours(kind, *overrides)


def _ours(kind: str, *overrides: str) -> DiffusionPolicy:
    way = f"+action.fields.projection={'quaternion' if kind.endswith('rel') else 'first_row'}"
    clip = [way, "diffusion.clip=entries"] if kind.endswith("rel") else [way]
    choice = [f"experiment=equidiff_{kind}", "task=stack_d1", "data.path=x", *SIZES, *clip, *overrides]
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        config = OmegaConf.to_container(compose("train", choice), resolve=True)
    assert isinstance(config, dict)
    return make_policy(policy_tree(config), make_spec(config)).eval()  # type: ignore[arg-type]


def _observed(policy: DiffusionPolicy, count: int = 2) -> tuple[dict[str, Tensor], Tensor]:
    """Observations, and the rotation of the hand (count, To, 3, 3)."""
    generator = torch.Generator().manual_seed(5)
    steps, space = policy.spec.horizon.obs, policy.spec.observation
    obs = {}
    for key, source in space.sources.items():
        shape = (count, steps, *source.shape)
        if source.dtype is not None:
            obs[key] = torch.randint(256, shape, generator=generator).to(torch.uint8)
    site = to_matrix(torch.randn(count, steps, 4, generator=generator), "quat_xyzw")
    obs["robot0_eef_pos"] = torch.tensor([0.05, -0.1, 0.95]) + 0.05 * torch.randn(count, steps, 3, generator=generator)
    obs["robot0_eef_quat_site"] = from_matrix(site, "quat_xyzw")
    obs["robot0_gripper_qpos"] = 0.04 * torch.rand(count, steps, 2, generator=generator)
    return obs, site @ HAND_IN_SITE


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_it_is_the_same_policy(kind: str) -> None:
    theirs, ours = _theirs(kind), _ours(kind)
    assert convert_policy(_state(kind), ours) == []
    obs, hand = _observed(ours)
    known = theirs.condition(obs, hand)
    observation, arrays = ours._decode(obs)
    condition = ours.encoder(ours.normalizer.observation(observation), arrays)
    _close(condition.transpose(-1, -2).flatten(1), known, 1e-5)

    entries = action_order(ours.spec).entries.float()
    noise = torch.randn(2, 16, entries.shape[1], generator=torch.Generator().manual_seed(7))
    step = torch.tensor([3, 80])
    _close(ours.denoiser(noise @ entries.T, step, condition), theirs.denoise(noise, step, known) @ entries.T, 1e-4)

    # the same noise in the sampler: ours draws nothing of its own
    chunk = theirs.sample(known, noise, torch.Generator().manual_seed(11))
    generator = torch.Generator().manual_seed(11)
    steps = torch.stack([torch.randn(noise.shape, generator=generator) for _ in range(STEPS - 1)] + [noise])
    given = {"noise": noise @ entries.T, "step_noise": steps @ entries.T}
    sampled = ours.diffusion.sample(
        lambda noisy, t: ours.denoiser(noisy, t, condition),
        given["noise"],
        irreps=ours.spec.action.irreps,
        bound=ours.normalizer.bound,
        step_noise=given["step_noise"],
        entries=ours.spec.action.entries,
    )
    _close(sampled @ entries, chunk, 1e-4)
    assert float(chunk.abs().max()) == 1.0  # something was clipped
    predicted = ours.act(obs, **given).predicted
    scale = torch.tensor([1.0] * 3 if theirs.relative else [2.9, 2.9, 6.0])
    offset = torch.tensor([0.0] * 3 if theirs.relative else [0.0, 0.0, -5.7])
    _close(predicted[..., :3], (chunk[..., :3] - offset) / scale, 1e-4)
    _close(predicted[..., 3:6], theirs.rotation_vector(chunk), 1e-4)
    _close(predicted[..., 6], chunk[..., -1], 1e-4)
    assert not any(name.startswith("normalizer.params_dict") for name in ours.state_dict())


def _close(got: Tensor, want: Tensor, tolerance: float) -> None:
    assert got.shape == want.shape
    error = float((got - want).abs().max()) / max(1.0, float(want.abs().max()))
    assert error < tolerance


@torch.no_grad()
@pytest.mark.parametrize("kind", ["image_abs", "image_rel"])
def test_rotations_come_back_as_they_went_in(kind: str) -> None:
    """On true rotations the nearest one is theirs, too: only off them the two differ."""
    spec = _ours(kind, "action.fields.projection=nearest").spec
    entries = action_order(spec).entries.float()
    generator = torch.Generator().manual_seed(1)
    vector = torch.nn.functional.normalize(torch.randn(50, 16, 3, generator=generator), dim=-1) * 2
    matrix = to_matrix(vector, "rotvec")
    rows = matrix.flatten(-2) if kind.endswith("rel") else matrix[..., :2, :].flatten(-2)
    theirs = torch.cat([torch.zeros(50, 16, 3), rows, torch.zeros(50, 16, 1)], -1)
    stored = spec.encode_action(theirs @ entries.T, {})
    torch.testing.assert_close(stored[..., 3:6], vector, rtol=0, atol=1e-4)


def test_orientation_of_the_hand_or_of_the_site() -> None:
    policy = _ours("image_abs")
    obs, hand = _observed(policy)
    features = policy.spec.observation.decode(obs)
    site = observation_order(policy.spec, hand=False).float()
    turned = observation_order(policy.spec, hand=True).float()
    torch.testing.assert_close((features @ turned.T)[..., 2:8], hand[..., :2, :].transpose(-1, -2).flatten(-2))
    torch.testing.assert_close((features @ site.T)[..., 2:8], (hand @ HAND_IN_SITE.T)[..., :2, :].mT.flatten(-2))


def _wrong(change: Callable[[dict[str, Tensor]], object], kind: str = "image_abs", *overrides: str) -> str:
    state = _state(kind)
    change(state)
    with pytest.raises(PublishedError) as caught:
        convert_policy(state, _spare(kind, *overrides))
    return str(caught.value)


def test_what_does_not_fit_is_named() -> None:
    key = "diff.unet.mid_modules.0.cond_encoder.1.weight"
    conv = "enc.enc_obs.conv.3.layer1.0.weights"
    assert f"{key!r} is missing" in _wrong(lambda s: s.pop(key))
    assert f"{conv!r} is missing" in _wrong(lambda s: s.pop(conv))
    assert "'enc.extra.weight': no part of this policy" in _wrong(lambda s: s.update({"enc.extra.weight": s[key]}))
    assert f"{conv!r} is (3,), the policy needs" in _wrong(lambda s: s.update({conv: torch.zeros(3)}))
    assert f"{key!r} has values that are not finite" in _wrong(lambda s: s[key].fill_(float("nan")))
    quat = "normalizer.params_dict.robot0_eef_quat.scale"
    assert f"{quat!r} is [2.0" in _wrong(lambda s: s[quat].fill_(2))
    scale = "normalizer.params_dict.action.scale"
    assert "scales rotations" in _wrong(lambda s: s[scale][4:5].fill_(2))
    assert "must be > 0" in _wrong(lambda s: s[scale][0:1].fill_(0))
    assert "holds no tensors" in _wrong(lambda s: s.clear())
    assert "starts with 'model.'" in _wrong(
        lambda s: [s.update({f"model.{name}": s.pop(name)}) for name in list(s)],
    )


def test_another_policy_says_which_setting_would_fit() -> None:
    keep: Callable[[dict[str, Tensor]], object] = lambda s: None
    assert "add encoder.channels=16" in _wrong(keep, "image_abs", "encoder.channels=24")
    assert "add denoiser.widths=[8,16]" in _wrong(keep, "image_abs", "denoiser.widths=[16,32]")
    assert "denoiser.activation: the published policies have 'relu'" in _wrong(
        keep, "image_abs", "denoiser.activation=none"
    )
    with pytest.raises(PublishedError, match="use experiment=equidiff_voxel"):
        convert_policy(_state("voxel_abs"), _ours("image_abs"))
    with pytest.raises(PublishedError, match=r"'diff\.enc_a\.0\.weights' is"):
        convert_policy(_state("image_rel"), _ours("image_abs"))
    with pytest.raises(PublishedError, match="use action=absolute or action=relative_matrix"):
        convert_policy(_state("image_rel"), _ours("image_abs", "action=relative", "action.fields.projection=nearest"))


def test_a_normaliser_about_another_centre_is_remarked() -> None:
    policy = _ours("image_abs", "task.centre=[-0.2,0.0]")
    remarks = convert_policy(_state("image_abs"), policy)
    assert len(remarks) == 2
    assert "robot0_eef_pos: the weights turn about a point (+0.200, +0.000) m from this task's centre" in remarks[0]
    obs, _ = _observed(policy)
    centred = _ours("image_abs")
    convert_policy(_state("image_abs"), centred)
    seen = [p.normalizer.observation(p.spec.observation.decode(obs)) for p in (policy, centred)]
    torch.testing.assert_close(*seen)  # exact all the same


def test_only_safetensors_are_read(tmp_path: Path) -> None:
    (tmp_path / "policy.safetensors").write_bytes(b"PK\x03\x04 a zip, as torch.save writes")
    with pytest.raises(PublishedError, match=r"no such file .*polcy.safetensors; did you mean 'policy.safetensors'"):
        read_state(tmp_path / "polcy.safetensors")
    with pytest.raises(PublishedError, match=r"is not a safetensors file .* is a pickle"):
        read_state(tmp_path / "policy.safetensors")


def test_the_script_writes_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    source = tmp_path / "policy.safetensors"
    save_file(_state("image_rel"), source)
    script = ROOT / "scripts" / "import_published.py"
    found = importlib.util.spec_from_file_location("import_published", script)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)

    def run(*extra: str) -> int:
        choice = [f"state_dict={source}", "experiment=equidiff_image_rel", f"out={tmp_path / 'made'}", *SIZES, *extra]
        monkeypatch.setattr(sys, "argv", [str(script), *choice])
        with pytest.raises(SystemExit) as end:
            module.run_app(module.main, "import_published", module.__doc__)
        return int(end.value.code or 0)

    assert run("orientation=wrist") == 2
    assert "orientation: expected 'hand' or 'site', got 'wrist'" in capsys.readouterr().err
    assert run("rotations=true") == 2
    assert "rotations: expected 'published' or 'nearest', got True" in capsys.readouterr().err
    assert run() == 0
    manifest = inspect_checkpoint(tmp_path / "made")
    assert manifest["control"] == "relative"
    assert manifest["data"]["published"]["file"] == "policy.safetensors"
    assert manifest["perception"]["settings"]["image"] == ["agentview", "robot0_eye_in_hand"]
    loaded, direct = load_policy(tmp_path / "made"), _ours("image_rel")
    assert loaded.spec == direct.spec
    convert_policy(_state("image_rel"), direct)
    assert loaded.diffusion.clip == "entries"
    obs, _ = _observed(direct, 1)
    noise = torch.randn(1, *direct.noise_shape, generator=torch.Generator().manual_seed(2))
    steps = torch.zeros(STEPS, *noise.shape)
    chunks = [p.act(obs, noise=noise, step_noise=steps).predicted for p in (loaded, direct)]
    torch.testing.assert_close(*chunks, rtol=0, atol=1e-5)
