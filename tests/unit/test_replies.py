"""Requests whose replies cannot arrive any more."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from infra.bus.port import OutgoingMessage, PublishFailed
from infra.bus.replies import Replies

REQUEST = OutgoingMessage("treadle.claims", "claim", b"{}", "m")


async def test_a_request_whose_channel_is_lost_fails_at_once() -> None:
    replies: Replies

    async def published(_: OutgoingMessage) -> None:
        asyncio.get_running_loop().call_soon(replies.fail_all, PublishFailed("lost"))

    replies = Replies(published, "me")
    with pytest.raises(PublishFailed, match="lost"):
        await replies.request(REQUEST, 5)


async def test_a_request_that_also_could_not_be_published_leaves_no_unretrieved_error() -> None:
    replies: Replies
    unretrieved: list[dict[str, Any]] = []

    async def lost(_: OutgoingMessage) -> None:
        replies.fail_all(PublishFailed("the channel was lost before the reply"))
        raise PublishFailed("the connection was lost before the confirm")

    asyncio.get_running_loop().set_exception_handler(lambda _, context: unretrieved.append(context))
    replies = Replies(lost, "me")
    with pytest.raises(PublishFailed, match="before the confirm"):
        await replies.request(REQUEST, 5)
    gc.collect()
    assert unretrieved == []
