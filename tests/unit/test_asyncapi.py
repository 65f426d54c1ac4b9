"""The AsyncAPI document says what is on the broker."""

from __future__ import annotations

from typing import Any

import pytest

from contracts.events import LeaseLost
from contracts.topology import DEAD_QUEUE, QUEUES
from contracts.wire import MESSAGES
from infra.bus.asyncapi import asyncapi_document


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return asyncapi_document("1.2.3")


def test_it_is_asyncapi_3_of_the_product_s_version(document: dict[str, Any]) -> None:
    assert (document["asyncapi"], document["info"]["title"], document["info"]["version"]) == (
        "3.0.0",
        "Treadle",
        "1.2.3",
    )


def test_every_queue_that_carries_messages_of_ours_is_in_it(document: dict[str, Any]) -> None:
    assert {queue.name for queue in QUEUES if queue is not DEAD_QUEUE} <= set(document["channels"])


def test_every_message_on_the_broker_has_a_schema(document: dict[str, Any]) -> None:
    on_the_broker = set(MESSAGES) - {LeaseLost}  # control's own word: it stands in the history only
    assert {message.__name__ for message in on_the_broker} <= set(document["components"]["schemas"])


def test_channels_stand_in_order(document: dict[str, Any]) -> None:
    assert list(document["channels"]) == sorted(document["channels"])
