"""Passwords of accounts: read from files and variables, never from arguments, and given out once."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

from cli.terminal import echo
from contracts.errors import FieldError, InvalidInput
from contracts.roles import Role
from infra.bus.rabbitmq.accounts.account import check_password
from infra.stack.secrets import write_private

STANDARD_INPUT = Path("-")


def generate_password() -> str:
    """A new password of 192 random bits, which an address may contain as it is."""
    return secrets.token_urlsafe(24)


def read_password(file: Path | None) -> str | None:
    """The first line of a file or of standard input; None without a file. Raises InvalidInput if it is no password."""
    if file is None:
        return None
    text = sys.stdin.readline() if file == STANDARD_INPUT else file.read_text()
    return check_password(text.partition("\n")[0].rstrip("\r"), "--password-file")


def variable_of(role: Role) -> str:
    """The variable with the password of a role's account."""
    return f"RABBITMQ_{role.upper()}_PASSWORD"


def read_passwords(environ: Mapping[str, str] = os.environ) -> dict[Role, str]:
    """The password of each role from its variable. Raises InvalidInput, which names the missing variables."""
    missing = [variable_of(role) for role in Role if not environ.get(variable_of(role))]
    if missing:
        raise InvalidInput(tuple(FieldError(field=name, message="expected a password") for name in missing))
    return {role: check_password(environ[variable_of(role)], variable_of(role)) for role in Role}


def give_out(url: str, output: Path | None) -> None:
    """Print the address with its password, or write it to a file that only this user can read."""
    line = f"TREADLE_BUS_URL={url}"
    if output is None:
        echo(line)
        return
    output.unlink(missing_ok=True)  # an existing file would keep its permissions
    write_private(output, f"{line}\n")
    echo(f"TREADLE_BUS_URL is in {output}")
