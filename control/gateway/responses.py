"""The problems of the OpenAPI document, each in one place."""

from __future__ import annotations

from typing import Any

from fastapi.routing import APIRoute

from contracts.submissions import Problem
from control.gateway.errors import MEDIA_TYPE

COMPONENTS = "#/components/schemas/{model}"
DESCRIPTIONS = {
    400: "The header `Host` is missing or malformed, or the body has two lengths",
    403: "A web page of another origin sent this request, or the file is sealed",
    404: "The task, iteration, dataset, file or path does not exist",
    405: "The path exists, but not with this method; `Allow` names the methods. HEAD is not served",
    408: "The body did not arrive in time; the connection is closed",
    409: "The task's status, or an earlier request, does not allow this request",
    413: "The body, a part of it or the file is too large",
    415: "The content type or the content encoding is not the expected one",
    416: "The range begins after the end of the file",
    421: "This server does not answer as the name in the header `Host`",
    422: "A field is invalid; `errors` names it",
    501: "This server has no libraries to check rows",
    503: "A part of Treadle is unavailable, or the server is busy; retry after `Retry-After` seconds",
    504: "The check took too long",
}
EVERYWHERE = (400, 403, 405, 421, 422, 503)
"""The problems that every route may answer."""
BODY_PROBLEMS = (408, 413, 415)
"""The problems of routes that read a body."""


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route for these statuses."""
    schema = {"$ref": COMPONENTS.format(model=Problem.__name__)}
    return {
        status: {"description": DESCRIPTIONS[status], "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in statuses
    }


def created(description: str, field: str, *operations: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that creates something: links say which operations take its `field`."""
    value = f"$response.body#/{field}"
    links = {name: {"operationId": name, "parameters": {field: value}} for name in operations}
    return {201: {"description": description, "links": links}}


def operation_id(route: APIRoute) -> str:
    """The id of an operation, such as `tasks_show`."""
    return f"{route.tags[0]}_{route.name}" if route.tags else route.name


def with_problem_schema(document: dict[str, Any]) -> dict[str, Any]:
    """The OpenAPI document with the schema of a problem, and of the errors in it, among its components."""
    schema = Problem.model_json_schema(ref_template=COMPONENTS)
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas |= {**schema.pop("$defs"), Problem.__name__: schema}
    return document
