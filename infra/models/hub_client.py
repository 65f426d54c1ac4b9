"""The HTTP client with which `huggingface_hub` talks to the hub: bounded in time, patient, and stopped with its job.

A request is the unit that is repeated, so that the library resumes a download that was cut. The library's own answers
to trouble do not apply: some of them wait as long as the hub asks for, or fall back to files that may be incomplete.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx2
import structlog
from huggingface_hub import constants, get_session, set_client_factory
from tenacity import RetryCallState, Retrying, retry_if_exception_type, sleep_using_event, stop_before_delay
from tenacity.wait import wait_exponential, wait_random

from infra.child.program import Job, Stopped

PATIENCE = 45.0
"""Seconds for which a request is repeated; the attempt then ends, and control issues the next one later."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 10.0
"""Seconds between two tries of a request, unless the hub asks for a longer pause."""
MAX_CUTS = 5
"""Times that a download may be cut without being further than before."""
HUB_HOSTS = frozenset({"huggingface.co", "hf.co"})
BUSY = frozenset({408, 425, 429})
"""Status codes below 500 with which a server asks to try again later."""

log = structlog.get_logger(__name__)


class HubAway(Exception):
    """The hub did not answer, or asks to try again later. No library handles it, so that it ends the download."""

    def __init__(self, reason: str, pause: float = 0.0) -> None:
        self.pause = pause
        """Seconds that the hub asks to wait."""
        super().__init__(reason)


@dataclass(slots=True)
class HubCalls:
    """What the requests of one download share."""

    job: Job
    patience: float
    """Seconds for which each request is repeated."""
    waits: int = 0
    cuts: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By URL: how far its download was at most, in bytes, and how often it began again without being further."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def wait(self, state: RetryCallState) -> None:
        """Report that a request is repeated after a pause, so that no one takes the job for stalled."""
        error = state.outcome.exception() if state.outcome else None
        log.warning("hub_away", reason=str(error), pause=round(state.upcoming_sleep, 1))
        self._report("waiting for the hub")

    def go_on(self) -> None:
        """Report that the hub answered again."""
        self._report("downloading from the hub")

    def require_progress(self, request: httpx2.Request) -> None:
        """Raise HubAway if the download of a file was cut too often in the same place."""
        start = _range_start(request)
        with self.lock:
            furthest, cuts = self.cuts.get(str(request.url), (-1, 0))
            cuts = 0 if start > furthest else cuts + 1
            self.cuts[str(request.url)] = max(start, furthest), cuts
        if cuts > MAX_CUTS:
            raise HubAway(f"it cut a download {cuts} times at {furthest:,} bytes")

    def _report(self, stage: str) -> None:
        with self.lock:
            self.waits += 1
            self.job.report(stage, self.waits)


def use_patient_client(job: Job, patience: float = PATIENCE) -> None:
    """Let `huggingface_hub` and transformers use a client that stops with `job`."""
    calls, hooks = HubCalls(job, patience), get_session().event_hooks
    set_client_factory(lambda: HubClient(calls, event_hooks=hooks, follow_redirects=True))


class HubClient(httpx2.Client):
    """Repeats requests while the hub is away; raises HubAway in the end, and Stopped if the job is to stop."""

    def __init__(self, calls: HubCalls, **options: Any) -> None:  # noqa: ANN401  # those of httpx2.Client
        super().__init__(**options)
        self._calls = calls

    def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:  # noqa: ANN401  # those of httpx2
        """The response, which may be an error of the request, but none of the hub."""
        _limit_time(request)
        if request.method == "GET" and options.get("stream"):
            self._calls.require_progress(request)
        retrying = Retrying(
            retry=retry_if_exception_type(HubAway),
            wait=_pause,
            stop=stop_before_delay(self._calls.patience),
            sleep=sleep_using_event(self._calls.job.stop),
            before_sleep=self._calls.wait,
            reraise=True,
        )
        response: httpx2.Response = retrying(self._send, request, options)
        if retrying.statistics["attempt_number"] > 1:
            self._calls.go_on()
        if options.get("stream"):
            response.stream = Body(response.stream, self._calls.job.stop)
        return response

    def _send(self, request: httpx2.Request, options: dict[str, Any]) -> httpx2.Response:
        if self._calls.job.stop.is_set():
            raise Stopped
        try:
            response = super().send(request, **options)
        except (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError):
            raise
        except httpx2.TransportError as error:
            raise HubAway(reason_of(error)) from error
        if reason := _trouble(response):
            response.close()
            raise HubAway(reason, _seconds(response.headers.get("retry-after", "")))
        return response


class Body(httpx2.SyncByteStream):
    """The body of a response, which ends if the job is to stop."""

    def __init__(self, body: Any, stop: threading.Event) -> None:  # noqa: ANN401  # typed by httpx2 as async too
        self._body = body
        self._stop = stop

    def __iter__(self) -> Iterator[bytes]:
        """Yield the parts of the body; raises Stopped, and RemoteProtocolError if the connection ends."""
        try:
            for chunk in self._body:
                if self._stop.is_set():
                    raise Stopped
                yield chunk
        except httpx2.NetworkError as error:  # the library resumes after the error below, not after this one
            raise httpx2.RemoteProtocolError(str(error)) from error

    def close(self) -> None:
        """Close the response."""
        self._body.close()


def reason_of(error: httpx2.TransportError) -> str:
    """The error as a part of a sentence."""
    if isinstance(error, httpx2.TimeoutException):
        return "no answer in time"
    return " ".join(str(error).split()) or type(error).__name__


def _limit_time(request: httpx2.Request) -> None:
    """Set the limits that the library left out, in seconds: of connecting, and between two parts of an answer."""
    limits = {"connect": constants.HF_HUB_ETAG_TIMEOUT, "read": constants.HF_HUB_DOWNLOAD_TIMEOUT}
    given = request.extensions.get("timeout", {})
    bounded = {name: given.get(name) or limits.get(name, constants.HF_HUB_DOWNLOAD_TIMEOUT) for name in _PARTS}
    request.extensions = {**request.extensions, "timeout": bounded}


_PARTS = ("connect", "read", "write", "pool")


def _trouble(response: httpx2.Response) -> str | None:
    """Why the request should be repeated; None if the answer counts."""
    answer = f"{response.status_code} {response.reason_phrase}".strip()
    if response.status_code >= 500 or response.status_code in BUSY:
        return f"it answers {answer}"
    host = response.url.host
    if response.status_code >= 400 and host not in {urlsplit(constants.ENDPOINT).hostname, *HUB_HOSTS}:
        return f"{host}, where its files are, answers {answer}"  # a link of limited time that has expired
    return None


def _pause(state: RetryCallState) -> float:
    """A growing pause with a random part, or what the hub asks for."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.pause if isinstance(error, HubAway) else 0.0
    growing = wait_exponential(FIRST_PAUSE, LONGEST_PAUSE) + wait_random(0.0, FIRST_PAUSE)
    return max(growing(state), asked)


def _seconds(text: str) -> float:
    return float(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0.0


def _range_start(request: httpx2.Request) -> int:
    start = request.headers.get("range", "").removeprefix("bytes=").partition("-")[0]
    return int(start) if start.isascii() and start.isdigit() and len(start) < 20 else 0
