"""The end of a run as rows and files, from the database, the broker, and the folder behind the object store."""

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
from tests.chaos.rows import Evidence, HistoryRow, RunRow, Submitted, TaskRow, Violation

BROKERS_QUEUE = "x-first-death-queue"
"""Where the broker says what RabbitMQ itself dead-lettered."""
TASKS = """
SELECT task_id, version, status, state ->> 'reason' AS reason, jsonb_array_length(state -> 'results') AS results
FROM tasks
"""
HISTORY = "SELECT task_id, version, kind, status, event, actor FROM task_events ORDER BY id"
RUNS = """
SELECT task_id, iteration, phase, attempt, state, claim_id, event ->> 'kind' AS closed_by,
       event ->> 'claim_id' AS closing_claim, created_at, ended_at
FROM phase_runs
"""


async def evidence(
    dsn: str, bus_url: str, bucket: Path, submitted: Sequence[Submitted], surprises: Sequence[str]
) -> Evidence:
    """All of it, once nothing changes any more."""
    connection = await asyncpg.connect(dsn)
    try:
        tasks = [TaskRow(**row) for row in await connection.fetch(TASKS)]
        history = [HistoryRow(**{**row, "event": json.loads(row["event"])}) for row in await connection.fetch(HISTORY)]
        runs = [_run(row) for row in await connection.fetch(RUNS)]
        outbox = await connection.fetchval("SELECT count(*) FROM outbox")
    finally:
        await connection.close()
    paths = await asyncio.to_thread(_paths, bucket)
    return Evidence(
        submitted=submitted,
        tasks={row.task_id: row for row in tasks},
        history=history,
        runs=runs,
        files={str(path.relative_to(bucket)): _file(path) for path in paths if path.name != MANIFEST},
        manifests={str(p.parent.relative_to(bucket)): _manifest(p) for p in paths if p.name == MANIFEST},
        outbox=outbox,
        dead=await _dead(bus_url),
        surprises=surprises,
    )


def summary(found: Evidence) -> str:
    """What the run put Treadle through, in a sentence."""
    acknowledged = sum(submitted.acknowledged for submitted in found.submitted)
    ends = Counter(task.status for task in found.tasks.values())
    attempts = Counter(run.state for run in found.runs)
    stale = sum(row.version is None for row in found.history)
    adopted = sum(row.actor == "reaper" and row.kind != "lease_lost" for row in found.history)
    return (
        f"{acknowledged} of {len(found.submitted)} submissions acknowledged; tasks: {_listed(ends)}; "
        f"attempts: {_listed(attempts)}; {adopted} results adopted, {stale} stale events"
    )


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name.lower()}" for name, count in counts.most_common())


def keep(folder: Path, violations: Sequence[Violation], found: Evidence) -> None:
    """Write down what went wrong, and all rows of the tasks that it went wrong with."""
    concerned = {violation.task_id for violation in violations}
    rows = {
        "violations": [str(violation) for violation in violations],
        "submitted": [asdict(row) for row in found.submitted if row.task_id in concerned],
        "history": [asdict(row) for row in found.history if row.task_id in concerned],
        "runs": [asdict(row) for row in found.runs if row.key.task_id in concerned],
    }
    (folder / "violations.json").write_text(json.dumps(rows, default=str, indent=1))


def _paths(bucket: Path) -> list[Path]:
    return [path for path in bucket.rglob("*") if path.is_file()]


def _run(row: asyncpg.Record) -> RunRow:
    key = AttemptKey(**{name: row[name] for name in AttemptKey.model_fields})
    claim: UUID | None = row["claim_id"]
    return RunRow(
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
    """Why messages were dead-lettered. Requests that were refused or expired when their asker had gone are in order."""
    reasons = []
    async with await aio_pika.connect(bus_url) as connection:
        queue = await (await connection.channel()).declare_queue(DEAD_QUEUE.name, passive=True)
        while (message := await queue.get(no_ack=True, fail=False)) is not None:
            where = message.headers.get(QUEUE) or message.headers.get(BROKERS_QUEUE)
            if where != SUBMISSIONS_QUEUE.name:
                reasons.append(f"{where}: {message.headers.get(REASON, message.headers)}")
    return reasons
