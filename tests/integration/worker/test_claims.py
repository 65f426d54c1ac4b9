"""How a worker takes commands: slots, claims, heartbeats, and messages that cannot be decoded."""

import asyncio
import json
from uuid import uuid4

import pytest

from contracts.bounds import MAX_CLAIMS
from contracts.events import PhaseFailed
from contracts.leases import Claim, Heartbeat, LeaseAnswer, LeaseRefused, LeaseVerdict, WorkerState
from contracts.tasks import FailureKind, Phase
from contracts.topology import CLAIMS_QUEUE, PHASE_QUEUES
from contracts.wire import encode
from infra.bus import handling
from infra.bus.dead_letter import REASON
from infra.bus.inprocess import InProcessBus
from infra.bus.port import IncomingMessage
from infra.objects import ObjectStore
from infra.settings import Settings
from infra.worker import claim_handler
from infra.worker.attempt import Attempt
from infra.worker.host import WorkerHost
from infra.worker.lease_client import Lease, LeaseClient
from tests.conformance.buses import reply
from tests.eventually import eventually
from tests.fake_control import TRACE, FakeControl, Script
from tests.integration.worker.conftest import Running


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize(
    "verdict",
    [LeaseVerdict.HELD, LeaseVerdict.FENCED, LeaseVerdict.CANCELLED, LeaseVerdict.PAUSE, LeaseVerdict.UNKNOWN],
)
async def test_a_claim_that_is_not_granted_drops_its_delivery(
    control: FakeControl, script: Script, verdict: LeaseVerdict
) -> None:
    control.claim_verdict = verdict
    await control.order(script.command("write"))
    await control.until(lambda: control.claims)
    control.claim_verdict = LeaseVerdict.GRANTED
    await control.order(script.command("write"))
    await control.until(lambda: control.events)
    assert control.events[0].key == control.claims[-1].key
    assert await control.waiting() == 0


@pytest.mark.usefixtures("host")
async def test_a_claim_whose_reply_was_lost_is_sent_again_with_the_same_id(
    control: FakeControl, script: Script
) -> None:
    await control.until(lambda: control.requests)
    control.unanswered = 2
    await control.order(script.command("write"))
    await control.until(lambda: control.events)
    assert len(control.claims) >= 2
    assert len({claim.claim_id for claim in control.claims}) == 1


@pytest.mark.usefixtures("host")
async def test_heartbeats_go_on_while_the_program_runs(control: FakeControl, script: Script) -> None:
    await control.order(script.command("wait_for_stop"))
    await control.until(lambda: len(control.beats) >= 3)
    assert {beat.claim_id for beat in control.beats} == {control.claims[0].claim_id}


async def test_an_idle_worker_sends_lease_requests(control: FakeControl, host: WorkerHost) -> None:
    await control.until(lambda: len(control.requests) >= 2)
    assert control.requests[0].worker.worker_id == host.worker_id
    assert host.ready


async def test_no_more_programs_run_than_there_are_slots(
    control: FakeControl, script: Script, running: Running, worker_settings: Settings
) -> None:
    commands = [script.command("wait_for_stop") for _ in range(4)]
    for command in commands:
        await control.order(command)
    async with running(worker_settings.model_copy(update={"worker_slots": 2})):
        await control.until(lambda: len({step.key for step in control.progress if step.stage == "waiting"}) == 2)
        assert (len(control.claims), await control.waiting()) == (2, 2)
        first = next(command for command in commands if command.key == control.claims[0].key)
        await control.signal(first, LeaseVerdict.CANCELLED)
        await control.until(lambda: len(control.claims) == 3)


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"not json", "not JSON"),
        (b'{"kind": "train_model", "version": 9}', "version 9 is not known"),
        (b'{"kind": "lease_lost", "version": 1}', "expected train_model"),
        (b'{"kind": "train_model", "version": 1, "seed": "x"}', "seed"),
    ],
)
async def test_a_message_that_cannot_be_decoded_is_dead_lettered_with_its_reason_and_the_next_is_run(
    control: FakeControl, script: Script, body: bytes, reason: str
) -> None:
    await control.publish(body)
    await control.order(script.command("write"))
    await control.until(lambda: control.dead and control.events)
    letter = control.dead[0]
    assert (letter.body, letter.routing_key) == (body, "train")
    assert reason in letter.headers[REASON]


def unreadable(script: Script) -> bytes:
    """A command whose attempt can be decoded, but whose seed cannot."""
    return json.dumps({**json.loads(encode(script.command("write"))), "seed": "x"}).encode()


@pytest.mark.usefixtures("host")
async def test_the_attempt_of_an_unreadable_command_counts_as_failed(control: FakeControl, script: Script) -> None:
    await control.publish(unreadable(script))
    await control.order(script.command("write"))
    await control.until(lambda: control.dead and len(control.events) == 2)
    event = control.events[0]
    assert isinstance(event, PhaseFailed)
    assert (event.failure, event.field) == (FailureKind.DEAD_LETTERED, "seed")
    assert (event.key, event.claim_id) == (control.claims[0].key, control.claims[0].claim_id)
    assert control.headers[0]["traceparent"] == TRACE["traceparent"]


@pytest.mark.usefixtures("host")
async def test_an_unreadable_command_of_an_attempt_that_is_not_granted_is_only_dead_lettered(
    control: FakeControl, script: Script
) -> None:
    control.claim_verdict = LeaseVerdict.FENCED
    await control.publish(unreadable(script))
    await control.until(lambda: control.dead)
    control.claim_verdict = LeaseVerdict.GRANTED
    await control.order(script.command("write"))
    await control.until(lambda: control.events)
    assert [event.kind for event in control.events] == ["model_trained"]


@pytest.mark.usefixtures("host")
async def test_no_attempt_of_another_phase_is_claimed(control: FakeControl, script: Script) -> None:
    await control.publish(unreadable(script).replace(b'"phase": "train"', b'"phase": "evaluate"'))
    await control.until(lambda: control.dead)
    assert control.claims == []


async def test_a_worker_that_stops_while_control_is_away_requeues_its_delivery(
    control: FakeControl, script: Script, running: Running, worker_settings: Settings
) -> None:
    async with running(worker_settings):
        control.unanswered = 1_000_000
        await control.order(script.command("write"))
        await control.until(lambda: len(control.claims) > 1)
        assert await control.waiting() == 0
    assert await control.waiting() == 1


@pytest.mark.usefixtures("host")
async def test_a_claim_continues_after_the_bus_has_lost_its_delivery(control: FakeControl, script: Script) -> None:
    control.unanswered = 1_000_000
    await control.order(script.command("write"))
    await control.until(lambda: control.claims)
    assert isinstance(control.bus, InProcessBus)
    queue = PHASE_QUEUES[Phase.TRAIN].name
    (consumer,) = [consumer for consumer in control.bus._consumers if consumer.queue == queue]
    await consumer.lose()
    control.unanswered = 0
    await control.until(lambda: control.events)
    assert control.events[0].claim_id == control.claims[0].claim_id


async def test_a_cancel_between_the_claim_and_its_answer_prevents_the_start(
    control: FakeControl, script: Script, running: Running, worker_settings: Settings
) -> None:
    cancelled = script.command("write")
    async with running(worker_settings):
        control.unanswered = 3
        await control.order(cancelled)
        await control.until(lambda: control.claims)
        await control.signal(cancelled, LeaseVerdict.CANCELLED)
        await control.order(script.command("write"))
        await control.until(lambda: control.events)
    assert cancelled.key not in {event.key for event in control.events}


@pytest.mark.usefixtures("host")
async def test_a_cancel_between_the_claim_and_the_start_prevents_the_program_from_running(
    control: FakeControl, script: Script, objects: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(_: str) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    cancelled = script.command("wait_for_stop")
    with monkeypatch.context() as patch:
        patch.setattr(objects, "get", never)
        await control.order(cancelled)
        await control.until(lambda: control.beats)
        await control.signal(cancelled, LeaseVerdict.CANCELLED)
    await control.order(script.command("write"))
    await control.until(lambda: control.events)
    assert [event.kind for event in control.events] == ["model_trained"]
    assert cancelled.key not in {step.key for step in control.progress}


async def test_a_received_verdict_is_not_lost_if_the_claim_is_cancelled(control: FakeControl, script: Script) -> None:
    state = WorkerState(worker_id="w", phase=Phase.TRAIN, host="h", slots=1, busy=0)
    leases = LeaseClient(control.bus, lambda: state, control.ttl)
    claim = Claim(key=script.command().key, claim_id=uuid4())
    claiming = asyncio.create_task(leases.claim(claim))
    await asyncio.sleep(0)
    leases._on_answer(LeaseAnswer(claim_id=claim.claim_id, verdict=LeaseVerdict.GRANTED, ttl=1))
    claiming.cancel()
    assert await claiming is LeaseVerdict.GRANTED


async def test_claims_that_wait_together_are_sent_in_one_request(control: FakeControl, script: Script) -> None:
    state = WorkerState(worker_id="w", phase=Phase.TRAIN, host="h", slots=3, busy=0)
    leases = LeaseClient(control.bus, lambda: state, control.ttl)
    leases.start()
    claims = [Claim(key=script.command().key, claim_id=uuid4()) for _ in range(3)]
    verdicts = await asyncio.gather(*(leases.claim(claim) for claim in claims))
    await leases.stop()
    assert verdicts == [LeaseVerdict.GRANTED] * 3
    assert max(len(request.claims) for request in control.requests) == 3


async def test_more_claims_and_heartbeats_than_one_request_may_have_are_sent_together_in_several(
    control: FakeControl, script: Script
) -> None:
    state = WorkerState(worker_id="w", phase=Phase.TRAIN, host="h", slots=1024, busy=0)
    leases = LeaseClient(control.bus, lambda: state, control.ttl)
    beats = [Heartbeat(key=script.command().key, claim_id=uuid4()) for _ in range(2 * MAX_CLAIMS + 1)]
    for beat in beats:
        leases.keep_alive(Lease(beat.claim_id, lambda beat=beat: beat, lambda _: None))  # type: ignore[misc]
    claims = [Claim(key=script.command().key, claim_id=uuid4()) for _ in range(MAX_CLAIMS + 1)]
    claiming = [asyncio.create_task(leases.claim(claim)) for claim in claims]
    await asyncio.sleep(0)
    leases.start()
    assert await asyncio.gather(*claiming) == [LeaseVerdict.GRANTED] * len(claims)
    await leases.stop()
    first = control.requests[:3]
    assert [(len(request.claims), len(request.heartbeats)) for request in first] == [
        (MAX_CLAIMS, MAX_CLAIMS),
        (1, MAX_CLAIMS),
        (0, 1),
    ]


async def test_a_refused_request_counts_as_unanswered_and_its_reason_is_logged(
    control: FakeControl, capsys: pytest.CaptureFixture[str]
) -> None:
    async def refuse(message: IncomingMessage) -> None:
        await message.ack()
        refusal = LeaseRefused(request_id=None, reason="worker.slots: too small")
        await control.bus.publish(reply(message, encode(refusal)))

    bus = InProcessBus()
    await bus.start()
    await bus.consume(CLAIMS_QUEUE.name, refuse, prefetch=1)
    control.bus = bus
    state = WorkerState(worker_id="w", phase=Phase.TRAIN, host="h", slots=1, busy=0)
    leases = LeaseClient(bus, lambda: state, control.ttl)
    leases.start()

    async def unanswered() -> bool:
        return not leases.answered

    await eventually(unanswered, "the refusal")
    await leases.stop()
    await bus.close()
    assert "worker.slots: too small" in capsys.readouterr().out


async def test_a_command_that_raises_an_unforeseen_error_fails_its_attempt(
    control: FakeControl, script: Script, host: WorkerHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handling, "RETRY_PAUSES", (0.0, 0.0, 0.0))
    tries = 0

    def broken(*_: object) -> Attempt:
        nonlocal tries
        tries += 1
        raise ZeroDivisionError("unforeseen")

    monkeypatch.setattr(claim_handler, "Attempt", broken)
    await control.order(script.command())
    await control.until(lambda: control.events and control.dead)
    (event,) = control.events
    assert isinstance(event, PhaseFailed)
    assert (event.failure, tries) == (FailureKind.DEAD_LETTERED, 4)
    assert "cannot handle the command: ZeroDivisionError: unforeseen" in event.message
    assert control.dead[0].headers[REASON] == "ZeroDivisionError: unforeseen"
