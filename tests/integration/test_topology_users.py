"""`treadle topology users` on a real broker: by the management API, and by rabbitmqctl on a local node."""

from __future__ import annotations

import asyncio
import re
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio
from typer.testing import CliRunner, Result

from cli.main import app
from contracts.permissions import PERMISSIONS
from contracts.roles import Role
from infra.bus.port import BusUnavailable
from infra.bus.rabbitmq import RabbitMQBus
from infra.bus.rabbitmq.accounts.account import Account
from infra.bus.rabbitmq.accounts.management import ManagementAccounts
from infra.bus.rabbitmq.accounts.port import AccountsUnavailable
from infra.stack.rabbitmq import RabbitMQNode, rabbitmq_script
from tests import servers

Users = Callable[..., Result]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RabbitMQNode]:
    """A node of its own, because the management API makes every restart of a node slow."""
    if rabbitmq_script("rabbitmq-server") is None:
        servers.missing("no RabbitMQ: install rabbitmq-server")
    node = RabbitMQNode(tmp_path_factory.mktemp("managed"), management=True)
    await node.start()
    bus = RabbitMQBus(node.url)
    await bus.start()  # declares the topology, which the limited accounts may not do
    await bus.close()
    yield node
    await node.stop()


@pytest.fixture
def users(node: RabbitMQNode, monkeypatch: pytest.MonkeyPatch) -> Users:
    """Run `treadle topology users …` with the management API."""
    monkeypatch.setenv("TREADLE_BUS_URL", node.url)
    monkeypatch.setenv("TREADLE_BUS_ADMIN_URL", node.admin_url)
    return lambda *arguments, **more: CliRunner().invoke(app, ["topology", "users", *map(str, arguments)], **more)


@pytest.fixture
def name() -> str:
    """A name that no other test uses."""
    return f"test-{uuid4().hex[:8]}"


async def accounts(node: RabbitMQNode) -> dict[str, Account]:
    return {account.name: account for account in await ManagementAccounts(node.admin_url, "/").list()}


def printed_url(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return re.search(r"^TREADLE_BUS_URL=(.*)$", result.stdout, re.MULTILINE)[1]  # type: ignore[index]


async def connects(url: str) -> bool:
    bus = RabbitMQBus(url)
    try:
        await bus.start()
    except BusUnavailable:
        return False
    await bus.close()
    return True


@pytest.fixture(autouse=True)
async def _declared(bus_url: str) -> None:
    assert await connects(bus_url)


async def run(users: Users, *arguments: object, **more: object) -> Result:
    """Run the command in a thread, because it runs an event loop."""
    return await asyncio.to_thread(users, *arguments, **more)


async def test_the_local_node_has_one_account_for_each_role_and_only_the_operator_is_privileged(
    node: RabbitMQNode,
) -> None:
    listed = await accounts(node)

    assert {role.value: listed[role].tags for role in Role} == {role.value: (f"treadle-{role}",) for role in Role}
    assert all(listed[role].permissions == PERMISSIONS[role] for role in Role)
    assert [name for name, account in listed.items() if "administrator" in account.tags] == ["treadle"]


async def test_an_added_account_connects_with_the_printed_address(users: Users, name: str) -> None:
    assert await connects(printed_url(await run(users, "add", name, "--role", "trainer")))


async def test_adding_an_account_again_restores_its_role_and_keeps_its_password(
    users: Users, node: RabbitMQNode, name: str
) -> None:
    url = printed_url(await run(users, "add", name, "--role", "trainer"))
    await node.control("set_permissions", name, ".*", ".*", ".*")
    await node.control("set_user_tags", name, "treadle-trainer", "impersonator")
    listed = await run(users, "list")
    again = await run(users, "add", name, "--role", "trainer")

    assert "differs from its role" in " ".join(re.findall(rf"{name}.*", listed.output))
    assert "TREADLE_BUS_URL" not in again.output
    assert (await accounts(node))[name].as_its_role
    assert await connects(url)


async def test_another_role_replaces_all_permissions(users: Users, node: RabbitMQNode, name: str) -> None:
    await run(users, "add", name, "--role", "trainer")
    await run(users, "add", name, "--role", "client")

    assert (await accounts(node))[name].permissions == PERMISSIONS[Role.CLIENT]


async def test_a_new_password_replaces_the_old_one(users: Users, name: str) -> None:
    old = printed_url(await run(users, "add", name, "--role", "client"))
    new = printed_url(await run(users, "password", name, "--password-file", "-", input="a new one\n"))

    assert "a%20new%20one" in new
    assert (await connects(new), await connects(old)) == (True, False)


async def test_a_removed_account_cannot_connect(users: Users, name: str) -> None:
    url = printed_url(await run(users, "add", name, "--role", "client"))
    assert (await run(users, "remove", name)).exit_code == 0

    assert not await connects(url)


@pytest.mark.parametrize(
    "command", [("add", "treadle", "--role", "client"), ("remove", "treadle"), ("remove", "nobody")]
)
async def test_an_account_that_treadle_has_not_made_is_left_alone(
    users: Users, node: RabbitMQNode, command: tuple[str, ...]
) -> None:
    result = await run(users, *command)

    assert (result.exit_code, command[1] in result.stderr) == (2, True)
    assert (await accounts(node))["treadle"].tags == ("administrator",)


async def test_setup_creates_the_account_of_each_role_with_its_password_and_may_be_repeated(
    users: Users, node: RabbitMQNode
) -> None:
    passwords = {f"RABBITMQ_{role.upper()}_PASSWORD": node._accounts.password(role) for role in Role}
    results = [await run(users, "setup", env=passwords) for _ in range(2)]

    assert [result.exit_code for result in results] == [0, 0]
    assert [role for role in Role if not await connects(node.url_of(role))] == []


async def test_the_local_node_is_changed_by_rabbitmqctl_and_the_address_is_in_a_private_file(
    users: Users, node: RabbitMQNode, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TREADLE_BUS_ADMIN_URL")
    (tmp_path / "rabbitmq").symlink_to(node._folder)
    output = tmp_path / "trainer.env"
    output.write_text("readable by all")
    result = await run(users, "add", name, "--role", "trainer", "--folder", tmp_path, "--output", output)
    url = output.read_text().strip().removeprefix("TREADLE_BUS_URL=")

    assert (result.exit_code, url in result.output) == (0, False)
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    assert await connects(url)


async def test_an_account_without_the_tag_administrator_is_told_so(node: RabbitMQNode) -> None:
    url = node.admin_url.replace("treadle:", "trainer:")

    with pytest.raises(AccountsUnavailable, match="tag administrator") as refused:
        await ManagementAccounts(url, "/").list()
    assert node._accounts.password() not in str(refused.value)
