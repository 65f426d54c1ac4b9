"""Models of a hub that fails in every way: trouble that passes is waited for, a model that cannot be had is final."""

from __future__ import annotations

import io
import json
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import huggingface_hub
import pytest
from huggingface_hub import constants
from pydantic import BaseModel

from contracts.tasks import FailureKind
from infra.child import program
from infra.child.program import Job, Stopped
from infra.errors import BadConfiguration, HubUnavailable
from infra.models import hub_client
from infra.models.hub_errors import without_secrets
from infra.models.language_model import load, load_tokenizer
from infra.models.library_errors import as_bad_configuration
from infra.models.model_inputs import ModelLocation
from infra.stack.ports import free_port
from tests.fake_hub import COMMIT, FakeHub, fake_hub
from tests.models import save_tiny_model

NAME = "org/model"
TOKEN = "hf_secretsecretsecret"
WEIGHTS = "/resolve/0123456789abcdef0123456789abcdef01234567/model.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("hub") / "model")


@pytest.fixture
def hub(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub with one model, an empty cache, and no token."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(hub_client, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(hub_client, "LONGEST_PAUSE", 0.05)
    monkeypatch.setattr(hub_client, "PATIENCE", 5.0)
    with fake_hub() as hub:
        hub.models[NAME] = folder
        _at_address(hub.url, monkeypatch)
        yield hub
    huggingface_hub.set_client_factory(lambda: httpx2.Client(follow_redirects=True))


@pytest.fixture
def progress() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def job(tmp_path: Path, progress: io.StringIO) -> Job:
    return Job(tmp_path, progress)


def _at_address(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    huggingface_hub.set_client_factory(lambda: httpx2.Client(follow_redirects=True))


def _model(name: str = NAME) -> ModelLocation:
    return ModelLocation(kind="hub", name=name)


def _impatient(monkeypatch: pytest.MonkeyPatch, seconds: float = 0.1) -> None:
    monkeypatch.setattr(hub_client, "PATIENCE", seconds)


def _stages(progress: io.StringIO) -> set[str]:
    return {json.loads(line)["stage"] for line in progress.getvalue().splitlines()}


def test_a_model_is_fetched_and_then_loaded_without_another_request(hub: FakeHub, job: Job) -> None:
    load(_model(), job)
    weights = next(number for number, request in enumerate(hub.requests) if request == f"GET /{NAME}{WEIGHTS}")
    assert weights == len(hub.requests) - 1


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 503},
        {"status": 500},
        {"status": 504},
        {"status": 408},
        {"status": 429, "headers": {"Retry-After": "0"}},
        {"path": "/tree/", "status": 502},
        {"path": "HEAD ", "status": 503},
        {"path": f"GET /{NAME}{WEIGHTS}", "status": 503},
        {"path": f"GET /{NAME}{WEIGHTS}", "status": 429, "headers": {"Retry-After": "1"}, "times": 1},
    ],
    ids=str,
)
def test_a_hub_that_answers_again_is_waited_for(
    hub: FakeHub, job: Job, progress: io.StringIO, fault: dict[str, Any]
) -> None:
    hub.fail(**{"times": 2, **fault})
    load(_model(), job)
    assert _stages(progress) == {"waiting for the hub", "downloading from the hub"}


@pytest.mark.parametrize("status", [429, 500, 503, 504, 521])
def test_a_hub_that_stays_unwell_is_unavailable(
    hub: FakeHub, job: Job, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _impatient(monkeypatch)
    hub.fail(status=status)
    with pytest.raises(HubUnavailable, match=rf"^model hub:org/model: the hub {hub.url} is unavailable \(.*{status}"):
        load(_model(), job)


def test_a_hub_that_asks_for_a_longer_pause_than_an_attempt_takes_is_left_at_once(
    hub: FakeHub, job: Job, progress: io.StringIO
) -> None:
    hub.fail(status=429, headers={"Retry-After": "3600"})
    with pytest.raises(HubUnavailable, match="429 Too Many Requests"):
        load(_model(), job)
    assert len(hub.requests) == 1


def test_a_hub_at_which_no_server_listens_is_unavailable(
    hub: FakeHub, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    _impatient(monkeypatch)
    _at_address(f"http://127.0.0.1:{free_port()}", monkeypatch)
    with pytest.raises(HubUnavailable, match="Connection refused"):
        load(_model(), job)


def test_a_hub_whose_name_does_not_resolve_is_unavailable(
    hub: FakeHub, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    _impatient(monkeypatch)
    _at_address("http://hub.invalid", monkeypatch)
    with pytest.raises(HubUnavailable, match=r"http://hub\.invalid is unavailable"):
        load(_model(), job)


def test_a_hub_behind_a_broken_certificate_is_unavailable(
    hub: FakeHub, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    _impatient(monkeypatch)
    _at_address(hub.url.replace("http:", "https:"), monkeypatch)
    with pytest.raises(HubUnavailable, match="SSL"):
        load(_model(), job)


def test_a_proxy_that_refuses_is_trouble_of_the_hub(hub: FakeHub, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    _impatient(monkeypatch)
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("NO_PROXY", "")
    _at_address("https://hub.invalid", monkeypatch)
    with pytest.raises(HubUnavailable):
        load(_model(), job)


@pytest.mark.parametrize("path", ["/revision/", "/tree/", "HEAD ", "GET /org"])
def test_a_hub_that_hangs_is_unavailable_in_time(
    hub: FakeHub, job: Job, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _impatient(monkeypatch)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.2)
    hub.fail(path, hang=True)
    began = time.monotonic()
    with pytest.raises(HubUnavailable, match="no answer in time"):
        load(_model(), job)
    assert time.monotonic() - began < 30


def test_a_download_that_is_cut_goes_on_where_it_was_cut(
    hub: FakeHub, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
    hub.fail(f"GET /{NAME}{WEIGHTS}", times=1, cut=40_000)
    load(_model(), job)
    assert hub.requests.count(f"GET /{NAME}{WEIGHTS}") == 2


def test_a_hub_that_cuts_every_download_in_the_same_place_is_unavailable(
    hub: FakeHub, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)  # each chunk gives the library new tries
    hub.fail(f"GET /{NAME}{WEIGHTS}", cut=40_000, ignore_range=True)
    with pytest.raises(HubUnavailable, match=f"cut a download {hub_client.MAX_CUTS + 1} times"):
        load(_model(), job)


def test_a_portal_that_answers_in_the_hubs_place_is_trouble(hub: FakeHub, job: Job) -> None:
    hub.fail(status=200, body=b"<html>log in to the network</html>")
    with pytest.raises(HubUnavailable, match="its answer is none of a hub"):
        load(_model(), job)


def test_a_model_in_the_cache_is_used_at_once_while_the_hub_is_away(hub: FakeHub, job: Job) -> None:
    load(_model(), job)
    hub.requests.clear()
    hub.fail(status=503)
    load(_model(), job)
    assert hub.requests == [f"GET /api/models/{NAME}/revision/main"] * 2


def test_a_model_that_is_partly_in_the_cache_is_not_blamed_while_the_hub_is_away(
    hub: FakeHub, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    _impatient(monkeypatch)
    load_tokenizer(_model(), job)
    hub.fail(status=503)
    with pytest.raises(HubUnavailable):
        load(_model(), job)


def test_settings_that_are_partly_in_the_cache_are_not_blamed_while_the_hub_is_away(
    hub: FakeHub, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _impatient(monkeypatch)
    load_tokenizer(_model(), job)
    next((tmp_path / "cache").rglob("snapshots/*/tokenizer.json")).unlink()
    hub.fail(status=503)
    with pytest.raises(HubUnavailable):
        load_tokenizer(_model(), job)


def test_a_cache_of_another_program_that_lacks_weights_is_not_blamed_while_the_hub_is_away(
    hub: FakeHub, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _impatient(monkeypatch)
    load_tokenizer(_model(), job)
    shutil.copytree(tmp_path / "cache", tmp_path / "other", symlinks=True, ignore=shutil.ignore_patterns("trees"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "other"))
    hub.fail(status=503)
    with pytest.raises(HubUnavailable):
        load(_model(), job)


def test_a_job_that_is_stopped_does_not_wait_for_the_hub(
    hub: FakeHub, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_client, "FIRST_PAUSE", 60.0)
    _impatient(monkeypatch, 3600.0)
    hub.fail(status=503)
    timer = threading.Timer(0.2, job.stop.set)
    timer.start()
    with pytest.raises(Stopped):
        load(_model(), job)
    timer.join()


def test_a_job_that_is_stopped_ends_its_download(hub: FakeHub, job: Job) -> None:
    load_tokenizer(_model(), job)
    job.stop.set()
    with pytest.raises(Stopped):
        load(_model(), job)


def test_a_job_that_is_stopped_during_a_download_ends_it() -> None:
    stop = threading.Event()
    chunks = iter(hub_client.Body([b"first", b"second"], stop))
    assert next(chunks) == b"first"
    stop.set()
    with pytest.raises(Stopped):
        next(chunks)


def test_a_reset_connection_counts_as_a_cut_which_the_library_resumes() -> None:
    def reset() -> Iterator[bytes]:
        yield b"first"
        raise httpx2.ReadError("Connection reset by peer")

    with pytest.raises(httpx2.RemoteProtocolError, match="reset by peer"):
        list(hub_client.Body(reset(), threading.Event()))


REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "no model": ({"status": 404, "headers": {"X-Error-Code": "RepoNotFound"}}, "has no model org/model .*spelling"),
    "no model, no token": (
        {"status": 401, "headers": {"X-Error-Message": "Invalid username or password."}},
        "has no model org/model .*spelling, or set HF_TOKEN",
    ),
    "wrong token": (
        {"status": 401, "headers": {"X-Error-Message": "Invalid credentials in Authorization header"}},
        "does not know the token in HF_TOKEN",
    ),
    "gated": (
        {"status": 403, "headers": {"X-Error-Code": "GatedRepo"}},
        "org/model is gated: accept its licence at http://127.0.0.1:[0-9]+/org/model .*HF_TOKEN",
    ),
    "gated without a token": (
        {"status": 401, "headers": {"X-Error-Code": "GatedRepo"}},
        "org/model is gated: accept its licence .*HF_TOKEN",
    ),
    "no right": ({"status": 403}, "HF_TOKEN may not read org/model"),
    "disabled": (
        {"status": 403, "headers": {"X-Error-Message": "Access to this resource is disabled."}},
        "has disabled org/model",
    ),
    "no file": (
        {"path": "HEAD ", "status": 404, "headers": {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}},
        "org/model",
    ),
    "bad request": ({"status": 400}, "refuses the request for org/model with 400"),
    "gone": ({"status": 410}, "refuses the request for org/model with 410"),
}


@pytest.mark.parametrize("token", [None, TOKEN], ids=["no token", "token"])
@pytest.mark.parametrize("reason", REFUSALS)
def test_a_model_that_cannot_be_had_is_final_and_names_what_to_do(
    hub: FakeHub,
    job: Job,
    reason: str,
    token: str | None,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    fault, sentence = REFUSALS[reason]
    hub.fail(**fault)
    sentence = sentence if token is None else sentence.removesuffix(", or set HF_TOKEN")
    with pytest.raises(BadConfiguration, match=f"^model hub:org/model: .*{sentence}") as caught:
        load(_model(), job)
    printed = capfd.readouterr()
    assert "\n" not in str(caught.value)
    assert TOKEN not in str(caught.value) + printed.out + printed.err


@pytest.mark.parametrize("revision", ["nowhere", "f" * 40])
def test_a_revision_that_does_not_exist_is_final(hub: FakeHub, job: Job, revision: str) -> None:
    hub.fail("/tree/ffff", status=404, headers={"X-Error-Code": "RevisionNotFound"})
    with pytest.raises(BadConfiguration, match=f"org/model has no revision '{revision}': check the spelling"):
        load(_model(f"{NAME}@{revision}"), job)


def test_a_model_without_weights_is_final(hub: FakeHub, job: Job, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    for file in folder.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / "bare" / file.name).write_bytes(file.read_bytes())
    hub.models[NAME] = tmp_path / "bare"
    with pytest.raises(BadConfiguration):
        load(_model(), job)


def test_downloads_that_are_forbidden_are_named(hub: FakeHub, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(BadConfiguration, match=r"HF_HUB_OFFLINE is set and the cache .* does not have it"):
        load(_model(), job)
    assert hub.requests == []


@pytest.mark.parametrize("endpoint", ["hub.example", "ftp://hub.example"])
def test_an_address_of_the_hub_that_is_none_is_final(
    hub: FakeHub, job: Job, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _at_address(endpoint, monkeypatch)
    with pytest.raises(BadConfiguration, match=r"HF_ENDPOINT is .* which is no address"):
        load(_model(), job)


def test_a_token_that_no_header_can_carry_is_named_and_not_shown(
    hub: FakeHub, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", token := "hf_gehëim")
    with pytest.raises(BadConfiguration, match="HF_TOKEN has a character that no token has") as caught:
        load(_model(), job)
    assert token not in str(caught.value)


def test_a_link_to_a_file_that_has_expired_is_trouble(hub: FakeHub, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    _impatient(monkeypatch)
    elsewhere = {"Location": hub.url.replace("127.0.0.1", "localhost") + "/signed?Signature=private"}
    hub.fail(f"{NAME}{WEIGHTS}", status=302, headers={**elsewhere, "X-Repo-Commit": COMMIT, "ETag": '"1"'})
    hub.fail("/signed", status=403)
    with pytest.raises(HubUnavailable, match="localhost, where its files are, answers 403") as caught:
        load(_model(), job)
    assert "private" not in str(caught.value)


def test_trouble_of_a_library_that_reaches_for_the_hub_itself_is_no_fault_of_the_model() -> None:
    error = OSError("We couldn't connect to the hub")
    error.__cause__ = httpx2.ConnectError("[Errno -2] Name or service not known")
    with pytest.raises(HubUnavailable, match="unavailable"), as_bad_configuration("model x: could not be loaded"):
        raise error


def test_secrets_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert without_secrets(f"Bearer {TOKEN}\nhttps://store/x?Signature=abc") == "Bearer *** https://store/x?…"


class Spec(BaseModel):
    """The input of a program that only loads a model."""


@pytest.mark.parametrize(
    ("status", "kind"), [(503, FailureKind.HUB_UNAVAILABLE), (404, FailureKind.BAD_CONFIGURATION)], ids=str
)
def test_the_program_reports_the_kind_of_the_failure(
    hub: FakeHub, tmp_path: Path, status: int, kind: FailureKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    _impatient(monkeypatch)
    hub.fail(status=status)
    (tmp_path / "spec.json").write_text("{}")
    module = SimpleNamespace(Spec=Spec, main=lambda _, job: load(_model(), job))
    assert program.run("load", tmp_path, module) == program.FAILED  # type: ignore[arg-type]
    error = json.loads((tmp_path / "error.json").read_text())
    assert (error["failure"], error["field"]) == (kind, "model")
