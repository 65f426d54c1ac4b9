"""Logs: structlog over the standard library, one line an event on standard error, console or JSON."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any

import structlog
from structlog.types import Processor

from contracts.tasks import AttemptKey
from infra.settings import Settings

MASK = "***"
_SECRET_KEY = re.compile(r"password|passwd|secret|token$|api_key|authorization", re.IGNORECASE)
_attempt: ContextVar[AttemptKey | None] = ContextVar("attempt", default=None)
_CREDENTIALS = re.compile(r"(?<=://)[^\s/@:]*:[^\s/@]+(?=@)")
_LOUD = ("aio_pika", "asyncpg", "faststream", "httpx", "httpcore", "urllib3")
"""Libraries whose INFO lines are about themselves."""
_REPEATED = "aiormq.connection"
"""It logs a dozen lines for each lost connection; the adapter logs one."""


def configure_logs(settings: Settings, service: str) -> None:
    """Set up logging for this process, the libraries' included. Called once, at a composition root."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_shared(service),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(settings, service))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for name in _LOUD:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    logging.getLogger(_REPEATED).setLevel(logging.CRITICAL)


def bound(**values: object) -> AbstractContextManager[None]:
    """Put `values` (task_id, iteration, phase, attempt, …) on every line logged inside the `with` block."""
    return structlog.contextvars.bound_contextvars(**{name: str(value) for name, value in values.items()})


def bind(attempt: AttemptKey) -> None:
    """Put task_id, iteration, phase and attempt on every line that the present task logs from now on."""
    _attempt.set(attempt)


def masked(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: no password, token or address with credentials gets onto a line."""
    for name, value in event.items():
        if _SECRET_KEY.search(name):
            event[name] = MASK
        elif isinstance(value, str):
            event[name] = without_credentials(value)
    return event


def without_credentials(text: str) -> str:
    """The text with the `user:password` of every address in it masked."""
    return _CREDENTIALS.sub(MASK, text)


def _shared(service: str) -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        _name_attempt,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _Named(service),
    ]


def _formatter(settings: Settings, service: str) -> logging.Formatter:
    """Exceptions become text before masking, so that what they quote is masked too."""
    last: Processor = (
        structlog.processors.JSONRenderer()
        if settings.log_json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_shared(service),
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            masked,
            last,
        ],
    )


def _name_attempt(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Made into text here and not in `bind`: most attempts log no line that is wanted."""
    if (key := _attempt.get()) is not None:
        for name, value in key:
            event.setdefault(name, str(value))
    return event


class _Named:
    """Says which service speaks."""

    def __init__(self, service: str) -> None:
        self._service = service

    def __call__(self, _: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event.setdefault("service", self._service)
        return event
