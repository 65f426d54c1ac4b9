"""Hostile messages, drawn by Hypothesis: every contract with fields replaced by hostile values, raw bytes, properties.

Each message is made from the golden body of its kind in `tests/wire`, which contains every field.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Any, get_args

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from contracts.commands import COMMAND_OF
from contracts.events import NextIteration, WorkerEvent
from contracts.leases import AttemptSignal, ClaimsProbe, LeaseRequest
from contracts.message import Message
from contracts.progress import PhaseProgress
from contracts.submissions import CreateTask, TaskRequest
from contracts.topology import CLAIMS, COMMANDS, CONTROL_QUEUE, DEAD, EVENTS, PHASE_QUEUES, PROGRESS, SIGNALS, TASKS
from contracts.wire import MESSAGES, kind_of, version_of

GOLDEN = Path(__file__).parents[1] / "wire"
CHUNK = 500
"""Messages of one run of Hypothesis, which keeps all of them in memory."""
TOGETHER = 3
"""Messages that are drawn together: Hypothesis varies a part of its draws, so single messages are often alike."""


@dataclass(frozen=True)
class Target:
    """Where hostile messages are sent to, and the kinds of message that its consumer decodes."""

    exchange: str
    routing_key: str
    kinds: tuple[type[Message], ...]

    @property
    def name(self) -> str:
        """For reports."""
        return f"{self.exchange}/{self.routing_key}"


TARGETS = (
    *(Target(COMMANDS.name, phase.value, (COMMAND_OF[phase],)) for phase in PHASE_QUEUES),
    Target(EVENTS.name, CONTROL_QUEUE.name, (*get_args(WorkerEvent), NextIteration)),
    Target(TASKS.name, "create_task", (CreateTask, *get_args(TaskRequest))),
    Target(CLAIMS.name, "claim", (LeaseRequest, ClaimsProbe)),
    Target(SIGNALS.name, "attempt_signal", (AttemptSignal,)),
    Target(PROGRESS.name, "train.task", (PhaseProgress,)),
    Target(DEAD.name, "train", MESSAGES),
)
"""Every exchange, and so every queue. Control accepts the name of its queue as the routing key of every event."""


@dataclass(frozen=True)
class Hostile:
    """A message to publish; `properties` are those of pika."""

    body: bytes
    properties: dict[str, Any] = field(default_factory=dict)


HOSTILE_VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    2**31,
    2**63,
    10**30,
    1e308,
    -1e-320,
    float("nan"),
    float("inf"),
    "",
    " ",
    "\0",
    "\ud83d",
    "\u202etxt.exe",
    "\x1b]0;title\x07\x1b[2J",
    "'; DROP TABLE tasks; --",
    "../../../../etc/passwd",
    "datasets/1/../../2/x",
    "00000000-0000-0000-0000-000000000000",
    "urn:uuid:11111111-1111-4111-8111-111111111111",
    "x" * 200,
    "x" * 201,
    "x" * 40_000,
    "\U0001f600" * 3000,
    [],
    {},
    [None] * 101,
    list(range(20_000)),
    {"__proto__": {"a": 1}, "": "", "kind": "lease_request"},
    {f"k{number}": 0.5 for number in range(300)},
)
RAW: tuple[bytes, ...] = (
    b"",
    b"null",
    b"[]",
    b"{",
    b'"text"',
    b"\xff\xfe\x00",
    b"\xef\xbb\xbf{}",
    '{"kind": "lease_request"}'.encode("utf-16"),
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b'{"kind":' * 2000 + b"1" + b"}" * 2000,
    b"1" * 5000,
    b'{"kind": "lease_request", "version": 1' + b"0" * 5000 + b"}",
    b'{"kind": "create_task", "kind": "cancel_task", "version": 1}',
    b'{"kind": ["lease_request"], "version": {"a": 1}}',
    b"\x00" * 1000,
    b"\x1f\x8b\x08\x00gzip",
    b"x" * 1_000_000,
)


def hostile_messages(target: Target, number: int, seed_: int = 1) -> list[Hostile]:
    """So many messages for a target; the same seed gives the same ones."""
    drawn: list[Hostile] = []
    for first in range(0, number, CHUNK):
        chunk = _examples(_messages(target), min(CHUNK, number - first), seed_ + first)
        drawn += islice(cycle(chunk), min(CHUNK, number - first))
    return drawn


def _examples(strategy: st.SearchStrategy[Hostile], number: int, seed_: int) -> list[Hostile]:
    """At most `number` different examples of a strategy."""
    found: dict[str, Hostile] = {}

    @seed(seed_)
    @settings(
        max_examples=max(1, 2 * number // TOGETHER),
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=[*HealthCheck],
    )
    @given(st.lists(strategy, min_size=TOGETHER, max_size=TOGETHER))
    def collect(messages: list[Hostile]) -> None:
        found.update({repr(message): message for message in messages})

    collect()
    return list(found.values())[:number]


def _messages(target: Target) -> st.SearchStrategy[Hostile]:
    own, others = _mutated(target.kinds), _mutated(MESSAGES)
    raw = st.one_of(_one_of(RAW), st.binary(max_size=200))
    return st.builds(Hostile, st.one_of(own, own, own, others, raw), _properties())


def _mutated(kinds: Sequence[type[Message]]) -> st.SearchStrategy[bytes]:
    """Golden bodies of these kinds with one to three nodes replaced, removed or added."""
    golden = [json.loads((GOLDEN / f"{kind_of(kind)}.v{version_of(kind)}.json").read_bytes()) for kind in kinds]

    @st.composite
    def mutated(draw: st.DrawFn) -> bytes:
        body = copy.deepcopy(golden[draw(LARGE) % len(golden)])
        for choice in draw(st.lists(LARGE, min_size=1, max_size=3)):
            _mutate(choice, draw(VALUES), body)
        return json.dumps(body).encode()

    return mutated()


def _mutate(choice: int, value: Any, body: dict[str, Any]) -> None:
    """Replace the value at one place of the body; or, for one choice in eight each, remove it or add a field."""
    places = list(_nodes(body)) or [(body, "kind")]
    container, key = places[choice // 8 % len(places)]
    if choice % 8 == 0 and isinstance(container, dict):
        container.pop(key, None)
    elif choice % 8 == 1 and isinstance(container, dict):
        container[str(choice)] = value
    else:
        container[key] = value


def _nodes(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a JSON value, as its container and its key or index."""
    if isinstance(value, dict | list) and len(value) <= 300:
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _nodes(value[key])


def _values() -> st.SearchStrategy[Any]:
    simple = st.one_of(st.text(max_size=60), st.integers(-(2**70), 2**70), st.floats(), st.uuids().map(str))
    return st.one_of(_one_of(HOSTILE_VALUES), simple, st.lists(simple, max_size=5))


def _one_of(values: Sequence[Any]) -> st.SearchStrategy[Any]:
    """A copy of one of the values; Hypothesis would print all of `st.sampled_from(values)`."""
    return st.integers(0, len(values) - 1).map(lambda place: copy.deepcopy(values[place]))


LARGE = st.integers(0, 2**20)
VALUES = _values()


def _properties() -> st.SearchStrategy[dict[str, Any]]:
    """Properties that the broker accepts."""
    short = st.one_of(st.text(max_size=40), _one_of(["x" * 255]), st.just(b"\xff\xfe"), st.just("same"))
    reply_to = st.sampled_from(["nobody", "treadle.control", "treadle.claims", "amq.rabbitmq.reply-to.AAAA", ""])
    values = st.one_of(st.text(max_size=20), st.integers(-(2**31), 2**31 - 1), st.none())
    long_text = _one_of(["v" * 129_500])  # all headers must fit into one frame of 128 KiB
    names = st.sampled_from(["traceparent", "x-death", "x-treadle-queue", "x-treadle-reason", "h"])
    return st.fixed_dictionaries(
        {},
        optional={
            "content_type": st.sampled_from(["application/json", "text/plain", "application/octet-stream", "\x00"]),
            "content_encoding": st.sampled_from(["gzip", "utf-16"]),
            "headers": st.one_of(st.dictionaries(names, values), st.fixed_dictionaries({"traceparent": long_text})),
            "delivery_mode": st.sampled_from([1, 2]),
            "priority": st.sampled_from([0, 255]),
            "correlation_id": short,
            "reply_to": reply_to,
            "expiration": st.sampled_from(["0", "1", "60000"]),
            "message_id": short,
            "timestamp": st.sampled_from([0, 2**40, 2**63]),
            "type": short,
            "app_id": short,
        },
    )
