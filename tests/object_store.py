"""Fixtures for tests that need only an object store: a client with its own bucket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from pydantic import SecretStr

from infra.objects import ObjectStore
from infra.settings import IN_PROCESS, Settings
from tests.servers import ObjectServer


@pytest.fixture(params=["s3", "moto"])
def s3_settings(request: pytest.FixtureRequest) -> dict[str, object]:
    """The S3 fields of Settings. The tests of a module that imports this fixture run once on each S3 server."""
    server: ObjectServer = request.getfixturevalue(request.param)
    return server.settings()


@pytest.fixture
def store_settings(s3_settings: dict[str, object], tmp_path: Path) -> Settings:
    """Settings of a real S3 server and the in-process bus."""
    return Settings(bus_url=SecretStr(IN_PROCESS), work_dir=tmp_path / "work", **s3_settings)


@pytest_asyncio.fixture
async def objects(store_settings: Settings) -> AsyncIterator[ObjectStore]:
    """A client of the object store, whose bucket exists."""
    store = ObjectStore(store_settings)
    await store.start()
    yield store
    await store.close()
