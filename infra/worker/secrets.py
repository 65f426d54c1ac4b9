"""The worker's own secrets, which its programs must not show: of its settings and of its environment."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from infra.child.environment import ALLOWED_VARIABLES, SECRET_WORDS, child_environment
from infra.settings import Settings

MIN_SECRET, MIN_VALUE = 4, 8
"""Bytes of a password or a key, and of another value, from which it is taken to be a secret."""
WELL_KNOWN = frozenset({"guest", "treadle"})
"""Default passwords and keys, which everyone knows and which are words of most logs."""
NAMED_SECRET = (*SECRET_WORDS, "PASS", "PWD", "COOKIE", "HEADERS", "AUTH")
NAMED_HARMLESS = (
    "BUCKET", "DATABASE", "DEVICE", "DIR", "ENDPOINT", "FILE", "HOME", "HOST", "LEVEL", "NAME", "PATH", "PORT",
    "PROFILE", "REGION", "TIMEOUT", "USER", "VERSION",
)  # fmt: skip
"""How the names of variables end whose values are no secrets."""
_PLAIN = re.compile(r"/.*|[a-z0-9+.-]+://.*|[\w.-]+:\d+|[\d.]+")
"""A path, an address, a host with a port, or a number; passwords in addresses are found before."""


def secret_values(settings: Settings, environment: Mapping[str, str]) -> frozenset[bytes]:
    """Passwords and keys of the settings, and what programs do not get from the worker's environment, and HF_TOKEN."""
    kept = child_environment(environment).keys() - ALLOWED_VARIABLES
    hidden = {name: value for name, value in environment.items() if name not in kept and not _is_setting(name)}
    found = [*_of_settings(settings), *(secret for item in hidden.items() for secret in _of_variable(*item))]
    return frozenset(secret.encode(errors="surrogateescape") for secret in found if secret not in WELL_KNOWN)


def _of_settings(settings: Settings) -> Iterator[str]:
    for _, value in settings:
        if isinstance(value, SecretStr):
            text = value.get_secret_value()
            yield from _of_address(text) if "://" in text else _lines(text, MIN_SECRET)


def _of_variable(name: str, value: str) -> Iterator[str]:
    upper = name.upper()
    yield from _of_address(value)
    if "HEADERS" in upper:
        yield from (part for part in re.split(r"[\s,;=]+", unquote(value)) if len(part) >= MIN_VALUE)
    if any(word in upper for word in NAMED_SECRET):
        yield from _lines(value, MIN_SECRET)
    elif not upper.endswith(NAMED_HARMLESS) and not _PLAIN.fullmatch(value):
        yield from _lines(value, MIN_VALUE)


def _of_address(value: str) -> Iterator[str]:
    """The password of an address, as it is written there and decoded."""
    try:
        password = urlsplit(value).password or ""
    except ValueError:  # not an address
        return
    for text in (password, unquote(password)):
        if len(text) >= MIN_SECRET:
            yield text


def _lines(value: str, minimum: int) -> Iterator[str]:
    """Each line of a secret by itself, because a log is masked line by line."""
    yield from (line for part in value.splitlines() if len(line := part.strip()) >= minimum)


def _is_setting(name: str) -> bool:
    prefix, _, field = name.upper().partition("TREADLE_")
    return not prefix and field.lower() in Settings.model_fields
