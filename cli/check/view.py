"""Print the report of a check."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.tasks.notices import notice_text
from cli.terminal import printable
from contracts.checks import CheckReport

ROWS_SHOWN = 20


def show_report(report: CheckReport, file: str) -> None:
    """Print the counts, or why a task would fail, then the notices and the rows that are set aside."""
    console = Console()
    if report.problem:
        console.print(Text.assemble(("A task with these rows would fail: ", "bold red"), printable(report.problem)))
        if report.field:
            console.print(f"to correct: {printable(report.field)}", style="bright_black")
    else:
        console.print(_counts(report, file))
    if report.notices:
        console.print("\n[bold]What happened to the rows[/]")
        for notice in report.notices:
            console.print(Text.assemble("· ", notice_text(notice)))
    if report.set_aside:
        console.print("\n[bold]Set aside[/]", _set_aside(report), sep="\n")
        if len(report.set_aside) > ROWS_SHOWN:
            console.print(f"the first {ROWS_SHOWN} rows; --json lists more", style="bright_black")


def _counts(report: CheckReport, file: str) -> Text:
    formats = ", ".join(f"{printable(name)}: {form}" for name, form in report.formats.items()) or printable(file)
    removed = {rule: count for rule, count in report.rules.items() if count and not rule.startswith("held_out_")}
    rules = ", ".join(f"{count:,} {rule.replace('_', ' ')}" for rule, count in removed.items())
    counts = f"{report.kept:,} rows to train on, {report.dev:,} dev, {report.test:,} test"
    return Text.assemble((formats, "bright_black"), "\n", (counts, "bold"), f"\n{rules}" if rules else "")


def _set_aside(report: CheckReport) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("row", "rule", "reason"):
        table.add_column(name, overflow="fold")
    for row in report.set_aside[:ROWS_SHOWN]:
        table.add_row(printable(row.place), row.rule.replace("_", " "), printable(row.reason))
    return table
