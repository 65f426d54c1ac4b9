"""What `treadle topology users` does with the accounts of a broker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from yarl import URL

from cli.settings import read_settings
from contracts.errors import FieldError, InvalidInput, TreadleError
from contracts.roles import Role
from infra.bus.rabbitmq.accounts.account import Account, check_name, credentials_of
from infra.bus.rabbitmq.accounts.ctl import CtlAccounts
from infra.bus.rabbitmq.accounts.management import ManagementAccounts
from infra.bus.rabbitmq.accounts.port import Accounts, save
from infra.settings import IN_PROCESS
from infra.stack.broker_accounts import VHOST
from infra.stack.rabbitmq import RabbitMQNode


class AccountRefused(TreadleError):
    """There is no such account, or Treadle has not made it and leaves it as it is."""

    wrong_input = True


@dataclass(frozen=True, slots=True)
class Target:
    """A broker: its address for AMQP, its virtual host, and its accounts; None: they cannot be reached from here."""

    address: URL
    vhost: str
    accounts: Accounts | None

    def url_of(self, name: str, password: str) -> str:
        """The URL with which an account connects."""
        return str(self.address.with_user(name).with_password(password))


def find_target(folder: Path | None) -> Target:
    """The node of a local stack in `folder`, else the broker that the settings name. Raises StackFailed."""
    if folder is not None:
        node = RabbitMQNode.running_in(folder.expanduser().resolve() / "rabbitmq")
        return Target(URL(f"amqp://{node.address}"), VHOST, CtlAccounts(node.control, VHOST))
    settings = read_settings()
    if settings.bus_url.get_secret_value() == IN_PROCESS:
        message = "expected the address of a RabbitMQ; the in-process bus has no accounts"
        raise InvalidInput((FieldError(field="TREADLE_BUS_URL", message=message),))
    address = URL(settings.bus_url.get_secret_value())
    vhost = address.path.removeprefix("/") or VHOST
    admin = settings.bus_admin_url
    return Target(address, vhost, ManagementAccounts(admin.get_secret_value(), vhost) if admin else None)


def reachable(target: Target) -> Accounts:
    """The accounts of the broker. Raises InvalidInput if they cannot be reached."""
    if target.accounts is None:
        message = "expected the management API, as http://user:password@host:15672; or give --folder of a `treadle up`"
        raise InvalidInput((FieldError(field="TREADLE_BUS_ADMIN_URL", message=message),))
    return target.accounts


async def add(accounts: Accounts, name: str, role: Role, password: str | None, generated: str) -> str | None:
    """Give an account the permissions of a role; return its password if that is new.

    A new account without `password` gets the `generated` one. Raises AccountRefused if Treadle has not made it.
    """
    existing = await _find(accounts, check_name(name))
    if existing is not None and password is None:
        await save(accounts, [Account.of_role(name, role, existing.credentials)])
        return None
    new = password or generated
    await save(accounts, [Account.of_role(name, role, credentials_of(new))])
    return new


async def set_password(accounts: Accounts, name: str, password: str) -> None:
    """Set the password of an account. Raises AccountRefused if it does not exist or Treadle has not made it."""
    await save(accounts, [(await _require(accounts, name)).with_password(password)])


async def remove(accounts: Accounts, name: str) -> None:
    """Remove an account. Raises AccountRefused if it does not exist or Treadle has not made it."""
    await accounts.remove((await _require(accounts, name)).name)


async def set_up(accounts: Accounts, passwords: Mapping[Role, str]) -> None:
    """Create one account for each role, named as the role. Raises AccountRefused if a name is in use otherwise."""
    for role in passwords:
        await _find(accounts, role.value)
    await save(accounts, [Account.of_role(role, role, credentials_of(passwords[role])) for role in passwords])


def remark(account: Account) -> str:
    """Why an account may do other things than a role says; empty if it does not."""
    if account.role is None:
        return f"not made by Treadle; tags: {', '.join(account.tags) or 'none'}"
    if not account.as_its_role:
        return f"differs from its role: run `treadle topology users add {account.name} --role {account.role}`"
    return ""


async def _find(accounts: Accounts, name: str) -> Account | None:
    found = next((account for account in await accounts.list() if account.name == name), None)
    if found is not None and found.role is None:
        raise AccountRefused(f"the account {name} exists and was not made by Treadle: choose another name")
    return found


async def _require(accounts: Accounts, name: str) -> Account:
    found = await _find(accounts, name)
    if found is None:
        raise AccountRefused(f"there is no account {name}: see `treadle topology users list`")
    return found
