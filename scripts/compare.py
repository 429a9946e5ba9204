"""Compare two or more evaluations on the same episodes: table, exact paired tests, and a page if asked.

    python scripts/compare.py outputs/a/result.json outputs/b/result.json
    python scripts/compare.py a/result.json b/result.json c/result.json labels=equivariant,plain,augmented
    python scripts/compare.py a/result.json b/result.json html=comparison.html

The first result is compared with each of the others. Results are what scripts/eval.py writes (a folder
stands for the result.json in it); they must be of the same task and the same seeds.
"""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from pathlib import Path

from equidiff.config import did_you_mean
from equidiff.report.page import write_page
from equidiff.report.study import Entrant, Run, Study
from equidiff.report.table import paired_table, success_table
from equidiff.results import ResultError, RolloutResult

_OPTIONS = ("html", "labels")


def main(arguments: list[str]) -> int:
    """Compare the results of the command line `arguments`; returns the exit status."""
    if len(arguments) < 2 or {"-h", "--help"} & set(arguments):
        print(__doc__)
        return 0 if {"-h", "--help"} & set(arguments) else 2
    try:
        files, options = _split(arguments)
        study = make_study([_result(file) for file in files], _labels(files, options.get("labels")), arguments)
        tables = [success_table(study), *([paired_table(study)] if study.tests else [])]
        print("\n\n".join(tables))
        if "html" in options:
            print(f"\npage: {write_page(options['html'], study)}")
    except ResultError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def make_study(results: list[RolloutResult], labels: list[str], arguments: list[str]) -> Study:
    """A study with one run per result. Raises ResultError if they cannot be compared."""
    entrants = tuple(
        Entrant(str(i), label, (Run(0, result),), {"checkpoint": result.checkpoint})
        for i, (label, result) in enumerate(zip(labels, results, strict=True))
    )
    study = Study(
        title=f"{labels[0]} and {'others' if len(labels) > 2 else labels[1]} on {results[0].task}",
        task=results[0].task,
        entrants=entrants,
        commands=(("This comparison:", shlex.join(["python", "scripts/compare.py", *arguments])),),
    )
    assert len(study.tests) == len(results) - 1  # raises if seeds or tasks differ
    return study


def _split(arguments: list[str]) -> tuple[list[str], dict[str, str]]:
    files, options = list[str](), dict[str, str]()
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or Path(argument).exists():
            files.append(argument)
        elif key in _OPTIONS:
            options[key] = value
        else:
            raise ResultError(f"{argument!r}: no such file or option{did_you_mean(key, _OPTIONS)}")
    if len(files) < 2:
        raise ResultError(f"expected at least two results, got {len(files)}")
    return files, options


def _result(file: str) -> RolloutResult:
    path = Path(file)
    return RolloutResult.read(path / "result.json" if path.is_dir() else path)


def _labels(files: list[str], given: str | None) -> list[str]:
    """The labels asked for, else each result's own name, else where it lies; made different if they are not."""
    if given is not None:
        labels = [label.strip() for label in given.split(",")]
        if len(labels) != len(files) or not all(labels):
            raise ResultError(f"labels: expected {len(files)} names separated by commas, got {given!r}")
        return labels
    names = [_result(file).policy or file for file in files]
    twice = Counter(names)
    return [name if twice[name] == 1 else f"{name} ({file})" for name, file in zip(names, files, strict=True)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
