"""Decides from the headers of a request whether a web page of another origin may have sent it. Pure.

A browser sends `Host`, `Origin` and `Sec-Fetch-Site`, and a page cannot change them. A page that has its name resolved
to this server's address (DNS rebinding) still sends its own name as `Host`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::(\d{1,5}))?")
"""A host, and a port if there is one."""
SAFE_METHODS = frozenset({"GET", "HEAD"})
OWN_SITES = frozenset({"same-origin", "none"})
"""Values of `Sec-Fetch-Site` for a request of this server's own page, and of a person."""
LOOPBACK_NAME = "localhost"
MAX_QUOTED = 100


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is refused."""

    status: HTTPStatus
    field: str
    message: str


def host_name(host: str) -> str | None:
    """The name or address in a `Host` header or an entry of a list, in its plain form; None if there is none."""
    match = HOST.fullmatch(host)
    if match is None or int(match[2] or 0) > 65535:
        return None
    name = match[1].strip("[]").lower()
    address = _address(name)
    if address is not None:
        return str(address)
    return None if match[1].startswith("[") else name.removesuffix(".") or None


class OriginPolicy:
    """Serves loopback names, the address to which a connection came, the name `bound`, and the names in `allowed`.

    An entry of `allowed`, which may have a port, is also an origin whose pages may send requests.
    """

    def __init__(self, allowed: Iterable[str] = (), bound: str = "") -> None:
        self._origins = frozenset(entry.lower() for entry in allowed)
        names = {name for entry in (*self._origins, bound) if (name := host_name(entry)) is not None}
        self._names = frozenset(name for name in names if not _unspecified(name)) | {LOOPBACK_NAME}

    def refusal(self, scope: Scope) -> Refusal | None:
        """Why this request is refused; None if it is not."""
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        name = host_name(hosts[0]) if len(hosts) == 1 else None
        if name is None:
            got = repr(hosts[0][:MAX_QUOTED]) if len(hosts) == 1 else f"{len(hosts)} headers"
            message = f"expected a name with or without a port, such as localhost:8080, got {got}"
            return Refusal(HTTPStatus.BAD_REQUEST, "Host", message)
        if not self._serves(name, scope):
            message = (
                f"this server does not answer as {name[:MAX_QUOTED]!r}; use its address, or add the name to "
                "TREADLE_HTTP_ALLOWED_HOSTS"
            )
            return Refusal(HTTPStatus.MISDIRECTED_REQUEST, "Host", message)
        return self._foreign(headers, hosts[0].lower(), scope["method"])

    def _serves(self, name: str, scope: Scope) -> bool:
        address = _address(name)
        if name in self._names or (address is not None and address.is_loopback):
            return True
        local: str = (scope.get("server") or ("",))[0]  # the address of the socket
        return name == str(_address(local) or local)

    def _foreign(self, headers: Headers, host: str, method: str) -> Refusal | None:
        sites, origins = headers.getlist("sec-fetch-site"), headers.getlist("origin")
        if all(site in OWN_SITES for site in sites) and all(self._own(origin, host) for origin in origins):
            return None
        navigates = method in SAFE_METHODS and headers.get("sec-fetch-mode") == "navigate" and not origins
        if navigates:  # a link to this server on another page; that page cannot read the answer
            return None
        field, got = ("Origin", origins[0]) if origins else ("Sec-Fetch-Site", sites[0])
        message = f"requests from pages of another origin are refused, got {got[:MAX_QUOTED]!r}"
        return Refusal(HTTPStatus.FORBIDDEN, field, message)

    def _own(self, origin: str, host: str) -> bool:
        try:
            parts = urlsplit(origin.lower())
        except ValueError:
            return False
        return parts.scheme in {"http", "https"} and (parts.netloc == host or parts.netloc in self._origins)


def is_loopback(addresses: Sequence[str]) -> bool:
    """Whether each of these IP addresses can be reached from this machine only."""
    return all((address := _address(text)) is not None and address.is_loopback for text in addresses)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _unspecified(name: str) -> bool:
    address = _address(name)
    return address is not None and address.is_unspecified
