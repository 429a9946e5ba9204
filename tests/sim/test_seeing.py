"""Evaluation of policies of tasks whose workspace is not centred on (0, 0)."""

from __future__ import annotations

import importlib.util
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

if importlib.util.find_spec("robosuite") is None:  # importing it here would come before torch
    pytest.skip("the simulator is not installed (extra sim)", allow_module_level=True)

from equidiff.fields import Displacement, Voxels
from equidiff.perception import PerceptionError, PerceptionSettings
from equidiff.sim.render import RendererSettings
from equidiff.sim.seeing import sight_of
from equidiff.spec import Space, Spec, Workspace

pytestmark = pytest.mark.sim


def test_a_grid_about_another_centre_is_accepted_and_must_be_that_of_the_policy() -> None:
    path = Path(__file__).parents[2] / "configs" / "task" / "kitchen_d1.yaml"
    task = yaml.safe_load(path.read_text())
    centre = tuple(task["centre"])
    assert centre != (0.0, 0.0)
    node = {"cameras": {"agentview": {}}, "voxels": {"size": 16, "cameras": ["agentview"]}}
    settings = PerceptionSettings.from_config(node, task["bounds"], centre)
    about = {
        "settings": settings.to_json(),
        "renderer": RendererSettings().to_json(),
        "versions": {"mujoco": metadata.version("mujoco")},
    }
    space, action = Space((Voxels("voxels", size=16),)), Space((Displacement("a"),))
    assert sight_of(about, Spec(space, action, workspace=Workspace(centre)))[0] == settings
    with pytest.raises(
        PerceptionError, match=r"the middle is \(-0.2, 0.0\), but the scene turns about .* \(0.0, 0.0\)"
    ):
        sight_of(about, Spec(space, action))


def test_settings_of_the_renderer() -> None:
    """Files from before there was a setting are drawn as they were."""
    stored = RendererSettings().to_json()
    del stored["samples"]
    assert RendererSettings.from_config(stored) == RendererSettings(samples=0)
    with pytest.raises(PerceptionError, match="no setting 'sample'; did you mean 'samples'"):
        RendererSettings.from_config({"sample": 2})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "slow"}, r"renderer.kind: expected 'fast' or 'default', got 'slow'"),
        ({"samples": 3}, r"renderer.samples: expected 0, 2, 4 or 8 a pixel, got 3"),
        ({"kind": "default", "samples": 2}, r"renderer.samples: is of kind=fast"),
        ({"faces": 0.0}, r"0 < faces <= 1 .* got faces=0.0"),
        ({"fewest_faces": 3000}, r"fewest_faces <= most_faces, got .*fewest_faces=3000, most_faces=1500"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(PerceptionError, match=message):
        RendererSettings.from_config(settings)
