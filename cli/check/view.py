"""Print the report of a check."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from cli.tasks.notices import notice_text
from cli.terminal import Terminal, text
from contracts.checks import CheckReport

ROWS_SHOWN = 20


def show_report(report: CheckReport, file: str) -> None:
    """Print the counts, or why a task would fail, then the notices and the rows that are set aside."""
    terminal = Terminal()
    if report.problem:
        terminal.print(text(("A task with these rows would fail: ", "bold red"), report.problem))
        if report.field:
            terminal.print(f"to correct: {report.field}", style="bright_black")
    else:
        terminal.print(_counts(report, file))
    if report.notices:
        terminal.print("", text("What happened to the rows", style="bold"), sep="\n")
        for notice in report.notices:
            terminal.print(text("· ", notice_text(notice)))
    if report.set_aside:
        terminal.print("", text("Set aside", style="bold"), _set_aside(report), sep="\n")
        if len(report.set_aside) > ROWS_SHOWN:
            terminal.print(f"the first {ROWS_SHOWN} rows; --json lists more", style="bright_black")


def _counts(report: CheckReport, file: str) -> Text:
    formats = ", ".join(f"{name}: {form}" for name, form in report.formats.items()) or file
    removed = {rule: count for rule, count in report.rules.items() if count and not rule.startswith("held_out_")}
    rules = ", ".join(f"{count:,} {rule.replace('_', ' ')}" for rule, count in removed.items())
    counts = f"{report.kept:,} rows to train on, {report.dev:,} dev, {report.test:,} test"
    parts = [text(formats, style="bright_black"), text(counts, style="bold"), *([text(rules)] if rules else [])]
    return Text("\n").join(parts)


def _set_aside(report: CheckReport) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("row", "rule", "reason"):
        table.add_column(name, overflow="fold")
    for row in report.set_aside[:ROWS_SHOWN]:
        table.add_row(row.place, row.rule.replace("_", " "), row.reason)
    return table
