"""Print what the phases did with the rows of a task."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from cli.terminal import text
from contracts.http import NoticeView
from contracts.notices import Notice

LINE_LENGTH = 160
"""Maximum characters of the text of a notice in one line."""


def notice_line(notice: Notice) -> str:
    """A notice in one short line, e.g. `unreadable, 12 rows: a line is not JSON (train/a.jsonl:7, …)`."""
    words = " ".join(notice.text.split())
    short = words if len(words) <= LINE_LENGTH else f"{words[: LINE_LENGTH - 1]}…"
    more = ", …" if len(notice.places) > 1 or notice.rows > 1 else ""
    place = f" ({notice.places[0]}{more})" if notice.places else ""
    return f"{notice.rule.replace('_', ' ')}, {_rows(notice.rows)}: {short}{place}"


def first_and_newest(notices: Sequence[NoticeView]) -> list[NoticeView]:
    """The notices of the first iteration, which reads the files, and those of the newest iteration that has any."""
    iterations = {notice.iteration for notice in notices}
    return [notice for notice in notices if notice.iteration in {1, max(iterations)}]


def notices_table(notices: Sequence[NoticeView]) -> Table:
    """One row for each notice, with its text and its first places."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("iteration", justify="right", no_wrap=True)
    table.add_column("phase", no_wrap=True)
    table.add_column("rows", justify="right", no_wrap=True)
    table.add_column("what happened", overflow="fold")
    for notice in notices:
        rows = f"{notice.rows:,}" if notice.rows else ""
        table.add_row(str(notice.iteration), notice.phase, rows, notice_text(notice))
    return table


def notice_text(notice: Notice | NoticeView) -> Text:
    """A notice with its rule, its text and, on a second line, its first places."""
    places = ", ".join(notice.places) + (", …" if notice.rows > len(notice.places) else "")
    head = text((notice.rule.replace("_", " "), "bold"), ": ", notice.text)
    return Text("\n").join([head, text(places, style="bright_black")]) if notice.places else head


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"
