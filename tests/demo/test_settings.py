"""Settings: overrides are typed and checked, and mistakes are answered."""

from __future__ import annotations

from pathlib import Path

import pytest

from equidiff.demo.settings import DemoError, load_settings


def test_overrides_replace_defaults(root: Path) -> None:
    settings = load_settings(
        root / "configs" / "demo", "lift", ["seeds=3", "goal=null", "fresh=true", "policies=plain"]
    )
    assert (settings.seeds, settings.goal, settings.fresh) == (3, None, True)
    assert list(settings.policies) == ["plain"]
    assert settings.episode_seeds == (100000, 100001, 100002, 100003)
    assert settings.folder == Path("outputs/demo/lift")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stepz=3", "did you mean 'steps'"),
        ("steps", "expected key=value"),
        ("steps=0", "steps: expected a whole number >= 1, got 0"),
        ("steps=many", "got 'many'"),
        ("steps=true", "got True"),
        ("goal=95", "between 0 and 1"),
        ("fresh=perhaps", "true or false"),
        ("policies=plane", "did you mean 'plain'"),
        ("policies=", "at least one"),
        ("common=x", "expected key=value"),
    ],
)
def test_wrong_overrides_say_what_was_expected(root: Path, override: str, message: str) -> None:
    with pytest.raises(DemoError, match=message):
        load_settings(root / "configs" / "demo", "lift", [override])


def test_unknown_task_names_the_known(root: Path) -> None:
    with pytest.raises(DemoError, match="did you mean 'lift'"):
        load_settings(root / "configs" / "demo", "lfit")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("n_demo: 2", "n_demos: 2", "did you mean 'n_demo'"),
        ("n_demo: 2", "", "n_demo"),
        ("label: Plain, ", "", "policies.plain"),
        ("[symmetry=trivial]", "[trivial]", "'encoder.channels=32', got 'trivial'"),
    ],
)
def test_wrong_files_say_where(root: Path, old: str, new: str, message: str) -> None:
    file = root / "configs" / "demo" / "lift.yaml"
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(DemoError, match=message):
        load_settings(root / "configs" / "demo", "lift")
