"""What scripts/demo.py and scripts/visual_evidence.py do: the stages, the report, the record."""

from __future__ import annotations

import shlex
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

__all__ = ["run_comparison"]


def run_comparison(script: str, about: str, folder: Path, root: Path, arguments: Sequence[str]) -> int:
    """Run the comparison that the command line `arguments` names; returns the exit status.

    script: as the user calls it. about: its help. folder: of the settings NAME.yaml. root: the checkout.
    """
    if not arguments or {"-h", "--help", "help"} & set(arguments):
        known = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
        print(f"{about}\nTasks: {known}")
        return 0 if arguments else 2
    started = time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends it in the same, orderly way as Ctrl-C
    print("equidiff demo ...", end="", file=sys.stderr, flush=True)
    from equidiff.config import ConfigError
    from equidiff.demo.progress import heartbeat, say
    from equidiff.demo.settings import DemoError, load_settings
    from equidiff.results import ResultError

    print("\r", end="", file=sys.stderr)
    try:
        name = arguments[0].removeprefix("task=")
        settings = load_settings(folder, name, arguments[1:])
        from equidiff.demo.evaluation import SimulatedEvaluation
        from equidiff.demo.run import Demo
        from equidiff.demo.summary import make_record, make_study, save_record, write_report
        from equidiff.report.table import report_text

        say(f"equidiff demo: {name}, {settings.n_demo} demonstrations, {len(settings.policies)} policies")
        evaluation = SimulatedEvaluation(settings.workers, settings.camera)
        demo = Demo(settings, root, evaluation)
        try:
            trained = demo.run()
        finally:
            evaluation.close()
        command = [script, *arguments]
        say("\n[4/4] Writing the report")
        with heartbeat("drawing, filming"):
            study = make_study(demo, trained, command)
            made = write_report(demo, trained, study)
        demo.wall_s["total"] = round(time.monotonic() - started, 1)
        records = save_record(make_record(demo, trained, study, command), demo)
        print(f"\n{report_text(study)}\n")
        for what, path in (("report", made["page"]), ("pictures", made.get("sheet")), ("video", made.get("video"))):
            if path is not None:
                print(f"{what:9} {path}")
        print("\n".join(f"{'numbers':9} {path}" for path in records))
        print(f"{'took':9} {demo.wall_s['total'] / 60:.1f} minutes")
    except (DemoError, ConfigError, ResultError) as error:
        print(f"\nerror: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\nstopped; to go on: {shlex.join(['python', script, *arguments])}", file=sys.stderr)
        return 130
    return 0
