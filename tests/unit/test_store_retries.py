"""How long a worker retries at an object store: long if it is unavailable, a few times if it denies access."""

import pytest
from tenacity import wait_none

from infra.artifacts import MAX_DENIALS, retry_while_unavailable
from infra.objects import ObjectStoreDenied, ObjectStoreUnavailable


class Store:
    """A store that fails `failures` times and then answers."""

    def __init__(self, error: Exception, failures: int) -> None:
        self.calls = 0
        self._error = error
        self._failures = failures

    async def get(self) -> str:
        self.calls += 1
        if self.calls <= self._failures:
            raise self._error
        return "here"


async def test_a_short_outage_is_waited_out() -> None:
    store = Store(ObjectStoreUnavailable("away"), 20)
    assert await retry_while_unavailable(60).copy(wait=wait_none())(store.get) == "here"


async def test_the_retries_end_after_the_time_limit() -> None:
    store = Store(ObjectStoreUnavailable("away"), 1000)
    with pytest.raises(ObjectStoreUnavailable, match="away"):
        await retry_while_unavailable(0)(store.get)


async def test_a_store_that_denies_access_is_called_only_a_few_times() -> None:
    store = Store(ObjectStoreDenied("403"), 1000)
    with pytest.raises(ObjectStoreDenied):
        await retry_while_unavailable(60).copy(wait=wait_none())(store.get)
    assert store.calls == MAX_DENIALS
