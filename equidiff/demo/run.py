"""The stages of a demo in order."""

from __future__ import annotations

import hashlib
import shlex
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from equidiff.demo.evaluation import Evaluate
from equidiff.demo.places import override, seen_from
from equidiff.demo.progress import follow, say
from equidiff.demo.settings import DemoError, DemoSettings
from equidiff.demo.stages import Stage, clear, refuse_foreign
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

    wall_s: seconds each stage took in this call; reused: stages that were finished before. begun: whether anything was
    done, the deletion of old stages for `fresh` included.
    """

    settings: DemoSettings
    root: Path
    evaluate: Evaluate
    wall_s: dict[str, float] = field(default_factory=dict)
    reused: list[str] = field(default_factory=list)
    begun: bool = False

    @property
    def demonstrations(self) -> Path:
        """The file of demonstrations."""
        return self.settings.data or self.settings.folder / "demonstrations" / _DEMOS

    @property
    def observed(self) -> Path:
        """The file that the policies learn from: the demonstrations, or what was made of them."""
        if self.settings.observe is None:
            return self.demonstrations
        return self.settings.folder / "observations" / _SEEN

    @property
    def folders(self) -> tuple[Path, ...]:
        """Those that the stages fill; an evaluation's is in its training's."""
        made = [file.parent for file in (self.demonstrations, self.observed) if file != self.settings.data]
        return tuple(dict.fromkeys([*made, *(self._run_folder(key, seed) for key, seed in self._runs)]))

    @property
    def pending(self) -> bool:
        """Whether an episode has still to be run."""
        return self.settings.fresh or not all(self._evaluation(run).finished for run in self._trainings())

    # -- commands: for the checkout, where they are run ------------------------------------------------------

    def generate_command(self) -> tuple[str, ...]:
        """Command line that records the demonstrations."""
        s = self.settings
        total = s.n_demo + s.n_valid
        options = [
            f"task={s.task}",
            f"n={total}",
            self._place("out", self.demonstrations),
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
            self._place("data", self.demonstrations),
            f"task={s.task}",
            f"like={s.observe}",
            self._place("out", self.observed),
            f"workers={s.workers}",
        )

    def train_command(self, key: str, seed: int) -> tuple[str, ...]:
        """Command line that trains a policy."""
        s = self.settings
        return (
            "scripts/train.py",
            f"task={s.task}",
            self._place("data.path", self.observed),
            f"data.n_demo={s.n_demo}",
            f"trainer.max_steps={s.steps}",
            *s.common,
            *s.policies[key].overrides,
            f"seed={seed}",
            self._place("run_dir", self._run_folder(key, seed)),
        )

    def eval_command(self, key: str, seed: int) -> tuple[str, ...]:
        """Command line that judges a trained policy alone."""
        s, folder = self.settings, self._run_folder(key, seed)
        checkpoint = self._place("checkpoint", folder / "checkpoints" / "final")
        out = self._place("out", folder / "rollouts")
        return ("scripts/eval.py", checkpoint, f"n={s.rollouts}", f"seed={s.seed}", out)

    def from_root(self, path: Path) -> str:
        """A path as it is called in the checkout."""
        return seen_from(self.root, path)

    def _place(self, key: str, path: Path) -> str:
        """The override key=path for a script that runs in the checkout."""
        return override(key, self.from_root(path))

    # -- stages --------------------------------------------------------------------------------------------

    def run(self) -> list[Trained]:
        """All stages; returns what was trained and evaluated, the policies in order. Raises DemoError."""
        for folder in self.folders:
            refuse_foreign(folder)
        if self.settings.fresh:  # all at once: what goes on after an interrupt must find nothing old
            for folder in self.folders:
                clear(folder)
        self.begun = True
        if self.settings.data is None:
            self._demonstrate()
        if self.settings.observe is not None:
            self._observe()
        trained = self._train()
        self._evaluate(trained)
        return trained

    def _demonstrate(self) -> None:
        s, stage, command = self.settings, self._demonstration, self.generate_command()
        what = f"{s.n_demo} demonstrations of {s.task}" + (f" and {s.n_valid} for validation" if s.n_valid else "")
        with self._timed("demonstrations"):
            if self._reusable(stage, what) and self.demonstrations.is_file():
                return
            say(f"\n[1/4] Recording {what} with a scripted expert")
            stage.begin()
            begun = time.monotonic()
            follow(_python(command), stage.folder / "generate.log", cwd=self.root, what="recording demonstrations")
            if not self.demonstrations.is_file():
                raise DemoError(f"{command[0]} ended well but did not write {self.demonstrations}")
            stage.finish(wall_s=round(time.monotonic() - begun, 1))

    def _observe(self) -> None:
        stage, command, what = self._observation, self.prepare_command(), f"observations ({self.settings.observe})"
        with self._timed("observations"):
            if self._reusable(stage, what) and self.observed.is_file():
                return
            say(f"\n[1/4] Making {what}")
            stage.begin()
            begun = time.monotonic()
            follow(_python(command), stage.folder / "prepare.log", cwd=self.root, what="observations")
            if not self.observed.is_file():
                raise DemoError(f"{command[0]} ended well but did not write {self.observed}")
            stage.finish(wall_s=round(time.monotonic() - begun, 1))

    def _train(self) -> list[Trained]:
        s, trained, todo = self.settings, self._trainings(), list[tuple[Trained, Training]]()
        with self._timed("training"):
            for run in trained:
                if self._reusable(run.stage, f"training of {run.label!r}") and run.checkpoint.is_dir():
                    continue
                run.stage.begin()
                again = ("resume=true",) if (run.folder / "checkpoints").is_dir() else ()
                todo.append((run, Training(run.label, run.folder, _python((*run.command, *again)), s.steps)))
            if todo:
                together = min(s.parallel, len(todo))
                say(f"\n[2/4] Training {len(todo)} policies, {s.steps} steps each, {together} at a time")
                done: dict[int, Stage] = {id(training): run.stage for run, training in todo}
                train_all(
                    [training for _, training in todo],
                    parallel=s.parallel,
                    cwd=self.root,
                    finished=lambda t: done[id(t)].finish(wall_s=round(t.wall_s, 1)),
                )
        return trained

    def _evaluate(self, trained: list[Trained]) -> None:
        s, told = self.settings, False
        with self._timed("evaluation"):
            for run in trained:
                stage = self._evaluation(run)
                if self._reusable(stage, f"evaluation of {run.label!r}"):
                    continue
                if not told:
                    say(f"\n[3/4] Evaluating on the episodes of seeds {s.episode_seeds[0]} to {s.episode_seeds[-1]}")
                    told = True
                stage.begin()
                begun = time.monotonic()
                film = self._filmed(run)
                self.evaluate(run.checkpoint, stage.folder, label=run.label, seeds=s.episode_seeds, film=film)
                stage.finish(wall_s=round(time.monotonic() - begun, 1))

    # -- what each stage's result depends on ---------------------------------------------------------------

    @property
    def _demonstration(self) -> Stage:
        # where it goes and how many workers make it do not change a demonstration
        what = [part for part in self.generate_command()[1:] if not part.startswith(("out=", "workers="))]
        return Stage(self.demonstrations.parent, {"what": what, **self._origin("demonstrations", ("task",))})

    @property
    def _observation(self) -> Stage:
        file = self.root / "configs" / "obs" / f"{self.settings.observe}.yaml"
        about = {
            "like": self.settings.observe,
            "obs": _digest([file], self.root),
            "demonstrations": self._recorded,
        }
        return Stage(self.observed.parent, {**about, **self._origin("observations", ("task",))})

    @cached_property
    def _recorded(self) -> str:
        """Fingerprint of the demonstrations."""
        if self.settings.data is None:
            return self._demonstration.fingerprint
        with self.demonstrations.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]

    def _trainings(self) -> list[Trained]:
        s, origin = self.settings, self._origin("training", None)
        source = self._recorded if s.observe is None else self._observation.fingerprint
        found = []
        for key, seed in self._runs:
            command = self.train_command(key, seed)
            what = [part for part in command[1:] if not part.startswith(("run_dir=", "data.path="))]
            settings = {"what": what, "demonstrations": source, **origin, **self._experiment(what)}
            label = s.policies[key].label + (f", seed {seed}" if s.seeds > 1 else "")
            found.append(Trained(key, label, seed, Stage(self._run_folder(key, seed), settings), command))
        return found

    def _evaluation(self, run: Trained) -> Stage:
        s, film = self.settings, self._filmed(run)
        settings = {
            "training": run.stage.fingerprint,
            "seeds": [s.seed, s.rollouts],
            "film": len(film),
            "camera": s.camera if film else None,
            **self._origin("evaluation", ("task",)),
        }
        return Stage(run.folder / "rollouts", settings)

    # -- helpers -------------------------------------------------------------------------------------------

    def _reusable(self, stage: Stage, what: str) -> bool:
        if stage.finished:
            self.reused.append(what)
            say(f"reused: {what} ({stage.folder})")
            return True
        changes = stage.changes()
        if changes:
            say(f"again: {what}, because {changes}")
        return False

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.wall_s[name] = round(time.monotonic() - started, 1)

    @property
    def _runs(self) -> list[tuple[str, int]]:
        """Key of the policy and training seed."""
        return [(key, seed) for seed in range(self.settings.seeds) for key in self.settings.policies]

    def _filmed(self, run: Trained) -> tuple[int, ...]:
        return self.settings.episode_seeds[: self.settings.film] if run.seed == 0 else ()

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
