"""The accounts of one broker, read and changed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Protocol

from contracts.errors import TreadleError
from infra.bus.rabbitmq.accounts.account import Account

APPLY_TIMEOUT = 30.0
"""Seconds until the broker shows imported definitions; `rabbitmqctl` may return before."""


class AccountsUnavailable(TreadleError):
    """The broker's accounts cannot be read or changed; the text says why."""


class Accounts(Protocol):
    """Reads and changes the accounts of one broker. Every method raises AccountsUnavailable."""

    async def list(self) -> list[Account]:
        """All accounts, also those that Treadle has not made."""
        ...

    async def send(self, accounts: Sequence[Account]) -> None:
        """Send these accounts to the broker, which creates or changes them."""
        ...

    async def remove(self, name: str) -> None:
        """Remove an account; the broker closes its connections."""
        ...


async def save(broker: Accounts, accounts: Sequence[Account]) -> None:
    """Create or change the accounts, and wait until the broker shows them. Raises AccountsUnavailable."""
    await broker.send(accounts)
    end = time.monotonic() + APPLY_TIMEOUT
    while missing := [account.name for account in accounts if account not in await broker.list()]:
        if time.monotonic() > end:
            raise AccountsUnavailable(f"the broker has not taken over {', '.join(missing)}: see its log")
        await asyncio.sleep(0.2)
