"""`POST /api/datasets/{id}/check`: what a task would do with the rows, with real S3 servers and a real program."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import httpx
import pytest

from control.gateway import row_checks
from control.gateway.errors import CLIENT_CLOSED_REQUEST
from control.gateway.row_checks import RowChecks
from infra.settings import Settings
from tests.gateway import Gateway
from tests.object_store import s3_settings

__all__ = ["s3_settings"]

QUESTIONS = [
    {"text": f"where is my {chr(97 + n % 26)}{chr(99 + n % 7)} card now", "label": "ab"[n % 2]} for n in range(40)
]


async def uploaded(gateway: Gateway, rows: list[Any], name: str = "rows.jsonl") -> str:
    body = "".join(f"{json.dumps(row) if isinstance(row, dict) else row}\n" for row in rows)
    form = {"data": {"name": name, "userId": "1"}, "files": {"file": (name, body.encode())}}
    dataset: str = (await gateway.http.post("/api/datasets/upload", **form)).json()["datasetId"]  # type: ignore[arg-type]
    return dataset


async def check(gateway: Gateway, dataset: str, **body: Any) -> httpx.Response:
    return await gateway.http.post(f"/api/datasets/{dataset}/check", json=body, timeout=60)


async def test_a_check_counts_the_rows_and_lists_the_reasons(storing_gateway: Gateway) -> None:
    dataset = await uploaded(storing_gateway, [*QUESTIONS, "not json", {"text": " ", "label": "a"}])
    report = (await check(storing_gateway, dataset)).json()
    assert report["kept"] + report["dev"] + report["test"] == 40 and report["problem"] is None
    assert {row["place"] for row in report["setAside"]} == {"train/rows.jsonl:41", "train/rows.jsonl:42"}
    assert any(notice["text"].startswith("The answers look like labels") for notice in report["notices"])


async def test_a_problem_of_the_rows_is_an_answer_and_no_error(storing_gateway: Gateway) -> None:
    answer = await check(storing_gateway, await uploaded(storing_gateway, ["nothing", "to", "read"]))
    assert answer.status_code == 200 and answer.json()["problem"] and answer.json()["kept"] == 0


async def test_options_of_the_optimizer_are_heeded(storing_gateway: Gateway) -> None:
    dataset = await uploaded(storing_gateway, QUESTIONS)
    report = (await check(storing_gateway, dataset, optimization={"answers": "text"})).json()
    assert any("The answers are text, as set" in notice["text"] for notice in report["notices"])


async def test_the_given_dev_rows_are_used(storing_gateway: Gateway) -> None:
    train, dev = await uploaded(storing_gateway, QUESTIONS[:30]), await uploaded(storing_gateway, QUESTIONS[30:])
    assert (await check(storing_gateway, train, devDatasetId=dev)).json()["dev"] == 10


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"devDatasetId": "nowhere"}, "devDatasetId"),
        ({"modelName": "no such name"}, "modelName"),
        ({"maxLength": True}, "maxLength"),
        ({"optimization": {"maxLoss": 7}}, "optimization.maxLoss"),
    ],
)
async def test_a_wrong_field_is_named(storing_gateway: Gateway, body: dict[str, Any], field: str) -> None:
    answer = await check(storing_gateway, await uploaded(storing_gateway, QUESTIONS), **body)
    assert answer.status_code in (404, 422) and answer.json()["errors"][0]["field"] == field


async def test_a_large_dataset_is_refused_with_the_command_to_use(
    storing_gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_checks, "MAX_BYTES", 100)
    answer = await check(storing_gateway, await uploaded(storing_gateway, QUESTIONS))
    assert answer.status_code == 413 and "treadle check FILE" in answer.json()["detail"]


async def test_a_server_without_the_program_says_where_to_check(storing_gateway: Gateway) -> None:
    app = storing_gateway.http._transport.app  # type: ignore[attr-defined]
    parts = app.state.parts
    app.state.parts = replace(parts, row_checks=RowChecks(parts.store, parts.objects, Settings(), None))
    answer = await check(storing_gateway, await uploaded(storing_gateway, QUESTIONS))
    assert answer.status_code == 501 and "treadle check FILE" in answer.json()["detail"]


async def test_a_check_that_waits_too_long_for_another_one_is_503(
    storing_gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_checks, "WAITING_TIMEOUT", 0)
    datasets = [await uploaded(storing_gateway, QUESTIONS) for _ in range(2)]
    answers = await asyncio.gather(*(check(storing_gateway, dataset) for dataset in datasets))
    done, refused = sorted(answers, key=lambda answer: answer.status_code)
    assert (done.status_code, refused.status_code, refused.headers["Retry-After"]) == (200, 503, "0")
    assert "another check is running" in refused.json()["detail"]


async def test_a_check_ends_if_its_client_disconnects(storing_gateway: Gateway) -> None:
    dataset = await uploaded(storing_gateway, QUESTIONS)
    app = storing_gateway.http._transport.app  # type: ignore[attr-defined]
    path = f"/api/datasets/{dataset}/check"
    scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b""}
    messages = iter([{"type": "http.request", "body": b"", "more_body": False}])
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return next(messages, {"type": "http.disconnect"})

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app({**scope, "headers": [(b"host", b"localhost")], "http_version": "1.1"}, receive, send)
    assert sent[0]["status"] == CLIENT_CLOSED_REQUEST
    assert (await check(storing_gateway, dataset)).status_code == 200
