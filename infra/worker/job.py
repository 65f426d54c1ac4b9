"""One attempt from its inputs to its event: download, run the program, upload, and say how it ended."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Collection, Coroutine
from pathlib import Path
from typing import Any, get_args

import structlog

from contracts.errors import UndecodableMessage
from contracts.events import PhaseFailed, PhasePaused, WorkerEvent
from contracts.tasks import FailureKind
from contracts.wire import decode, encode
from infra.artifacts import PATIENTLY, BadArtifact, download, read_manifest, upload
from infra.child.outcome import Ended, Failure, Outcome
from infra.child.process import Child, Children, Step
from infra.errors import BadInput, PhaseError
from infra.objects import ObjectRefused, ObjectStore, ObjectStoreUnavailable
from infra.worker.attempt import Attempt
from infra.worker.checkpoints import Checkpoints
from infra.worker.folders import WorkerFolder
from infra.worker.plan import Finished, PhaseWorker, Plan
from infra.worker.reporting import Reporter

EVENTS: tuple[type[Any], ...] = get_args(WorkerEvent)
KEEP_LOG = frozenset({FailureKind.PROGRAM_CRASHED, FailureKind.OUT_OF_MEMORY})
"""Failures whose log a person will want to read."""

log = structlog.get_logger(__name__)


class BadResult(PhaseError):
    """The output of the attempt cannot be used, or cannot be stored."""

    kind = FailureKind.BAD_RESULT


class Jobs:
    """Runs the attempts of one worker."""

    def __init__(
        self,
        worker: PhaseWorker[Any],
        objects: ObjectStore,
        folder: WorkerFolder,
        children: Children,
        worker_id: str,
    ) -> None:
        self._worker = worker
        self._objects = objects
        self._folder = folder
        self._children = children
        self._worker_id = worker_id

    async def start(self) -> None:
        """Have a warm child for the first job, where it is known what program that will run."""
        if self._worker.module is not None:
            await self._children.warm(self._worker.module)

    async def stop(self) -> None:
        """End the warm child."""
        await self._children.close()

    async def event(self, attempt: Attempt, reporter: Reporter) -> WorkerEvent:
        """Do the attempt's work. Whatever goes wrong becomes an event too; only a cancellation leaves here."""
        try:
            return await self._adopted(attempt) or await self._made(attempt, reporter)
        except PhaseError as error:
            return self._failed(attempt, Failure(failure=error.kind, message=str(error), field=error.field))
        except ObjectStoreUnavailable as error:  # for longer than we wait
            return self._failed(attempt, Failure(failure=FailureKind.STORE_UNAVAILABLE, message=str(error)))
        except Exception as error:  # the boundary: a fault in a room or on the disk fails the attempt, not the host
            log.exception("attempt_broke")
            message = f"the worker could not run it: {type(error).__name__}: {error}"
            return self._failed(attempt, Failure(failure=FailureKind.PROGRAM_CRASHED, message=message))

    async def _adopted(self, attempt: Attempt) -> WorkerEvent | None:
        """The event of a result that is complete already, under this claim: an earlier life crashed after it."""
        prefix = attempt.command.output
        try:
            manifest = await read_manifest(self._objects, prefix, retrying=PATIENTLY)
            if manifest is None:
                return None
            event: WorkerEvent = decode(manifest.event_bytes(), *EVENTS)
        except (BadArtifact, UndecodableMessage) as error:
            raise BadResult(f"the manifest under {prefix} cannot be used: {error}") from error
        if event.key != attempt.key:
            raise BadResult(f"the manifest under {prefix} is about another attempt")
        log.info("result_adopted", prefix=prefix)
        return event.model_copy(update={"claim_id": attempt.claim_id})

    async def _made(self, attempt: Attempt, reporter: Reporter) -> WorkerEvent:
        plan: Plan = self._worker.plan(attempt.command)
        folder = self._folder.job(attempt.key)
        if not await _unless_paused(attempt, self._lay(plan, folder, reporter)):
            return self._paused(attempt)
        checkpoints = Checkpoints(self._objects, attempt, folder)
        ended = await self._run(attempt, plan, folder, reporter, checkpoints)
        match ended.outcome:
            case Outcome.SUCCEEDED:
                return await self._concluded(attempt, ended, folder, reporter)
            case Outcome.STOPPED:
                await checkpoints.save()
                return self._paused(attempt, ended)
            case Outcome.FAILED:
                assert ended.failure is not None, "a failure says why"
                if ended.failure.failure.resumable:
                    await checkpoints.save()
                return self._failed(attempt, ended.failure, ended)

    async def _lay(self, plan: Plan, folder: Path, reporter: Reporter) -> None:
        """Write the spec and the inputs into the job's folder. An optional input that is damaged is left out whole."""
        (folder / "spec.json").write_text(plan.spec.model_dump_json())
        for done, (name, prefix) in enumerate(plan.inputs.items()):
            reporter.step(Step(stage="downloading", done=done, total=len(plan.inputs)))
            place = folder / "input" / name
            try:
                await download(self._objects, prefix, place, retrying=PATIENTLY)
            except (BadArtifact, ObjectRefused) as error:
                if name not in plan.optional:
                    raise BadInput(str(error), field=name) from error
                log.warning("going_on_without_input", name=name, prefix=prefix, error=str(error))
                await asyncio.to_thread(shutil.rmtree, place, ignore_errors=True)

    async def _run(
        self, attempt: Attempt, plan: Plan, folder: Path, reporter: Reporter, checkpoints: Checkpoints
    ) -> Ended:
        """Run the child to its end; a pause stops it, a cancellation does so too. Its checkpoints are saved meanwhile.

        The next warm child does its imports beside this job, so that they do not slow the phase that follows it.
        """
        child = await self._children.take(plan.module)
        attempt.running_since = time.monotonic()
        running = asyncio.create_task(child.run(folder, reporter.step))
        stopping = asyncio.create_task(_stop_when_paused(attempt, child))
        following = asyncio.create_task(checkpoints.follow())
        try:
            await self._warm(plan.module)
            return await running
        finally:
            for task in (running, stopping, following):
                task.cancel()
            await asyncio.gather(running, stopping, following, return_exceptions=True)

    async def _warm(self, module: str) -> None:
        """Have a child ready for the next job. Where none can be started, this job's outcome stands."""
        try:
            await self._children.warm(module)
        except OSError as error:
            log.warning("no_warm_child", error=str(error))

    async def _concluded(self, attempt: Attempt, ended: Ended, folder: Path, reporter: Reporter) -> WorkerEvent:
        """The event of a success, once it and the output are in the store."""
        finished = Finished(
            key=attempt.key,
            claim_id=attempt.claim_id,
            worker_id=self._worker_id,
            seconds=ended.seconds,
            gpu_seconds=ended.seconds * ended.accelerators,
            result=folder / "result.json",
        )
        try:
            event = self._worker.conclude(attempt.command, finished)
            event = decode(encode(event), type(event))  # a number that JSON cannot hold is found here, not by control
        except (ValueError, UndecodableMessage) as error:
            raise BadResult(f"the program's result cannot be used: {error}") from error
        reporter.step(Step(stage="uploading", done=0))
        try:
            await upload(self._objects, attempt.command.output, folder / "out", event, retrying=PATIENTLY)
        except (BadArtifact, ObjectRefused) as error:
            raise BadResult(str(error)) from error
        return event

    def _paused(self, attempt: Attempt, ended: Ended | None = None) -> PhasePaused:
        return PhasePaused(**self._facts(attempt, ended), checkpoint=attempt.checkpoint)

    def _failed(self, attempt: Attempt, failure: Failure, ended: Ended | None = None) -> PhaseFailed:
        message = failure.message
        if ended is not None and failure.failure in KEEP_LOG:
            message += f" (worker {self._worker_id} keeps its log in {self._folder.job_path(attempt.key)})"
        return PhaseFailed(
            **self._facts(attempt, ended),
            failure=failure.failure,
            message=message,
            field=failure.field,
            checkpoint=attempt.checkpoint,
        )

    def _facts(self, attempt: Attempt, ended: Ended | None) -> dict[str, Any]:
        return {
            "key": attempt.key,
            "claim_id": attempt.claim_id,
            "worker_id": self._worker_id,
            "seconds": ended.seconds if ended else 0.0,
            "gpu_seconds": ended.seconds * ended.accelerators if ended else 0.0,
        }

    async def tidy(self, attempt: Attempt, *, failed: bool, active: Collection[Attempt]) -> None:
        """Remove the job's folder, or keep it where it failed, with the last few others that did."""
        if failed:
            kept = {self._folder.job_path(other.key) for other in (attempt, *active)}
            await asyncio.to_thread(self._folder.prune, kept)
        else:
            await asyncio.to_thread(shutil.rmtree, self._folder.job_path(attempt.key), ignore_errors=True)


async def _unless_paused(attempt: Attempt, work: Coroutine[Any, Any, None]) -> bool:
    """Whether `work` came to its end before the attempt was paused; it is cancelled otherwise."""
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


async def _stop_when_paused(attempt: Attempt, child: Child) -> None:
    await attempt.paused.wait()
    await child.stop()
