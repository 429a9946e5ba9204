"""What scripts/demo.py and scripts/visual_evidence.py do: the stages, the report, the record."""

from __future__ import annotations

import shlex
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from equidiff.demo.places import seen_from

if TYPE_CHECKING:
    from equidiff.demo.run import Demo, Trained
    from equidiff.demo.settings import DemoSettings

__all__ = ["from_checkout", "run_comparison", "to_go_on"]


def run_comparison(script: str, about: str, folder: Path, root: Path, arguments: Sequence[str]) -> int:
    """Run the comparison that the command line `arguments` names; returns the exit status.

    script: inside the checkout. about: its help. folder: of the settings NAME.yaml. root: the checkout.
    """
    if not arguments or {"-h", "--help", "help"} & set(arguments):
        known = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
        print(f"{about}\nTasks: {known}")
        return 0 if arguments else 2
    started = time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends it in the same, orderly way as Ctrl-C
    print("equidiff demo ...", end="", file=sys.stderr, flush=True)
    from equidiff.demo.evaluation import SimulatedEvaluation
    from equidiff.demo.run import Demo
    from equidiff.demo.settings import load_settings
    from equidiff.hydra_app import told

    print("\r", end="", file=sys.stderr)
    demo: Demo | None = None
    try:
        settings = load_settings(folder, arguments[0].removeprefix("task="), arguments[1:])
        with closing(SimulatedEvaluation(settings.workers, settings.camera)) as evaluation:
            demo = Demo(settings, root, evaluation)
            trained = _run(demo)
        _report(demo, trained, from_checkout(script, arguments, settings, root), started)
    except KeyboardInterrupt:
        print(f"\nstopped; to go on: {to_go_on(root / script, arguments, demo)}", file=sys.stderr)
        return 130
    except Exception as error:
        message = told(error)
        if message is None:
            raise
        print(f"\nerror: {message}", file=sys.stderr)
        if demo is not None and demo.begun:
            print(f"finished stages are kept; to go on: {to_go_on(root / script, arguments, demo)}", file=sys.stderr)
        return 1
    return 0


def _run(demo: Demo) -> list[Trained]:
    """The stages, after what can be checked before them."""
    from equidiff.demo.camera import check_camera
    from equidiff.demo.checks import check_places, check_policies
    from equidiff.demo.progress import heartbeat, say

    s = demo.settings
    say(f"equidiff demo: {s.name}, {s.n_demo} demonstrations, {len(s.policies)} policies")
    check_places(s)
    task = check_policies(s, demo.root)
    if s.film and demo.pending:
        with heartbeat("checking the simulator"):
            check_camera(task, s.camera, demo.root)
    return demo.run()


def _report(demo: Demo, trained: Sequence[Trained], command: Sequence[str], started: float) -> None:
    """Report and record. command: to be recorded. started: on the monotonic clock."""
    from equidiff.demo.progress import heartbeat, say
    from equidiff.demo.summary import make_record, make_study, save_record, write_report
    from equidiff.report.table import report_text

    say("\n[4/4] Writing the report")
    with heartbeat("drawing, filming"):
        study = make_study(demo, trained, command)
        made = write_report(demo, trained, study)
    demo.wall_s["total"] = round(time.monotonic() - started, 1)
    records = save_record(make_record(demo, trained, study, command), demo)
    print(f"\n{report_text(study)}\n")
    for what, path in (("report", made["page"]), ("pictures", made.get("sheet")), ("video", made.get("video"))):
        if path is not None:
            print(f"{what:9} {_from_here(path)}")
    print("\n".join(f"{'numbers':9} {_from_here(path)}" for path in records))
    print(f"{'took':9} {demo.wall_s['total'] / 60:.1f} minutes")


def to_go_on(script: Path, arguments: Sequence[str], demo: Demo | None) -> str:
    """The command line that goes on where `demo` was left, for the working directory."""
    # what it would start over has been deleted, and what was done since then is to be kept
    begun = demo is not None and demo.begun
    kept = [item for item in arguments if not (begun and item.startswith("fresh="))]
    active = shutil.which("python") == sys.executable
    return shlex.join(["python" if active else _from_here(Path(sys.executable)), _from_here(script), *kept])


def from_checkout(script: str, arguments: Sequence[str], settings: DemoSettings, root: Path) -> list[str]:
    """The command line, without `python`, that does the same in the checkout, wherever this one was given."""
    if Path.cwd() == root:
        return [script, *arguments]
    places = {"data": settings.data, "out": settings.out, "record": settings.record}
    kept = [item for item in arguments if item.partition("=")[0] not in places]
    return [script, *kept, *(f"{key}={seen_from(root, path)}" for key, path in places.items() if path is not None)]


def _from_here(path: Path) -> str:
    return seen_from(Path.cwd(), path)
