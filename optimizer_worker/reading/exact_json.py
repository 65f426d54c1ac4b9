"""Find what the fast JSON parser hides: fields that are given twice, and numbers as they are written."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import orjson

MAX_NAMES = 64
"""Different names of fields up to which each is counted in the text; a text with more is parsed again at once."""
_SHORT = 18
"""Digits of the integers that every parser keeps."""


class Repeated(dict[str, Any]):
    """An object in which, or in an object inside, a field is given twice; it is `field`."""

    field = ""


class Written(float):
    """A number that keeps the text by which JSON gives it."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> Written:
        """Return the number of a JSON text."""
        number = super().__new__(cls, text)
        number.text = text
        return number


def checked(value: object, text: bytes) -> object:
    """Return `value`, which is `text` parsed, with Repeated objects and Written numbers if there may be any."""
    names, has_floats = _survey(value)
    few = not has_floats and len(names) <= MAX_NAMES
    if few and all(text.count(_quoted(name)) <= times for name, times in names.items()):
        return value
    try:
        return DECODER.decode(text.decode())
    except (ValueError, RecursionError):
        return value


def _survey(value: object) -> tuple[dict[str, int], bool]:
    """Return how many objects have each name, and whether a field is a number with a fraction or an exponent."""
    names: dict[str, int] = {}
    has_floats = False
    rest = [value]
    while rest:
        item = rest.pop()
        if isinstance(item, list):
            rest.extend(inner for inner in item if isinstance(inner, dict | list))
        elif isinstance(item, dict):
            for name, inner in item.items():
                names[name] = names.get(name, 0) + 1
                if isinstance(inner, dict | list):
                    rest.append(inner)
                has_floats = has_floats or isinstance(inner, float)
    return names, has_floats


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if field := _repeated(value, pairs):
        value = Repeated(value)
        value.field = field
    return value


def _repeated(value: dict[str, Any], pairs: list[tuple[str, Any]]) -> str:
    """Return the first field that is given twice in the object or in an object inside, or an empty text."""
    if len(value) < len(pairs):
        seen: set[str] = set()
        return next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
    return next((found for inner in value.values() if (found := repeated_field(inner))), "")


def repeated_field(value: object) -> str:
    """Return the field that is given twice in an object, or in one of a list of objects, or an empty text."""
    if isinstance(value, list):
        return next((item.field for item in value if isinstance(item, Repeated)), "")
    return value.field if isinstance(value, Repeated) else ""


def _integer(text: str) -> int | Written:
    return int(text) if len(text) <= _SHORT or -(1 << 63) <= float(text) < 1 << 63 else Written(text)


@lru_cache(maxsize=1024)
def _quoted(name: str) -> bytes:
    return orjson.dumps(name)


DECODER = json.JSONDecoder(
    strict=False,
    parse_constant=lambda _: None,
    parse_float=Written,
    parse_int=_integer,
    object_pairs_hook=_object,
)
"""Parses to None for NaN and Infinity, to Repeated objects and to Written numbers."""
