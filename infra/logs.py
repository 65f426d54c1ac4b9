"""Logs: structlog over the standard library, one line per log event on standard error, as text or JSON."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from textwrap import indent
from typing import Any

import structlog
from structlog.types import Processor

from contracts.tasks import AttemptKey
from infra.safe_text import safe_text
from infra.settings import Settings

MASK = "***"
_SECRET_KEY = re.compile(r"password|passwd|secret|token$|api_key|authorization", re.IGNORECASE)
_attempt: ContextVar[AttemptKey | None] = ContextVar("attempt", default=None)
_CREDENTIALS = re.compile(r"(?<=://)[^\s/@:]*:[^\s/]+(?=@)|(?<=[?&]password=)[^\s&'\"]+")
_TRACES = frozenset({"exception", "stack"})
"""Fields that have lines; all others are one line, so that no text can look like a line of its own."""
_VERBOSE_LIBRARIES = ("aio_pika", "asyncpg", "faststream", "httpx", "httpcore", "urllib3")
"""Libraries whose INFO lines describe only their own internals."""
_REPETITIVE_LOGGER = "aiormq.connection"
"""It logs many lines for each lost connection; the bus adapter logs one."""


def configure_logs(settings: Settings, service: str, *, final: bool = True) -> None:
    """Set up logging for this process and its libraries, at a composition root; again only if not `final`."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_shared(service),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=final,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(settings, service))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for name in _VERBOSE_LIBRARIES:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    logging.getLogger(_REPETITIVE_LOGGER).setLevel(logging.CRITICAL)


def bound(**values: object) -> AbstractContextManager[None]:
    """Add `values` (task_id, iteration, phase, attempt, …) to every line that is logged inside the `with` block."""
    return structlog.contextvars.bound_contextvars(**{name: str(value) for name, value in values.items()})


def bind(attempt: AttemptKey) -> None:
    """Add task_id, iteration, phase and attempt to every line that the current asyncio task logs from now on."""
    _attempt.set(attempt)


def masked(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor that masks passwords, tokens, and credentials in addresses, also in nested values."""
    for name, value in event.items():
        event[name] = _masked(name, value)
    return event


def _masked(name: str, value: object) -> object:
    match value:
        case _ if _SECRET_KEY.search(name):
            return MASK
        case None | bool() | int() | float():
            return value
        case dict():
            return {str(key): _masked(str(key), item) for key, item in value.items()}
        case list() | tuple() | set():
            return [_masked(name, item) for item in value]
        case _:
            return without_credentials(value if isinstance(value, str) else repr(value))


def _safe(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escape what could steer a terminal; the lines of a traceback are indented, so that none looks like an event."""
    for name, value in event.items():
        if isinstance(value, str) and name in _TRACES:
            event[name] = indent(safe_text(value, lines=True), "    ")
        elif not isinstance(value, int | float | None):
            event[name] = safe_text(value if isinstance(value, str) else repr(value))
    return event


def without_credentials(text: str) -> str:
    """The text with `user:password`, or the parameter `password`, masked in every address."""
    return _CREDENTIALS.sub(MASK, text)


def _shared(service: str) -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        _add_attempt,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _AddService(service),
    ]


def _formatter(settings: Settings, service: str) -> logging.Formatter:
    """Exceptions become text before masking, so that secrets in their texts are masked too. JSON is all ASCII."""
    console = (_safe, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()))
    rendering: tuple[Processor, ...] = (structlog.processors.JSONRenderer(),) if settings.log_json else console
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_shared(service),
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            masked,
            *rendering,
        ],
    )


def _add_attempt(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Add the fields of the attempt, made into text here and not in `bind`: most attempts log no visible line."""
    if (key := _attempt.get()) is not None:
        for name, value in key:
            event.setdefault(name, str(value))
    return event


class _AddService:
    """Add the name of the service to each line."""

    def __init__(self, service: str) -> None:
        self._service = service

    def __call__(self, _: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event.setdefault("service", self._service)
        return event
