"""The stages of a demo in order."""

from __future__ import annotations

import hashlib
import shlex
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from equidiff.demo.evaluation import Evaluate
from equidiff.demo.progress import follow, say
from equidiff.demo.settings import DemoError, DemoSettings
from equidiff.demo.stages import Stage
from equidiff.demo.training import Training, train_all

__all__ = ["Demo", "Trained"]

_DEMOS, _SEEN = "demos.hdf5", "observed.hdf5"
# sources that a stage's result does not depend on
_REPORTING = ("report", "demo")
_NOT_FOR = {
    "demonstrations": (*_REPORTING, "train", "denoisers", "encoders", "nn"),
    "observations": (*_REPORTING, "train", "denoisers", "encoders", "nn"),
    "training": (*_REPORTING, "sim"),
    "evaluation": (*_REPORTING, "train", "data"),
}


@dataclass(frozen=True)
class Trained:
    """A finished training of one policy with one seed."""

    key: str
    label: str
    seed: int
    stage: Stage
    command: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """Its run_dir."""
        return self.stage.folder

    @property
    def checkpoint(self) -> Path:
        """The final checkpoint."""
        return self.folder / "checkpoints" / "final"


@dataclass
class Demo:
    """Runs the stages. root: the checkout, which has scripts/ and configs/.

    wall_s: seconds each stage took in this call; reused: stages that were finished before.
    """

    settings: DemoSettings
    root: Path
    evaluate: Evaluate
    wall_s: dict[str, float] = field(default_factory=dict)
    reused: list[str] = field(default_factory=list)

    @property
    def demonstrations(self) -> Path:
        """The file of demonstrations."""
        if self.settings.data is not None:
            return Path(self.settings.data)
        return self.settings.folder / "demonstrations" / _DEMOS

    @property
    def observed(self) -> Path:
        """The file that the policies learn from: the demonstrations, or what was made of them."""
        if self.settings.observe is None:
            return self.demonstrations
        return self.settings.folder / "observations" / _SEEN

    def generate_command(self) -> tuple[str, ...]:
        """Command line that records the demonstrations."""
        s = self.settings
        total = s.n_demo + s.n_valid
        options = [
            f"task={s.task}",
            f"n={total}",
            f"out={self.demonstrations}",
            f"workers={s.workers}",
            f"seed={s.demo_seed}",
        ]
        if s.n_valid:
            options.append(f"valid_fraction={s.n_valid / total:g}")
        return ("scripts/generate_demos.py", *options)

    def prepare_command(self) -> tuple[str, ...]:
        """Command line that makes pictures or points of the demonstrations."""
        s = self.settings
        return (
            "scripts/prepare_data.py",
            f"data={self.demonstrations}",
            f"task={s.task}",
            f"like={s.observe}",
            f"out={self.observed}",
            f"workers={s.workers}",
        )

    def train_command(self, key: str, seed: int) -> tuple[str, ...]:
        """Command line that trains a policy."""
        s = self.settings
        return (
            "scripts/train.py",
            f"task={s.task}",
            f"data.path={self.observed}",
            f"data.n_demo={s.n_demo}",
            f"trainer.max_steps={s.steps}",
            *s.common,
            *s.policies[key].overrides,
            f"seed={seed}",
            f"run_dir={self._run_folder(key, seed)}",
        )

    def eval_command(self, key: str, seed: int) -> tuple[str, ...]:
        """Command line that judges a trained policy alone."""
        s, folder = self.settings, self._run_folder(key, seed)
        checkpoint = f"checkpoint={folder / 'checkpoints' / 'final'}"
        return ("scripts/eval.py", checkpoint, f"n={s.rollouts}", f"seed={s.seed}", f"out={folder / 'rollouts'}")

    def run(self) -> list[Trained]:
        """All stages; returns what was trained and evaluated, the policies in order. Raises DemoError."""
        if self.settings.data is None:
            source = self._demonstrate().fingerprint
        else:
            source = hashlib.sha256(self.demonstrations.read_bytes()).hexdigest()[:16]
        if self.settings.observe is not None:
            source = self._observe(source).fingerprint
        trained = self._train(source)
        self._evaluate(trained)
        return trained

    # -- stages --------------------------------------------------------------------------------------------

    def _demonstrate(self) -> Stage:
        s = self.settings
        command = self.generate_command()
        # where it goes and how many workers make it do not change a demonstration
        about = {"what": [part for part in command[1:] if not part.startswith(("out=", "workers="))]}
        stage = Stage(self.demonstrations.parent, {**about, **self._origin("demonstrations", ("task",))})
        what = f"{s.n_demo} demonstrations of {s.task}" + (f" and {s.n_valid} for validation" if s.n_valid else "")
        with self._timed("demonstrations"):
            if self._reusable(stage, what) and self.demonstrations.is_file():
                return stage
            say(f"\n[1/4] Recording {what} with a scripted expert")
            stage.begin(s.fresh)
            begun = time.monotonic()
            follow(_python(command), stage.folder / "generate.log", cwd=self.root, what="recording demonstrations")
            if not self.demonstrations.is_file():
                raise DemoError(f"{command[0]} ended well but did not write {self.demonstrations}")
            stage.finish(wall_s=round(time.monotonic() - begun, 1))
        return stage

    def _observe(self, demonstrations: str) -> Stage:
        s, file = self.settings, self.root / "configs" / "obs" / f"{self.settings.observe}.yaml"
        about = {"like": s.observe, "obs": _digest([file], self.root), "demonstrations": demonstrations}
        stage = Stage(self.observed.parent, {**about, **self._origin("observations", ("task",))})
        what = f"observations ({s.observe})"
        with self._timed("observations"):
            if self._reusable(stage, what) and self.observed.is_file():
                return stage
            say(f"\n[1/4] Making {what}")
            stage.begin(s.fresh)
            begun = time.monotonic()
            follow(_python(self.prepare_command()), stage.folder / "prepare.log", cwd=self.root, what="observations")
            if not self.observed.is_file():
                raise DemoError(f"scripts/prepare_data.py ended well but did not write {self.observed}")
            stage.finish(wall_s=round(time.monotonic() - begun, 1))
        return stage

    def _train(self, demonstrations: str) -> list[Trained]:
        s, all_of_them, todo = self.settings, list[Trained](), list[tuple[Trained, Training]]()
        origin = self._origin("training", None)
        with self._timed("training"):
            for seed in range(s.seeds):
                for key, policy in s.policies.items():
                    command = self.train_command(key, seed)
                    what = [part for part in command[1:] if not part.startswith(("run_dir=", "data.path="))]
                    settings = {"what": what, "demonstrations": demonstrations, **origin, **self._experiment(what)}
                    stage = Stage(self._run_folder(key, seed), settings)
                    label = policy.label + (f", seed {seed}" if s.seeds > 1 else "")
                    trained = Trained(key, label, seed, stage, command)
                    all_of_them.append(trained)
                    if self._reusable(stage, f"training of {label!r}") and trained.checkpoint.is_dir():
                        continue
                    stage.begin(s.fresh)
                    again = ("resume=true",) if (stage.folder / "checkpoints").is_dir() else ()
                    todo.append((trained, Training(label, stage.folder, _python((*command, *again)), s.steps)))
            if todo:
                together = min(s.parallel, len(todo))
                say(f"\n[2/4] Training {len(todo)} policies, {s.steps} steps each, {together} at a time")
                done: dict[int, Stage] = {id(training): trained.stage for trained, training in todo}
                train_all(
                    [training for _, training in todo],
                    parallel=s.parallel,
                    cwd=self.root,
                    finished=lambda t: done[id(t)].finish(wall_s=round(t.wall_s, 1)),
                )
        return all_of_them

    def _evaluate(self, trained: list[Trained]) -> None:
        s, origin, told = self.settings, self._origin("evaluation", ("task",)), False
        with self._timed("evaluation"):
            for run in trained:
                film = s.episode_seeds[: s.film] if run.seed == 0 else ()
                settings = {
                    "training": run.stage.fingerprint,
                    "seeds": [s.seed, s.rollouts],
                    "film": len(film),
                    **origin,
                }
                stage = Stage(run.folder / "rollouts", settings)
                if self._reusable(stage, f"evaluation of {run.label!r}"):
                    continue
                if not told:
                    say(f"\n[3/4] Evaluating on the episodes of seeds {s.episode_seeds[0]} to {s.episode_seeds[-1]}")
                    told = True
                stage.begin(s.fresh)
                begun = time.monotonic()
                self.evaluate(run.checkpoint, stage.folder, label=run.label, seeds=s.episode_seeds, film=film)
                stage.finish(wall_s=round(time.monotonic() - begun, 1))

    # -- helpers -------------------------------------------------------------------------------------------

    def _reusable(self, stage: Stage, what: str) -> bool:
        if stage.finished and not self.settings.fresh:
            self.reused.append(what)
            say(f"reused: {what} ({stage.folder})")
            return True
        changes = stage.changes()
        if changes and not self.settings.fresh:
            say(f"again: {what}, because {changes}")
        return False

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.wall_s[name] = round(time.monotonic() - started, 1)

    def _run_folder(self, key: str, seed: int) -> Path:
        return self.settings.folder / key / f"seed{seed}"

    def _experiment(self, overrides: Collection[str]) -> Mapping[str, Any]:
        """Fingerprint of the named set of choices, if one is used."""
        names = [part.removeprefix("experiment=") for part in overrides if part.startswith("experiment=")]
        files = [self.root / "configs" / "experiment" / f"{name}.yaml" for name in names]
        return {"experiment": _digest([file for file in files if file.is_file()], self.root)} if names else {}

    def _origin(self, stage: str, configs: Collection[str] | None) -> Mapping[str, Any]:
        """Fingerprints of the code and config files (None: of all groups) that a stage depends on."""
        groups = self.root / "configs"
        files = [
            f
            for f in sorted(groups.rglob("*.yaml"))
            if _group(f, groups) not in ("demo", "visual_evidence", "experiment")
        ]
        chosen = [f for f in files if configs is None or _group(f, groups) in configs]
        if "task" in (configs or ("task",)):  # of the tasks, only this one matters
            chosen = [f for f in chosen if _group(f, groups) != "task" or f.stem == self.settings.task]
        package = self.root / "equidiff"
        sources = [f for f in sorted(package.rglob("*.py")) if _group(f, package) not in _NOT_FOR[stage]]
        return {"configs": _digest(chosen, self.root), "code": _digest(sources, self.root)}


def command_line(command: Collection[str]) -> str:
    """A command as a user would type it."""
    return shlex.join(["python", *command])


def _python(command: Collection[str]) -> tuple[str, ...]:
    return (sys.executable, *command)


def _group(file: Path, folder: Path) -> str:
    return file.relative_to(folder).parts[0]


def _digest(files: Collection[Path], root: Path) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(root)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:12]
