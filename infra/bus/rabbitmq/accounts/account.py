"""An account on the broker; its tag says its role."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from dataclasses import dataclass, field, replace
from typing import Any

from contracts.errors import FieldError, InvalidInput
from contracts.permissions import PERMISSIONS, Permissions
from contracts.roles import Role

TAG = "treadle-"
"""The tag of a trainer's account is `treadle-trainer`; RabbitMQ gives such a tag no meaning."""
ROLE_OF_TAG = {f"{TAG}{role}": role for role in Role}
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
MAX_PASSWORD = 200
"""Characters."""


@dataclass(frozen=True, slots=True)
class Account:
    """An account with its permissions in one virtual host; None: it has none there."""

    name: str
    tags: tuple[str, ...]
    permissions: Permissions | None = None
    credentials: dict[str, Any] = field(default_factory=dict, repr=False)
    """The fields of RabbitMQ's definitions with which it checks the password: hash and algorithm."""

    @classmethod
    def of_role(cls, name: str, role: Role, credentials: dict[str, Any]) -> Account:
        """The account as it must be."""
        return cls(name, (f"{TAG}{role}",), PERMISSIONS[role], credentials)

    @property
    def role(self) -> Role | None:
        """The role of its tag; None if Treadle has not made the account."""
        return next((ROLE_OF_TAG[tag] for tag in self.tags if tag in ROLE_OF_TAG), None)

    @property
    def as_its_role(self) -> bool:
        """Whether the account may do exactly what its role may do."""
        return self.role is not None and self == self.of_role(self.name, self.role, self.credentials)

    def with_password(self, password: str) -> Account:
        """The account with a new password."""
        return replace(self, credentials=credentials_of(password))


def check_name(name: str) -> str:
    """The name of an account. Raises InvalidInput if it has characters that an address cannot contain as they are."""
    if NAME_PATTERN.fullmatch(name) is None:
        message = (
            f"expected 1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit, found {name!r:.80}"
        )
        raise InvalidInput((FieldError(field="NAME", message=message),))
    return name


def check_password(password: str, field: str) -> str:
    """The password. Raises InvalidInput, which names `field` and does not show the password."""
    if not password or len(password) > MAX_PASSWORD or not password.isprintable():
        message = f"expected a password of 1 to {MAX_PASSWORD} printable characters"
        raise InvalidInput((FieldError(field=field, message=message),))
    return password


def credentials_of(password: str) -> dict[str, Any]:
    """The salted hash of a password as RabbitMQ stores it, so that the password itself is not sent."""
    salt = os.urandom(4)
    digest = hashlib.sha256(salt + password.encode()).digest()
    return {
        "password_hash": base64.b64encode(salt + digest).decode(),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
    }
