"""Dead letters on a terminal, or as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.durations import spoken
from cli.options import Format
from control.maintenance.dead_letters import DeadLetter
from control.maintenance.replay import MOST, Replayed
from infra.logs import masked


def show_all(letters: Sequence[DeadLetter], form: Format) -> None:
    """A row a letter."""
    if form is Format.JSON:
        return typer.echo(json.dumps([_facts(letter) for letter in letters]))
    if not letters:
        return typer.echo("there are no dead letters")
    table = _table("id", "died in", "kind", "task, attempt", "age", "bytes", "died", "reason")
    for letter in letters:
        of = " ".join(part for part in (letter.task_id, letter.attempt) if part)
        age = spoken(_age(letter)) if letter.published_at else ""
        size, died = str(len(letter.body)), str(letter.died)
        table.add_row(*map(_plain, (letter.id, letter.queue, letter.kind, of, age, size, died, letter.reason)))
    Console().print(table)
    if len(letters) == MOST:
        typer.echo(f"these are the {MOST:,} oldest; there may be more", err=True)
    return None


def show_one(letter: DeadLetter, form: Format) -> None:
    """All of a letter; secrets in its headers are masked, as in logs."""
    facts = {**_facts(letter), "headers": _shown(letter.headers), "body": _body(letter.body)}
    if form is Format.JSON:
        return typer.echo(json.dumps(facts))
    table = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        told = value if isinstance(value, str | int | None) else json.dumps(value, indent=2, ensure_ascii=False)
        table.add_row(Text(name, style="bold"), _plain(told))
    return Console().print(table)


def show_replayed(results: Sequence[Replayed], form: Format) -> None:
    """What became of each."""
    if form is Format.JSON:
        return typer.echo(
            json.dumps([{"id": one.letter.id, "became": _became(one), "reason": _why(one)} for one in results])
        )
    if not results:
        return typer.echo("there are no dead letters")
    table = _table("id", "kind", "became", "reason")
    for one in results:
        table.add_row(*map(_plain, (one.letter.id, one.letter.kind, _became(one), _why(one))))
    return Console().print(table)


def show_purged(letters: Sequence[DeadLetter], form: Format) -> None:
    """How many went."""
    if form is Format.JSON:
        return typer.echo(json.dumps([_facts(letter) for letter in letters]))
    return typer.echo(f"{len(letters)} dead letters deleted")


def _became(one: Replayed) -> str:
    if one.refusal is None:
        return "replayed"
    return "dropped" if one.dropped else "refused"


def _why(one: Replayed) -> str | None:
    return one.refusal.reason if one.refusal else None


def _facts(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "queue": letter.queue,
        "reason": letter.reason,
        "kind": letter.kind,
        "taskId": letter.task_id,
        "attempt": letter.attempt,
        "publishedAt": letter.published_at.isoformat() if letter.published_at else None,
        "bytes": len(letter.body),
        "died": letter.died,
    }


def _age(letter: DeadLetter) -> float:
    assert letter.published_at is not None, "asked of those that say when"
    return max(0.0, (datetime.now(UTC) - letter.published_at).total_seconds())


def _shown(headers: Mapping[str, str]) -> dict[str, str]:
    return dict(masked(None, "", dict(headers)))


def _body(body: bytes) -> Any:  # noqa: ANN401  # whatever JSON can hold
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return body.decode(errors="backslashreplace")


def _plain(value: str | int | None) -> Text:
    """What strangers wrote, without what would move a terminal's cursor."""
    told = "" if value is None else str(value)
    return Text("".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in told))


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column == "id")  # an id is there to be copied
    return table
