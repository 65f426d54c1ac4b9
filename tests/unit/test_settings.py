"""Settings that cannot work are refused by name, and the error does not show their values."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from infra.settings import IN_PROCESS, Settings

WRONG = [
    ("bus_url", "http://127.0.0.1/"),
    ("bus_url", "amqp://user:s3cret@host:abc/"),
    ("database_url", "foo"),
    ("database_url", "postgresql://user:s3cret@host:abc/x"),
    ("log_level", "LOUD"),
    ("http_port", "70000"),
    ("s3_bucket", "A"),
    ("http_allowed_hosts", "a.example,http://b.example"),
    ("http_allowed_hosts", "a b"),
    ("http_open", "perhaps"),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_setting_that_cannot_work_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"TREADLE_{name.upper()}", value)
    with pytest.raises(ValidationError) as refused:
        Settings()
    (error,) = refused.value.errors(include_input=False)
    assert error["loc"] == (name,)
    assert "s3cret" not in error["msg"]


@pytest.mark.parametrize("url", [IN_PROCESS, "amqp://a:b@host/", "amqps://host:5671/vhost"])
def test_every_known_kind_of_bus_is_taken(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("TREADLE_BUS_URL", url)
    assert Settings().bus_url.get_secret_value() == url


def test_the_work_folder_is_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    assert Settings(work_dir=Path("work")).work_dir == tmp_path / "work"
    assert Settings(work_dir=Path("~/work")).work_dir == Path("/home/somebody/work")


def test_allowed_hosts_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TREADLE_HTTP_ALLOWED_HOSTS", "treadle.example, proxy.example:8443,[2001:db8::1]:80,")
    assert Settings().http_allowed_hosts == ("treadle.example", "proxy.example:8443", "[2001:db8::1]:80")


def test_no_hosts_are_allowed_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TREADLE_HTTP_ALLOWED_HOSTS", "")
    assert Settings().http_allowed_hosts == ()


@pytest.mark.parametrize("name", Settings.model_fields)
def test_an_empty_variable_counts_as_missing(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    default = Settings()
    monkeypatch.setenv(f"TREADLE_{name.upper()}", "")
    assert Settings() == default
