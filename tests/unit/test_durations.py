"""Durations as people type and read them."""

from __future__ import annotations

import pytest
import typer

from cli.durations import format_duration, seconds


@pytest.mark.parametrize(
    ("text", "duration"), [("45s", 45), ("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("1d", 86400)]
)
def test_a_duration_is_read(text: str, duration: float) -> None:
    assert seconds(text) == duration


@pytest.mark.parametrize("text", ["", "2", "h", "2 h", "-1h", "soon", "1.5h", "1h later"])
def test_the_error_about_an_invalid_duration_shows_the_expected_form(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="expected a time such as 45s, 30m, 2h or 1h30m"):
        seconds(text)


@pytest.mark.parametrize(
    ("duration", "text"), [(0.2, "0s"), (59.6, "1m0s"), (5400, "1h30m"), (7140, "1h59m"), (90061, "1d1h"), (-3, "0s")]
)
def test_a_duration_is_shown_in_its_two_largest_units(duration: float, text: str) -> None:
    assert format_duration(duration) == text
