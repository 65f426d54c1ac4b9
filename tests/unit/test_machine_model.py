"""The machine is compared with a simpler reference, for requests and events in any order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from contracts.commands import PhaseCommand
from contracts.events import NextIteration
from contracts.notices import notice
from contracts.options import StopRules
from contracts.submissions import (
    CancelTask,
    FailTask,
    KickTask,
    PauseTask,
    ResumeTask,
    RetryTask,
    StartTask,
    TaskRequest,
)
from contracts.tasks import AttemptKey, FailureKind, PauseMode, Phase
from control.machine.failures import MAX_HUB_FAILURES, MAX_UNFIT_FAILURES
from control.machine.machine import MachineEvent, advance
from control.machine.task import IllegalTransition, Task
from tests.build import completed, failed, fold, lost, new_task, paused, request_id

PHASES = list(Phase)
LOOP = "loop"
STATUS = {None: "PENDING", Phase.OPTIMIZE: "OPTIMIZING", Phase.TRAIN: "TRAINING", Phase.EVALUATE: "EVALUATING"}
STATUS[LOOP] = "LOOPING"  # type: ignore[index]  # a place that is no phase


def noted(task: Task) -> MachineEvent:
    """The event that completes the present phase, with a notice that names the attempt."""
    assert task.key is not None
    return completed(task, notices=(notice("attempt", 1, task.key.name),))


ENDINGS: dict[str, Callable[[Task], MachineEvent]] = {
    "completed": completed,
    "noted": noted,
    "failed": failed,
    "bad_input": lambda task: failed(task, FailureKind.BAD_INPUT),
    "out_of_memory": lambda task: failed(task, FailureKind.OUT_OF_MEMORY),
    "worker_unfit": lambda task: failed(task, FailureKind.WORKER_UNFIT),
    "hub_unavailable": lambda task: failed(task, FailureKind.HUB_UNAVAILABLE),
    "paused": paused,
    "lost": lost,
}
FREE = {"worker_unfit": MAX_UNFIT_FAILURES, "hub_unavailable": MAX_HUB_FAILURES}
"""Endings that spend no budget, up to so many in a row."""


class Reference:
    """The reference: a task is at a place, or suspended there, or has ended; its newest attempt may be active."""

    def __init__(self, iterations: int, budget: int) -> None:
        self.iterations, self.budget = iterations, budget
        self.place: Phase | str | None = None
        self.suspended = False
        self.ended: str | None = None
        self.iteration = self.failures = 0
        self.free: Counter[str] = Counter()
        self.issued: Counter[tuple[int, Phase | str | None]] = Counter()
        self.attempt_active = False
        self.notices: dict[tuple[int, Phase], str] = {}
        """The attempt of which the notice of each phase of each iteration is."""

    @property
    def status(self) -> str:
        return self.ended or ("SUSPENDED" if self.suspended else STATUS[self.place])  # type: ignore[index]

    @property
    def attempt(self) -> int:
        return self.issued[self.iteration, self.place]

    @property
    def _is_running(self) -> bool:
        return isinstance(self.place, Phase) and not self.suspended and not self.ended

    def request(self, request: TaskRequest) -> bool:
        """Do the request if it is allowed; return whether it is."""
        under_way = self.place is not None and not self.ended
        match request:
            case StartTask():
                return self._if(self.place is None and not self.ended, self._start_iteration)
            case PauseTask():
                return self._if(under_way, lambda: self._pause(request.mode))
            case ResumeTask():
                return self._if(under_way and self.suspended, self._resume)
            case CancelTask():
                return self._if(not self.ended, lambda: self._end("CANCELLED"))
            case RetryTask():
                return self._retry(request.phase)
            case KickTask():
                return self._if(self._is_running, self._issue_attempt)
            case FailTask():
                return self._if(self._is_running, lambda: self._end("FAILED"))
        raise AssertionError(request)

    def end_attempt(self, ending: str, key: AttemptKey) -> bool:
        """Apply the end of an attempt if it is not stale; return whether it was applied."""
        newest = (self.iteration, self.place, self.attempt)
        if not self.attempt_active or newest != (key.iteration, key.phase, key.attempt):
            return False
        self.attempt_active = False
        match ending:
            case "completed" | "noted":
                for phase in PHASES[PHASES.index(key.phase) :]:
                    self.notices.pop((key.iteration, phase), None)
                if ending == "noted":
                    self.notices[key.iteration, key.phase] = key.name
                self._complete_phase()
            case "paused":
                self._issue_attempt()
            case _:
                self.free = self.free + Counter([ending]) if ending in FREE else Counter()
                self.failures += not 1 <= self.free[ending] <= FREE.get(ending, 0)
                final = ending == "bad_input" or self.failures > self.budget
                self._end("FAILED") if final and not self.suspended else self._issue_attempt()
        return True

    def next_iteration(self, iteration: int) -> bool:
        """Start the next iteration if the loop waits for it; return whether it was started."""
        waits = self.place == LOOP and not self.suspended and not self.ended
        return self._if(waits and iteration == self.iteration, self._start_iteration)

    def _if(self, allowed: bool, do: Callable[[], None]) -> bool:
        if allowed:
            do()
        return allowed

    def _start_iteration(self) -> None:
        self.iteration += 1
        self._enter(Phase.OPTIMIZE)

    def _enter(self, place: Phase | str | None) -> None:
        self.place, self.failures, self.free = place, 0, Counter()
        self._issue_attempt()

    def _issue_attempt(self) -> None:
        if not self.suspended and self.place != LOOP:
            self.issued[self.iteration, self.place] += 1
            self.attempt_active = True

    def _complete_phase(self) -> None:
        if self.place is not Phase.EVALUATE:
            self._enter(PHASES[PHASES.index(Phase(str(self.place))) + 1])
        elif self.iteration == self.iterations:
            self._end("COMPLETED")
        else:
            self._enter(LOOP)

    def _pause(self, mode: PauseMode) -> None:
        self.suspended = True
        self.attempt_active = self.attempt_active and mode is not PauseMode.NOW

    def _resume(self) -> None:
        self.suspended = False
        if not self.attempt_active:
            self._issue_attempt()

    def _end(self, how: str) -> None:
        self.ended, self.attempt_active, self.suspended = how, False, False

    def _retry(self, requested: Phase | None) -> bool:
        if self.ended != "FAILED":
            return False
        place = requested or self.place
        if PHASES.index(Phase(str(place))) > PHASES.index(Phase(str(self.place))):
            return False
        self.ended = None
        self._enter(place)
        return True


class AnyOrder(RuleBasedStateMachine):
    """Users send any request; workers report on any attempt that was ever issued, late, twice and out of order."""

    @initialize(iterations=st.integers(1, 3), budget=st.integers(0, 2))
    def create(self, iterations: int, budget: int) -> None:
        self.created = self.task = new_task(stop=StopRules(max_iterations=iterations), max_failures=budget)
        self.model = Reference(iterations, budget)
        self.applied: list[MachineEvent] = []
        self.issued: list[Task] = []
        """The task at the time when each attempt was issued."""
        self.next_iterations: list[NextIteration] = []
        self.issued_keys: set[AttemptKey] = set()

    @rule(kind=st.sampled_from((StartTask, ResumeTask, CancelTask)))
    def a_user_sends_a_request(self, kind: type[StartTask | ResumeTask | CancelTask]) -> None:
        self._send_request(kind(**self._about()))

    @rule(mode=st.sampled_from(PauseMode))
    def a_user_pauses(self, mode: PauseMode) -> None:
        self._send_request(PauseTask(**self._about(), mode=mode))

    @rule(phase=st.sampled_from((None, *Phase)))
    def a_user_retries(self, phase: Phase | None) -> None:
        self._send_request(RetryTask(**self._about(), phase=phase))

    @rule(kind=st.sampled_from((KickTask, FailTask)))
    def an_operator_intervenes(self, kind: type[KickTask | FailTask]) -> None:
        self._send_request(kind(**self._about(), reason="it is stuck"))

    @precondition(lambda self: self.issued)
    @rule(back=st.integers(0, 5), ending=st.sampled_from(sorted(ENDINGS)))
    def the_end_of_an_attempt_is_reported(self, back: int, ending: str) -> None:
        """Report the end of an attempt: the newest or an older one, possibly for the second time."""
        then = self.issued[max(0, len(self.issued) - 1 - back)]
        assert then.key is not None
        self._send_event(ENDINGS[ending](then), self.model.end_attempt(ending, then.key))

    @precondition(lambda self: self.issued)
    @rule()
    def the_newest_attempt_completes(self) -> None:
        """Complete the newest attempt, so that tasks reach the later phases."""
        self.the_end_of_an_attempt_is_reported(0, "completed")

    @precondition(lambda self: self.next_iterations)
    @rule(back=st.integers(0, 2))
    def a_next_iteration_event_arrives(self, back: int) -> None:
        event = self.next_iterations[max(0, len(self.next_iterations) - 1 - back)]
        self._send_event(event, self.model.next_iteration(event.iteration))

    @invariant()
    def both_have_the_same_state(self) -> None:
        model, task = self.model, self.task
        assert task.status.value == model.status
        assert (task.iteration, task.attempt_active) == (model.iteration, model.attempt_active)
        if task.phase:  # between two iterations there is no phase whose failures are counted
            assert (task.attempt, task.failures) == (model.attempt, model.failures)
        else:
            assert task.attempt == 0

    @invariant()
    def each_iteration_has_the_notices_of_its_newest_completions(self) -> None:
        stored = {result.iteration: result.notices for result in self.task.results}
        stored.setdefault(self.task.iteration, self.task.current.notices)
        notices = {(n, phase): each[0].text for n, by_phase in stored.items() for phase, each in by_phase.items()}
        assert notices == self.model.notices

    @invariant()
    def folding_the_applied_events_gives_the_task(self) -> None:
        assert self.task.version == 1 + len(self.applied)
        assert fold(self.created, tuple(self.applied)) == self.task

    def _about(self) -> dict[str, object]:
        return {"task_id": self.task.task_id, "submission_id": request_id(len(self.applied) + 1)}

    def _send_request(self, request: TaskRequest) -> None:
        allowed = self.model.request(request)
        try:
            self._advance(request)
        except IllegalTransition:
            assert not allowed, f"the machine refuses {request.kind} in {self.task.status}"
        else:
            assert allowed, f"the machine allows {request.kind}"

    def _send_event(self, event: MachineEvent, counts: bool) -> None:
        before = self.task
        stale = self._advance(event)
        assert stale != counts, f"{event.kind} in {before.status}: stale is {stale}"
        assert not stale or self.task == before

    def _advance(self, event: MachineEvent) -> bool:
        """Advance the task; return whether the event was stale."""
        before, step = self.task, advance(self.task, event)
        if step.stale:
            assert not step.messages
            return True
        self.applied.append(event)
        self.task = step.task
        for outgoing in step.messages:
            if isinstance(outgoing.message, PhaseCommand):
                self._record_command(outgoing.message, before)
            else:
                self.next_iterations.append(outgoing.message)
        return False

    def _record_command(self, command: PhaseCommand, before: Task) -> None:
        """Record a command; an attempt gets a second command only if it is still active."""
        assert command.key == self.task.key
        assert command.key not in self.issued_keys or before.attempt_active
        self.issued_keys.add(command.key)
        self.issued.append(self.task)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
