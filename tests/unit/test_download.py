"""`treadle download` against a gateway whose connections break, whose files are damaged, and into used folders."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import pytest
from typer.testing import CliRunner, Result

from cli.download import command, transfer
from cli.main import app

TASK = "1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed"
ROWS = bytes(range(256)) * 1000
CONFIG = {"peft_type": "LORA", "base_model_name_or_path": "artifact:models/x", "r": 8}
ADAPTER = {"model/adapter_config.json": json.dumps(CONFIG).encode(), "model/adapter_model.safetensors": b"weights"}
BASE = {"base/config.json": b"{}", "base/model.safetensors": b"base weights"}

runner = CliRunner()


class FileGateway(ThreadingHTTPServer):
    """A gateway with one list of files; it can break a connection, and send other bytes than it lists."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.sent: dict[str, bytes] = {}
        """Contents that differ from the list."""
        self.break_after: list[int] = []
        """For the next requests of files: the bytes after which the connection breaks."""
        self.removed: list[str] = []
        self.requests: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def listed(self) -> dict[str, Any]:
        files = [
            {"name": name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in self.files.items()
        ]
        return {"files": files, "removed": self.removed}


class _Handler(BaseHTTPRequestHandler):
    server: FileGateway

    def do_GET(self) -> None:
        server, (_, separator, name) = self.server, unquote(self.path).partition("/files")
        server.requests.append((self.path, self.headers.get("range")))
        if not separator:
            self._send(404, json.dumps({"title": "Not found", "status": 404, "detail": "no task"}).encode())
        elif not name:
            self._send(200, json.dumps(server.listed()).encode())
        else:
            self._send_file(name.removeprefix("/"))

    def _send_file(self, name: str) -> None:
        content = self.server.sent.get(name, self.server.files[name])
        start = int((self.headers.get("range") or "bytes=0-")[6:-1])
        cut = self.server.break_after.pop(0) if self.server.break_after else None
        self._send(206 if start else 200, content[start:], cut)

    def _send(self, status: int, body: bytes, cut: int | None = None) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:cut])

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileGateway]:
    monkeypatch.setattr(transfer, "PAUSE", 0.001)
    server = FileGateway()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def download(gateway: FileGateway, folder: Path, *more: str, target: str = "ds-1") -> Result:
    return runner.invoke(app, ["download", target, "--to", str(folder), "--url", gateway.url, *more])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def fetched(gateway: FileGateway) -> list[str]:
    """The files that were requested."""
    return [path.partition("/files/")[2] for path, _ in gateway.requests if "/files/" in path]


def test_every_file_is_written_and_the_folder_is_printed(gateway: FileGateway, tmp_path: Path) -> None:
    gateway.files = {"rows.jsonl": ROWS, "splits/dev.jsonl": b"{}", "empty": b""}
    result = download(gateway, tmp_path / "to")
    assert (result.exit_code, result.stdout.strip()) == (0, str(tmp_path / "to"))
    assert contents(tmp_path / "to") == gateway.files


def test_a_broken_connection_goes_on_from_the_last_byte(gateway: FileGateway, tmp_path: Path) -> None:
    gateway.files, gateway.break_after = {"rows.jsonl": ROWS}, [1000, 0, 0, 5000, 0, 0]
    assert download(gateway, tmp_path).exit_code == 0
    assert contents(tmp_path) == gateway.files
    ranges = [given for path, given in gateway.requests if path.endswith("rows.jsonl")]
    assert ranges == [None, *["bytes=1000-"] * 3, *["bytes=6000-"] * 3]


def test_a_gateway_that_stays_away_leaves_a_part_that_the_next_call_continues(
    gateway: FileGateway, tmp_path: Path
) -> None:
    gateway.files, gateway.break_after = {"rows.jsonl": ROWS}, [1000, 0, 0, 0]
    result = download(gateway, tmp_path)
    assert result.exit_code == 1
    assert "no gateway answers" in result.stderr
    assert contents(tmp_path) == {"rows.jsonl.part": ROWS[:1000]}
    assert download(gateway, tmp_path).exit_code == 0
    assert gateway.requests[-1][1] == "bytes=1000-"
    assert contents(tmp_path) == gateway.files


def test_a_part_of_another_file_is_not_used(gateway: FileGateway, tmp_path: Path) -> None:
    gateway.files = {"rows.jsonl": ROWS}
    (tmp_path / "rows.jsonl.part").write_bytes(b"something else")
    assert download(gateway, tmp_path).exit_code == 0
    assert contents(tmp_path) == gateway.files


@pytest.mark.parametrize("sent", [ROWS[::-1], ROWS[:-1], ROWS + b"1"])
def test_a_damaged_file_is_not_put_in_its_place(gateway: FileGateway, tmp_path: Path, sent: bytes) -> None:
    gateway.files, gateway.sent = {"rows.jsonl": ROWS}, {"rows.jsonl": sent}
    result = download(gateway, tmp_path)
    assert result.exit_code == 1
    assert "rows.jsonl arrived damaged twice" in result.stderr
    assert contents(tmp_path) == {}


def test_files_that_are_complete_are_not_downloaded_again(gateway: FileGateway, tmp_path: Path) -> None:
    gateway.files = {"rows.jsonl": ROWS, "other.jsonl": b"{}"}
    (tmp_path / "rows.jsonl").write_bytes(ROWS)
    result = download(gateway, tmp_path)
    assert fetched(gateway) == ["other.jsonl"]
    assert "2 files; 1 of them were there already" in result.stderr


def test_the_progress_reaches_the_size_of_all_files(
    gateway: FileGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.files, gateway.break_after = {"a": ROWS, "b": ROWS, "c": ROWS}, [1000]
    (tmp_path / "a").write_bytes(ROWS)
    (tmp_path / "c.part").write_bytes(ROWS[1:])
    shown: list[int] = []
    monkeypatch.setattr(command, "_progress_bar", lambda size: nullcontext(shown.append))
    assert download(gateway, tmp_path).exit_code == 0
    assert sum(shown) == 3 * len(ROWS)


def test_a_different_file_is_kept_and_nothing_is_downloaded(gateway: FileGateway, tmp_path: Path) -> None:
    gateway.files = {"a.jsonl": b"{}", "rows.jsonl": ROWS}
    (tmp_path / "rows.jsonl").write_bytes(b"mine")
    result = download(gateway, tmp_path)
    assert result.exit_code == 1
    assert f"{tmp_path / 'rows.jsonl'} exist and differ" in result.stderr.replace("\n", "")
    assert contents(tmp_path) == {"rows.jsonl": b"mine"}


def test_a_different_file_is_replaced_by_force(gateway: FileGateway, tmp_path: Path) -> None:
    gateway.files = {"rows.jsonl": ROWS}
    (tmp_path / "rows.jsonl").write_bytes(b"mine")
    assert download(gateway, tmp_path, "--force").exit_code == 0
    assert contents(tmp_path) == gateway.files


def test_a_full_disk_is_named_before_anything_is_downloaded(
    gateway: FileGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.files = {"a": ROWS, "b": ROWS}
    (tmp_path / "b.part").write_bytes(ROWS[:6000])
    needed = 2 * len(ROWS) - 6000
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=needed - 1))
    result = download(gateway, tmp_path)
    assert (result.exit_code, fetched(gateway)) == (1, [])
    assert f"{needed:,} bytes are needed in {tmp_path}" in result.stderr
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=needed))
    assert download(gateway, tmp_path).exit_code == 0


def test_a_downloaded_adapter_names_the_absolute_path_of_its_base(gateway: FileGateway, tmp_path: Path) -> None:
    gateway.files = ADAPTER | BASE
    result = download(gateway, tmp_path, target=f"task:{TASK}/1")
    config = json.loads((tmp_path / "adapter/adapter_config.json").read_bytes())
    assert config == {**CONFIG, "base_model_name_or_path": str(tmp_path / "base")}
    assert sorted(contents(tmp_path)) == [
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
        "base/config.json",
        "base/model.safetensors",
    ]
    assert f"AutoPeftModelForCausalLM.from_pretrained('{tmp_path / 'adapter'}')" in result.stderr


def test_an_adapter_that_was_moved_with_its_base_is_corrected_by_a_second_download(
    gateway: FileGateway, tmp_path: Path
) -> None:
    gateway.files = ADAPTER | BASE
    download(gateway, tmp_path / "before", target=f"task:{TASK}/1")
    (tmp_path / "before").rename(tmp_path / "after")
    assert download(gateway, tmp_path / "after", target=f"task:{TASK}/1").exit_code == 0
    config = json.loads((tmp_path / "after/adapter/adapter_config.json").read_bytes())
    assert config["base_model_name_or_path"] == str(tmp_path / "after/base")


def test_a_changed_configuration_of_an_adapter_is_kept(gateway: FileGateway, tmp_path: Path) -> None:
    gateway.files = ADAPTER | BASE
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter/adapter_config.json").write_text(json.dumps({**CONFIG, "r": 16}))
    result = download(gateway, tmp_path, target=f"task:{TASK}/1")
    assert result.exit_code == 1
    assert "exist and differ" in result.stderr
    assert contents(tmp_path) == {"adapter/adapter_config.json": json.dumps({**CONFIG, "r": 16}).encode()}


def test_an_adapter_of_another_base_stays_as_the_trainer_wrote_it(gateway: FileGateway, tmp_path: Path) -> None:
    gateway.files = ADAPTER
    download(gateway, tmp_path, target=f"task:{TASK}/1")
    assert contents(tmp_path) == {name.replace("model/", "adapter/", 1): content for name, content in ADAPTER.items()}


def test_several_adapters_come_with_the_order_in_which_they_are_merged(gateway: FileGateway, tmp_path: Path) -> None:
    earlier = {"adapters/1/adapter_config.json": json.dumps(CONFIG).encode()}
    gateway.files = ADAPTER | BASE | earlier
    result = download(gateway, tmp_path, target=f"task:{TASK}/1")
    readme = (tmp_path / "adapters/README.txt").read_text()
    assert str([str(tmp_path / "adapters/1"), str(tmp_path / "adapters/2")]) in readme
    assert f"from_pretrained('{tmp_path / 'base'}'" in readme
    assert "no adapter alone is the model, not even the last one" in readme
    assert "README.txt says how to merge them" in result.stderr
    configs = [json.loads((tmp_path / f"adapters/{n}/adapter_config.json").read_bytes()) for n in (1, 2)]
    assert [c["base_model_name_or_path"] for c in configs] == [str(tmp_path / "base"), "artifact:models/x"]


def test_a_folder_that_was_deleted_is_named(gateway: FileGateway, tmp_path: Path) -> None:
    gateway.files, gateway.removed = {"report/dev_report.json": b"{}"}, ["data"]
    assert "data/ was left out" in download(gateway, tmp_path, target=f"task:{TASK}/1").stderr


@pytest.mark.parametrize(
    ("target", "more", "sentence"),
    [
        ("task:7", (), "TARGET: expected task:<task id> or task:<task id>/<iteration>, got 'task:7'"),
        (f"task:{TASK}/0", (), "TARGET: expected task:<task id>"),
        ("ds-1", ("--only", "model"), "--only: a dataset has no parts"),
        (f"task:{TASK}/1", ("--only", "report"), "TARGET: there are no such files yet"),
    ],
)
def test_a_wrong_target_is_named(
    gateway: FileGateway, tmp_path: Path, target: str, more: tuple[str, ...], sentence: str
) -> None:
    gateway.files = {"data/train.jsonl": ROWS}
    result = download(gateway, tmp_path / "to", *more, target=target)
    assert result.exit_code == 2
    assert result.stderr.startswith(sentence)
    assert not (tmp_path / "to").exists()


def test_an_error_of_the_gateway_is_shown(gateway: FileGateway, tmp_path: Path) -> None:
    result = download(gateway, tmp_path, target=f"task:{TASK}")
    assert (result.exit_code, result.stderr.strip()) == (1, "no task")


def test_a_name_with_signs_of_an_address_is_requested_as_it_is(gateway: FileGateway, tmp_path: Path) -> None:
    gateway.files = {"a%20b": b"1", "c#d": b"2", "e?f": b"3"}
    assert download(gateway, tmp_path).exit_code == 0
    assert contents(tmp_path) == gateway.files
