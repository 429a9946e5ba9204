"""Tables for a terminal: success rates with intervals, and paired tests."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from equidiff.report.study import Study, format_p, headline

__all__ = ["format_table", "paired_table", "report_text", "success_table"]


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]], align: str = "") -> str:
    """Columns as wide as their content. `align`: one of l, r, c per column, left where it is too short.

    >>> print(format_table(["policy", "n"], [["a", "10"], ["bcd", "5"]], "lr"))
    policy   n
    ──────────
    a       10
    bcd      5
    """
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"format_table: expected rows of {len(header)} cells, got {len(row)}: {list(row)}")
    columns = list(zip(header, *rows, strict=True))
    widths = [max(len(cell) for cell in column) for column in columns]
    kinds = align[: len(header)].ljust(len(header), "l")
    turn = {"l": str.ljust, "r": str.rjust, "c": str.center}
    lines = [
        "  ".join(turn[kind](cell, width) for cell, width, kind in zip(row, widths, kinds, strict=True)).rstrip()
        for row in (header, *rows)
    ]
    rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
    return "\n".join([lines[0], rule, *lines[1:]])


def success_table(study: Study) -> str:
    """One row per policy: successes in the final state with the exact 95 % interval, and at any step."""
    several = len(study.entrants[0].runs) > 1
    header = ["policy", "solved", "rate", "95 % interval", "at any step", "parameters"]
    rows = []
    for entrant in study.entrants:
        rate = entrant.pooled
        low, high = rate.interval()
        parameters = entrant.facts.get("parameters")
        row = [
            entrant.label,
            f"{rate.successes}/{rate.trials}",
            f"{100 * rate.rate:.0f} %",
            f"{100 * low:.0f} to {100 * high:.0f} %",
            f"{entrant.pooled_any.successes}/{entrant.pooled_any.trials}",
            f"{parameters:,}" if isinstance(parameters, int) else "-",
        ]
        if several:
            row.append(" ".join(f"{100 * rate:.0f}" for rate in entrant.rates))
        rows.append(row)
    if several:
        header.append("each training, %")
    return format_table(header, rows, "lrrrrrl")


def paired_table(study: Study) -> str:
    """Exact McNemar tests of the first policy against each other one, on the same episodes."""
    first = study.entrants[0]
    rows = []
    for _, other, table in study.tests:
        verdict = {1: "better", 0: "not told apart", -1: "worse"}[table.better()]
        rows.append(
            [
                other.label,
                f"{table.only_first}",
                f"{table.only_second}",
                format_p(table.p_value).removeprefix("p ").removeprefix("= "),
                verdict,
            ]
        )
    return format_table([f"{first.label} against", "only it", "only other", "p", "it is"], rows, "lrrrl")


def report_text(study: Study, width: int = 100) -> str:
    """Everything for the terminal: sentences, success table, paired tests."""
    parts = [textwrap.fill(" ".join(headline(study)), width), success_table(study)]
    if study.tests:
        parts.append(paired_table(study))
    return "\n\n".join(parts)
