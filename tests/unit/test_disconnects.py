"""Work for a client that disconnects is cancelled."""

from __future__ import annotations

import asyncio

import pytest
from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.types import Message

from control.gateway.disconnects import while_connected

SCOPE = {"type": "http"}


async def disconnected() -> Message:
    return {"type": "http.disconnect"}


async def connected() -> Message:
    return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]  # it never has a result


async def test_the_work_is_cancelled_and_awaited_if_the_client_disconnects() -> None:
    ended = []

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            ended.append("cleanup")

    with pytest.raises(ClientDisconnect):
        await while_connected(Request(SCOPE, disconnected), work())
    assert ended == ["cleanup"]


async def test_the_result_of_the_work_is_returned() -> None:
    assert await while_connected(Request(SCOPE, connected), asyncio.sleep(0, "report")) == "report"


async def test_an_error_of_the_work_is_raised() -> None:
    async def work() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await while_connected(Request(SCOPE, connected), work())
