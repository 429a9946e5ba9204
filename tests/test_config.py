# ruff: noqa: E501  (a table of messages)
"""Building from configs: every mistake says where it is and what was meant, and strangers may name little."""

import importlib
import inspect
import re
from typing import Any

import pytest
from law_toys import config, make
from omegaconf import OmegaConf

from equidiff.compose import make_policy, make_spec, policy_tree
from equidiff.config import ALLOWED, ConfigError, _hints, build, did_you_mean
from equidiff.policy import DiffusionPolicy
from equidiff.symmetry import Symmetry

C8 = {"_target_": "equidiff.symmetry.Symmetry", "order": 8}


def test_build() -> None:
    assert build(C8) == Symmetry(8)
    assert build({**C8, "_partial_": True})() == Symmetry(8)
    assert build({"_target_": "equidiff.symmetry.Symmetry"}, order=4) == Symmetry(4)
    assert build(OmegaConf.create({"n": 5, "s": {**C8, "order": "${n}"}}).s) == Symmetry(5)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({**C8, "ordr": 4}, "config.ordr: equidiff.symmetry.Symmetry has no argument 'ordr'; did you mean 'order'? It takes: order"),
        ({"_target_": "equidiff.symmetry.Symetry"}, "'equidiff.symmetry' has no class 'Symetry'; did you mean 'Symmetry'?"),
        ({"_target_": "equidif.symmetry.Symmetry"}, "config._target_: cannot import 'equidif.symmetry'"),
        ({"_target_": "Symmetry"}, "expected 'module.Class', got 'Symmetry'"),
        ({"_target_": 3}, "expected a dotted path, got 3"),
        ({**C8, "_args_": [8]}, "'_args_' is not supported; name the arguments instead"),
        ({**C8, "_convert_": "none"}, "'_convert_' is not supported"),
        ({**C8, "_recursive_": False}, "'_recursive_' is not supported"),
        ({"_target_": "equidiff.augment.RandomRotation", "maximum": {"_partial_": True}}, "config.maximum: '_partial_' without '_target_'"),
        ({"_target_": "equidiff.nn.Lift", "channels": 3, "symmetry": C8}, "config: equidiff.nn.Lift needs 'irreps', which is not set"),
        ({**C8, "order": "???"}, "config.order: is not set"),
        ({**C8, "order": -1}, "config: Symmetry.order: expected an integer >= 1"),
        ({"_target_": "equidiff.nn.GroupLinear", "inputs": 1, "outputs": 1, "symmetry": {**C8, "order": 0}}, "config.symmetry: Symmetry.order: expected"),
        ({"_target_": "equidiff.nn.GroupLinear", "inputs": 1, "outputs": 1, "symmetry": {**C8, "odrer": 1}}, "config.symmetry.odrer: equidiff.symmetry.Symmetry has no argument"),
    ],
)  # fmt: skip
def test_mistakes_are_located(node: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        build(node)


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "subprocess.Popen",
        "torch.load",
        "builtins.eval",
        "torch.nn.Linear",
        "equidiff.checkpoint.save_checkpoint",
        "equidiff.config.build",
        "equidiff.config.instantiate",
        "equidiff.policy.torch.load",
        "equidiff.policy.Callable",
        "equidiff.diffusion.inspect.getsource",
        "equidiff.diffusion.draw",
        "equidiff.policyx.Policy",
        "equidiff.policy",
        "diffusers.schedulers.DDPMScheduler.from_pretrained",
        "diffusers.utils.import_utils.importlib",
        "diffusers.schedulers.scheduling_ddpm.dataclass",
        "diffusers.schedulers.scheduling_ddpm.BaseOutput",
        "equidiff.augment.math.sqrt",
        "equidiff.normalizer.Tensor",
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_strangers_may_not_name(target: str, nested: bool) -> None:
    node: dict[str, Any] = {"_target_": target}
    if nested:
        node = {"_target_": "equidiff.policy.DiffusionPolicy", "_partial_": True, "encoder": {"encoders": [node]}}
    with pytest.raises(ConfigError, match=r"_target_: .*(is not allowed|which is not a class of|cannot import)"):
        build(node, allow=ALLOWED)


def test_strangers_may_name_what_a_policy_is_made_of() -> None:
    composed = config()
    spec = make_spec(composed)
    assert isinstance(build(policy_tree(composed), allow=ALLOWED, spec=spec), DiffusionPolicy)
    with pytest.raises(ConfigError, match=re.escape("load with allow=['collections']")):
        build({"_target_": "collections.Counter"}, allow=ALLOWED)
    assert build({"_target_": "collections.Counter"}, allow=(*ALLOWED, "collections")) == {}


def test_did_you_mean() -> None:
    assert did_you_mean("chanels", ["channels", "blocks"]) == "; did you mean 'channels'?"
    assert did_you_mean("zzz", ["channels", "blocks"]) == ""


def test_compose_names_the_missing_node() -> None:
    for node in ("task", "obs", "action", "horizon"):
        composed = config()
        del composed[node]
        with pytest.raises(ConfigError, match=f"config has no node '{node}'"):
            make_spec(composed)
    with pytest.raises(ConfigError, match="no node 'policy'"):
        policy_tree({"encoder": {}})


@pytest.mark.parametrize("order", [1, 3, 8])
def test_the_order_reaches_every_layer(order: int) -> None:
    policy = make(order, denoiser="fibrewise_unet_small")
    orders = {m.symmetry.order for m in policy.modules() if hasattr(m, "symmetry")}
    assert orders == {order}


def test_a_misspelt_part_of_the_policy_is_named() -> None:
    composed = config(overrides=["+denoiser.block=2"])
    with pytest.raises(ConfigError, match=r"config\.denoiser\.block: .* no argument 'block'; did you mean 'blocks'\?"):
        make_policy(policy_tree(composed), make_spec(composed))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["denoiser=fibrewise_unet_small", "denoiser.kernel=4"], "config.denoiser: FibrewiseUNet: kernel must be odd"),
        (["denoiser.dropout=3"], "config.denoiser: dropout probability has to be between 0 and 1"),
        (["denoiser.channels=-1"], "config.denoiser: GroupMLP.channels: expected at least 1, got -1"),
        (["denoiser.blocks=-1"], "config.denoiser: GroupMLP.blocks: expected at least 0, got -1"),
        (["encoder.channels=0"], "config.encoder: ObservationEncoder.channels: expected at least 1, got 0"),
        (
            ["encoder.encoders.state.channels=0"],
            "config.encoder.encoders.state: StateEncoder.channels: expected at least 1",
        ),
        (
            ["denoiser=fibrewise_unet_small", "denoiser.widths=[8,0]"],
            "config.denoiser: FibrewiseUNet.widths: expected one or more numbers of at least 1, got [8, 0]",
        ),
        (
            ["denoiser=fibrewise_unet_small", "denoiser.widths=[]"],
            "config.denoiser: FibrewiseUNet.widths: expected one or more numbers of at least 1, got []",
        ),
        (
            ["denoiser=fibrewise_unet_small", "denoiser.groups=0"],
            "config.denoiser: FibrewiseUNet.groups: expected at least 1, got 0",
        ),
        (["encoder.channels=many"], "config.encoder.channels: expected a whole number, got 'many'"),
        (["denoiser.channels=1.5"], "config.denoiser.channels: expected a whole number, got 1.5"),
        (["denoiser.channels=true"], "config.denoiser.channels: expected a whole number, got True"),
        (["denoiser.dropout=none"], "config.denoiser.dropout: expected a number, got 'none'"),
        (
            ["denoiser=fibrewise_unet_small", "denoiser.widths=8"],
            "config.denoiser.widths: expected a list, each a whole number, got 8",
        ),
        (
            ["encoder=so2_state", "denoiser=so2_mlp", "denoiser.samples=few"],
            "config.denoiser.samples: expected a whole number or null, got 'few'",
        ),
        (["augment=crop", "+augment.side.voxels=1.0"], "config: RandomCrop.side: 'voxels' is not"),
    ],
)
def test_what_a_constructor_refuses_names_its_node(overrides: list[str], message: str) -> None:
    composed = config(overrides=overrides)
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        make_policy(policy_tree(composed), make_spec(composed))


def test_a_factory_still_is_one() -> None:
    factory = build({"_target_": "equidiff.nn.GroupLinear", "_partial_": True, "inputs": 1, "symmetry": C8})
    assert factory.keywords == {"inputs": 1, "symmetry": Symmetry(8)}
    assert factory(outputs=2).symmetry == Symmetry(8)
    with pytest.raises(ConfigError, match=r"^config: .*outputs"):
        factory()


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"obs": "image", "encoder": "equi_image"}, "config.encoder.encoders.scene: SceneImageEncoder('agentview_image').channels: expected at least 8, of which"),
        ({"obs": "voxel", "encoder": "equi_voxel"}, "config.encoder.encoders.voxels: VoxelEncoder('voxels').channels: expected at least 16, of which"),
    ],
)  # fmt: skip
def test_channels_too_few_for_the_published_widths(groups: dict[str, str], message: str) -> None:
    composed = config(overrides=["encoder.channels=7"], **groups)
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        make_policy(policy_tree(composed), make_spec(composed))


def test_every_part_of_a_policy_tells_the_kinds_of_its_arguments() -> None:
    modules = [importlib.import_module(name) for name in ALLOWED if name.startswith("equidiff.")]
    classes = [getattr(module, name) for module in modules for name in module.__all__]
    made = [one for one in classes if inspect.isclass(one) and "__init__" in vars(one)]
    assert len(made) > 15
    for one in made:
        assert set(_hints(one)) >= set(inspect.signature(one).parameters) - {"args", "kwargs"}, one


class Foreign:
    """A class of somebody else's, whose annotation is only a hint."""

    def __init__(self, size: int = 1) -> None:
        self.size = size


def test_other_peoples_annotations_are_not_laws() -> None:
    assert build({"_target_": f"{__name__}.Foreign", "size": 0.5}).size == 0.5
