"""Prints the bytes of a log: as safe lines, or as they are."""

from __future__ import annotations

import re
import sys

from cli.terminal import echo, write_bytes
from contracts.errors import FieldError, InvalidInput

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class Lines:
    """Prints lines without colours; of a line that was overwritten, such as a progress bar, only its last state."""

    def __init__(self) -> None:
        self._rest = b""

    def write(self, data: bytes) -> None:
        """Print the lines that are complete."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            echo(shown_line(line))

    def end(self) -> None:
        """Print a last line without an end."""
        if self._rest:
            self.write(b"\n")


class Raw(Lines):
    """Writes the bytes as they are."""

    def write(self, data: bytes) -> None:
        """Write a piece."""
        write_bytes(data)


def output_of(*, raw: bool, follow: bool) -> Lines:
    """The output of lines, or that of bytes. Raises InvalidInput if bytes cannot be written."""
    if not raw:
        return Lines()
    if follow:
        raise _refused("a log is followed as text; leave --follow or --raw out")
    if sys.stdout.isatty():
        raise _refused("the bytes of a program could steer the terminal; write them to a file with `> log.txt`")
    return Raw()


def shown_line(line: bytes) -> str:
    """What a terminal would show of a line, as text without colours; bytes that are not UTF-8 in hex."""
    text = line.decode(errors="backslashreplace").rstrip("\r")
    return _COLOURS.sub("", text.rpartition("\r")[2])


def _refused(message: str) -> InvalidInput:
    return InvalidInput((FieldError(field="--raw", message=message),))
