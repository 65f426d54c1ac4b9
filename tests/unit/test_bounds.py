"""Every text, list, mapping and number in a message or a request body has a bound."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from contracts.bounds import cut
from contracts.errors import MAX_ERRORS, FieldError
from contracts.submissions import Problem
from contracts.wire import MESSAGES
from tests.request_bodies import REQUEST_BODIES

BODIES = (*MESSAGES, *REQUEST_BODIES)
BOUND_BY = {
    "string": ({"maxLength"}, {"enum"}, {"const"}, {"format"}),
    "array": ({"maxItems"},),
    "object": ({"maxProperties"}, {"properties"}),
    "integer": ({"maximum"}, {"exclusiveMaximum"}, {"const"}),
}
"""For each JSON type, the keywords of which one bounds its size. A finite double needs no bound."""


def unbounded(schema: dict[str, Any], path: str) -> Iterator[str]:
    """The paths of the parts of a schema that have no bound."""
    kind = schema.get("type")
    if kind in BOUND_BY and not any(keywords <= schema.keys() for keywords in BOUND_BY[kind]):
        yield f"{path} ({kind})"
    parts = {**schema.get("properties", {}), **schema.get("$defs", {})}
    for keyword in ("items", "additionalProperties", "propertyNames"):
        if isinstance(schema.get(keyword), dict):
            parts[keyword] = schema[keyword]
    for keyword in ("anyOf", "oneOf", "allOf", "prefixItems"):
        parts |= {f"{keyword}{number}": part for number, part in enumerate(schema.get(keyword, ()))}
    for name, part in parts.items():
        yield from unbounded(part, f"{path}.{name}")


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
def test_every_field_has_a_bound(body: type[BaseModel]) -> None:
    assert list(unbounded(body.model_json_schema(), body.__name__)) == []


@given(st.text(st.characters(codec=None, exclude_categories=())), st.integers(1, 20))
def test_a_cut_text_is_short_and_can_be_stored(text: str, length: int) -> None:
    shortened = cut(text, length)
    assert len(shortened) <= length
    assert "\0" not in shortened.encode().decode()


def test_a_problem_lists_the_first_errors_and_counts_the_others() -> None:
    errors = tuple(FieldError(field=f"f{number}", message="wrong") for number in range(20_000))
    problem = Problem(title="Unprocessable", status=422, detail="wrong", errors=errors)
    assert len(problem.errors) == MAX_ERRORS
    assert problem.errors[-1].message == "19951 more errors are not listed"
