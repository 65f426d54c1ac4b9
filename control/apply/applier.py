"""Every change to a task: load it, decide in the machine, write the decision if the task has not changed meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from contracts.events import LeaseLost, PhaseEvent
from control.apply.batcher import Batcher
from control.apply.relay import Relay
from control.machine.facts import NotOrdered, require_ordered
from control.machine.machine import MachineEvent, Transition, advance
from control.machine.task import IllegalTransition, Task
from control.store.port import Store, TaskNotFound
from control.store.values import Applied, AttemptTimes, Change, Loaded, NewTask, StoredTask, SubmissionConflict

NOTHING_APPLIED = Applied({}, (), {})


class EventOutcome(StrEnum):
    """What control did with an event."""

    APPLIED = "applied"
    STALE = "stale"
    DUPLICATE = "duplicate"
    REFUSED = "refused"
    """A fact in it differs from what control ordered."""
    DROPPED = "dropped"
    """Stale, and not recorded, because the task's history has too many stale events."""


@dataclass(frozen=True, slots=True)
class EventResult:
    """The task after the event, and whether the event was applied."""

    stored: StoredTask
    outcome: EventOutcome
    times: AttemptTimes | None = None
    """The times of the attempt that the event ended."""

    @property
    def task(self) -> Task:
        """The task without its times."""
        return self.stored.task


@dataclass(frozen=True, slots=True)
class _PendingEvent:
    event: MachineEvent
    actor: str
    reason: str | None

    @property
    def task_id(self) -> UUID:
        return task_of(self.event)


Listener = Callable[[Change, EventResult], None]
Trace = Callable[[Task], Mapping[str, str]]


class Applier:
    """Applies events in batches of two SQL statements; if another change came first, the event is decided again."""

    def __init__(self, store: Store, relay: Relay, *, batch_size: int, trace: Trace | None = None) -> None:
        self._store = store
        self._relay = relay
        self._trace = trace
        self._listeners: list[Listener] = []
        self._unchanged_listeners: list[Callable[[EventOutcome], None]] = []
        self._batcher: Batcher[_PendingEvent, EventResult] = Batcher(
            "applier", self._flush, size=batch_size, key=lambda a: a.task_id
        )
        self.tasks = self._batcher.tasks

    def start(self) -> None:
        """Start to apply events."""
        self._batcher.start()

    async def stop(self) -> None:
        """Stop; pending calls of `submit` are cancelled."""
        await self._batcher.stop()

    def on_change(self, listener: Listener) -> None:
        """Call `listener` after the commit of every change; it must return quickly and must not raise."""
        self._listeners.append(listener)

    def on_unchanged(self, listener: Callable[[EventOutcome], None]) -> None:
        """Call `listener` for every event that is a duplicate or refused."""
        self._unchanged_listeners.append(listener)

    async def submit(self, event: MachineEvent, *, actor: str, reason: str | None = None) -> EventResult:
        """Apply one event.

        Raises TaskNotFound, IllegalTransition, NotOrdered, or StoreUnavailable (the caller may retry).
        """
        return await self._batcher.submit(_PendingEvent(event, actor, reason))

    def initial_change(self, task: Task, event: MachineEvent, *, actor: str) -> Change:
        """The change that `event` makes to a task that is not stored yet. Raises IllegalTransition."""
        return self._change(_PendingEvent(event, actor, None), task, advance(task, event))

    async def create(self, new: Sequence[NewTask]) -> Sequence[StoredTask | SubmissionConflict]:
        """Create tasks and start those that have a start; one answer each, in order. Raises StoreUnavailable."""
        created = await self._store.create(new)
        self._relay.publish_soon(created.outbox)
        created_now = set(created.new)
        for new_task, answer in zip(new, created.answers, strict=True):
            task_id = new_task.task.task_id
            if new_task.start is not None and isinstance(answer, StoredTask) and task_id in created_now:
                created_now.remove(task_id)
                self._notify(new_task.start, EventResult(answer, EventOutcome.APPLIED))
        return created.answers

    async def _flush(self, batch: Sequence[_PendingEvent]) -> list[EventResult | Exception | None]:
        tasks = await self._store.load([(pending.task_id, pending.event.message_id) for pending in batch])
        decided = [self._decide(pending, loaded) for pending, loaded in zip(batch, tasks, strict=True)]
        changes = [change for change in decided if isinstance(change, Change)]
        applied = await self._apply(changes) if changes else NOTHING_APPLIED
        return [self._result(change, applied) if isinstance(change, Change) else change for change in decided]

    def _decide(self, pending: _PendingEvent, loaded: Loaded | None) -> Change | EventResult | Exception:
        if loaded is None:
            return TaskNotFound(pending.task_id)
        if loaded.duplicate:
            self._count(EventOutcome.DUPLICATE)
            return EventResult(loaded.stored, EventOutcome.DUPLICATE)
        try:
            if of_another_claim(pending.event, loaded):
                return self._change(pending, loaded.task, Transition(loaded.task, stale=True))
            require_ordered(loaded.task, pending.event)
            return self._change(pending, loaded.task, advance(loaded.task, pending.event))
        except IllegalTransition as error:
            return error
        except NotOrdered as error:  # nothing is written: an inbox row would make the true event a duplicate
            self._count(EventOutcome.REFUSED)
            return error

    def _count(self, outcome: EventOutcome) -> None:
        for listener in self._unchanged_listeners:
            listener(outcome)

    def _change(self, pending: _PendingEvent, before: Task, transition: Transition) -> Change:
        return Change(
            before=before,
            after=transition.task,
            event=pending.event,
            actor=pending.actor,
            reason=pending.reason,
            stale=transition.stale,
            messages=transition.messages,
            ended_as=transition.ended_as,
            signal=transition.signal,
            headers=dict(self._trace(transition.task)) if self._trace else {},
        )

    async def _apply(self, changes: Sequence[Change]) -> Applied:
        confirmed = self._relay.take_confirmed()
        try:
            applied = await self._store.apply(changes, confirmed)
        except BaseException:
            self._relay.restore_confirmed(confirmed)
            raise
        self._relay.publish_soon(applied.outbox)
        return applied

    def _result(self, change: Change, applied: Applied) -> EventResult | None:
        message_id = change.event.message_id
        stored = applied.tasks.get(message_id)
        if stored is None:
            return None
        result = EventResult(stored, _outcome(change, applied), applied.ended.get(message_id))
        self._notify(change, result)
        return result

    def _notify(self, change: Change, result: EventResult) -> None:
        if change.signal is not None:
            self._relay.signal(change.signal)
        for listener in self._listeners:
            listener(change, result)


def _outcome(change: Change, applied: Applied) -> EventOutcome:
    if change.event.message_id in applied.dropped:
        return EventOutcome.DROPPED
    return EventOutcome.STALE if change.stale else EventOutcome.APPLIED


def task_of(event: MachineEvent) -> UUID:
    """The id of the task that an event is about."""
    return event.key.task_id if isinstance(event, PhaseEvent | LeaseLost) else event.task_id


def of_another_claim(event: MachineEvent, loaded: Loaded) -> bool:
    """Whether an event about the newest attempt was sent under another claim than the stored one.

    Raises NotOrdered if the attempt is active and unclaimed: a forged event that is recorded before its claim arrives
    would make the true event, which has the same id, a duplicate.
    """
    if not isinstance(event, PhaseEvent | LeaseLost) or event.key != loaded.task.key:
        return False
    if loaded.task.attempt_active and loaded.claim_id is None:
        raise NotOrdered(f"claim_id is {event.claim_id}, but no worker has claimed the attempt")
    return event.claim_id != loaded.claim_id
