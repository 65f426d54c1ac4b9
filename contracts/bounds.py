"""Types with bounds: every text, list, mapping and number of a message has one, so that each can be stored."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

MAX_NAME, MAX_PREFIX, MAX_MESSAGE = 200, 1000, 10_000
"""Maximum characters of a name, of a prefix in the object store, and of a message for people."""
MAX_ENTRIES = 200
"""Maximum entries of a mapping from names to numbers."""
MAX_CLAIMS = 100
"""Maximum claims, and maximum heartbeats, in one lease request."""
MAX_ADAPTERS = 1001
"""Maximum adapters of a model: one for each iteration of a task with the most iterations, and its own."""


def _storable(text: str) -> str:
    if "\0" in text:
        raise ValueError("expected text without the NUL character, which the database cannot store")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("expected valid Unicode, found half of a surrogate pair") from error
    return text


def cut(text: str, length: int = MAX_MESSAGE) -> str:
    """Return the text with at most `length` characters, and with a sign for each that cannot be stored."""
    text = text[: length + 1].encode(errors="replace").decode().replace("\0", "\ufffd")  # a lone surrogate has no UTF-8
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _cut_text(value: object) -> object:
    return cut(value) if isinstance(value, str) else value


Text = Annotated[str, AfterValidator(_storable)]
"""Text from a user that the database can store. Each use adds its maximum length."""
Name = Annotated[Text, Field(min_length=1, max_length=MAX_NAME)]
"""The name of a worker, a host, a user, a dataset or a stage."""
Prefix = Annotated[Text, Field(min_length=1, max_length=MAX_PREFIX)]
"""The prefix of an artifact in the object store."""
MessageText = Annotated[Text, Field(max_length=MAX_MESSAGE), BeforeValidator(_cut_text)]
"""A message for people, which may contain text of a program or a user; it is cut to its maximum length."""

MAX_COUNT, MAX_SECONDS = 2**63 - 1, 1e12
"""The largest number of things or bytes, and the longest duration in seconds."""
YEAR = 366 * 24 * 3600
"""Seconds; the longest delay, and the longest limit of time, that a request may ask for."""

Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]
"""A number of things, or of bytes."""
Seconds = Annotated[float, Field(ge=0, le=MAX_SECONDS)]
"""A duration, or seconds times accelerators."""
Counts = Annotated[dict[Annotated[Text, Field(max_length=MAX_NAME)], Count], Field(max_length=MAX_ENTRIES)]
"""Numbers of rows by the name of a rule."""
Metrics = Annotated[dict[Annotated[Text, Field(max_length=MAX_NAME)], float], Field(max_length=MAX_ENTRIES)]
"""Numbers by the name of a metric."""
