"""Encodes and decodes messages. Decoding is strict: an unknown kind or version, or an invalid field, is an error."""

from __future__ import annotations

from typing import Any, TypeVar, get_args

from pydantic import ValidationError
from pydantic_core import from_json

from contracts.commands import Command
from contracts.errors import FieldError, UndecodableMessage, error_text
from contracts.events import Event
from contracts.leases import AttemptSignal, ClaimsProbe, LeaseRefused, LeaseReply, LeaseRequest
from contracts.message import Message
from contracts.progress import PhaseProgress
from contracts.submissions import CreateTask, SubmissionAccepted, SubmissionRefused, TaskRequest

MESSAGES: tuple[type[Message], ...] = (
    *get_args(Command),
    *get_args(Event),
    CreateTask,
    *get_args(TaskRequest),
    SubmissionAccepted,
    SubmissionRefused,
    LeaseRequest,
    LeaseReply,
    LeaseRefused,
    ClaimsProbe,
    AttemptSignal,
    PhaseProgress,
)
"""Every class of message on the broker."""

MAX_BODY = 8 * 2**20
"""Bytes of a body; a longer one is not even parsed. The broker of the local stack and of compose.yaml refuses it."""

M = TypeVar("M", bound=Message)


def kind_of(message: type[Message]) -> str:
    """The value of `kind` in messages of this class."""
    return str(message.model_fields["kind"].default)


def version_of(message: type[Message]) -> int:
    """The value of `version` in messages of this class."""
    return int(message.model_fields["version"].default)


_BY_KIND = {(kind_of(m), version_of(m)): m for m in MESSAGES}


def encode(message: Message) -> bytes:
    """A message as UTF-8 JSON."""
    return message.model_dump_json().encode()


def decode(body: bytes, *expected: type[M]) -> M:
    """The message in `body`, one of the `expected` classes. Raises UndecodableMessage with the reason."""
    raw = _object(body)
    message_type = _BY_KIND.get((str(raw.get("kind")), _int(raw.get("version"))))
    if message_type is None or message_type not in expected:
        names = ", ".join(sorted(kind_of(m) for m in expected))
        raise UndecodableMessage(
            f"kind {raw.get('kind')!r} version {raw.get('version')!r} is not known here; expected {names}"
        )
    try:
        return message_type.model_validate_json(body)
    except ValidationError as error:
        errors = field_errors(error)
        raise UndecodableMessage("; ".join(f"{e.field}: {e.message}" for e in errors), errors) from error


def field_errors(error: ValidationError) -> tuple[FieldError, ...]:
    """The fields that pydantic found invalid, each with a sentence."""
    return tuple(
        FieldError(field=".".join(str(part) for part in item["loc"]) or "body", message=error_text(item["msg"]))
        for item in error.errors(include_url=False)
    )


def _object(body: bytes) -> dict[str, Any]:
    if len(body) > MAX_BODY:
        raise UndecodableMessage(f"the body has {len(body)} bytes, expected at most {MAX_BODY}")
    try:
        raw = from_json(body)
    except ValueError as error:
        raise UndecodableMessage(f"not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise UndecodableMessage(f"expected a JSON object, got {type(raw).__name__}")
    return raw


def _int(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else -1
