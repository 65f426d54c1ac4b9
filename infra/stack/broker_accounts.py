"""The accounts of the local RabbitMQ node, which imports them whenever it starts."""

from __future__ import annotations

import json
from pathlib import Path

from contracts.permissions import ANYTHING, Permissions
from contracts.roles import Role
from infra.bus.rabbitmq.accounts.account import Account, credentials_of
from infra.bus.rabbitmq.accounts.definitions import to_definitions
from infra.stack.secrets import load_or_create_secret, write_private

VHOST = "/"
UNLIMITED = Permissions(ANYTHING, ANYTHING, ANYTHING, ())


class BrokerAccounts:
    """One administrator, whose account the user of the stack has, and one account for each role."""

    def __init__(self, folder: Path, administrator: str) -> None:
        self._folder = folder
        self._administrator = administrator
        self.definitions = folder / "definitions.json"

    def write(self) -> None:
        """Write the definitions that the node imports; the passwords in them are hashed."""
        administrator = Account(self._administrator, ("administrator",), UNLIMITED, credentials_of(self.password()))
        accounts = [administrator, *(self._account(role) for role in Role)]
        definitions = {"vhosts": [{"name": VHOST}], **to_definitions(accounts, VHOST)}
        write_private(self.definitions, json.dumps(definitions))

    def password(self, role: Role | None = None) -> str:
        """The password of a role's account, or of the administrator."""
        return load_or_create_secret(self._folder / ("password" if role is None else f"password-{role}"))

    def _account(self, role: Role) -> Account:
        return Account.of_role(role.value, role, credentials_of(self.password(role)))
