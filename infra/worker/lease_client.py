"""Sends the pending claims and heartbeats of one worker to control, in as few requests as possible."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import structlog

from contracts.bounds import MAX_CLAIMS
from contracts.errors import TreadleError, UndecodableMessage
from contracts.leases import (
    Claim,
    Heartbeat,
    LeaseAnswer,
    LeaseRefused,
    LeaseReply,
    LeaseRequest,
    LeaseVerdict,
    WorkerState,
)
from contracts.topology import CLAIMS_QUEUE
from contracts.wire import decode, encode
from infra.asyncio_tasks import cancel_and_wait, log_failure
from infra.bus.port import Bus, OutgoingMessage, PublishFailed, RequestTimedOut

MIN_REQUEST_TIMEOUT, MAX_REQUEST_TIMEOUT = 0.2, 5.0
MIN_BACKOFF, MAX_BACKOFF = 0.1, 2.0
"""Seconds, as the two before."""
MIN_HEARTBEAT_INTERVAL = 0.1
"""Seconds between two requests with heartbeats, however many signals ask for one."""

REPLIES: tuple[type[Any], ...] = (LeaseReply, LeaseRefused)

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Lease:
    """The lease on an attempt: `heartbeat` creates each heartbeat, `on_verdict` receives the verdict on each."""

    claim_id: UUID
    heartbeat: Callable[[], Heartbeat]
    on_verdict: Callable[[LeaseVerdict], None]


class LeaseClient:
    """Sends requests to control, and repeats the pending claims while control does not answer."""

    def __init__(self, bus: Bus, worker_state: Callable[[], WorkerState], ttl: float) -> None:
        self._bus = bus
        self._worker_state = worker_state
        self._ttl = ttl
        self._claims: dict[UUID, tuple[Claim, asyncio.Future[LeaseVerdict]]] = {}
        self._leases: dict[UUID, Lease] = {}
        self._request_needed = asyncio.Event()
        self._next_heartbeat_at = self._last_heartbeat_at = 0.0
        self._control_away = False
        self._answered_at = float("-inf")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start sending requests; the first one is empty and registers this worker at control."""
        self._task = asyncio.create_task(self._send_requests(), name="leases")
        log_failure(self._task)

    async def stop(self) -> None:
        """Stop sending requests."""
        if self._task is not None:
            await cancel_and_wait(self._task)

    async def claim(self, claim: Claim) -> LeaseVerdict:
        """Request a claim and return its verdict, with retries under the same claim id until control answers."""
        verdict: asyncio.Future[LeaseVerdict] = asyncio.get_running_loop().create_future()
        self._claims[claim.claim_id] = (claim, verdict)
        self._request_needed.set()
        try:
            return await verdict
        except asyncio.CancelledError:
            if verdict.cancelled():
                raise
            return verdict.result()  # it arrived during the cancellation; a granted claim must not be lost
        finally:
            self._claims.pop(claim.claim_id, None)

    def keep_alive(self, lease: Lease) -> None:
        """Start sending heartbeats for a lease."""
        self._leases[lease.claim_id] = lease

    def release(self, claim_id: UUID) -> None:
        """Stop sending heartbeats for a claim."""
        self._leases.pop(claim_id, None)

    def heartbeat_soon(self) -> None:
        """Send the heartbeats now, or MIN_HEARTBEAT_INTERVAL after the last ones."""
        now = time.monotonic()
        due = max(now, self._last_heartbeat_at + MIN_HEARTBEAT_INTERVAL)
        if due < self._next_heartbeat_at:
            self._next_heartbeat_at = due
            asyncio.get_running_loop().call_later(due - now, self._request_needed.set)

    def send_now(self) -> None:
        """Send a request at once, because the state of the worker has changed."""
        self._request_needed.set()

    @property
    def answered(self) -> bool:
        """Whether control answered the last request."""
        return not self._control_away

    @property
    def answered_lately(self) -> bool:
        """Whether control answered the last request, and did so within the length of a lease."""
        return self.answered and time.monotonic() - self._answered_at <= self._ttl

    @property
    def _heartbeat_interval(self) -> float:
        return self._ttl / 3

    async def _send_requests(self) -> None:
        backoff = MIN_BACKOFF
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, self._next_heartbeat_at - time.monotonic())):
                    await self._request_needed.wait()
            if await self._send_pending():
                backoff = MIN_BACKOFF
            else:
                await asyncio.sleep(backoff)
                backoff = min(backoff * 2, MAX_BACKOFF, self._heartbeat_interval)
                self._request_needed.set()

    async def _send_pending(self) -> bool:
        """Send all that is pending and apply the replies. Returns False if a reply or the answer to a claim is missing.

        The requests are sent together, so that the last heartbeat is not later than the first.
        """
        self._request_needed.clear()
        sent = time.monotonic()
        heartbeats_due = sent >= self._next_heartbeat_at
        if heartbeats_due:
            self._last_heartbeat_at, self._next_heartbeat_at = sent, sent + self._heartbeat_interval
        requests = self._requests(heartbeats=heartbeats_due)
        replies = await asyncio.gather(*(self._reply_to(request) for request in requests))
        errors = [reply for reply in replies if isinstance(reply, TreadleError)]
        self._log_availability(away=bool(errors), error=str(errors[0]) if errors else "")
        if not errors:
            self._answered_at = time.monotonic()
        if heartbeats_due and errors:
            self._next_heartbeat_at = sent
        answers = [answer for reply in replies if isinstance(reply, LeaseReply) for answer in reply.answers]
        for answer in answers:
            self._on_answer(answer)
        claimed = {claim.claim_id for request in requests for claim in request.claims}
        return not errors and claimed <= {answer.claim_id for answer in answers}

    async def _reply_to(self, request: LeaseRequest) -> LeaseReply | TreadleError:
        """Send one request; the error takes the place of a missing reply, because others are sent with it."""
        timeout = max(MIN_REQUEST_TIMEOUT, min(MAX_REQUEST_TIMEOUT, self._heartbeat_interval))
        try:
            body = await self._bus.request(_outgoing(request, timeout), timeout=timeout)
            reply: LeaseReply | LeaseRefused = decode(body, *REPLIES)
        except (RequestTimedOut, PublishFailed, UndecodableMessage) as error:
            return error
        if isinstance(reply, LeaseRefused):
            return UndecodableMessage(f"control cannot decode the request of this worker: {reply.reason}")
        return reply

    def _requests(self, *, heartbeats: bool) -> list[LeaseRequest]:
        """At least one request, as it also reports the worker's state; each has at most MAX_CLAIMS of both kinds."""
        claims = [claim for claim, _ in self._claims.values()]
        beats = [lease.heartbeat() for lease in self._leases.values()] if heartbeats else []
        worker = self._worker_state()
        return [
            LeaseRequest(
                request_id=uuid4(),
                worker=worker,
                claims=tuple(claims[first : first + MAX_CLAIMS]),
                heartbeats=tuple(beats[first : first + MAX_CLAIMS]),
            )
            for first in range(0, max(1, len(claims), len(beats)), MAX_CLAIMS)
        ]

    def _on_answer(self, answer: LeaseAnswer) -> None:
        self._ttl = answer.ttl
        if answer.claim_id in self._claims:
            _, verdict = self._claims.pop(answer.claim_id)
            if not verdict.done():
                verdict.set_result(answer.verdict)
        elif answer.claim_id in self._leases:
            self._leases[answer.claim_id].on_verdict(answer.verdict)

    def _log_availability(self, *, away: bool, error: str = "") -> None:
        """Log once when control stops answering, and once when it answers again."""
        if away and not self._control_away:
            log.warning("control_does_not_answer", error=error)
        elif self._control_away and not away:
            log.info("control_answers_again")
        self._control_away = away


def _outgoing(request: LeaseRequest, timeout: float) -> OutgoingMessage:
    return OutgoingMessage(
        CLAIMS_QUEUE.exchange,
        CLAIMS_QUEUE.binding,
        encode(request),
        str(request.message_id),
        expires=timeout,
        persistent=False,
    )
