"""`treadle topology users`: accounts on the broker, each with the permissions of its role."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from contracts.roles import Role

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="""Accounts on the broker, each limited to what its role needs.

    The commands use RabbitMQ's management API if TREADLE_BUS_ADMIN_URL names it with an administrator, as
    `http://user:password@host:15672`, or the node of a running `treadle up` if `--folder` names its folder. Without
    both, `add` prints the `rabbitmqctl` commands to run by hand.

    If each part and each client has its own account, set TREADLE_BUS_ACCOUNTS=yes for control, which then refuses a
    submission that does not name its account in the property `user_id`.
    """,
)
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the account.")]
Folder = Annotated[Path | None, typer.Option(help="Folder of a running `treadle up`.")]
PasswordFile = Annotated[
    Path | None,
    typer.Option(
        help="File with the password, or - for standard input; without it, a password is generated.", show_default=False
    ),
]
Output = Annotated[
    Path | None, typer.Option(help="Write TREADLE_BUS_URL to this file, which only you can read, instead of printing.")
]


@app.command()
def add(
    name: Name,
    role: Annotated[Role, typer.Option(help="What the account is for.")],
    password_file: PasswordFile = None,
    output: Output = None,
    folder: Folder = None,
) -> None:
    """Create an account, and print the TREADLE_BUS_URL of the part that uses it.

    An existing account gets the permissions of the role, and keeps its password unless another one is given. Run the
    command again after an update of Treadle, and for every account that `treadle topology users list` remarks on.

    **Examples**

        treadle topology users add trainer-1 --role trainer --output trainer-1.env

        treadle topology users add alice --role client --folder ~/.treadle/up
    """
    from cli.terminal import echo
    from cli.topology.accounts import add as add_account
    from cli.topology.accounts import find_target
    from cli.topology.passwords import generate_password, give_out, read_password

    target, password = find_target(folder), read_password(password_file)
    if target.accounts is None:
        password = password or generate_password()
        _print_commands(name, role, target.vhost)
        give_out(target.url_of(name, password), output)
        return
    new = asyncio.run(add_account(target.accounts, name, role, password, generate_password()))
    echo(f"{name} has the permissions of the role {role}" + ("" if new else "; its password is unchanged"))
    if new:
        give_out(target.url_of(name, new), output)


@app.command("list")
def list_accounts(folder: Folder = None) -> None:
    """List all accounts on the broker with their roles, and remark on those that may do other things.

    **Example**

        treadle topology users list
    """
    from rich.table import Table

    from cli.terminal import Terminal
    from cli.topology.accounts import find_target, reachable, remark

    accounts = asyncio.run(reachable(find_target(folder)).list())
    table = Table("account", "role", "remark", box=None, header_style="bold")
    for account in accounts:
        table.add_row(account.name, account.role or "", remark(account))
    Terminal().print(table)


@app.command()
def password(name: Name, password_file: PasswordFile = None, output: Output = None, folder: Folder = None) -> None:
    """Give an account another password; connections that are open stay open.

    **Example**

        treadle topology users password trainer-1 --output trainer-1.env
    """
    from cli.topology.accounts import find_target, reachable, set_password
    from cli.topology.passwords import generate_password, give_out, read_password

    target = find_target(folder)
    new = read_password(password_file) or generate_password()
    asyncio.run(set_password(reachable(target), name, new))
    give_out(target.url_of(name, new), output)


@app.command()
def remove(name: Name, folder: Folder = None) -> None:
    """Remove an account that `add` or `setup` has created; the broker closes its connections.

    **Example**

        treadle topology users remove alice
    """
    from cli.terminal import echo
    from cli.topology.accounts import find_target, reachable
    from cli.topology.accounts import remove as remove_account

    asyncio.run(remove_account(reachable(find_target(folder)), name))
    echo(f"{name} is removed")


@app.command()
def setup(folder: Folder = None) -> None:
    """Create one account for each role, named as the role; compose.yaml runs this before the other services.

    The passwords are in the variables RABBITMQ_CONTROL_PASSWORD, RABBITMQ_OPTIMIZER_PASSWORD,
    RABBITMQ_TRAINER_PASSWORD, RABBITMQ_EVALUATOR_PASSWORD and RABBITMQ_CLIENT_PASSWORD. Existing accounts get them,
    and the permissions of their roles, again.

    **Example**

        treadle topology users setup
    """
    from cli.terminal import echo
    from cli.topology.accounts import find_target, reachable, set_up
    from cli.topology.passwords import read_passwords

    accounts, passwords = reachable(find_target(folder)), read_passwords()
    asyncio.run(set_up(accounts, passwords))
    echo(f"accounts: {', '.join(passwords)}")


def _print_commands(name: str, role: Role, vhost: str) -> None:
    from cli.terminal import echo
    from infra.bus.rabbitmq.accounts.account import check_name
    from infra.bus.rabbitmq.accounts.ctl import commands

    echo("TREADLE_BUS_ADMIN_URL is not set. Run these commands on the machine of the broker:", err=True)
    for command in commands(check_name(name), role, vhost):
        echo(command)
    echo("The first command asks for the password: give the one in this TREADLE_BUS_URL.", err=True)
