"""Finds the logs of a task's attempts, and fetches them from the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from pydantic import TypeAdapter, ValidationError

from cli.client import GatewayClient, LogPage, RequestRefused
from cli.logs.output import Lines
from cli.tasks.view import attempt_name
from cli.terminal import echo
from contracts.errors import FieldError, InvalidInput, error_text
from contracts.tasks import AttemptName

PAGE = 2**20
"""Bytes that are fetched at a time."""
MAX_TRIED = 20
"""Attempts of which the newest log is looked for."""
NEXT_ATTEMPT = 2.0
"""Seconds between two looks for the next attempt."""


class LogReader:
    """Prints logs of one task; of the first one only the last `tail` lines, None: all."""

    def __init__(self, gateway: GatewayClient, task: str, output: Lines, tail: int | None) -> None:
        self._gateway = gateway
        self._task = task
        self._output = output
        self._tail = tail

    async def show(self, attempt: str | None) -> None:
        """Print the log of this attempt, or the newest log. Raises InvalidInput, RequestRefused."""
        name = _checked(attempt) if attempt else await self._newest_with_log()
        await self._print_stored(name)
        self._output.end()

    async def follow(self, attempt: str | None) -> None:
        """Print the log of this attempt until it ends; without one, of the newest and of all later attempts."""
        name = _checked(attempt) if attempt else await self._next_after(None)
        while name is not None:
            if not attempt:
                echo(f"log of {name}:", err=True)
            try:
                await self._follow_one(name)
            except RequestRefused as error:
                if attempt or not _has_no_log(error):
                    raise
                echo(error, err=True)
            self._tail = None
            name = None if attempt else await self._next_after(name)

    async def _follow_one(self, name: AttemptName) -> None:
        try:
            offset = 0 if self._tail is None else await self._print_stored(name)
        except RequestRefused as error:
            if not _has_no_log(error):
                raise
            offset = 0  # the stream waits for the log, if the attempt has not ended
        async for chunk in self._gateway.follow_log(self._task, name, offset):
            self._output.write(chunk.text.encode())
        self._output.end()

    async def _newest_with_log(self) -> AttemptName:
        """The newest attempt that has a log; says which one it is. Raises RequestRefused if there is none."""
        attempts = await self._gateway.attempts(self._task)
        if not attempts:
            raise _invalid("TASK", f"the task has no attempts yet; start it with `treadle start {self._task}`")
        newest: RequestRefused | None = None
        for attempt in attempts[: -MAX_TRIED - 1 : -1]:
            name = attempt_name(attempt)
            try:
                await self._gateway.log_page(self._task, name, tail=0)
            except RequestRefused as error:
                if not _has_no_log(error):
                    raise
                newest = newest or error
            else:
                echo(f"log of {name} ({attempt.status}); --attempt selects another one:", err=True)
                return name
        assert newest is not None, "at least one attempt was tried"
        raise newest

    async def _next_after(self, name: AttemptName | None) -> AttemptName | None:
        """The attempt after this one, or the newest; waits until there is one. None if the task has ended without."""
        while True:
            task = await self._gateway.task(self._task)  # first, because a task that ended gets no further attempt
            names = [attempt_name(attempt) for attempt in await self._gateway.attempts(self._task)]
            later = names[-1:] if name is None else names[names.index(name) + 1 :]
            if later or task.status.terminal:
                return later[0] if later else None
            await asyncio.sleep(NEXT_ATTEMPT)

    async def _print_stored(self, name: AttemptName) -> int:
        """Print what is stored of a log, or its last lines, and return where it ends."""
        if self._tail is None:
            place = 0
            async for page in self._pages(name):
                self._output.write(page.data)
                place = page.next_offset
            return place
        page = await self._gateway.log_page(self._task, name, tail=PAGE)
        data = page.data
        if page.offset > 0 and data.count(b"\n") < self._tail:
            data = b"".join([page.data async for page in self._pages(name)])
        self._output.write(last_lines(data, self._tail))
        return page.next_offset

    async def _pages(self, name: AttemptName) -> AsyncIterator[LogPage]:
        """The pages of a whole log."""
        page = await self._gateway.log_page(self._task, name, offset=0, limit=PAGE)
        yield page
        while page.offset < page.next_offset < page.size:
            page = await self._gateway.log_page(self._task, name, offset=page.next_offset, limit=PAGE)
            yield page


def last_lines(data: bytes, number: int) -> bytes:
    """The last lines of a text, of which the last one may have no end."""
    end = b"\n" if data.endswith(b"\n") else b""
    lines = data.removesuffix(b"\n").rsplit(b"\n", number)
    return b"\n".join(lines[-number:]) + end if number and data else b""


def _checked(name: str) -> AttemptName:
    try:
        return TypeAdapter[str](AttemptName).validate_python(name)
    except ValidationError as error:
        raise _invalid("--attempt", error_text(error.errors()[0]["msg"])) from error


def _has_no_log(error: RequestRefused) -> bool:
    return error.problem.status == 404 and [field.field for field in error.problem.errors] == ["log"]


def _invalid(field: str, message: str) -> InvalidInput:
    return InvalidInput((FieldError(field=field, message=message),))
