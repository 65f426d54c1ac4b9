"""Accounts of the broker: their definitions, names, passwords and the commands for a person."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import shlex
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from cli.main import app
from cli.topology import accounts as operations
from cli.topology.accounts import AccountRefused, remark
from cli.topology.passwords import give_out, read_password, read_passwords, variable_of
from contracts.errors import InvalidInput
from contracts.permissions import PERMISSIONS
from contracts.roles import Role
from infra.bus.rabbitmq.accounts import port
from infra.bus.rabbitmq.accounts.account import Account, check_name, credentials_of
from infra.bus.rabbitmq.accounts.ctl import CtlAccounts, commands
from infra.bus.rabbitmq.accounts.definitions import from_definitions, to_definitions
from infra.bus.rabbitmq.accounts.port import AccountsUnavailable

OPERATOR = Account("operator", ("administrator",))


class FakeBroker:
    """Accounts in memory; `deaf` ones are not taken over."""

    def __init__(self, *accounts: Account, deaf: bool = False) -> None:
        self.accounts = {account.name: account for account in accounts}
        self._deaf = deaf

    async def list(self) -> list[Account]:
        return list(self.accounts.values())

    async def send(self, accounts: Sequence[Account]) -> None:
        if not self._deaf:
            self.accounts |= {account.name: account for account in accounts}

    async def remove(self, name: str) -> None:
        del self.accounts[name]


def account(role: Role, name: str = "a", password: str = "secret") -> Account:
    return Account.of_role(name, role, credentials_of(password))


@pytest.mark.parametrize("role", Role)
def test_what_is_written_as_definitions_is_read_back(role: Role) -> None:
    written = account(role)

    assert from_definitions(to_definitions([written], "/v"), "/v") == [written]


@pytest.mark.parametrize("role", Role)
def test_every_topic_permission_comes_with_its_exchange(role: Role) -> None:
    definitions = to_definitions([account(role)], "/v")

    assert {row["exchange"] for row in definitions["topic_permissions"]} <= {
        row["name"] for row in definitions["exchanges"] if (row["vhost"], row["type"]) == ("/v", "topic")
    }


def test_permissions_of_another_virtual_host_do_not_count() -> None:
    (read,) = from_definitions(to_definitions([account(Role.TRAINER)], "/"), "/other")

    assert (read.permissions, remark(read)[:7]) == (None, "differs")


def test_the_password_is_stored_as_a_salted_hash() -> None:
    stored = [base64.b64decode(credentials_of("secret")["password_hash"]) for _ in range(2)]

    assert [digest[4:] for digest in stored] == [hashlib.sha256(d[:4] + b"secret").digest() for d in stored]
    assert stored[0] != stored[1]


def test_no_account_of_a_role_has_a_privileged_tag() -> None:
    assert {account(role).tags for role in Role} == {(f"treadle-{role}",) for role in Role}


@pytest.mark.parametrize("tags", [("treadle-trainer", "impersonator"), ("treadle-trainer", "administrator")])
def test_an_account_with_a_privileged_tag_differs_from_its_role(tags: tuple[str, ...]) -> None:
    assert "differs from its role" in remark(Account("a", tags, PERMISSIONS[Role.TRAINER]))


async def test_a_new_account_gets_the_generated_password() -> None:
    broker = FakeBroker()

    assert await operations.add(broker, "a", Role.CLIENT, None, "generated") == "generated"
    assert broker.accounts["a"].as_its_role


async def test_an_existing_account_keeps_its_password_and_changes_its_role() -> None:
    existing = account(Role.TRAINER)
    broker = FakeBroker(existing)

    assert await operations.add(broker, "a", Role.CLIENT, None, "generated") is None
    assert broker.accounts["a"] == Account.of_role("a", Role.CLIENT, existing.credentials)


@pytest.mark.parametrize("action", ["add", "set_password", "remove"])
async def test_an_account_that_treadle_has_not_made_is_refused(action: str) -> None:
    broker = FakeBroker(OPERATOR)
    more = {"add": (Role.CLIENT, None, "g"), "set_password": ("p",), "remove": ()}[action]
    with pytest.raises(AccountRefused, match="operator"):
        await getattr(operations, action)(broker, "operator", *more)

    assert broker.accounts == {"operator": OPERATOR}


async def test_setup_changes_nothing_if_the_name_of_a_role_is_in_use() -> None:
    broker = FakeBroker(Account("trainer", ()))
    with pytest.raises(AccountRefused, match="trainer"):
        await operations.set_up(broker, dict.fromkeys(Role, "password"))

    assert list(broker.accounts) == ["trainer"]


async def test_a_broker_that_does_not_take_an_account_over_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port, "APPLY_TIMEOUT", 0.0)
    with pytest.raises(AccountsUnavailable, match="a: see its log"):
        await port.save(FakeBroker(deaf=True), [account(Role.CLIENT)])


async def test_rabbitmqctl_receives_no_secret_as_an_argument() -> None:
    calls: list[tuple[tuple[str, ...], str]] = []

    async def run(*arguments: str, stdin: str = "") -> str:
        calls.append((arguments, stdin))
        return ""

    await CtlAccounts(run, "/").send([account(Role.CLIENT)])
    ((arguments, stdin),) = calls

    assert arguments == ("import_definitions",)
    assert '"password_hash"' in stdin


async def test_output_that_is_no_definitions_is_an_error() -> None:
    async def run(*_: str, stdin: str = "") -> str:
        return "Error: unable to connect"

    with pytest.raises(AccountsUnavailable, match="no definitions"):
        await CtlAccounts(run, "/").list()


@given(st.text())
def test_a_name_is_refused_or_stands_in_addresses_and_commands_as_it_is(name: str) -> None:
    try:
        check_name(name)
    except InvalidInput:
        return
    assert shlex.quote(name) == name
    assert re.fullmatch(r"[\w.-]{1,64}", name, re.ASCII)


@pytest.mark.parametrize("name", ["", "-p", ".a", "a b", "a\n", "a:b", "a@b", "a/b", "é", "a" * 65, "[/b]"])
def test_a_wrong_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="NAME"):
        check_name(name)


@pytest.mark.parametrize("content", ["", "\n", "a" * 201, "a\tb", "\x1b[2J"])
def test_a_wrong_password_is_refused_and_not_shown(content: str, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(content)
    with pytest.raises(InvalidInput, match="--password-file: expected a password") as refused:
        read_password(file)

    assert not content.strip() or content not in str(refused.value)


def test_a_password_is_the_first_line_of_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("secret\nmore\n"))

    assert read_password(Path("-")) == "secret"


def test_missing_variables_of_setup_are_named() -> None:
    given = {variable_of(role): "password" for role in Role if role is not Role.TRAINER}
    with pytest.raises(InvalidInput, match=r"^RABBITMQ_TRAINER_PASSWORD: expected a password$"):
        read_passwords(given)


def test_an_address_is_written_to_a_file_that_only_its_owner_can_read(tmp_path: Path) -> None:
    file = tmp_path / "a.env"
    file.write_text("old")
    file.chmod(0o644)
    give_out("amqp://a:secret@host/", file)

    assert (file.read_text(), stat.S_IMODE(file.stat().st_mode)) == ("TREADLE_BUS_URL=amqp://a:secret@host/\n", 0o600)


@pytest.mark.parametrize("role", Role)
def test_the_commands_for_a_person_set_what_the_definitions_set(role: Role) -> None:
    words = [shlex.split(command)[1:] for command in commands("a", role, "/")]
    permissions = PERMISSIONS[role]

    assert words[0] == ["add_user", "a"]
    assert words[1] == ["set_user_tags", "a", f"treadle-{role}"]
    assert words[-1][-3:] == [permissions.configure, permissions.write, permissions.read]
    assert [tuple(line[-3:]) for line in words[2:-1]] == [(t.exchange, t.write, t.read) for t in permissions.topics]


def test_without_a_way_to_the_broker_add_prints_the_commands_and_the_address() -> None:
    result = CliRunner().invoke(
        app,
        ["topology", "users", "add", "alice", "--role", "client", "--password-file", "-"],
        input="s3cret\n",
        env={"TREADLE_BUS_URL": "amqp://guest:guest@broker:5673/models", "TREADLE_BUS_ADMIN_URL": None},
    )
    *lines, address = result.stdout.splitlines()

    assert result.exit_code == 0
    assert address == "TREADLE_BUS_URL=amqp://alice:s3cret@broker:5673/models"
    assert all(line.startswith("rabbitmqctl ") and "s3cret" not in line for line in lines)
    assert "--vhost models" in lines[-1]


@pytest.mark.parametrize("command", [("list",), ("remove", "a"), ("password", "a"), ("setup",)])
def test_the_other_commands_say_how_to_reach_the_broker(command: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, ["topology", "users", *command], env={"TREADLE_BUS_ADMIN_URL": None})

    assert result.exit_code == 2
    assert "TREADLE_BUS_ADMIN_URL: expected the management API" in result.stderr


def test_the_in_process_bus_has_no_accounts() -> None:
    result = CliRunner().invoke(app, ["topology", "users", "list"], env={"TREADLE_BUS_URL": "in-process"})

    assert (result.exit_code, "TREADLE_BUS_URL" in result.stderr) == (2, True)


def test_the_management_address_is_checked_without_showing_its_password() -> None:
    env = {"TREADLE_BUS_ADMIN_URL": "ftp://admin:s3cret@host"}
    result = CliRunner().invoke(app, ["topology", "users", "list"], env=env)

    assert result.exit_code == 2
    assert "TREADLE_BUS_ADMIN_URL" in result.stderr
    assert "s3cret" not in result.output
