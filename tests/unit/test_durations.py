"""Spans of time as people type and read them."""

from __future__ import annotations

import pytest
import typer

from cli.durations import seconds, spoken


@pytest.mark.parametrize(("text", "span"), [("45s", 45), ("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("1d", 86400)])
def test_a_span_is_read(text: str, span: float) -> None:
    assert seconds(text) == span


@pytest.mark.parametrize("text", ["", "2", "h", "2 h", "-1h", "soon", "1.5h", "1h later"])
def test_what_is_no_span_is_told_what_one_is(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="expected a time such as 45s, 30m, 2h or 1h30m"):
        seconds(text)


@pytest.mark.parametrize(
    ("span", "text"), [(0.2, "0s"), (59.6, "1m0s"), (5400, "1h30m"), (7140, "1h59m"), (90061, "1d1h"), (-3, "0s")]
)
def test_a_span_is_said_in_its_two_largest_units(span: float, text: str) -> None:
    assert spoken(span) == text
