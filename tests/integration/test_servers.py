"""The servers that the tests share, which are those of the local stack."""

from __future__ import annotations

import asyncpg

from infra.settings import Settings


async def test_each_test_gets_an_empty_database(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        assert await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
    finally:
        await connection.close()


async def test_settings_point_at_all_three_servers(settings: Settings) -> None:
    assert settings.bus_url.get_secret_value().startswith("amqp")
    assert settings.database_url.get_secret_value().startswith("postgresql")
    assert settings.s3_endpoint.startswith("http")
