"""Limits the time that a client may take to send the body of a request."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Send


class BodyClock:
    """Wraps `receive` and `send` of one request.

    A client has `wait` seconds to send its next bytes. They grow again with every byte, by 1/`rate` seconds up to
    `wait`, so a body that arrives more slowly than `rate` bytes per second is cut off too. The time that the server
    takes does not count.
    """

    def __init__(self, receive: Receive, send: Send, *, wait: float, rate: int) -> None:
        self._receive = receive
        self._send = send
        self._wait = wait
        self._rate = rate
        self._left = wait
        self._complete = False
        self._answering = False

    async def receive(self) -> Message:
        """The next message. Raises HTTPException with status 408; if the answer has begun, the client is gone."""
        if self._complete:
            return await self._receive()
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            async with asyncio.timeout(self._left):
                message = await self._receive()
        except TimeoutError as error:
            self._left = 0.0
            if self._answering:
                return {"type": "http.disconnect"}
            raise HTTPException(HTTPStatus.REQUEST_TIMEOUT) from error
        earned = len(message.get("body", b"")) / self._rate
        self._left = min(self._wait, max(0.0, self._left - (clock() - began)) + earned)
        self._complete = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Send a message of the answer."""
        self._answering = True
        await self._send(message)
