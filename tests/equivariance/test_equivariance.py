"""The check of a policy's symmetry: equivariant ones pass, others fail with the stage named, numbers as by hand."""

import importlib.util
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from demo_files import arrays
from hydra import compose, initialize_config_dir
from law_toys import CONFIGS, config, make, randomise
from omegaconf import OmegaConf
from torch import Tensor, nn

from equidiff.checkpoint import save_checkpoint
from equidiff.compose import make_policy, make_spec, policy_tree
from equidiff.data import DemoWriter, WindowDataset
from equidiff.data.source import load_training_data
from equidiff.encoders import FrameAveraged
from equidiff.equivariance import Judgement, Report, Stage, View, measure, random_observation, views
from equidiff.fields import Depth, Displacement, Image, PointCloud, Position, Scalars, Voxels
from equidiff.perception import PerceptionSettings, camera_pose, intrinsics, project
from equidiff.report.equivariance_page import (
    panels,
    picture,
    render_equivariance,
    scene,
    scene_extent,
    scenes_figure,
)
from equidiff.spec import Horizon, Space, Spec, Workspace
from equidiff.symmetry import Symmetry

FEW = ["diffusion.inference_steps=3"]


@pytest.mark.parametrize("action", ["absolute", "relative", "relative_trajectory"])
@pytest.mark.parametrize("order", [3, 8])
def test_an_equivariant_policy_passes(order: int, action: str) -> None:
    policy = make(order, FEW, action=action)
    report = measure(policy, random_observation(policy.spec, 2), 4, Judgement(1e-9), double=True)
    assert report.failures == []
    assert report.order == order
    stages = {stage.name: stage for stage in report.stages}
    assert {"normaliser", "encoder", "denoiser", "prediction", "sampler", "action position"} <= {
        name.split("-")[0] for name in stages
    }
    degrees = [round(math.degrees(a)) for a in report.angles]
    assert degrees == sorted({round(360 * k / n) for n in (4, order) for k in range(n)})
    judged = [d for d, limit in zip(degrees, stages["sampler"].limits, strict=True) if limit is not None]
    assert judged == [round(360 * k / order) for k in range(order)]
    if order == 3:  # between the group's rotations it is not equivariant, and not judged
        assert stages["sampler"].worst["between"] > 1e-3
        assert stages["encoder"].errors[1] is None
    assert policy.normalizer.action_scale.dtype == torch.float32  # left as it was


def test_a_plain_policy_fails_with_the_stage_named() -> None:
    policy = make(1, FEW)
    report = measure(policy, random_observation(policy.spec, 2), 4)
    assert report.failed == ["prediction", "sampler"]
    assert any(line.startswith("sampler: error") and "at 90.0 degrees, limit 0.001" in line for line in report.failures)
    assert "not measured" in report.table()


class _Crooked(torch.nn.Module):
    """An encoder with one feature that does not turn."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, features: Tensor, arrays: dict[str, Tensor]) -> Tensor:
        out = self.inner(features, arrays).clone()
        out[..., 0, 0] += 1.0
        return out


def test_the_broken_stage_is_the_first_named() -> None:
    policy = make(8, FEW)
    obs = random_observation(policy.spec, 2)
    policy.encoder = _Crooked(policy.encoder)
    assert measure(policy, obs, 4).failed == ["encoder", "prediction", "sampler"]
    policy = make(8, FEW)
    policy.normalizer.action_scale[:, 0] *= 2
    failed = measure(policy, obs, 4).failed
    assert failed[0] == "normaliser"
    assert "encoder" not in failed


def test_elementwise_clipping_is_found_between_quarter_turns_only() -> None:
    policy = make(8, FEW, diffusion="ddpm", normalizer="range")
    report = measure(policy, random_observation(policy.spec, 2), 4, double=True)
    assert report.failed == ["sampler"]
    assert {line.split(" at ")[1].split(" ")[0] for line in report.failures} == {"45.0", "135.0", "225.0", "315.0"}


def test_the_numbers_are_those_of_a_computation_by_hand() -> None:
    policy = make(1, FEW)
    obs = random_observation(policy.spec, 2, seed=4)
    report = measure(policy, obs, 4, seed=9)
    generator = torch.Generator().manual_seed(9)
    noise = torch.randn(2, *policy.noise_shape, generator=generator, dtype=torch.float64).float()
    irreps, spec = policy.spec.action.irreps, policy.spec
    angle = math.pi / 2
    turned_obs = spec.rotate_observation(obs, angle)
    plain = policy.act(obs, noise=noise).predicted
    turned = policy.act(turned_obs, noise=irreps.rotate(noise, angle)).predicted
    to_units = lambda actions: policy.normalizer.action(spec.decode_action(actions, turned_obs))
    got, want = to_units(turned), to_units(spec.rotate_action(plain, angle))
    by_hand = math.sqrt(float(((got - want) ** 2).sum())) / math.sqrt(float((want**2).sum()))
    sampler = next(stage for stage in report.stages if stage.name == "sampler")
    assert sampler.errors[1] == pytest.approx(by_hand, rel=1e-4)
    assert sampler.errors[0] == pytest.approx(0, abs=1e-5)


def test_grids_are_judged_by_the_threshold_at_quarter_turns_and_by_the_bound_between() -> None:
    policy = _seeing()
    obs = random_observation(policy.spec, 2)
    report = measure(policy, obs, 4, Judgement(threshold=1e-9), double=True)
    assert report.failures == []
    sampler = next(stage for stage in report.stages if stage.name == "sampler")
    assert sampler.limits == (1e-9, None) * 4  # between quarter turns it is shown
    assert sampler.worst["exact"] < 1e-9 < sampler.worst["grid"]
    assert sampler.worst["share"] == max(sampler.errors[k] / sampler.references[k] for k in (1, 3, 5, 7))
    judged = measure(policy, obs, 4, Judgement(threshold=1e-9, bound=0.9), double=True)
    assert judged.failures == []
    assert judged.stages[-1].limits == tuple(1e-9 if r is None else 0.9 * r for r in sampler.references)
    strict = measure(policy, obs, 4, Judgement(threshold=1e-9, bound=1e-9), double=True)
    assert "sampler" in strict.failed
    assert all(" 45.0 " in f or "135.0" in f or "225.0" in f or "315.0" in f for f in strict.failures)
    drawn = views(policy, obs, [0.0, math.pi / 2])
    assert drawn[1].pictures["top_image"].shape == (24, 24, 3)
    assert "<image " not in scene(drawn[1], 0.3, (0.0, 0.0))  # a map is to scale, a picture is not
    assert "<path " not in picture(drawn[1], "top_image")
    assert "camera not known" in picture(drawn[1], "top_image")


def test_plans_lie_over_a_picture_where_its_camera_sees_them() -> None:
    policy = _seeing()
    obs = random_observation(policy.spec, 2)
    matrix, above = intrinsics(45, 24, 24), camera_pose((0.0, 0.0, 1.8), (0.0, 0.0, 0.8))
    for view in views(policy, obs, [0.0, 0.7], cameras={"top": (matrix, above)}):
        path, turned = view.drawn["top_image"]
        # from above the centre, the turned picture's path is the path that the camera sees
        np.testing.assert_allclose(path, project(view.path, matrix, above), atol=1e-3)
        np.testing.assert_allclose(turned, project(view.turned, matrix, above), atol=1e-3)
        assert picture(view, "top_image").count("<circle ") == 8
    tilted = camera_pose((0.8, 0.3, 1.5), (0.0, 0.0, 0.8))
    still, other = views(policy, obs, [0.0, 0.7], cameras={"top": (matrix, tilted)})
    np.testing.assert_allclose(still.drawn["top_image"][0], project(still.path, matrix, tilted), atol=1e-3)
    # the turned plan of the scene as it is: the same line on the picture, turned with it about the middle
    at_rest, moved = still.drawn["top_image"][1] - 12, other.drawn["top_image"][1] - 12
    c, s = math.cos(0.7), math.sin(0.7)
    np.testing.assert_allclose(moved, at_rest @ np.array([[c, -s], [s, c]]), atol=1e-3)


def test_voxels_are_drawn_at_their_size_and_depth_beside_the_map() -> None:
    cube = np.full((6, 6, 3), 90, np.uint8)
    places = np.array([[0.1, 0.0, 0.9], [0.2, 0.0, 0.9]])
    pictures = {"voxels from above": cube, "top_depth": cube}
    view = View(0.0, places[0], places, places, {}, None, pictures, {}, {"voxels from above": 0.8})
    assert scene_extent([view], (0.0, 0.0)) == 0.4
    found = panels(view, 0.8, (0.0, 0.0))
    assert len(found) == 2
    assert 'x="75.0" y="75.0" width="150.0" height="150.0"' in found[0]  # 0.8 of 1.6 m
    assert "M168.8 150.0L187.5 150.0" in found[0]  # 0.1 and 0.2 m
    assert scenes_figure([view, view], (0.0, 0.0)).count("<svg") == 5


def _framed(spec: Spec, symmetry: Symmetry) -> FrameAveraged:
    def net() -> nn.Module:
        layers = [nn.Conv2d(3, 6, 5, stride=2), nn.SiLU(), nn.Conv2d(6, 6, 5), nn.SiLU(), nn.AdaptiveAvgPool2d(2)]
        return nn.Sequential(*layers, nn.Flatten())

    return FrameAveraged(spec, symmetry, net, key="top_image")


def _seeing(order: int = 8, scene: Any = None):  # type: ignore[no-untyped-def]
    from functools import partial

    from diffusers.schedulers import DDIMScheduler

    from equidiff.denoisers import GroupMLP
    from equidiff.diffusion import Diffusion
    from equidiff.encoders import ObservationEncoder, SceneImageEncoder
    from equidiff.policy import DiffusionPolicy

    fields = (Image("top_image", height=24, width=24, overhead=True), Position("robot0_eef_pos"))
    spec = Spec(Space(fields), Space((Position("position"), Scalars("gripper"))), Horizon(1, 8, 4))
    camera = scene or partial(SceneImageEncoder, key="top_image", channels=6, widths=(3, 4), pools=(2, 2), blocks=1)
    scheduler = DDIMScheduler(num_train_timesteps=50, clip_sample=False, prediction_type="sample")
    torch.manual_seed(0)
    policy = DiffusionPolicy(
        spec,
        Symmetry(order),
        partial(ObservationEncoder, encoders={"scene": camera}, channels=6, direct=True),
        partial(GroupMLP),
        Diffusion(scheduler, 3),
    )
    obs = random_observation(spec, 12)
    policy.fit([{"obs": obs, "action": 0.1 * torch.randn(12, 8, 4)}])
    randomise(policy)  # a new denoiser gives zero, which turns with anything
    return policy.eval()


def test_random_scenes_are_what_the_spec_asks_for() -> None:
    fields = (
        Image("a_image", height=20, width=20),
        Depth("a_depth", height=20, width=20),
        Voxels("voxels", size=12),
        PointCloud("point_cloud", points=30),
        Position("p"),
    )
    place = Workspace((0.3, -0.1), ((0.0, 0.6), (-0.4, 0.2), (0.8, 1.2)))
    spec = Spec(Space(fields), Space((Displacement("d"),)), Horizon(2, 8, 4), place)
    obs = random_observation(spec, 3)
    spec.check_observation(obs)
    assert 0.05 < float((obs["voxels"][:, :, 0] > 0).float().mean()) < 0.9
    assert float((obs["p"].mean((0, 1)) - torch.tensor([0.3, -0.1, 1.0])).abs().max()) < 0.15
    assert not torch.equal(obs["p"], random_observation(spec, 3, seed=1)["p"])


@pytest.mark.parametrize("kind", [{"threshold": 0.0}, {"bound": -1.0}, {"order": 1}, {"threshold": math.nan}])
def test_limits_that_make_no_sense_are_refused(kind: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(kind))}: expected a"):
        Judgement(**kind)  # type: ignore[arg-type]


def test_an_error_that_is_not_a_number_fails() -> None:
    stage = Stage("sampler", (float("nan"), 0.0), (1e-3, None))
    report = Report(4, (0.0, 1.0), (stage,), 1e-3, 0.5)
    assert report.failed == ["sampler"]
    assert math.isnan(stage.worst["exact"])


def test_the_share_of_a_turn_tells_networks_apart_that_an_absolute_limit_does_not() -> None:
    """At 45 degrees a network averaged over C_8 is far below the error of a picture that stays; one of C_4 is not."""
    errors = {}
    for order in (8, 4):
        policy = _seeing(order, _framed)
        report = measure(policy, random_observation(policy.spec, 4), 8, Judgement(bound=0.5, order=8), double=True)
        prediction = next(stage for stage in report.stages if stage.name == "prediction")
        errors[order] = prediction.worst
        assert ("prediction" in report.failed) == (order == 4), prediction.worst
    assert max(worst["grid"] for worst in errors.values()) < 0.5  # what a limit of 0.5 alone would pass


def test_the_page_shows_every_stage_and_scene() -> None:
    policy = make(8, FEW, action="relative")
    obs = random_observation(policy.spec, 2)
    report = measure(policy, obs, 4)
    drawn = views(policy, obs, [0.0, math.pi / 4])
    for view in drawn:
        torch.testing.assert_close(torch.tensor(view.path), torch.tensor(view.turned), rtol=0, atol=1e-4)
        assert view.path.shape == (8, 3)
    assert set(drawn[0].objects) == {"cube", "bar", "mug"}
    page = render_equivariance(report, drawn, policy.spec.workspace.centre, "a <policy>", "python x")
    assert "a &lt;policy&gt;" in page
    assert page.count("<title>") == 4  # page, curve, two scenes
    assert "45.0°" in page
    assert scenes_figure(drawn, (0.0, 0.0)).count("<svg") == 3


def _script() -> Any:
    script = Path(__file__).parents[2] / "scripts" / "check_equivariance.py"
    found = importlib.util.spec_from_file_location("check_equivariance", script)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def _run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    module = _script()
    monkeypatch.setattr(sys, "argv", [module.__file__, *words])
    with pytest.raises(SystemExit) as end:
        module.run_app(module.main, "check_equivariance", module.__doc__)
    return int(end.value.code or 0)


def test_scenes_of_a_file_are_measured_and_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """A picture policy and the file that it was trained on: plans lie over the pictures of its overhead camera."""
    words = ["task=lift", "obs=overhead_image", "encoder=small_image", "obs.fields.size=22", "action=absolute", *FEW]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        tree: Any = OmegaConf.to_container(compose("train", [*words, "data.path=none"]), resolve=True)
    spec = make_spec(tree)
    policy = make_policy(policy_tree(tree), spec)
    data = tmp_path / "demos.hdf5"
    with DemoWriter(data, {"env_name": "Lift"}, {"task": "lift"}) as writer:
        for seed in range(2):
            demo, rng = arrays(seed, 18), np.random.default_rng(seed)
            pictures = {
                f"{name}_image": rng.integers(0, 256, (18, 22, 22, 3), dtype=np.uint8)
                for name in ("top", "robot0_eye_in_hand")
            }
            demo["obs"] |= pictures
            writer.add(seed, **demo)
        writer.finish(0.0)
    source = load_training_data({"path": str(data)}, spec, "absolute", tree["task"], tmp_path)
    policy.fit([WindowDataset.of(source.train, spec).batch(torch.arange(8))])
    randomise(policy)  # a new denoiser gives zero, which is no rotation
    seen = PerceptionSettings.from_config(tree["obs"]["perception"], tree["task"]["bounds"], (0.0, 0.0))
    extra = {"task": tree["task"], "control": "absolute", "perception": {"settings": seen.to_json()}}
    save_checkpoint(tmp_path / "made", policy, policy_tree(tree), extra=extra)
    out = tmp_path / "out"
    choice = [f"checkpoint={tmp_path / 'made'}", f"data={data}", f"out={out}", "windows=2", "angles=4", "float64=true"]
    assert _run(monkeypatch, *choice) == 0
    assert f"2 scenes of {data}" in capsys.readouterr().out
    made = json.loads((out / "equivariance.json").read_text())
    assert made["data"] == str(data)
    assert made["failed"] == []
    page = (out / "index.html").read_text()
    assert page.count("<title>top_image</title>") == 6
    assert "camera not known" not in page
    assert "not judged" in page


def test_the_script_and_its_exit_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    for name, order in (("turns", 8), ("plain", 1)):
        save_checkpoint(tmp_path / name, make(order, FEW), policy_tree(config(order, FEW)))

    def run(name: str, *extra: str) -> int:
        out = tmp_path / f"out_{name}"
        choice = [f"checkpoint={tmp_path / name}", f"out={out}", "windows=1", "angles=2", *extra]
        return _run(monkeypatch, *choice)

    assert run("turns", "float64=true") == 0
    assert "sampler" in capsys.readouterr().out
    made = json.loads((tmp_path / "out_turns" / "equivariance.json").read_text())
    assert made["failed"] == []
    assert max(made["stages"]["sampler"]["errors"]) < 1e-9
    assert {p.name for p in (tmp_path / "out_turns").iterdir()} == {
        "equivariance.json",
        "errors.svg",
        "index.html",
        "scenes.svg",
    }
    assert run("plain") == 1
    assert "above the limit: sampler: error" in capsys.readouterr().err
    assert run("plain", "threshold=5") == 0
    assert run("turns", "windows=0") == 2
    assert "windows: expected a whole number >= 1, got 0" in capsys.readouterr().err
    assert run("turns", "order=1") == 2
    assert run("turns", f"data={tmp_path / 'none.hdf5'}") == 2
    assert "names no task" in capsys.readouterr().err
