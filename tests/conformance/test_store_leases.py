"""Every verdict on claims and heartbeats, on both stores."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from contracts.artifacts import checkpoint_prefix
from contracts.events import LeaseLost
from contracts.leases import Claim, GpuState, Heartbeat, LeaseVerdict, WorkerState
from contracts.submissions import CancelTask, PauseTask, ResumeTask
from contracts.tasks import AttemptKey, PauseMode, Phase
from control.machine.machine import AttemptState
from control.machine.task import Task
from tests.build import completed, failed, key_of, own_checkpoint
from tests.conformance.stores import WORKER, Bench

MINE = UUID("aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa")
OTHER = UUID("bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb")


async def running(bench: Bench) -> Task:
    """Start a task and claim its first attempt as MINE."""
    task = await bench.started()
    assert await bench.claim(key_of(task), MINE) is LeaseVerdict.GRANTED
    return task


async def test_a_dispatched_attempt_is_granted_for_its_phases_ttl(bench: Bench) -> None:
    task = await bench.started()
    (answer,) = await bench.lease(Claim(key=key_of(task), claim_id=MINE))
    assert (answer.claim_id, answer.verdict, answer.ttl) == (MINE, LeaseVerdict.GRANTED, 15.0)
    (attempt,) = await bench.store.attempts(task.task_id)
    assert (attempt.state, attempt.worker_id, attempt.claim_id) == (AttemptState.RUNNING, "worker-1", MINE)
    assert attempt.claimed_at is not None
    assert attempt.lease_expires_at is not None
    assert 14.9 < (attempt.lease_expires_at - attempt.claimed_at).total_seconds() < 15.1


async def test_the_same_claim_again_gets_the_same_answer(bench: Bench) -> None:
    task = await running(bench)
    assert await bench.claim(key_of(task), MINE) is LeaseVerdict.GRANTED


async def test_another_claim_of_a_running_attempt_is_held(bench: Bench) -> None:
    task = await running(bench)
    assert await bench.claim(key_of(task), OTHER) is LeaseVerdict.HELD


async def test_the_first_of_two_claims_in_one_request_is_granted(bench: Bench) -> None:
    key = key_of(await bench.started())
    answers = await bench.lease(Claim(key=key, claim_id=MINE), Claim(key=key, claim_id=OTHER))
    assert [answer.verdict for answer in answers] == [LeaseVerdict.GRANTED, LeaseVerdict.HELD]


async def test_one_claim_twice_in_one_request_is_granted_twice(bench: Bench) -> None:
    key = key_of(await bench.started())
    answers = await bench.lease(Claim(key=key, claim_id=MINE), Claim(key=key, claim_id=MINE))
    assert [answer.verdict for answer in answers] == [LeaseVerdict.GRANTED, LeaseVerdict.GRANTED]


async def test_the_holder_is_granted_even_behind_another_claim_in_the_same_request(bench: Bench) -> None:
    key = key_of(await running(bench))
    answers = await bench.lease(Claim(key=key, claim_id=OTHER), Claim(key=key, claim_id=MINE))
    assert [answer.verdict for answer in answers] == [LeaseVerdict.HELD, LeaseVerdict.GRANTED]


async def test_a_superseded_attempt_is_fenced(bench: Bench) -> None:
    task = await bench.started()
    await bench.after(task, failed(task))
    assert await bench.claim(key_of(task), MINE) is LeaseVerdict.FENCED


async def test_an_attempt_of_a_cancelled_task_is_cancelled(bench: Bench) -> None:
    task = await running(bench)
    await bench.after(task, CancelTask(task_id=task.task_id))
    assert await bench.claim(key_of(task), MINE) is LeaseVerdict.CANCELLED
    assert await bench.heartbeat(key_of(task), MINE) is LeaseVerdict.CANCELLED


async def test_an_attempt_of_a_suspended_task_does_not_start(bench: Bench) -> None:
    task = await bench.started()
    suspended = await bench.after(task, PauseTask(task_id=task.task_id))
    assert await bench.claim(key_of(task), MINE) is LeaseVerdict.PAUSE
    await bench.after(suspended, ResumeTask(task_id=task.task_id))
    assert await bench.claim(key_of(task), MINE) is LeaseVerdict.GRANTED


async def test_an_attempt_that_was_never_issued_is_unknown(bench: Bench) -> None:
    key = AttemptKey(task_id=uuid4(), iteration=1, phase=Phase.TRAIN, attempt=1)
    assert await bench.claim(key, MINE) is LeaseVerdict.UNKNOWN
    assert await bench.heartbeat(key, MINE) is LeaseVerdict.UNKNOWN


async def test_the_largest_number_of_accelerator_seconds_is_kept(bench: Bench) -> None:
    task = await running(bench)
    await bench.heartbeat(key_of(task), MINE, gpu_seconds=9.0)
    await bench.heartbeat(key_of(task), MINE, gpu_seconds=2.0)
    assert [attempt.gpu_seconds for attempt in await bench.store.attempts(task.task_id)] == [9.0]


async def test_a_heartbeat_renews_the_lease_and_records_the_progress(bench: Bench) -> None:
    task = await running(bench)
    await bench.pass_time(10)
    assert await bench.heartbeat(key_of(task), MINE, fraction=0.5) is LeaseVerdict.GRANTED
    await bench.pass_time(10)
    assert await bench.store.expired(10) == []
    assert await bench.heartbeat(key_of(task), MINE) is LeaseVerdict.GRANTED
    (attempt,) = await bench.store.attempts(task.task_id)
    assert attempt.fraction == 0.5


async def test_the_newest_checkpoint_that_a_heartbeat_named_is_kept(bench: Bench) -> None:
    task = await running(bench)
    for checkpoint in (own_checkpoint(task, 5), own_checkpoint(task, 9), None):
        await bench.heartbeat(key_of(task), MINE, checkpoint=checkpoint)
    await bench.heartbeat(key_of(task), OTHER, checkpoint=own_checkpoint(task, 10))
    await bench.pass_time(16)
    (attempt,) = await bench.store.expired(10)
    assert attempt.checkpoint == own_checkpoint(task, 9)


async def test_a_heartbeat_under_another_claim_is_fenced(bench: Bench) -> None:
    task = await running(bench)
    assert await bench.heartbeat(key_of(task), OTHER) is LeaseVerdict.FENCED


async def test_a_heartbeat_of_an_attempt_that_ended_is_fenced(bench: Bench) -> None:
    task = await running(bench)
    await bench.after(task, completed(task))
    assert await bench.heartbeat(key_of(task), MINE) is LeaseVerdict.FENCED


async def test_a_draining_attempt_goes_on(bench: Bench) -> None:
    task = await running(bench)
    await bench.after(task, PauseTask(task_id=task.task_id))
    assert await bench.heartbeat(key_of(task), MINE) is LeaseVerdict.GRANTED


async def test_a_heartbeat_of_an_attempt_that_must_write_a_checkpoint_returns_pause(bench: Bench) -> None:
    task = await running(bench)
    await bench.after(task, PauseTask(task_id=task.task_id, mode=PauseMode.CHECKPOINT))
    assert await bench.heartbeat(key_of(task), MINE) is LeaseVerdict.PAUSE


async def test_a_task_that_was_resumed_after_a_checkpoint_pause_drains_the_next_time(bench: Bench) -> None:
    task = await running(bench)
    checkpoint = PauseTask(task_id=task.task_id, mode=PauseMode.CHECKPOINT)
    await bench.after(task, checkpoint, ResumeTask(task_id=task.task_id), PauseTask(task_id=task.task_id))
    assert await bench.heartbeat(key_of(task), MINE) is LeaseVerdict.GRANTED


async def test_a_pause_now_fences_the_running_attempt(bench: Bench) -> None:
    task = await running(bench)
    await bench.after(task, PauseTask(task_id=task.task_id, mode=PauseMode.NOW))
    assert await bench.heartbeat(key_of(task), MINE) is LeaseVerdict.FENCED


async def test_a_heartbeat_that_arrives_before_its_claim_is_granted(bench: Bench) -> None:
    task = await bench.started()
    assert await bench.heartbeat(key_of(task), MINE) is LeaseVerdict.GRANTED
    assert await bench.claim(key_of(task), OTHER) is LeaseVerdict.GRANTED


async def test_a_claim_and_its_heartbeat_may_be_sent_in_one_request(bench: Bench) -> None:
    key = key_of(await bench.started())
    answers = await bench.lease(
        Claim(key=key, claim_id=MINE),
        Heartbeat(key=key, claim_id=MINE, fraction=0.25),
        Heartbeat(key=key, claim_id=OTHER),
    )
    assert [answer.verdict for answer in answers] == [LeaseVerdict.GRANTED, LeaseVerdict.GRANTED, LeaseVerdict.FENCED]


async def test_answers_come_in_the_order_of_the_request(bench: Bench) -> None:
    mine, others, free = await running(bench), await running(bench), await bench.started()
    answers = await bench.lease(
        Claim(key=key_of(free), claim_id=OTHER),
        Claim(key=key_of(others), claim_id=OTHER),
        Heartbeat(key=key_of(mine), claim_id=MINE),
    )
    assert [answer.verdict for answer in answers] == [LeaseVerdict.GRANTED, LeaseVerdict.HELD, LeaseVerdict.GRANTED]
    assert [answer.claim_id for answer in answers] == [OTHER, OTHER, MINE]


async def test_a_lease_without_heartbeats_expires(bench: Bench) -> None:
    task = await running(bench)
    assert await bench.store.expired(10) == []
    await bench.pass_time(16)
    assert [attempt.key for attempt in await bench.store.expired(10)] == [key_of(task)]
    assert await bench.store.expired(0) == []


async def test_the_loss_of_a_lease_is_applied_with_the_ids_that_the_store_gave(bench: Bench) -> None:
    task = await running(bench)
    await bench.pass_time(16)
    (attempt,) = await bench.store.expired(10)
    assert attempt.claim_id is not None
    after = await bench.after(task, LeaseLost(key=attempt.key, claim_id=attempt.claim_id))
    assert (after.attempt, await bench.store.expired(10)) == (2, [])


async def test_an_expired_lease_may_be_renewed_before_its_attempt_is_lost(bench: Bench) -> None:
    task = await running(bench)
    await bench.pass_time(16)
    assert await bench.heartbeat(key_of(task), MINE) is LeaseVerdict.GRANTED
    assert await bench.store.expired(10) == []


async def test_silence_is_the_age_of_the_last_heartbeat(bench: Bench) -> None:
    task = await running(bench)
    await bench.pass_time(10)
    assert (await bench.store.longest_silence())[Phase.OPTIMIZE] == pytest.approx(10, abs=2)
    await bench.heartbeat(key_of(task), MINE)
    assert (await bench.store.longest_silence())[Phase.OPTIMIZE] == pytest.approx(0, abs=2)


async def test_no_phase_is_silent_if_nothing_runs(bench: Bench) -> None:
    await bench.started()
    assert await bench.store.longest_silence() == {}


async def test_an_attempt_that_ended_does_not_expire(bench: Bench) -> None:
    task = await running(bench)
    await bench.after(task, completed(task))
    await bench.pass_time(60)
    assert await bench.store.expired(10) == []


async def test_the_sender_of_a_lease_request_is_registered_as_a_worker(bench: Bench) -> None:
    await bench.lease()
    busy = WORKER.model_copy(update={"busy": 1})
    another = WorkerState(worker_id="another", phase=Phase.TRAIN, host="b-host", slots=2, busy=0)
    await bench.store.lease(busy, [], [])
    await bench.store.lease(another, [], [])
    assert await bench.store.workers(60) == [another, busy]
    await bench.pass_time(61)
    assert await bench.store.workers(60) == []


async def test_only_one_of_two_stores_leads_until_it_closes(bench: Bench) -> None:
    second = await bench.another()
    assert await bench.store.try_lead("reaper")
    assert not await second.try_lead("reaper")
    assert await second.try_lead("sweep")
    assert await bench.store.try_lead("reaper")
    await bench.store.close()
    assert await second.try_lead("reaper")


async def test_a_checkpoint_that_is_not_the_attempts_own_is_not_stored(bench: Bench) -> None:
    task = await running(bench)
    other = key_of(task).model_copy(update={"attempt": 2})
    for checkpoint in ("models/../../etc", checkpoint_prefix(other, 5), own_checkpoint(task) + "/.."):
        assert await bench.heartbeat(key_of(task), MINE, checkpoint=checkpoint) is LeaseVerdict.GRANTED
    (attempt,) = await bench.store.attempts(task.task_id)
    assert attempt.checkpoint is None


async def test_a_worker_is_listed_with_the_state_of_its_machine(bench: Bench) -> None:
    gpu = GpuState(name="a GPU", utilization=0.5, memory_used=1, memory_total=2, temperature=61.5)
    plain = GpuState(name="another", memory_used=0, memory_total=2**62)
    broken = WORKER.model_copy(update={"free_disk": 2**62, "gpus": (gpu, plain), "unfit": "has 5 MiB free in /work"})
    await bench.store.lease(broken, (), ())
    assert await bench.store.workers(within=60) == [broken]
    await bench.store.lease(WORKER, (), ())
    assert await bench.store.workers(within=60) == [WORKER]


async def test_a_worker_is_forgotten_if_it_has_sent_nothing_for_long(bench: Bench) -> None:
    worker = WorkerState(worker_id="gone", phase=Phase.TRAIN, host="h", slots=1, busy=0)
    await bench.store.lease(worker, (), ())
    await bench.pass_time(100.0)
    await bench.store.lease(worker.model_copy(update={"worker_id": "here"}), (), ())
    await bench.store.delete_workers(50.0)
    assert [worker.worker_id for worker in await bench.store.workers(1000.0)] == ["here"]
