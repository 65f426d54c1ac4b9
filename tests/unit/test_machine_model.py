"""The machine against a reference that says the same in other words, whatever order the world tells things in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from contracts.commands import PhaseCommand
from contracts.events import NextIteration
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
from control.machine.machine import MachineEvent, advance
from control.machine.task import IllegalTransition, Task
from tests.build import completed, failed, fold, lost, new_task, paused, request_id

PHASES = list(Phase)
LOOP = "loop"
STATUS = {None: "PENDING", Phase.OPTIMIZE: "OPTIMIZING", Phase.TRAIN: "TRAINING", Phase.EVALUATE: "EVALUATING"}
STATUS[LOOP] = "LOOPING"  # type: ignore[index]  # a place that is no phase
ENDINGS: dict[str, Callable[[Task], MachineEvent]] = {
    "completed": completed,
    "failed": failed,
    "ruined": lambda task: failed(task, FailureKind.BAD_INPUT),
    "starved": lambda task: failed(task, FailureKind.OUT_OF_MEMORY),
    "paused": paused,
    "lost": lost,
}


class Reference:
    """A task is at a place, perhaps suspended there, until it has ended. `live`: the newest attempt may report."""

    def __init__(self, turns: int, budget: int) -> None:
        self.turns, self.budget = turns, budget
        self.place: Phase | str | None = None
        self.suspended = False
        self.ended: str | None = None
        self.iteration = self.failures = 0
        self.issued: Counter[tuple[int, Phase | str | None]] = Counter()
        self.live = False

    @property
    def status(self) -> str:
        return self.ended or ("SUSPENDED" if self.suspended else STATUS[self.place])  # type: ignore[index]

    @property
    def attempt(self) -> int:
        return self.issued[self.iteration, self.place]

    @property
    def _runs(self) -> bool:
        return isinstance(self.place, Phase) and not self.suspended and not self.ended

    def asks(self, request: TaskRequest) -> bool:
        """Whether the request is allowed; then it is done."""
        under_way = self.place is not None and not self.ended
        match request:
            case StartTask():
                return self._if(self.place is None and not self.ended, self._turn)
            case PauseTask():
                return self._if(under_way, lambda: self._pause(request.mode))
            case ResumeTask():
                return self._if(under_way and self.suspended, self._resume)
            case CancelTask():
                return self._if(not self.ended, lambda: self._end("CANCELLED"))
            case RetryTask():
                return self._retry(request.phase)
            case KickTask():
                return self._if(self._runs, self._again)
            case FailTask():
                return self._if(self._runs, lambda: self._end("FAILED"))
        raise AssertionError(request)

    def hears(self, ending: str, key: AttemptKey) -> bool:
        """Whether the news of an attempt's end counts; then it has its effect."""
        newest = (self.iteration, self.place, self.attempt)
        if not self.live or newest != (key.iteration, key.phase, key.attempt):
            return False
        self.live = False
        match ending:
            case "completed":
                self._go_on()
            case "paused":
                self._again()
            case _:
                self.failures += 1
                spent = ending == "ruined" or self.failures > self.budget
                self._end("FAILED") if spent and not self.suspended else self._again()
        return True

    def turns_round(self, iteration: int) -> bool:
        """Whether the loop turns."""
        waits = self.place == LOOP and not self.suspended and not self.ended
        return self._if(waits and iteration == self.iteration, self._turn)

    def _if(self, allowed: bool, do: Callable[[], None]) -> bool:
        if allowed:
            do()
        return allowed

    def _turn(self) -> None:
        self.iteration += 1
        self._enter(Phase.OPTIMIZE)

    def _enter(self, place: Phase | str | None) -> None:
        self.place, self.failures = place, 0
        self._again()

    def _again(self) -> None:
        if not self.suspended and self.place != LOOP:
            self.issued[self.iteration, self.place] += 1
            self.live = True

    def _go_on(self) -> None:
        if self.place is not Phase.EVALUATE:
            self._enter(PHASES[PHASES.index(Phase(str(self.place))) + 1])
        elif self.iteration == self.turns:
            self._end("COMPLETED")
        else:
            self._enter(LOOP)

    def _pause(self, mode: PauseMode) -> None:
        self.suspended = True
        self.live = self.live and mode is not PauseMode.NOW

    def _resume(self) -> None:
        self.suspended = False
        if not self.live:
            self._again()

    def _end(self, how: str) -> None:
        self.ended, self.live, self.suspended = how, False, False

    def _retry(self, wanted: Phase | None) -> bool:
        if self.ended != "FAILED":
            return False
        place = wanted or self.place
        if PHASES.index(Phase(str(place))) > PHASES.index(Phase(str(self.place))):
            return False
        self.ended = None
        self._enter(place)
        return True


class AnyOrder(RuleBasedStateMachine):
    """Users ask for anything; workers report any attempt they were ever given, late, twice and out of order."""

    @initialize(turns=st.integers(1, 3), budget=st.integers(0, 2))
    def create(self, turns: int, budget: int) -> None:
        self.created = self.task = new_task(stop=StopRules(max_iterations=turns), max_failures=budget)
        self.model = Reference(turns, budget)
        self.applied: list[MachineEvent] = []
        self.given: list[Task] = []
        """The task as it was when each attempt was ordered."""
        self.turns: list[NextIteration] = []
        self.ordered: set[AttemptKey] = set()

    @rule(kind=st.sampled_from((StartTask, ResumeTask, CancelTask)))
    def a_user_asks(self, kind: type[StartTask | ResumeTask | CancelTask]) -> None:
        self._ask(kind(**self._about()))

    @rule(mode=st.sampled_from(PauseMode))
    def a_user_pauses(self, mode: PauseMode) -> None:
        self._ask(PauseTask(**self._about(), mode=mode))

    @rule(phase=st.sampled_from((None, *Phase)))
    def a_user_retries(self, phase: Phase | None) -> None:
        self._ask(RetryTask(**self._about(), phase=phase))

    @rule(kind=st.sampled_from((KickTask, FailTask)))
    def an_operator_steps_in(self, kind: type[KickTask | FailTask]) -> None:
        self._ask(kind(**self._about(), reason="it is stuck"))

    @precondition(lambda self: self.given)
    @rule(back=st.integers(0, 5), ending=st.sampled_from(sorted(ENDINGS)))
    def news_of_an_attempt_arrives(self, back: int, ending: str) -> None:
        """Of the newest, mostly; of an older one, it may be for the second time."""
        then = self.given[max(0, len(self.given) - 1 - back)]
        assert then.key is not None
        self._tell(ENDINGS[ending](then), self.model.hears(ending, then.key))

    @precondition(lambda self: self.given)
    @rule()
    def the_newest_attempt_completes(self) -> None:
        """So that tasks get far."""
        self.news_of_an_attempt_arrives(0, "completed")

    @precondition(lambda self: self.turns)
    @rule(back=st.integers(0, 2))
    def the_loop_is_told_to_turn(self, back: int) -> None:
        event = self.turns[max(0, len(self.turns) - 1 - back)]
        self._tell(event, self.model.turns_round(event.iteration))

    @invariant()
    def both_stand_at_the_same_place(self) -> None:
        model, task = self.model, self.task
        assert task.status.value == model.status
        assert (task.iteration, task.live) == (model.iteration, model.live)
        if task.phase:  # between two turns of the loop no phase is present whose failures could count
            assert (task.attempt, task.failures) == (model.attempt, model.failures)
        else:
            assert task.attempt == 0

    @invariant()
    def folding_what_was_applied_gives_the_task(self) -> None:
        assert self.task.version == 1 + len(self.applied)
        assert fold(self.created, tuple(self.applied)) == self.task

    def _about(self) -> dict[str, object]:
        return {"task_id": self.task.task_id, "submission_id": request_id(len(self.applied) + 1)}

    def _ask(self, request: TaskRequest) -> None:
        allowed = self.model.asks(request)
        try:
            self._advance(request)
        except IllegalTransition:
            assert not allowed, f"the machine refuses {request.kind} in {self.task.status}"
        else:
            assert allowed, f"the machine allows {request.kind}"

    def _tell(self, event: MachineEvent, counts: bool) -> None:
        before = self.task
        stale = self._advance(event)
        assert stale != counts, f"{event.kind} of {before.status}: stale is {stale}"
        assert not stale or self.task == before

    def _advance(self, event: MachineEvent) -> bool:
        """Whether it was stale."""
        before, step = self.task, advance(self.task, event)
        if step.stale:
            assert not step.orders
            return True
        self.applied.append(event)
        self.task = step.task
        for order in step.orders:
            if isinstance(order.message, PhaseCommand):
                self._order(order.message, before)
            else:
                self.turns.append(order.message)
        return False

    def _order(self, command: PhaseCommand, before: Task) -> None:
        """An attempt is ordered once, or again where the task goes on with one that still runs."""
        assert command.key == self.task.key
        assert command.key not in self.ordered or before.live
        self.ordered.add(command.key)
        self.given.append(self.task)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
