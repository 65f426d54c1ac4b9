"""Reads the result of a chaos run from the database, the broker, and the folder of the object store."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from uuid import UUID

import aio_pika
import asyncpg
from pydantic import ValidationError

from contracts.artifacts import MANIFEST, Manifest, ManifestFile
from contracts.tasks import AttemptKey
from contracts.topology import DEAD_QUEUE, SUBMISSIONS_QUEUE
from infra.bus.dead_letter import QUEUE, REASON
from tests.chaos.rows import AttemptRow, Evidence, HistoryRow, Submitted, TaskRow, Violation

FIRST_DEATH_QUEUE = "x-first-death-queue"
"""The header in which RabbitMQ names the queue of a message that it has dead-lettered itself."""
TASKS = """
SELECT task_id, version, status, state ->> 'reason' AS reason, jsonb_array_length(state -> 'results') AS results
FROM tasks
"""
HISTORY = "SELECT task_id, version, kind, status, event, actor FROM task_events ORDER BY id"
ATTEMPTS = """
SELECT task_id, iteration, phase, attempt, state, claim_id, event ->> 'kind' AS closed_by,
       event ->> 'claim_id' AS closing_claim, created_at, ended_at
FROM attempts
"""


async def collect_evidence(
    dsn: str, bus_url: str, bucket: Path, submitted: Sequence[Submitted], surprises: Sequence[str]
) -> Evidence:
    """Read rows, files and dead letters; nothing may change any more."""
    connection = await asyncpg.connect(dsn)
    try:
        tasks = [TaskRow(**row) for row in await connection.fetch(TASKS)]
        history = [HistoryRow(**{**row, "event": json.loads(row["event"])}) for row in await connection.fetch(HISTORY)]
        attempts = [_attempt(row) for row in await connection.fetch(ATTEMPTS)]
        outbox = await connection.fetchval("SELECT count(*) FROM outbox")
    finally:
        await connection.close()
    paths = await asyncio.to_thread(_paths, bucket)
    return Evidence(
        submitted=submitted,
        tasks={row.task_id: row for row in tasks},
        history=history,
        attempts=attempts,
        files={str(path.relative_to(bucket)): _file(path) for path in paths if path.name != MANIFEST},
        manifests={str(p.parent.relative_to(bucket)): _manifest(p) for p in paths if p.name == MANIFEST},
        outbox=outbox,
        dead=await _dead(bus_url),
        surprises=surprises,
    )


def summary(evidence: Evidence) -> str:
    """The counts of submissions, tasks, attempts and events of the run, as one line of text."""
    acknowledged = sum(submitted.acknowledged for submitted in evidence.submitted)
    ends = Counter(task.status for task in evidence.tasks.values())
    attempts = Counter(attempt.state for attempt in evidence.attempts)
    stale = sum(row.version is None for row in evidence.history)
    adopted = sum(row.actor == "reaper" and row.kind != "lease_lost" for row in evidence.history)
    return (
        f"{acknowledged} of {len(evidence.submitted)} submissions acknowledged; tasks: {_listed(ends)}; "
        f"attempts: {_listed(attempts)}; {adopted} results adopted, {stale} stale events"
    )


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name.lower()}" for name, count in counts.most_common())


def write_violations(folder: Path, violations: Sequence[Violation], evidence: Evidence) -> None:
    """Write violations.json: the violations, and all rows of their tasks."""
    task_ids = {violation.task_id for violation in violations}
    rows = {
        "violations": [str(violation) for violation in violations],
        "submitted": [asdict(row) for row in evidence.submitted if row.task_id in task_ids],
        "history": [asdict(row) for row in evidence.history if row.task_id in task_ids],
        "runs": [asdict(row) for row in evidence.attempts if row.key.task_id in task_ids],
    }
    (folder / "violations.json").write_text(json.dumps(rows, default=str, indent=1))


def _paths(bucket: Path) -> list[Path]:
    return [path for path in bucket.rglob("*") if path.is_file()]


def _attempt(row: asyncpg.Record) -> AttemptRow:
    key = AttemptKey(**{name: row[name] for name in AttemptKey.model_fields})
    claim: UUID | None = row["claim_id"]
    return AttemptRow(
        key,
        row["state"],
        str(claim) if claim else None,
        row["closed_by"],
        row["closing_claim"],
        row["created_at"],
        row["ended_at"],
    )


def _file(path: Path) -> ManifestFile:
    content = path.read_bytes()
    return ManifestFile(name=path.name, size=len(content), sha256=hashlib.sha256(content).hexdigest())


def _manifest(path: Path) -> Manifest | str:
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        return str(error)


async def _dead(bus_url: str) -> list[str]:
    """Take the dead letters and return their reasons. Submissions that were refused or have expired are not counted."""
    reasons = []
    async with await aio_pika.connect(bus_url) as connection:
        queue = await (await connection.channel()).declare_queue(DEAD_QUEUE.name, passive=True)
        while (message := await queue.get(no_ack=True, fail=False)) is not None:
            queue_name = message.headers.get(QUEUE) or message.headers.get(FIRST_DEATH_QUEUE)
            if queue_name != SUBMISSIONS_QUEUE.name:
                reasons.append(f"{queue_name}: {message.headers.get(REASON, message.headers)}")
    return reasons
