"""All tests: first those that only want processors, one process for each core, then alone those that keep real time.

    python scripts/run_tests.py
    python scripts/run_tests.py tests/real_robot -k stop -m "not slow"

Arguments are pytest's; `-n` is about the first part. Both parts are run, whatever comes of the first. Exit code: that
of the first part that failed; 5 where no test was chosen.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence

# modules are kept whole, for what they share is slow to make; each process takes about 2 GB
SIDE_BY_SIDE = ["--maxprocesses", "4", "--dist", "loadscope"]
NOTHING_CHOSEN = 5


def commands(arguments: Sequence[str]) -> list[list[str]]:
    """What to run after `python -m pytest`, in this order."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-m", dest="marks")
    parser.add_argument("-n", dest="processes", default="auto")
    own, rest = parser.parse_known_args(arguments)
    marks = "" if own.marks is None else f" and ({own.marks})"
    return [
        ["-m", f"not realtime{marks}", "-n", own.processes, *SIDE_BY_SIDE, *rest],
        ["-m", f"realtime{marks}", "-n", "0", "--rerun-show-tracebacks", *rest],
    ]


def main() -> int:
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(__doc__)
        return 0
    codes = [subprocess.run([sys.executable, "-m", "pytest", *words]).returncode for words in commands(sys.argv[1:])]
    failed = [code for code in codes if code not in (0, NOTHING_CHOSEN)]
    return failed[0] if failed else min(codes)


if __name__ == "__main__":
    sys.exit(main())
