"""Routing of messages by an exchange, with the rules of RabbitMQ."""

from __future__ import annotations

from typing import assert_never

from contracts.topology import ExchangeKind


def routes(kind: ExchangeKind, binding: str, routing_key: str) -> bool:
    """Whether a queue bound with `binding` receives a message with `routing_key`."""
    match kind:
        case ExchangeKind.FANOUT:
            return True
        case ExchangeKind.DIRECT:
            return binding == routing_key
        case ExchangeKind.TOPIC:
            return _topic_matches(binding.split("."), routing_key.split("."))
    assert_never(kind)


def _topic_matches(pattern: list[str], words: list[str]) -> bool:
    """Whether a topic binding matches: `*` matches one word, `#` matches any number of words, also none."""
    if not pattern:
        return not words
    first, rest = pattern[0], pattern[1:]
    if first == "#":
        return _topic_matches(rest, words) or (bool(words) and _topic_matches(pattern, words[1:]))
    return bool(words) and first in ("*", words[0]) and _topic_matches(rest, words[1:])
