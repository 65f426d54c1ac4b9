"""Requests that a web page of another origin can make a browser send."""

from __future__ import annotations

from collections.abc import Mapping

from tests.attack.target import Target, require

FOREIGN: tuple[Mapping[str, str], ...] = (
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
)
HOSTS = ("evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example", "")
REFUSED = (400, 403, 421)


async def uploads_from_another_origin(target: Target) -> int:
    """A form needs no preflight, so that only the server can refuse it."""
    for headers in FOREIGN:
        async with target.client(headers=dict(headers)) as client:
            file = {"file": ("a.csv", b"text,category\na,b\n", "text/csv")}
            answer = await client.post("/api/datasets/upload", files=file, data={"name": "a", "userId": "1"})
        require(answer.status_code in REFUSED, f"{headers}: an upload was answered {answer.status_code}")
    return len(FOREIGN)


async def requests_without_a_body_from_another_origin(target: Target) -> int:
    """Cancelling a task needs no body and so no preflight."""
    task = await target.submit()
    for headers in FOREIGN:
        async with target.client(headers=dict(headers)) as client:
            answer = await client.post(f"/api/tasks/{task}/cancel")
        require(answer.status_code in REFUSED, f"{headers}: a cancel was answered {answer.status_code}")
    return len(FOREIGN)


async def names_that_are_bound_to_loopback_later(target: Target) -> int:
    """DNS rebinding: the page's own name leads to the gateway."""
    for host in HOSTS:
        for path in ("/api/tasks", "/readyz", "/metrics", "/openapi.json"):
            async with target.client(headers={"Host": host}) as client:
                answer = await client.get(path)
            require(answer.status_code in REFUSED, f"{host!r}: {path} was answered {answer.status_code}")
    return len(HOSTS) * 4


async def answers_without_security_headers(target: Target) -> int:
    """Every answer forbids guessing of types and foreign frames, errors included."""
    for path in ("/", "/docs", "/api/tasks", "/api/tasks/none", "/openapi.json", "/metrics", "/nothing"):
        async with target.client() as client:
            answer = await client.get(path)
        require(answer.headers.get("x-content-type-options") == "nosniff", f"{path} has no nosniff")
        require("content-security-policy" in answer.headers, f"{path} has no content security policy")
        require("access-control-allow-origin" not in answer.headers, f"{path} allows foreign origins")
    return 7
