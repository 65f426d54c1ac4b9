"""How long a worker waits for an object store: long where it is away, hardly where it does not let us in."""

import pytest
from tenacity import wait_none

from infra.artifacts import MOST_DENIALS, patiently
from infra.objects import ObjectStoreDenied, ObjectStoreUnavailable


class Store:
    """Fails `failures` times, then answers."""

    def __init__(self, error: Exception, failures: int) -> None:
        self.tries = 0
        self._error = error
        self._failures = failures

    async def get(self) -> str:
        self.tries += 1
        if self.tries <= self._failures:
            raise self._error
        return "here"


async def test_a_short_outage_is_waited_out() -> None:
    store = Store(ObjectStoreUnavailable("away"), 20)
    assert await patiently(60).copy(wait=wait_none())(store.get) == "here"


async def test_patience_has_an_end() -> None:
    store = Store(ObjectStoreUnavailable("away"), 1000)
    with pytest.raises(ObjectStoreUnavailable, match="away"):
        await patiently(0)(store.get)


async def test_a_store_that_does_not_let_us_in_is_asked_a_few_times_only() -> None:
    store = Store(ObjectStoreDenied("403"), 1000)
    with pytest.raises(ObjectStoreDenied):
        await patiently(60).copy(wait=wait_none())(store.get)
    assert store.tries == MOST_DENIALS
