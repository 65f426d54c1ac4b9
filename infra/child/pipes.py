"""A child's standard input and output.

Not asyncio's own pipes: with those, a child's end is noticed only once every descendant has let go of them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress

LONGEST_LINE = 1024 * 1024


class ChildPipes:
    """Our ends. The child takes the end of its standard input for our death, so ours stays open until `close`."""

    def __init__(self) -> None:
        self._their_stdin, self._stdin = os.pipe()
        self._stdout, self._their_stdout = os.pipe()
        self._open = {self._stdin, self._stdout}

    @contextmanager
    def theirs(self) -> Iterator[tuple[int, int]]:
        """The child's ends, to be inherited; closed here once it has them."""
        try:
            yield self._their_stdin, self._their_stdout
        except BaseException:
            self.close()
            raise
        finally:
            os.close(self._their_stdin)
            os.close(self._their_stdout)

    def write(self, line: str) -> None:
        """Say one short line. A child that has died already is no error here: its status says why."""
        with suppress(BrokenPipeError):
            os.write(self._stdin, line.encode())

    async def lines(self) -> AsyncIterator[bytes]:
        """What the child prints, line by line; lines of more than a mebibyte are passed over."""
        reader = asyncio.StreamReader(limit=LONGEST_LINE)
        self._open.discard(self._stdout)  # the transport closes it from here on
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(self._stdout, "rb", 0)
        )
        try:
            while True:
                with suppress(ValueError):
                    line = await reader.readline()
                    if not line:
                        return
                    yield line
        finally:
            transport.close()

    def close(self) -> None:
        """Close our ends."""
        while self._open:
            os.close(self._open.pop())
