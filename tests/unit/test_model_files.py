from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.errors import BadConfiguration
from infra.models import plain_files
from infra.models.plain_files import read_json, require_plain


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


def _refused(folder: Path, pattern: str) -> None:
    with pytest.raises(BadConfiguration, match=f"^model m: could not be loaded: .*{pattern}") as caught:
        require_plain(folder, "m")
    assert caught.value.field == "model"


def _socket(path: Path) -> None:
    before = Path.cwd()
    os.chdir(path.parent)  # the path of a socket has at most 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path.name)
    finally:
        os.chdir(before)


@pytest.mark.parametrize(
    "name",
    [
        *("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors", "adapter_model.safetensors"),
        *(
            "model.safetensors.index.json",
            "generation_config.json",
            "chat_template.jinja",
            "tokenizer.model",
            "vocab.txt",
        ),
    ],
)
@pytest.mark.parametrize(
    ("make", "kind"), [(os.mkfifo, "a named pipe"), (_socket, "a socket"), (os.mkdir, "a folder")], ids=str
)
def test_what_is_no_regular_file_is_refused_unopened(
    folder: Path, name: str, make: Callable[[Path], None], kind: str
) -> None:
    (folder / name).unlink(missing_ok=True)
    make(folder / name)
    _refused(folder, f"{name} is {kind}, not a regular file")


@pytest.mark.parametrize("target", ["/dev/zero", "/etc/passwd", "/proc/self/environ", "../secret.json", "/"])
def test_a_link_out_of_the_folder_is_refused(folder: Path, target: str) -> None:
    (folder.parent / "secret.json").write_text("{}")
    (folder / "tokenizer.json").symlink_to(target)
    _refused(folder, r"tokenizer\.json is a link that leads out of the folder; copy the file into the folder")


@pytest.mark.parametrize("target", ["nowhere", "tokenizer.json"])
def test_a_link_to_nothing_is_refused(folder: Path, target: str) -> None:
    (folder / "tokenizer.json").symlink_to(target)
    _refused(folder, r"tokenizer\.json is a link that leads to no file")


def test_a_link_inside_the_folder_is_followed(folder: Path) -> None:
    (folder / "copy.json").symlink_to("config.json")
    require_plain(folder, "m")


def test_a_linked_folder_is_the_folder_that_it_names(folder: Path) -> None:
    (folder.parent / "latest").symlink_to(folder)
    require_plain(folder.parent / "latest", "m")


def _snapshot(cache: Path, target: str) -> Path:
    """A snapshot in a cache of the hub, whose config.json is a link to `target`."""
    snapshot = cache / "models--org--m" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").symlink_to(target)
    for blob in ("models--org--m/blobs/ab", f"blobs/cd/{'c' * 64}", "blobs/secret"):
        (cache / blob).parent.mkdir(parents=True, exist_ok=True)
        (cache / blob).write_text("{}")
    return snapshot


@pytest.mark.parametrize("target", ["../../blobs/ab", f"../../../blobs/cd/{'c' * 64}"])
def test_the_links_of_a_hub_cache_are_followed(tmp_path: Path, target: str) -> None:
    require_plain(_snapshot(tmp_path, target), "m")


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../blobs/secret", "../../../other"])
def test_a_snapshot_cannot_link_out_of_the_cache(tmp_path: Path, target: str) -> None:
    (tmp_path / "other").touch()
    _refused(_snapshot(tmp_path, target), "leads out of the folder")


def test_a_blob_cannot_link_out_of_the_cache(tmp_path: Path) -> None:
    snapshot = _snapshot(tmp_path, "../../blobs/ef")
    (tmp_path / "models--org--m" / "blobs" / "ef").symlink_to("/etc/passwd")
    _refused(snapshot, "leads out of the folder")


def test_blobs_of_another_layout_are_not_followed(tmp_path: Path) -> None:
    snapshot = _snapshot(tmp_path, "../../blobs/ab")
    shutil.move(tmp_path / "models--org--m", tmp_path / "mine")
    _refused(tmp_path / "mine" / "snapshots" / snapshot.name, "leads out of the folder")


@pytest.mark.parametrize("name", ["optimizer.safetensors", "rng_state.json", "LICENSE.tokenizer.4.0.0.json", ".x.json"])
def test_a_file_that_a_setting_can_name_is_checked_whatever_it_seems(folder: Path, name: str) -> None:
    (folder / name).symlink_to("/etc/passwd")
    _refused(folder, f"{name} is a link that leads out of the folder")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "optimizer.pt", "README.md", ".gitattributes", "model.gguf"])
def test_a_file_that_is_never_opened_may_be_anything(folder: Path, name: str) -> None:
    os.mkfifo(folder / name)
    require_plain(folder, "m")


def test_an_additional_template_is_checked_too(folder: Path) -> None:
    (folder / "additional_chat_templates").mkdir()
    os.mkfifo(folder / "additional_chat_templates" / "tool_use.jinja")
    _refused(folder, r"tool_use\.jinja is a named pipe")


def test_the_folder_of_additional_templates_cannot_lead_elsewhere(folder: Path) -> None:
    (folder / "additional_chat_templates").symlink_to(folder.parent)
    _refused(folder, "additional_chat_templates is a link that leads out of the folder")


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("config.json", plain_files.MAX_CONFIG_BYTES),
        ("tokenizer.json", plain_files.MAX_FILE_BYTES),
        ("tokenizer_config.json", plain_files.MAX_FILE_BYTES),
        ("chat_template.jinja", plain_files.MAX_TEMPLATE_BYTES),
    ],
)
def test_a_file_has_a_largest_size(folder: Path, name: str, limit: int) -> None:
    with (folder / name).open("wb") as file:
        file.truncate(limit)
    require_plain(folder, "m")
    os.truncate(folder / name, limit + 1)
    _refused(folder, f"{name} has {limit + 1:,} bytes, and at most {limit:,} are read")


def test_weights_may_be_of_any_size(folder: Path) -> None:
    (folder / "model.safetensors").touch()
    os.truncate(folder / "model.safetensors", 2**40)
    require_plain(folder, "m")


def test_a_folder_of_too_many_files_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_files, "MAX_ENTRIES", 2)
    (folder / "a.json").touch()
    require_plain(folder, "m")
    (folder / "b.json").touch()
    _refused(folder, "holds more than 2 files")


@pytest.mark.parametrize("content", ["[]", "1", "{", "", "[" * 100_000, '{"a": ' * 100_000, "\udcff", "{}x"])
def test_json_that_is_no_object_is_refused_by_the_name_of_its_file(folder: Path, content: str) -> None:
    (folder / "config.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(BadConfiguration, match=r"config\.json is not a JSON object"):
        read_json(folder / "config.json", "m")
