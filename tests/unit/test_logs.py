from __future__ import annotations

import asyncio
import json
import logging
from typing import Any
from uuid import UUID

import pytest
import structlog

from cli.services.commands import announce
from contracts.tasks import AttemptKey, Phase
from infra.logs import bind, bound, configure_logs, without_credentials
from infra.settings import Settings
from tests.hostile import LEGIT, hostile_text, unsafe_characters


def logger() -> Any:
    """A logger of a process whose logs are configured."""
    configure_logs(Settings(log_json=True), "control")
    return structlog.get_logger("test")


def line(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(capsys.readouterr().err)
    return parsed


def test_a_line_names_its_service_and_task(capsys: pytest.CaptureFixture[str]) -> None:
    with bound(task_id="t", attempt=2):
        logger().info("claimed", slots=1)
    expected = {"event": "claimed", "service": "control", "task_id": "t", "attempt": "2", "slots": 1, "level": "info"}
    assert line(capsys).items() >= expected.items()


async def test_a_line_names_the_attempt_that_its_asyncio_task_has_bound(capsys: pytest.CaptureFixture[str]) -> None:
    key = AttemptKey(task_id=UUID(int=1), iteration=2, phase=Phase.TRAIN, attempt=3)

    async def attempt() -> None:
        bind(key)
        logger().info("attempt_ended")

    await asyncio.create_task(attempt())
    expected = {"task_id": str(key.task_id), "iteration": "2", "phase": "train", "attempt": "3"}
    assert line(capsys).items() >= expected.items()


def test_a_library_logs_in_the_same_form(capsys: pytest.CaptureFixture[str]) -> None:
    logger()
    logging.getLogger("uvicorn").warning("started %s", "it")
    assert line(capsys).items() >= {"event": "started it", "logger": "uvicorn"}.items()


def test_standard_output_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    logger().info("claimed")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["password", "s3_secret_key", "token", "Authorization"])
def test_secrets_are_masked_by_name(capsys: pytest.CaptureFixture[str], name: str) -> None:
    logger().info("connected", **{name: "hidden"})
    assert line(capsys)[name] == "***"


def test_numbers_of_tokens_are_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    logger().info("trained", tokens=5)
    assert line(capsys)["tokens"] == 5


def test_a_password_in_an_exception_is_masked(capsys: pytest.CaptureFixture[str]) -> None:
    error = ValueError("cannot reach postgresql://me:hidden@host/db")
    logger().error("failed", exc_info=error)
    shown = line(capsys)["exception"]
    assert "***@host" in str(shown)
    assert "hidden" not in str(shown)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("amqp://guest:guest@127.0.0.1:5672/", "amqp://***@127.0.0.1:5672/"),
        ("amqp://me:p@ss@host/", "amqp://***@host/"),
        ("'amqp://me:secret@host', 'amqp://you:too@host'", "'amqp://***@host', 'amqp://***@host'"),
        ("postgresql://host/db?user=me&password=secret&ssl=on", "postgresql://host/db?user=me&password=***&ssl=on"),
        ("http://127.0.0.1:9000", "http://127.0.0.1:9000"),
        ("at a:b@c no address", "at a:b@c no address"),
    ],
)
def test_only_credentials_are_masked(text: str, shown: str) -> None:
    assert without_credentials(text) == shown


@pytest.mark.parametrize("json_lines", [True, False], ids=["json", "console"])
def test_a_log_line_shows_hostile_text_as_text(capsys: pytest.CaptureFixture[str], json_lines: bool) -> None:
    configure_logs(Settings(log_json=json_lines), "control")
    text = f"{hostile_text()}\ud800"
    values: dict[str, Any] = {
        "text": text,
        "nested": {text: [text]},
        "object": Exception(text),
        "short": "\x1b[2J",
    }
    structlog.get_logger("test").error(text, exc_info=ValueError(text), stack_info=True, **values)
    logging.getLogger("library").warning("%s", text)
    written = capsys.readouterr().err
    assert sorted(set(written) & set(unsafe_characters()) - {"\n"}) == []
    assert "\nFORGED" not in written


def test_a_log_line_shows_legitimate_text(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(Settings(), "control")
    structlog.get_logger("test").info(LEGIT)
    assert LEGIT in capsys.readouterr().err


def test_secrets_in_nested_values_and_objects_are_masked(capsys: pytest.CaptureFixture[str]) -> None:
    url = "amqp://me:hidden@host/"
    logger().info(
        "connected", options={"url": url, "password": "hidden"}, errors=[ConnectionError(url)], error=OSError(url)
    )
    assert "hidden" not in capsys.readouterr().err


def test_the_line_that_a_service_is_ready_is_json_among_json(capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings(log_json=True)
    configure_logs(settings, "control")
    announce(settings, "control answers at http://h", address="http://h")
    expected = {"event": "ready", "message": "control answers at http://h", "address": "http://h", "service": "control"}
    assert line(capsys).items() >= expected.items()


def test_the_line_that_a_service_is_ready_is_a_sentence_among_text(capsys: pytest.CaptureFixture[str]) -> None:
    announce(Settings(log_json=False), "control answers at http://h", address="http://h")
    assert capsys.readouterr().err == "control answers at http://h\n"
