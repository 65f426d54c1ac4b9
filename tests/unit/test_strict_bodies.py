"""Every number, boolean and text in a request is of its JSON type, over HTTP and over the broker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import BaseModel, ValidationError

from contracts.errors import UndecodableMessage
from contracts.http import ContinuousTaskRequest, InterventionRequest, StandardTaskRequest
from contracts.options import Metric, Stage
from contracts.wire import decode, field_errors, kind_of, version_of
from control.consumers.submissions.handlers import SUBMISSIONS
from control.gateway.app import build_app
from control.gateway.parts import GatewayParts
from tests.request_bodies import REQUEST_BODIES

GOLDEN = Path(__file__).parents[1] / "wire"
TASK = {"taskName": "t", "modelName": "/models/x", "datasetId": "ds-x", "userId": 1}
REQUIRED = {StandardTaskRequest: TASK, ContinuousTaskRequest: TASK, InterventionRequest: {"reason": "it is stuck"}}
WRONG: dict[str, tuple[object, ...]] = {
    "integer": (True, False, "5", 1.0, 1.5, [], {}),
    "number": (True, False, "0.5", [], {}),
    "boolean": (0, 1, 1.0, "true", [], {}),
    "string": (True, 1, 1.5, [], {}),
    "object": (True, 1, [], "[]"),
}
"""For each JSON type, values of other types that pydantic or Python might take for it."""

Leaf = tuple[tuple[str, ...], str]


def leaves(schema: dict[str, Any], definitions: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[Leaf]:
    """The path and the JSON type of every field."""
    for name, field in schema["properties"].items():
        branches = [branch for branch in field.get("anyOf", [field]) if branch.get("type") != "null"]
        assert len(branches) == 1, f"{name} has several types; say here which values are wrong for it"
        branch = branches[0]
        if "$ref" in branch:
            branch = definitions[branch["$ref"].rpartition("/")[2]]
        yield (*path, name), branch["type"]
        if branch["type"] == "object":
            yield from leaves(branch, definitions, (*path, name))


def leaves_of(model: type[BaseModel]) -> list[Leaf]:
    schema = model.model_json_schema()
    return list(leaves(schema, schema.get("$defs", {})))


def with_value(body: dict[str, Any], path: tuple[str, ...], value: object) -> dict[str, Any]:
    """The body with one field set; the objects on the way have no other field."""
    for name in reversed(path[1:]):
        value = {name: value}
    return {**body, path[0]: value}


CASES = [(body, path, kind) for body in REQUEST_BODIES for path, kind in leaves_of(body)]
NAMES = [f"{body.__name__}-{'.'.join(path)}" for body, path, _ in CASES]


@pytest.mark.parametrize(("body", "path", "kind"), CASES, ids=NAMES)
def test_a_value_of_another_type_is_refused_by_its_field(
    body: type[BaseModel], path: tuple[str, ...], kind: str
) -> None:
    for wrong in WRONG[kind]:
        with pytest.raises(ValidationError) as caught:
            body.model_validate(with_value(REQUIRED.get(body, {}), path, wrong))
        assert [error.field for error in field_errors(caught.value)] == [".".join(path)], f"{wrong!r} for {kind}"


@pytest.mark.parametrize(
    ("name", "kind"),
    [(path[1], kind) for path, kind in leaves_of(StandardTaskRequest) if path[0] == "hyperparameters" and path[1:]],
)
def test_hyperparameters_in_a_string_are_as_strict(name: str, kind: str) -> None:
    for wrong in WRONG[kind]:
        with pytest.raises(ValidationError) as caught:
            StandardTaskRequest.model_validate({**TASK, "hyperparameters": json.dumps({name: wrong})})
        assert [error.field for error in field_errors(caught.value)] == [f"hyperparameters.{name}"]


def wire_cases() -> Iterator[tuple[type[Any], tuple[str, ...], str]]:
    for message in SUBMISSIONS:
        if kind_of(message) != "create_task":
            yield from ((message, path, kind) for path, kind in leaves_of(message))


SUBMITTED = [case for case in wire_cases() if case[1][0] not in {"kind", "version"}]


def golden(message: type[Any]) -> dict[str, Any]:
    body: dict[str, Any] = json.loads((GOLDEN / f"{kind_of(message)}.v{version_of(message)}.json").read_bytes())
    return body


@pytest.mark.parametrize(
    ("message", "path", "kind"), SUBMITTED, ids=[f"{kind_of(message)}-{path[0]}" for message, path, _ in SUBMITTED]
)
def test_a_submission_with_a_value_of_another_type_is_refused_by_its_field(
    message: type[Any], path: tuple[str, ...], kind: str
) -> None:
    for wrong in WRONG[kind]:
        body = with_value(golden(message), path, wrong)
        with pytest.raises(UndecodableMessage) as caught:
            decode(json.dumps(body).encode(), message)
        assert [error.field for error in caught.value.errors] == [".".join(path)], f"{wrong!r} for {kind}"


CREATE = next(message for message in SUBMISSIONS if kind_of(message) == "create_task")


@pytest.mark.parametrize(("path", "kind"), [(p, k) for p, k in leaves_of(ContinuousTaskRequest) if p != ("mode",)])
def test_a_task_over_the_broker_is_as_strict(path: tuple[str, ...], kind: str) -> None:
    for wrong in WRONG[kind]:
        task = with_value({**TASK, "mode": "CONTINUOUS"}, path, wrong)
        with pytest.raises(UndecodableMessage) as caught:
            decode(json.dumps({**golden(CREATE), "task": task}).encode(), CREATE)
        assert [error.field for error in caught.value.errors] == [".".join(("task", "CONTINUOUS", *path))]


@pytest.mark.parametrize("as_string", [False, True])
def test_an_integer_is_a_number_and_a_text_is_an_option(as_string: bool) -> None:
    given: dict[str, Any] = {"epochs": 3, "stage": "pt"}
    hyperparameters = json.dumps(given) if as_string else given
    body = StandardTaskRequest.model_validate(
        {**TASK, "hyperparameters": hyperparameters, "evaluation": {"metric": "rouge_l"}}
    )
    assert (body.hyperparameters.epochs, body.hyperparameters.stage) == (3.0, Stage.PT)
    assert body.evaluation.metric is Metric.ROUGE_L


def test_every_body_of_the_gateway_is_tested_here() -> None:
    paths = build_app(cast("GatewayParts", None)).openapi()["paths"]
    schemas = [
        operation["requestBody"]["content"].get("application/json", {}).get("schema", {})
        for path in paths.values()
        for operation in path.values()
        if "requestBody" in operation
    ]
    named = {branch["$ref"].rpartition("/")[2] for s in schemas for branch in s.get("anyOf", [s]) if "$ref" in branch}
    assert named == {body.__name__ for body in REQUEST_BODIES}
