"""The whole method on one task: demonstrations, four policies on the same data, rollouts, a report.

    python scripts/demo.py lift                       # minutes on two cores; `make demo` does this
    python scripts/demo.py stack
    python scripts/demo.py lift seeds=3               # three trainings of each policy, pooled
    python scripts/demo.py lift policies=equivariant,augmented n_demo=10 steps=6000
    python scripts/demo.py stack data=demos.hdf5      # demonstrations from a file
    python scripts/demo.py lift fresh=true            # start over; otherwise finished stages are reused
    python scripts/demo.py lift record=docs/results/demo.json

Settings and their defaults are in configs/demo/<task>.yaml; every one can be given as key=value. Writes to
outputs/demo/<task> (out=... for another place than outputs/demo):

    report.html         the comparison on one page; contact_sheet.png and video.mp4 are in it
    demo.json           the numbers
    demonstrations/     the recorded demonstrations
    <policy>/seed<k>/   one training: settings, metrics, checkpoints, rollouts

An interrupted demo goes on where it was: run the same command again.
"""

from __future__ import annotations

import shlex
import signal
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: list[str]) -> int:
    """Run the demo of the command line `arguments`; returns the exit status."""
    if not arguments or {"-h", "--help", "help"} & set(arguments):
        known = ", ".join(sorted(path.stem for path in (ROOT / "configs" / "demo").glob("*.yaml")))
        print(f"{__doc__}\nTasks: {known}")
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
        task = arguments[0].removeprefix("task=")
        settings = load_settings(ROOT / "configs" / "demo", task, arguments[1:])
        from equidiff.demo.evaluation import SimulatedEvaluation
        from equidiff.demo.run import Demo
        from equidiff.demo.summary import make_record, make_study, save_record, write_report
        from equidiff.report.table import report_text

        say(f"equidiff demo: {task}, {settings.n_demo} demonstrations, {len(settings.policies)} policies")
        evaluation = SimulatedEvaluation(settings.workers, settings.camera)
        demo = Demo(settings, ROOT, evaluation)
        try:
            trained = demo.run()
        finally:
            evaluation.close()
        command = ["scripts/demo.py", *arguments]
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
        print(f"\nstopped; to go on: {shlex.join(['python', 'scripts/demo.py', *arguments])}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
