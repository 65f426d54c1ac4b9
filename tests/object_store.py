"""A real S3 server for tests: `rclone serve s3`, one for the whole session."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from pydantic import SecretStr

from infra.objects import ObjectStore
from infra.settings import IN_PROCESS, Settings
from infra.stack.s3 import S3Node


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def store_settings(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Settings]:
    """Settings that point at a running S3 server; nothing else of them is real."""
    node = S3Node(tmp_path_factory.mktemp("s3"))
    await node.start()
    yield Settings(
        bus_url=SecretStr(IN_PROCESS),
        s3_endpoint=node.endpoint,
        s3_access_key=SecretStr(node.access_key),
        s3_secret_key=SecretStr(node.secret_key),
    )
    await node.stop()


@pytest_asyncio.fixture
async def objects(store_settings: Settings) -> AsyncIterator[ObjectStore]:
    """The store's client, its bucket made."""
    store = ObjectStore(store_settings)
    await store.start()
    yield store
    await store.close()
