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
    assert settings.folder == Path.cwd() / "outputs" / "demo" / "lift"


def test_paths_are_those_of_the_folder_in_which_the_user_is(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = root.parent / "elsewhere"
    here.mkdir()
    (here / "mine.hdf5").touch()
    monkeypatch.chdir(here)
    settings = load_settings(root / "configs" / "demo", "lift", ["data=mine.hdf5", "out=5", "record=../r.json"])
    monkeypatch.chdir(root)
    assert settings.data == here / "mine.hdf5"
    assert settings.folder == here / "5" / "lift"
    assert settings.record == root.parent / "r.json"
    none = load_settings(root / "configs" / "demo", "lift", ["data=null", "record="])
    assert (none.data, none.record, none.folder) == (None, None, root / "outputs" / "demo" / "lift")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stepz=3", "did you mean 'steps'"),
        ("steps", "expected key=value"),
        ("steps=0", "steps: expected a whole number >= 1, got 0"),
        ("steps=many", "got 'many'"),
        ("steps=true", "got True"),
        ("goal=95", "between 0 and 1"),
        ("goal=high", "between 0 and 1, such as 0.95, got 'high'"),
        ("goal=true", "got True"),
        ("steps=[1", r"^steps: '\[1' cannot be read: .*expected"),
        ("seeds=", "seeds: expected a whole number >= 1, got None"),
        ("out=", "out: expected a path, got None"),
        ("camera=null", "camera: expected a name, got None"),
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
        ("[symmetry=trivial]", "symmetry=trivial", "policies.plain: expected a list of texts"),
        ("steps: 3", "steps: [3", r"lift\.yaml: not YAML"),
        ("task: lift", "out: 5\ntask: lift", "out: expected a path, got 5"),
        ("task: lift", "task: 5", "task: expected a name, got 5"),
        ("goal: 0.5", "common: augment=rotation", "common: expected a list of texts .* got 'augment=rotation'"),
    ],
)
def test_wrong_files_say_where(root: Path, old: str, new: str, message: str) -> None:
    file = root / "configs" / "demo" / "lift.yaml"
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(DemoError, match=message):
        load_settings(root / "configs" / "demo", "lift")
