"""docs/operations.md agrees with the code: its commands, variables, metrics and services exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from prometheus_client import CollectorRegistry

from cli.main import app
from control.telemetry.gauges import Gauges
from control.telemetry.metrics import Metrics
from infra.bus.inprocess import InProcessBus
from infra.settings import Settings
from tests.memory_store.store import MemoryStore

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "operations.md").read_text()
SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
NAMED_SERVICES = set(re.findall(r"docker compose (?:exec(?: -T)?|restart|stop|rm -sf) ([a-z]+)", GUIDE))


def test_every_command_exists() -> None:
    root: Any = typer.main.get_command(app)
    typed = re.findall(r"(?:`|&& |control )treadle\s+([a-z]+)(?: ([a-z]+))?(?: ([a-z]+))?", GUIDE)
    assert len(typed) > 20
    for words in typed:
        command = root
        for word in words:
            if hasattr(command, "commands"):
                assert word in command.commands, words
                command = command.commands[word]


def test_every_variable_is_a_setting() -> None:
    settings = {f"TREADLE_{field.upper()}" for field in Settings.model_fields}

    assert set(re.findall(r"TREADLE_[A-Z_]+", GUIDE)) <= settings


def test_every_metric_exists() -> None:
    registry = CollectorRegistry()
    Metrics(registry)
    Gauges(registry, MemoryStore(lambda _: 15.0), InProcessBus())
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",)}
    exported = {family.name + suffix for family in registry.collect() for suffix in suffixes[family.type]}
    metrics = GUIDE[GUIDE.index("## Metrics") : GUIDE.index("## A worker hangs")]

    assert set(re.findall(r"\btreadle_[a-z_]+", metrics)) <= exported


@pytest.mark.parametrize("service", sorted(NAMED_SERVICES))
def test_every_service_is_in_compose(service: str) -> None:
    assert service in SERVICES


def test_the_variables_of_passwords_are_those_of_the_example() -> None:
    example = (ROOT / ".env.example").read_text()

    assert [
        name
        for name in re.findall(r"\b(?:RABBITMQ|POSTGRES|S3)_[A-Z_]*(?:PASSWORD|KEY)\b", GUIDE)
        if name not in example
    ] == []
