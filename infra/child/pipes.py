"""The standard input and output of a child process.

asyncio's own pipes are not used: they report the end of a child only after all its descendants have closed the pipes.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress

MAX_LINE_LENGTH = 1024 * 1024


class ChildPipes:
    """The worker's ends. They stay open until `close`, because the child ends itself when its standard input ends."""

    def __init__(self) -> None:
        self._child_stdin, self._stdin = os.pipe()
        self._stdout, self._child_stdout = os.pipe()
        self._open = {self._stdin, self._stdout}

    @contextmanager
    def child_ends(self) -> Iterator[tuple[int, int]]:
        """The child's ends, which it inherits inside the `with` block; they are closed in this process after it."""
        try:
            yield self._child_stdin, self._child_stdout
        except BaseException:
            self.close()
            raise
        finally:
            os.close(self._child_stdin)
            os.close(self._child_stdout)

    def write(self, line: str) -> None:
        """Send one short line. No error if the child has ended already, because its exit status explains that."""
        with suppress(BrokenPipeError):
            os.write(self._stdin, line.encode())

    async def lines(self) -> AsyncIterator[bytes]:
        """The lines that the child prints; lines longer than 1 MiB are skipped."""
        reader = asyncio.StreamReader(limit=MAX_LINE_LENGTH)
        self._open.discard(self._stdout)  # from here on the transport closes it
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
        """Close the worker's ends."""
        while self._open:
            os.close(self._open.pop())
