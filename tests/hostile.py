"""Hostile text, and answers of the gateway in which every text is hostile, made from the models of the answers."""

from __future__ import annotations

import dataclasses
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from itertools import cycle
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints
from uuid import UUID

from pydantic import BaseModel

from infra.safe_text import safe_text

LEGIT = "银行 بنك café नमस्ते می‌خواهم 👩‍💻 ❤️ 葛󠄀"
"""Text that people write: it has joiners and variation selectors, and must stay readable."""
SAMPLES = (
    "fix [/b] tags [bold red]x[/]",
    "[link=https://evil.example]y[/link]",
    ":smile: :bomb: [reverse]z",
    "\x1b]0;owned\x07 \x1b[2J\x1b[H\x1b[5;7m",
    "\x1b]8;;https://evil.example\x1b\\y\x1b]8;;\x1b\\",
    "\x9b2J \x9b5m \x9d0;owned\x9c \x90q\x9c",
    "a\u202eb\u202ac\u2066d\u2069e\u200ef\u200fg\u061ch",
    "a\nFORGED\r\nFORGED\rFORGED\tb\u2028FORGED\u2029c\x85d\x0be\x0cf",
)
ITEMS = 4
"""Items of a list; texts with a small limit take turns with the pieces of the hostile text."""
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@cache
def unsafe_characters() -> str:
    """Every character that must not reach a terminal, by Unicode's categories, except lone surrogates."""
    joiners, visible = "\u200c\u200d", ("ARABIC", "SYRIAC", "KAITHI")
    characters = map(chr, range(sys.maxunicode + 1))
    controls = (c for c in characters if unicodedata.category(c) in {"Cc", "Cf", "Zl", "Zp"} and c not in joiners)
    kept = (c for c in controls if c == "\u061c" or not unicodedata.name(c, "").startswith(visible))
    return "".join(kept) + "\xad\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0"


@cache
def pieces() -> tuple[str, ...]:
    """The samples and all unsafe characters in pieces of at most 60 characters."""
    rest = unsafe_characters()
    return (*SAMPLES, *(rest[start : start + 40] for start in range(0, len(rest), 40)), LEGIT)


def hostile_text() -> str:
    """All of it in one text."""
    return " ".join(pieces())


class Hostile:
    """Makes values of any annotated type whose every text is hostile."""

    def __init__(self) -> None:
        self._pieces = cycle(pieces())

    def json(self, kind: Any) -> Any:
        """A JSON value of a response's type, with the names of the wire."""
        return self._value(kind, ())

    def instance(self, kind: type[Any]) -> Any:
        """An instance of a dataclass, or of a model, whose validation is skipped."""
        if dataclasses.is_dataclass(kind):
            hints = get_type_hints(kind)
            names = [field.name for field in dataclasses.fields(kind)]
            return kind(**{name: self._value(hints[name], (), made=True) for name in names})
        fields = kind.model_fields.items()
        values = {name: self._value(field.annotation, field.metadata, made=True) for name, field in fields}
        return kind.model_construct(**values)

    def _value(self, kind: Any, limits: Sequence[Any], *, made: bool = False) -> Any:
        origin, arguments = get_origin(kind), get_args(kind)
        if origin is Annotated:
            return self._value(arguments[0], (*limits, *arguments[1:]), made=made)
        if origin in {Union, UnionType}:
            return self._value(next(option for option in arguments if option is not NoneType), limits, made=made)
        if origin is Literal:
            return arguments[0]
        if origin in {tuple, list, Sequence}:
            items = [self._value(arguments[0], (), made=made) for _ in range(ITEMS)]
            return tuple(items) if made else items
        if origin in {dict, Mapping}:
            return {next(self._pieces): self._value(arguments[1], (), made=made) for _ in range(ITEMS)}
        if isinstance(kind, type) and (issubclass(kind, BaseModel) or dataclasses.is_dataclass(kind)):
            return self.instance(kind) if made or dataclasses.is_dataclass(kind) else self._body(kind)
        return self._plain(kind, limits, made=made)

    def _body(self, kind: type[BaseModel]) -> dict[str, Any]:
        fields = kind.model_fields.items()
        return {field.alias or name: self._value(field.annotation, field.metadata) for name, field in fields}

    def _plain(self, kind: Any, limits: Sequence[Any], *, made: bool) -> Any:
        if kind in {str, Any}:
            return self._text(limits)
        if kind is bytes:
            return hostile_text().encode()
        if isinstance(kind, type) and issubclass(kind, Enum):
            return next(iter(kind)) if made else next(iter(kind)).value
        if kind is datetime:
            return NOW if made else NOW.isoformat()
        if kind is int:
            return max(2, *(bound.ge for bound in limits if hasattr(bound, "ge")), 2)
        return {bool: True, float: 0.5, UUID: UUID(int=1) if made else str(UUID(int=1))}[kind]

    def _text(self, limits: Sequence[Any]) -> str:
        """The whole text, or the next piece of it if the field is shorter; without NUL if the field refuses it."""
        limits = [each for item in limits for each in getattr(item, "metadata", [item])]
        limit = min((item.max_length for item in limits if hasattr(item, "max_length")), default=None)
        text = hostile_text() if limit is None or limit >= len(hostile_text()) else next(self._pieces)
        return text.replace("\0", "") if any(hasattr(item, "func") for item in limits) else text


def shown(text: str) -> Iterator[str]:
    """The forms in which a text may be shown: on one line, or with its lines."""
    yield safe_text(text)
    yield from safe_text(text, lines=True).splitlines()
