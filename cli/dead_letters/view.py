"""Print dead letters as a table or as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.table import Table

from cli.durations import format_duration
from cli.options import OutputFormat
from cli.terminal import Terminal, echo, echo_json, text
from contracts.topology import DEAD_QUEUE
from control.maintenance.dead_letters import DeadLetter
from control.maintenance.replay import MAX_DEAD_LETTERS, Replayed
from infra.logs import masked


def show_all(letters: Sequence[DeadLetter], form: OutputFormat) -> None:
    """Print one row for each letter, and on the error stream that the queue is nearly full."""
    if DEAD_QUEUE.nearly_full(len(letters)):
        echo(
            f"the broker keeps at most {MAX_DEAD_LETTERS:,} dead letters, then it deletes the oldest: "
            "replay them with `treadle dlq replay`, or delete them with `treadle dlq purge`",
            err=True,
        )
    if form is OutputFormat.JSON:
        return echo_json([_facts(letter) for letter in letters])
    if not letters:
        return echo("there are no dead letters")
    table = _table("id", "queue", "kind", "task, attempt", "age", "bytes", "failures", "reason")
    for letter in letters:
        subject = " ".join(part for part in (letter.task_id, letter.attempt) if part)
        age = format_duration(_age(letter)) if letter.published_at else ""
        size, failures = str(len(letter.body)), str(letter.failures)
        table.add_row(*map(_shown, (letter.id, letter.queue, letter.kind, subject, age, size, failures, letter.reason)))
    Terminal().print(table)
    return None


def show_one(letter: DeadLetter, form: OutputFormat) -> None:
    """Print a letter with its headers and its body; secrets in the headers are masked, as in logs."""
    facts = {**_facts(letter), "headers": _masked(letter.headers), "body": _body(letter.body)}
    if form is OutputFormat.JSON:
        return echo_json(facts)
    table = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        words = value if isinstance(value, str | int | None) else json.dumps(value, indent=2, ensure_ascii=False)
        table.add_row(text(name, style="bold"), text(_shown(words), lines=True))
    return Terminal().print(table)


def show_replayed(results: Sequence[Replayed], form: OutputFormat) -> None:
    """Print what happened to each replayed letter."""
    if form is OutputFormat.JSON:
        return echo_json(
            [{"id": result.letter.id, "result": _outcome(result), "reason": _reason(result)} for result in results]
        )
    if not results:
        return echo("there are no dead letters")
    table = _table("id", "kind", "result", "reason")
    for result in results:
        table.add_row(*map(_shown, (result.letter.id, result.letter.kind, _outcome(result), _reason(result))))
    return Terminal().print(table)


def show_purged(letters: Sequence[DeadLetter], form: OutputFormat) -> None:
    """Print how many letters were deleted; as JSON, print the letters."""
    if form is OutputFormat.JSON:
        return echo_json([_facts(letter) for letter in letters])
    return echo(f"dead letters deleted: {len(letters)}")


def _outcome(result: Replayed) -> str:
    if result.refusal is None:
        return "replayed"
    return "dropped" if result.dropped else "refused"


def _reason(result: Replayed) -> str | None:
    return result.refusal.reason if result.refusal else None


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
        "failures": letter.failures,
    }


def _age(letter: DeadLetter) -> float:
    assert letter.published_at is not None, "called only for letters with a time of publication"
    return max(0.0, (datetime.now(UTC) - letter.published_at).total_seconds())


def _masked(headers: Mapping[str, str]) -> dict[str, str]:
    return dict(masked(None, "", dict(headers)))


def _body(body: bytes) -> Any:  # noqa: ANN401  # any JSON value
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return body.decode(errors="backslashreplace")


def _shown(value: str | int | None) -> str:
    return "" if value is None else str(value)


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column == "id")  # a whole id can be copied
    return table
