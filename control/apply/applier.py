"""Every change to a task: loaded, decided in the pure machine, and applied if the task has not changed meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from contracts.events import LeaseLost, PhaseEvent
from control.apply.batcher import Batcher
from control.apply.relay import Relay
from control.machine.machine import MachineEvent, Step, advance
from control.machine.task import IllegalTransition, Task
from control.store.port import Applied, Change, Loaded, NewTask, Store, SubmissionConflict, TaskNotFound, Times

NOTHING = Applied(frozenset(), (), {})


class Outcome(StrEnum):
    """What became of an event."""

    APPLIED = "applied"
    STALE = "stale"
    DUPLICATE = "duplicate"


@dataclass(frozen=True, slots=True)
class Answer:
    """The task as it stands after the event, and what became of the event."""

    task: Task
    outcome: Outcome
    times: Times | None = None
    """Of the attempt that the event has closed."""


@dataclass(frozen=True, slots=True)
class _Asked:
    event: MachineEvent
    actor: str
    reason: str | None

    @property
    def task_id(self) -> UUID:
        return task_of(self.event)


Listener = Callable[[Change, Answer], None]
Trace = Callable[[Task], Mapping[str, str]]


class Applier:
    """Two statements a batch. An event that lost a race is decided again, never swallowed."""

    def __init__(self, store: Store, relay: Relay, *, batch_size: int, trace: Trace = lambda _: {}) -> None:
        self._store = store
        self._relay = relay
        self._trace = trace
        self._listeners: list[Listener] = []
        self._duplicate_listeners: list[Callable[[], None]] = []
        self._batcher: Batcher[_Asked, Answer] = Batcher(
            "applier", self._flush, size=batch_size, key=lambda a: a.task_id
        )
        self.tasks = self._batcher.tasks

    def start(self) -> None:
        """Begin to apply."""
        self._batcher.start()

    async def stop(self) -> None:
        """Stop; what waits is cancelled."""
        await self._batcher.stop()

    def on_change(self, listener: Listener) -> None:
        """Hear of every change after its commit. A listener must be quick and must not raise."""
        self._listeners.append(listener)

    def on_duplicate(self, listener: Callable[[], None]) -> None:
        """Hear of every event that had been decided before."""
        self._duplicate_listeners.append(listener)

    async def submit(self, event: MachineEvent, *, actor: str, reason: str | None = None) -> Answer:
        """Apply one event. Raises TaskNotFound, IllegalTransition, or StoreUnavailable (then try again)."""
        return await self._batcher.submit(_Asked(event, actor, reason))

    def first(self, task: Task, event: MachineEvent, *, actor: str) -> Change:
        """What `event` makes of a task that is not stored yet, to be created with it. Raises IllegalTransition."""
        return self._change(_Asked(event, actor, None), task, advance(task, event))

    async def create(self, new: Sequence[NewTask]) -> Sequence[Task | SubmissionConflict]:
        """Create tasks, and start those that have a start; an answer each, in order. Raises StoreUnavailable."""
        created = await self._store.create(new)
        self._relay.offer(created.outbox)
        first = {one.task.task_id: one for one in reversed(new)}
        for task_id in created.new:
            start = first[task_id].start
            if start is not None:
                self._tell(start, Answer(start.after, Outcome.APPLIED))
        return created.answers

    async def _flush(self, batch: Sequence[_Asked]) -> list[Answer | Exception | None]:
        loaded = await self._store.load([(asked.task_id, asked.event.message_id) for asked in batch])
        decided = [self._decide(asked, found) for asked, found in zip(batch, loaded, strict=True)]
        changes = [change for change in decided if isinstance(change, Change)]
        applied = await self._apply(changes) if changes else NOTHING
        return [self._settle(change, applied) if isinstance(change, Change) else change for change in decided]

    def _decide(self, asked: _Asked, found: Loaded | None) -> Change | Answer | Exception:
        if found is None:
            return TaskNotFound(asked.task_id)
        if found.seen:
            for listener in self._duplicate_listeners:
                listener()
            return Answer(found.task, Outcome.DUPLICATE)
        if of_another_claim(asked.event, found):
            return self._change(asked, found.task, Step(found.task, stale=True))
        try:
            return self._change(asked, found.task, advance(found.task, asked.event))
        except IllegalTransition as error:
            return error

    def _change(self, asked: _Asked, before: Task, step: Step) -> Change:
        return Change(
            before=before,
            after=step.task,
            event=asked.event,
            actor=asked.actor,
            reason=asked.reason,
            stale=step.stale,
            orders=step.orders,
            closed=step.closed,
            signal=step.signal,
            headers=dict(self._trace(step.task)),
        )

    async def _apply(self, changes: Sequence[Change]) -> Applied:
        confirmed = self._relay.take_confirmed()
        try:
            applied = await self._store.apply(changes, confirmed)
        except BaseException:
            self._relay.give_back(confirmed)
            raise
        self._relay.offer(applied.outbox)
        return applied

    def _settle(self, change: Change, applied: Applied) -> Answer | None:
        message_id = change.event.message_id
        if message_id not in applied.made:
            return None
        outcome = Outcome.STALE if change.stale else Outcome.APPLIED
        answer = Answer(change.after, outcome, applied.ended.get(message_id))
        self._tell(change, answer)
        return answer

    def _tell(self, change: Change, answer: Answer) -> None:
        if change.signal is not None:
            self._relay.signal(change.signal)
        for listener in self._listeners:
            listener(change, answer)


def task_of(event: MachineEvent) -> UUID:
    """The task that an event is about."""
    return event.key.task_id if isinstance(event, PhaseEvent | LeaseLost) else event.task_id


def of_another_claim(event: MachineEvent, found: Loaded) -> bool:
    """Whether an event about the newest attempt comes from a worker that does not hold it."""
    if not isinstance(event, PhaseEvent | LeaseLost):
        return False
    return event.key == found.task.key and event.claim_id != found.claim_id
