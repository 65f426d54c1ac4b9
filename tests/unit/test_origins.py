"""Which requests a web page of another origin may have sent."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Scope

from control.gateway.origins import OriginPolicy, host_name, is_loopback

LOCAL = ("10.0.0.7", 8080)


def scope(*headers: tuple[str, str], method: str = "POST", host: str | None = "localhost:8080", **more: Any) -> Scope:
    given = [*headers] if host is None else [("host", host), *headers]
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in given]
    return {"type": "http", "method": method, "path": "/", "headers": raw, "server": LOCAL, **more}


def status(policy: OriginPolicy, *headers: tuple[str, str], **more: Any) -> int:
    refusal = policy.refusal(scope(*headers, **more))
    return 200 if refusal is None else refusal.status


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:8080",
        "localhost.",
        "localhost.:8080",
        "127.0.0.1",
        "127.0.0.1:1",
        "127.8.8.8",
        "[::1]",
        "[::1]:8080",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]:80",
        "10.0.0.7",
        "10.0.0.7:9",
        "treadle.example",
        "Treadle.Example.:443",
        "proxy.example:8443",
        "bound.example",
    ],
)
def test_the_gateway_answers_as_loopback_as_its_own_address_and_as_the_allowed_names(host: str) -> None:
    policy = OriginPolicy(("treadle.example", "proxy.example:443"), "bound.example")
    assert status(policy, host=host) == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.0.0.8",
        "0.0.0.0",
        "[::]",
        "[2001:db8::1]",
        "2130706433",
        "treadle.example",
    ],
)
def test_another_name_is_misdirected(host: str) -> None:
    assert status(OriginPolicy(), host=host) == 421


@pytest.mark.parametrize("bound", ["0.0.0.0", "::"])
def test_an_address_that_stands_for_all_is_no_name_of_the_server(bound: str) -> None:
    assert status(OriginPolicy((bound,), bound), host="[::]" if ":" in bound else bound) == 421


@pytest.mark.parametrize(
    "host",
    [
        "",
        " ",
        ":8080",
        "a b",
        "localhost:",
        "localhost:port",
        "localhost:99999",
        "[::1",
        "[]",
        "[z]",
        "a/b",
        "é",
        "u@h",
        ".",
    ],
)
def test_a_malformed_host_is_a_bad_request(host: str) -> None:
    assert status(OriginPolicy(), host=host) in {400, 421}
    assert status(OriginPolicy(), host=host) != 200


def test_a_missing_host_is_a_bad_request() -> None:
    assert status(OriginPolicy(), host=None) == 400


def test_two_hosts_are_a_bad_request() -> None:
    assert status(OriginPolicy(), ("Host", "localhost")) == 400


@pytest.mark.parametrize("site", ["cross-site", "same-site", "", "CROSS-SITE", "x"])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "GET", "HEAD"])
def test_a_request_of_another_site_is_forbidden(site: str, method: str) -> None:
    assert status(OriginPolicy(), ("Sec-Fetch-Site", site), method=method) == 403


@pytest.mark.parametrize("site", ["same-origin", "none"])
def test_a_request_of_the_own_page_or_of_a_person_is_served(site: str) -> None:
    assert status(OriginPolicy(), ("Sec-Fetch-Site", site)) == 200


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "",
        "http://localhost",
        "http://localhost:3000",
        "http://127.0.0.1:8080",
        "http://localhost:8080@evil.example",
        "http://[",
        "file://",
        "chrome-extension://localhost:8080",
    ],
)
def test_a_request_with_a_foreign_origin_is_forbidden(origin: str) -> None:
    assert status(OriginPolicy(bound="localhost"), ("Origin", origin)) == 403


def test_a_foreign_origin_is_forbidden_whatever_sec_fetch_site_says() -> None:
    assert status(OriginPolicy(), ("Origin", "http://evil.example"), ("Sec-Fetch-Site", "same-origin")) == 403


def test_one_foreign_value_of_two_is_enough() -> None:
    assert status(OriginPolicy(), ("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Site", "cross-site")) == 403
    assert status(OriginPolicy(), ("Origin", "http://localhost:8080"), ("Origin", "http://evil.example")) == 403


@pytest.mark.parametrize("origin", ["http://localhost:8080", "https://LOCALHOST:8080"])
def test_the_own_origin_is_served(origin: str) -> None:
    assert status(OriginPolicy(), ("Origin", origin)) == 200


def test_the_origin_of_an_allowed_name_is_served_behind_a_proxy_that_changes_the_host() -> None:
    policy = OriginPolicy(("treadle.example",))
    assert status(policy, ("Origin", "https://treadle.example")) == 200
    assert status(policy, ("Origin", "https://treadle.example:9999")) == 403


def test_a_link_on_another_page_may_be_followed_but_not_sent_as_a_form() -> None:
    link = (("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate"))
    assert status(OriginPolicy(), *link, method="GET") == 200
    assert status(OriginPolicy(), *link, method="POST") == 403


def test_a_page_of_another_origin_cannot_read_with_get() -> None:
    headers = (("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "cors"), ("Origin", "http://evil.example"))
    assert status(OriginPolicy(), *headers, method="GET") == 403


@given(host=st.text(max_size=60), origin=st.text(max_size=60), site=st.text(max_size=20))
def test_any_text_in_the_headers_is_decided_without_an_error(host: str, origin: str, site: str) -> None:
    headers = [("host", host), ("origin", origin), ("sec-fetch-site", site)]
    raw = [(name.encode(), value.encode("utf-8", "replace")) for name, value in headers]
    OriginPolicy().refusal({"type": "http", "method": "GET", "path": "/", "headers": raw, "server": LOCAL})


@given(st.from_regex(r"[a-z][a-z0-9-]{0,20}(\.[a-z]{2,6}){1,2}", fullmatch=True))
def test_no_name_but_the_allowed_ones_is_served(name: str) -> None:
    assert status(OriginPolicy(), host=f"{name}:8080") == 421


def test_a_name_is_compared_in_its_plain_form() -> None:
    assert host_name("[2001:DB8:0::1]:80") == host_name("[2001:db8::1]")


@pytest.mark.parametrize(
    ("addresses", "loopback"),
    [
        (["127.0.0.1"], True),
        (["127.0.0.1", "::1"], True),
        (["::ffff:127.0.0.1"], True),
        (["127.0.0.1", "192.168.1.5"], False),
        (["0.0.0.0"], False),
        (["::"], False),
    ],
)
def test_every_address_must_be_of_this_machine(addresses: list[str], loopback: bool) -> None:
    assert is_loopback(addresses) is loopback
