"""Executes one attempt: download the inputs, run the program, upload the output, and create the event."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable, Collection, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, get_args

import structlog

from contracts.errors import UndecodableMessage
from contracts.events import WorkerEvent
from contracts.tasks import FailureKind
from contracts.wire import decode, encode
from infra.artifacts import RETRY_WHILE_UNAVAILABLE, BadArtifact, download, read_manifest, upload
from infra.child.outcome import ExitKind, Failure, ProgramExit
from infra.child.pool import ChildPool
from infra.child.process import LOG, ChildProcess
from infra.child.progress import ProgressLine
from infra.errors import BadInput, PhaseError
from infra.models.model_inputs import with_hub_code
from infra.objects import ON_BYTES, ObjectRefused, ObjectStore, ObjectStoreUnavailable
from infra.worker.attempt import Attempt
from infra.worker.checkpoints import Checkpoints
from infra.worker.endings import Endings, kind_of
from infra.worker.folders import WorkerFolder
from infra.worker.limits import ABANDON_AFTER, Limits, Stalled, TimedOut
from infra.worker.plan import Finished, PhaseWorker, Plan
from infra.worker.program_log import ProgramLog
from infra.worker.progress_reporter import ProgressReporter

EVENT_TYPES: tuple[type[Any], ...] = get_args(WorkerEvent)
OnStep = Callable[[ProgressLine], None]

log = structlog.get_logger(__name__)


class BadResult(PhaseError):
    """The output of the attempt is invalid or cannot be stored."""

    kind = FailureKind.BAD_RESULT


class JobRunner:
    """Runs the attempts of one worker."""

    def __init__(
        self,
        worker: PhaseWorker[Any],
        objects: ObjectStore,
        folder: WorkerFolder,
        children: ChildPool,
        worker_id: str,
        *,
        hub_code: bool = False,
        secrets: Collection[bytes] = (),
    ) -> None:
        self._worker = worker
        self._objects = objects
        self._folder = folder
        self._children = children
        self._worker_id = worker_id
        self._endings = Endings(worker_id, folder, secrets)
        self._hub_code = hub_code
        """Whether models from the hub may run their own code on this worker."""
        self._secrets = secrets
        """What is masked in the logs of programs, besides texts that look like secrets."""

    async def event(self, attempt: Attempt, reporter: ProgressReporter) -> WorkerEvent:
        """Execute the attempt and return its event, also for every failure. Raises only CancelledError."""
        limits = Limits(attempt.command)
        ON_BYTES.set(limits.moved)
        try:
            existing = await limits.within(self._existing_result(attempt))
            return existing or await self._execute(attempt, reporter, limits)
        except PhaseError as error:
            return self._endings.failed(attempt, Failure(failure=error.kind, message=str(error), field=error.field))
        except ObjectStoreUnavailable as error:  # also after the retries
            return self._endings.failed(attempt, Failure(failure=FailureKind.STORE_UNAVAILABLE, message=str(error)))
        except Exception as error:  # an error in a worker package or on the disk must not end the host
            log.exception("attempt_failed_unexpectedly")
            message = f"the worker could not run the attempt: {type(error).__name__}: {error}"
            return self._endings.failed(attempt, Failure(failure=kind_of(error), message=message))

    async def _existing_result(self, attempt: Attempt) -> WorkerEvent | None:
        """The event of a result that an earlier process completed, with the current claim id; None if none exists.

        Raises BadResult if the manifest is invalid or belongs to another attempt.
        """
        prefix = attempt.command.output
        try:
            manifest = await read_manifest(self._objects, prefix, retrying=RETRY_WHILE_UNAVAILABLE)
            if manifest is None:
                return None
            event: WorkerEvent = decode(manifest.event_bytes(), *EVENT_TYPES)
        except (BadArtifact, UndecodableMessage) as error:
            raise BadResult(f"the manifest under {prefix} cannot be used: {error}") from error
        if event.key != attempt.key:
            raise BadResult(f"the manifest under {prefix} belongs to another attempt")
        log.info("result_adopted", prefix=prefix)
        return event.model_copy(update={"claim_id": attempt.claim_id})

    async def _execute(self, attempt: Attempt, reporter: ProgressReporter, limits: Limits) -> WorkerEvent:
        plan: Plan = self._worker.plan(attempt.command)
        folder = self._folder.job(attempt.key)
        on_step = partial(_report, reporter, limits)
        preparing = limits.within(self._prepare(plan, folder, on_step))
        if not await _finished_before_pause(attempt, preparing):
            return self._endings.paused(attempt)
        checkpoints = Checkpoints(self._objects, attempt, folder)
        program_exit = await self._run(attempt, plan, folder, on_step, checkpoints, limits)
        if limits.exceeded is not None:
            limits.allow_ending()
        match program_exit.outcome:
            case ExitKind.SUCCEEDED:
                on_step(ProgressLine(stage="uploading", done=0))
                return await limits.within(self._finish(attempt, program_exit, folder))
            case ExitKind.STOPPED:
                await _saved(checkpoints, limits)
                return self._endings.stopped(attempt, program_exit, limits)
            case ExitKind.FAILED:
                assert program_exit.failure is not None, "the outcome FAILED has a failure"
                if program_exit.failure.failure.resumable:
                    await _saved(checkpoints, limits)
                return self._endings.failed(attempt, program_exit.failure, program_exit)

    async def _prepare(self, plan: Plan, folder: Path, on_step: OnStep) -> None:
        """Write the spec and download the inputs. Raises BadInput if an input that is not optional is damaged."""
        spec = with_hub_code(plan.spec) if self._hub_code else plan.spec
        (folder / "spec.json").write_text(spec.model_dump_json())
        for done, (name, prefix) in enumerate(plan.inputs.items()):
            on_step(ProgressLine(stage="downloading", done=done, total=len(plan.inputs)))
            destination = folder / "input" / name
            try:
                await download(self._objects, prefix, destination, retrying=RETRY_WHILE_UNAVAILABLE)
            except (BadArtifact, ObjectRefused) as error:
                if name not in plan.optional:
                    raise BadInput(str(error), field=name) from error
                log.warning("optional_input_skipped", name=name, prefix=prefix, error=str(error))
                await asyncio.to_thread(shutil.rmtree, destination, ignore_errors=True)

    async def _run(
        self,
        attempt: Attempt,
        plan: Plan,
        folder: Path,
        on_step: OnStep,
        checkpoints: Checkpoints,
        limits: Limits,
    ) -> ProgramExit:
        """Run the child process and save its checkpoints; a pause, a limit or a cancellation stops it."""
        child = await self._children.start(plan.module, plan.variables)
        attempt.running_since = time.monotonic()
        limits.watch(child.transferred)
        program_log = ProgramLog(self._objects, attempt.key, folder / LOG, self._secrets)
        running = asyncio.create_task(child.run(folder, on_step))
        others = [
            asyncio.create_task(_stop_when_paused(attempt, child)),
            asyncio.create_task(_stop_at_limit(limits, child)),
            asyncio.create_task(checkpoints.follow()),
            asyncio.create_task(program_log.follow()),
        ]
        try:
            return await running
        finally:
            for task in (running, *others):
                task.cancel()
            await _ended(running, *others, within=ABANDON_AFTER if limits.exceeded else None)
            if child.alive and limits.exceeded is None:  # the run was cancelled before it began
                await child.discard()
            await program_log.finish()
            attempt.log_incomplete = program_log.behind

    async def _finish(self, attempt: Attempt, program_exit: ProgramExit, folder: Path) -> WorkerEvent:
        """Upload the output with its event, and return the event. Raises BadResult if either is invalid."""
        finished = Finished(**attempt.event_fields(self._worker_id, program_exit), result=folder / "result.json")
        try:
            event = self._worker.conclude(attempt.command, finished)
            event = decode(encode(event), type(event))  # finds numbers that JSON cannot represent
        except (ValueError, UndecodableMessage) as error:
            raise BadResult(f"the program's result cannot be used: {error}") from error
        try:
            await upload(self._objects, attempt.command.output, folder / "out", event, retrying=RETRY_WHILE_UNAVAILABLE)
        except (BadArtifact, ObjectRefused) as error:
            raise BadResult(str(error)) from error
        return event

    async def make_room(self, active: Collection[Attempt]) -> None:
        """Remove the folders of failed jobs, which are kept for debugging only."""
        await asyncio.to_thread(self._folder.prune, {self._folder.job_path(other.key) for other in active}, 0)

    async def tidy(self, attempt: Attempt, *, failed: bool, active: Collection[Attempt]) -> None:
        """Remove the job folder, or keep it if the job failed, with a limited number of earlier failed jobs."""
        if failed:
            kept = {self._folder.job_path(other.key) for other in (attempt, *active)}
            await asyncio.to_thread(self._folder.prune, kept)
        else:
            await asyncio.to_thread(shutil.rmtree, self._folder.job_path(attempt.key), ignore_errors=True)


async def _finished_before_pause(attempt: Attempt, work: Coroutine[Any, Any, None]) -> bool:
    """Run `work`, and cancel it when the attempt is paused. Returns whether it finished before that."""
    working = asyncio.create_task(work)
    paused = asyncio.create_task(attempt.paused.wait())
    try:
        await asyncio.wait({working, paused}, return_when=asyncio.FIRST_COMPLETED)
        if attempt.paused.is_set():
            return False
        working.result()
        return True
    finally:
        for task in (working, paused):
            task.cancel()
        await asyncio.gather(working, paused, return_exceptions=True)


def _report(reporter: ProgressReporter, limits: Limits, line: ProgressLine) -> None:
    limits.step(line)
    reporter.step(line)


async def _saved(checkpoints: Checkpoints, limits: Limits) -> None:
    """Upload the newest checkpoint, unless the upload stalls or takes too long; then an older one is the newest."""
    try:
        await limits.within(checkpoints.save())
    except (TimedOut, Stalled) as error:
        log.warning("checkpoint_not_saved", error=str(error))


async def _ended(*tasks: asyncio.Task[Any], within: float | None) -> None:
    """Wait until cancelled tasks have ended, but at most `within` seconds: an upload may hang."""
    await asyncio.wait(tasks, timeout=within)


async def _stop_at_limit(limits: Limits, child: ChildProcess) -> None:
    await limits.wait()
    await child.stop()


async def _stop_when_paused(attempt: Attempt, child: ChildProcess) -> None:
    await attempt.paused.wait()
    await child.stop()
