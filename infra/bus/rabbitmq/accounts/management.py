"""Accounts by RabbitMQ's management API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import httpx

from infra.bus.rabbitmq.accounts.account import Account
from infra.bus.rabbitmq.accounts.definitions import from_definitions, to_definitions
from infra.bus.rabbitmq.accounts.port import AccountsUnavailable

TIMEOUT = 20.0
"""Seconds."""


class ManagementAccounts:
    """Accounts by the management API at `url`, which names an administrator and the password."""

    def __init__(self, url: str, vhost: str) -> None:
        parts = urlsplit(url)
        self._auth = (unquote(parts.username or ""), unquote(parts.password or ""))
        self._url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
        self._vhost = vhost

    async def list(self) -> list[Account]:
        """Read the definitions."""
        async with self._client() as http:
            answer = await http.get("/api/definitions")
            self._check(answer)
            try:
                return from_definitions(answer.json(), self._vhost)
            except (ValueError, KeyError, TypeError) as error:
                raise AccountsUnavailable(f"{self._url} does not answer as RabbitMQ's management API does") from error

    async def send(self, accounts: Sequence[Account]) -> None:
        """Import definitions."""
        definitions: dict[str, Any] = to_definitions(accounts, self._vhost)
        async with self._client() as http:
            self._check(await http.post("/api/definitions", json=definitions))

    async def remove(self, name: str) -> None:
        """Delete the user."""
        async with self._client() as http:
            self._check(await http.delete(f"/api/users/{quote(name, safe='')}"))

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[httpx.AsyncClient]:
        try:
            async with httpx.AsyncClient(base_url=self._url, auth=self._auth, timeout=TIMEOUT) as http:
                yield http
        except httpx.HTTPError as error:
            raise AccountsUnavailable(
                f"the management API at {self._url} does not answer ({error or type(error).__name__}): "
                "check TREADLE_BUS_ADMIN_URL, and that the plugin rabbitmq_management is enabled"
            ) from error

    def _check(self, answer: httpx.Response) -> None:
        if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise AccountsUnavailable(
                f"{self._url} refuses the account in TREADLE_BUS_ADMIN_URL: it must have the tag administrator"
            )
        if not answer.is_success:
            raise AccountsUnavailable(f"{self._url} answers {answer.status_code}: {answer.text[:500]}")
