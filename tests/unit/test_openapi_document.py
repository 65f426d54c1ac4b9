"""The OpenAPI document is complete in itself, and its page loads nothing from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, cast

import pytest

from control.gateway import docs
from control.gateway.app import ROUTERS, build_app
from control.gateway.docs import PAGE, SECURITY_POLICY, START
from control.gateway.parts import GatewayParts
from control.gateway.responses import EVERYWHERE
from control.gateway.routes import GatewayRoute

DOCUMENT = build_app(cast("GatewayParts", None)).openapi()
OPERATIONS = {
    f"{method} {path}": operation for path, item in DOCUMENT["paths"].items() for method, operation in item.items()
}


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from references(inner)


def resolved(reference: str) -> Any:
    found: Any = DOCUMENT
    for key in reference.removeprefix("#/").split("/"):
        found = found[key]
    return found


def test_every_reference_can_be_resolved() -> None:
    found = set(references(DOCUMENT))
    assert "#/components/schemas/FieldError" in found
    for reference in found:
        assert resolved(reference)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_documents_what_every_route_may_answer(operation: str) -> None:
    documented = OPERATIONS[operation]["responses"].keys()
    assert {str(status) for status in EVERYWHERE} <= documented


@pytest.mark.parametrize("operation", [name for name in OPERATIONS if name.startswith("post")])
def test_an_operation_with_a_body_documents_that_it_may_be_slow_large_or_of_another_type(operation: str) -> None:
    assert {"408", "413", "415"} <= OPERATIONS[operation]["responses"].keys()


def test_every_documented_route_has_the_checks_and_limits_of_the_gateway() -> None:
    routes = [route for router in ROUTERS for route in router.routes if getattr(route, "include_in_schema", True)]
    assert len(routes) >= len(OPERATIONS)
    assert [route for route in routes if not isinstance(route, GatewayRoute)] == [
        route for route in routes if route in docs.router.routes
    ]


def test_the_end_of_a_stream_is_documented() -> None:
    assert "204" in OPERATIONS["get /api/tasks/{taskId}/progress"]["responses"]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_error_is_a_problem(operation: str) -> None:
    for status, response in OPERATIONS[operation]["responses"].items():
        if status >= "400":
            assert response["content"] == {
                "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
            }


def test_every_link_names_an_operation() -> None:
    ids = {operation["operationId"] for operation in OPERATIONS.values()}
    links = [
        link for operation in OPERATIONS.values() for link in operation["responses"].get("201", {}).get("links", ())
    ]
    assert links
    assert set(links) <= ids
    assert len(ids) == len(OPERATIONS)


def test_the_page_names_only_addresses_of_this_server() -> None:
    addresses = re.findall(r'(?:src|href|url)\s*[=:]\s*"([^"]+)"', PAGE + START)
    assert addresses
    assert all(address.startswith("/") or address == "data:," for address in addresses)
    assert "http" not in PAGE + START


def test_the_policy_of_the_page_allows_this_server_only() -> None:
    sources = {source for part in SECURITY_POLICY.split("; ") for source in part.split()[1:]}
    assert sources == {"'none'", "'self'", "data:"}
