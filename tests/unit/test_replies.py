"""Requests whose replies cannot come any more."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from infra.bus.port import Outgoing, PublishFailed
from infra.bus.replies import Replies

REQUEST = Outgoing("treadle.claims", "claim", b"{}", "m")


async def test_a_request_whose_channel_is_lost_fails_at_once() -> None:
    replies: Replies

    async def published(_: Outgoing) -> None:
        asyncio.get_running_loop().call_soon(replies.fail_all, PublishFailed("lost"))

    replies = Replies(published, "me")
    with pytest.raises(PublishFailed, match="lost"):
        await replies.request(REQUEST, 5)


async def test_a_request_that_also_could_not_be_published_leaves_no_error_that_nobody_looked_at() -> None:
    replies: Replies
    complaints: list[dict[str, Any]] = []

    async def lost(_: Outgoing) -> None:
        replies.fail_all(PublishFailed("the channel was lost before the reply"))
        raise PublishFailed("the connection was lost before the confirm")

    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    replies = Replies(lost, "me")
    with pytest.raises(PublishFailed, match="before the confirm"):
        await replies.request(REQUEST, 5)
    gc.collect()
    assert complaints == []
