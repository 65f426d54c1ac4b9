"""Every verdict on claims and heartbeats, on both stores."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from contracts.events import LeaseLost
from contracts.leases import Claim, Heartbeat, Verdict, WorkerState
from contracts.submissions import CancelTask, PauseTask, ResumeTask
from contracts.tasks import AttemptKey, PauseMode, Phase
from control.machine.machine import RunState
from control.machine.task import Task
from tests.build import completed, failed, key_of
from tests.conformance.stores import WORKER, Bench

MINE = UUID("aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa")
OTHER = UUID("bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb")


async def running(bench: Bench) -> Task:
    """A task whose first attempt I run."""
    task = await bench.started()
    assert await bench.claim(key_of(task), MINE) is Verdict.GRANTED
    return task


async def test_a_dispatched_attempt_is_granted_for_its_phases_ttl(bench: Bench) -> None:
    task = await bench.started()
    (answer,) = await bench.lease(Claim(key=key_of(task), claim_id=MINE))
    assert (answer.claim_id, answer.verdict, answer.ttl) == (MINE, Verdict.GRANTED, 15.0)
    (run,) = await bench.store.runs(task.task_id)
    assert (run.state, run.worker_id, run.claim_id) == (RunState.RUNNING, "worker-1", MINE)
    assert run.claimed_at is not None
    assert run.lease_expires_at is not None
    assert 14.9 < (run.lease_expires_at - run.claimed_at).total_seconds() < 15.1


async def test_the_same_claim_again_gets_the_same_answer(bench: Bench) -> None:
    task = await running(bench)
    assert await bench.claim(key_of(task), MINE) is Verdict.GRANTED


async def test_another_claim_finds_it_held(bench: Bench) -> None:
    task = await running(bench)
    assert await bench.claim(key_of(task), OTHER) is Verdict.HELD


async def test_of_two_claims_in_one_request_the_first_wins(bench: Bench) -> None:
    key = key_of(await bench.started())
    answers = await bench.lease(Claim(key=key, claim_id=MINE), Claim(key=key, claim_id=OTHER))
    assert [answer.verdict for answer in answers] == [Verdict.GRANTED, Verdict.HELD]


async def test_one_claim_twice_in_one_request_is_granted_twice(bench: Bench) -> None:
    key = key_of(await bench.started())
    answers = await bench.lease(Claim(key=key, claim_id=MINE), Claim(key=key, claim_id=MINE))
    assert [answer.verdict for answer in answers] == [Verdict.GRANTED, Verdict.GRANTED]


async def test_the_holder_is_granted_even_behind_another_in_the_same_request(bench: Bench) -> None:
    key = key_of(await running(bench))
    answers = await bench.lease(Claim(key=key, claim_id=OTHER), Claim(key=key, claim_id=MINE))
    assert [answer.verdict for answer in answers] == [Verdict.HELD, Verdict.GRANTED]


async def test_a_superseded_attempt_is_fenced(bench: Bench) -> None:
    task = await bench.started()
    await bench.after(task, failed(task))
    assert await bench.claim(key_of(task), MINE) is Verdict.FENCED


async def test_an_attempt_of_a_cancelled_task_is_cancelled(bench: Bench) -> None:
    task = await running(bench)
    await bench.after(task, CancelTask(task_id=task.task_id))
    assert await bench.claim(key_of(task), MINE) is Verdict.CANCELLED
    assert await bench.beat(key_of(task), MINE) is Verdict.CANCELLED


async def test_an_attempt_of_a_suspended_task_does_not_start(bench: Bench) -> None:
    task = await bench.started()
    suspended = await bench.after(task, PauseTask(task_id=task.task_id))
    assert await bench.claim(key_of(task), MINE) is Verdict.PAUSE
    await bench.after(suspended, ResumeTask(task_id=task.task_id))
    assert await bench.claim(key_of(task), MINE) is Verdict.GRANTED


async def test_an_attempt_that_nobody_ordered_is_unknown(bench: Bench) -> None:
    key = AttemptKey(task_id=uuid4(), iteration=1, phase=Phase.TRAIN, attempt=1)
    assert await bench.claim(key, MINE) is Verdict.UNKNOWN
    assert await bench.beat(key, MINE) is Verdict.UNKNOWN


async def test_the_most_accelerator_seconds_that_a_heartbeat_told_are_kept(bench: Bench) -> None:
    task = await running(bench)
    await bench.beat(key_of(task), MINE, gpu_seconds=9.0)
    await bench.beat(key_of(task), MINE, gpu_seconds=2.0)
    assert [run.gpu_seconds for run in await bench.store.runs(task.task_id)] == [9.0]


async def test_a_heartbeat_renews_the_lease_and_notes_the_progress(bench: Bench) -> None:
    task = await running(bench)
    await bench.pass_time(10)
    assert await bench.beat(key_of(task), MINE, fraction=0.5) is Verdict.GRANTED
    await bench.pass_time(10)
    assert await bench.store.expired(10) == []
    assert await bench.beat(key_of(task), MINE) is Verdict.GRANTED
    (run,) = await bench.store.runs(task.task_id)
    assert run.fraction == 0.5


async def test_the_newest_checkpoint_that_a_heartbeat_named_is_kept(bench: Bench) -> None:
    task = await running(bench)
    for checkpoint in ("models/checkpoint-5", "models/checkpoint-9", None):
        await bench.beat(key_of(task), MINE, checkpoint=checkpoint)
    await bench.beat(key_of(task), OTHER, checkpoint="models/of-another-claim")
    await bench.pass_time(16)
    (run,) = await bench.store.expired(10)
    assert run.checkpoint == "models/checkpoint-9"


async def test_a_heartbeat_under_another_claim_is_fenced(bench: Bench) -> None:
    task = await running(bench)
    assert await bench.beat(key_of(task), OTHER) is Verdict.FENCED


async def test_a_heartbeat_of_an_attempt_that_ended_is_fenced(bench: Bench) -> None:
    task = await running(bench)
    await bench.after(task, completed(task))
    assert await bench.beat(key_of(task), MINE) is Verdict.FENCED


async def test_a_draining_attempt_goes_on(bench: Bench) -> None:
    task = await running(bench)
    await bench.after(task, PauseTask(task_id=task.task_id))
    assert await bench.beat(key_of(task), MINE) is Verdict.GRANTED


async def test_an_attempt_that_is_to_write_a_checkpoint_hears_pause(bench: Bench) -> None:
    task = await running(bench)
    await bench.after(task, PauseTask(task_id=task.task_id, mode=PauseMode.CHECKPOINT))
    assert await bench.beat(key_of(task), MINE) is Verdict.PAUSE


async def test_a_task_that_was_resumed_after_a_checkpoint_pause_drains_the_next_time(bench: Bench) -> None:
    task = await running(bench)
    checkpoint = PauseTask(task_id=task.task_id, mode=PauseMode.CHECKPOINT)
    await bench.after(task, checkpoint, ResumeTask(task_id=task.task_id), PauseTask(task_id=task.task_id))
    assert await bench.beat(key_of(task), MINE) is Verdict.GRANTED


async def test_a_pause_now_fences_the_running_attempt(bench: Bench) -> None:
    task = await running(bench)
    await bench.after(task, PauseTask(task_id=task.task_id, mode=PauseMode.NOW))
    assert await bench.beat(key_of(task), MINE) is Verdict.FENCED


async def test_a_heartbeat_faster_than_its_claim_may_go_on(bench: Bench) -> None:
    task = await bench.started()
    assert await bench.beat(key_of(task), MINE) is Verdict.GRANTED
    assert await bench.claim(key_of(task), OTHER) is Verdict.GRANTED


async def test_a_claim_and_its_heartbeat_may_travel_together(bench: Bench) -> None:
    key = key_of(await bench.started())
    answers = await bench.lease(
        Claim(key=key, claim_id=MINE),
        Heartbeat(key=key, claim_id=MINE, fraction=0.25),
        Heartbeat(key=key, claim_id=OTHER),
    )
    assert [answer.verdict for answer in answers] == [Verdict.GRANTED, Verdict.GRANTED, Verdict.FENCED]


async def test_answers_come_in_the_order_asked(bench: Bench) -> None:
    mine, others, free = await running(bench), await running(bench), await bench.started()
    answers = await bench.lease(
        Claim(key=key_of(free), claim_id=OTHER),
        Claim(key=key_of(others), claim_id=OTHER),
        Heartbeat(key=key_of(mine), claim_id=MINE),
    )
    assert [answer.verdict for answer in answers] == [Verdict.GRANTED, Verdict.HELD, Verdict.GRANTED]
    assert [answer.claim_id for answer in answers] == [OTHER, OTHER, MINE]


async def test_a_lease_without_heartbeats_expires(bench: Bench) -> None:
    task = await running(bench)
    assert await bench.store.expired(10) == []
    await bench.pass_time(16)
    assert [run.key for run in await bench.store.expired(10)] == [key_of(task)]
    assert await bench.store.expired(0) == []


async def test_the_loss_of_a_lease_is_applied_with_the_ids_that_the_store_gave(bench: Bench) -> None:
    task = await running(bench)
    await bench.pass_time(16)
    (run,) = await bench.store.expired(10)
    assert run.claim_id is not None
    after = await bench.after(task, LeaseLost(key=run.key, claim_id=run.claim_id))
    assert (after.attempt, await bench.store.expired(10)) == (2, [])


async def test_an_expired_lease_that_nobody_took_may_be_renewed(bench: Bench) -> None:
    task = await running(bench)
    await bench.pass_time(16)
    assert await bench.beat(key_of(task), MINE) is Verdict.GRANTED
    assert await bench.store.expired(10) == []


async def test_silence_is_the_age_of_the_last_heartbeat(bench: Bench) -> None:
    task = await running(bench)
    await bench.pass_time(10)
    assert (await bench.store.silence())[Phase.OPTIMIZE] == pytest.approx(10, abs=2)
    await bench.beat(key_of(task), MINE)
    assert (await bench.store.silence())[Phase.OPTIMIZE] == pytest.approx(0, abs=2)


async def test_nobody_is_silent_where_nothing_runs(bench: Bench) -> None:
    await bench.started()
    assert await bench.store.silence() == {}


async def test_an_attempt_that_ended_does_not_expire(bench: Bench) -> None:
    task = await running(bench)
    await bench.after(task, completed(task))
    await bench.pass_time(60)
    assert await bench.store.expired(10) == []


async def test_who_asks_is_known_as_a_worker(bench: Bench) -> None:
    await bench.lease()
    busy = WORKER.model_copy(update={"busy": 1})
    another = WorkerState(worker_id="another", phase=Phase.TRAIN, host="b-host", slots=2, busy=0)
    await bench.store.lease(busy, [], [])
    await bench.store.lease(another, [], [])
    assert await bench.store.workers(60) == [another, busy]
    await bench.pass_time(61)
    assert await bench.store.workers(60) == []


async def test_one_store_of_two_leads_until_it_closes(bench: Bench) -> None:
    second = await bench.another()
    assert await bench.store.lead("reaper")
    assert not await second.lead("reaper")
    assert await second.lead("sweep")
    assert await bench.store.lead("reaper")
    await bench.store.close()
    assert await second.lead("reaper")
