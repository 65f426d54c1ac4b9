"""The only way to standard output and standard error: what people, programs and servers wrote is shown as text.

A linter rule forbids rich's Console and typer.echo elsewhere. A `str` is never markup and is one line; `text` makes
what has lines or styles.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any

import typer
from pydantic import BaseModel
from rich.console import Console, ConsoleOptions, OverflowMethod, RenderableType
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from infra.safe_text import safe_json, safe_text


class Terminal(Console):
    """A console without markup, emoji codes and highlighting, which escapes whatever could steer a terminal."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False)

    def render_str(self, text: str, *, style: str | Style = "", **layout: Any) -> Text:  # noqa: ANN401  # rich's
        """Make a string, for example a cell of a table, one line of safe text."""
        return super().render_str(safe_text(text), style=style, **{**layout, "markup": False, "emoji": False})

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Escape again what is about to be written, in case a renderable was not made by `text`."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(safe_text(segment.text, lines=True), segment.style)


def text(
    *parts: str | Text | tuple[str, str],
    lines: bool = False,
    style: str = "",
    no_wrap: bool | None = None,
    overflow: OverflowMethod | None = None,
) -> Text:
    """Join parts, each a string, a string with its style, or a Text; with `lines`, strings keep their line breaks."""
    joined = Text(style=style, no_wrap=no_wrap, overflow=overflow)
    for part in parts:
        if isinstance(part, Text):
            joined.append_text(part)
        else:
            words, look = (part, "") if isinstance(part, str) else part
            joined.append(safe_text(words, lines=lines), look or None)
    return joined


def echo(message: object, *, lines: bool = False, err: bool = False, colour: str | None = None) -> None:
    """Print a message without wrapping it; it is one line unless `lines` is set."""
    typer.secho(safe_text(str(message), lines=lines), err=err, fg=colour)


def write_bytes(data: bytes) -> None:
    """Write bytes as they are to standard output, which must not be a terminal."""
    assert not sys.stdout.isatty(), "bytes of a program could steer the terminal"
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def echo_json(value: object) -> None:
    """Print a model, or a value that JSON can hold, as one line of JSON."""
    if isinstance(value, BaseModel):
        typer.echo(safe_json(value.model_dump_json(by_alias=True)))
    else:
        typer.echo(safe_json(json.dumps(value, ensure_ascii=False)))
