"""Accounts by `rabbitmqctl`: of a local node, or as commands for a person."""

from __future__ import annotations

import json
import shlex
from collections.abc import Awaitable, Iterator, Sequence
from typing import Protocol

from contracts.permissions import PERMISSIONS
from contracts.roles import Role
from infra.bus.rabbitmq.accounts.account import TAG, Account
from infra.bus.rabbitmq.accounts.definitions import from_definitions, to_definitions
from infra.bus.rabbitmq.accounts.port import AccountsUnavailable


class Run(Protocol):
    """Runs `rabbitmqctl` and returns its output. Raises AccountsUnavailable."""

    def __call__(self, *arguments: str, stdin: str = "") -> Awaitable[str]:
        """Run it with these arguments."""
        ...


class CtlAccounts:
    """Accounts by `rabbitmqctl`; definitions go through its standard input and output, never through arguments."""

    def __init__(self, run: Run, vhost: str) -> None:
        self._run = run
        self._vhost = vhost

    async def list(self) -> list[Account]:
        """Export the definitions."""
        output = await self._run("export_definitions", "-", "--format", "json")
        try:
            return from_definitions(json.loads(output), self._vhost)
        except (ValueError, KeyError, TypeError) as error:
            raise AccountsUnavailable("rabbitmqctl export_definitions printed no definitions") from error

    async def send(self, accounts: Sequence[Account]) -> None:
        """Import definitions."""
        await self._run("import_definitions", stdin=json.dumps(to_definitions(accounts, self._vhost)))

    async def remove(self, name: str) -> None:
        """Delete the user."""
        await self._run("delete_user", name)


def commands(name: str, role: Role, vhost: str) -> Iterator[str]:
    """The commands that create an account; the first one asks for the password."""
    permissions = PERMISSIONS[role]
    yield _command("add_user", name)
    yield _command("set_user_tags", name, f"{TAG}{role}")
    for topic in permissions.topics:
        yield _command("set_topic_permissions", "--vhost", vhost, name, topic.exchange, topic.write, topic.read)
    yield _command(
        "set_permissions", "--vhost", vhost, name, permissions.configure, permissions.write, permissions.read
    )


def _command(*words: str) -> str:
    return shlex.join(("rabbitmqctl", *words))
