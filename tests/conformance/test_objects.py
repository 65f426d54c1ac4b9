"""The object store and its artifacts on a real S3 server."""

import asyncio
import hashlib
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import pytest
from pydantic import SecretStr

from contracts.artifacts import MANIFEST, Manifest, ManifestFile
from infra.artifacts import BadArtifact, download, read_manifest, remove, upload
from infra.errors import BadConfiguration
from infra.objects import (
    DOWNLOAD_BLOCK,
    ON_BYTES,
    PART,
    ObjectNotFound,
    ObjectStore,
    ObjectStoreDenied,
    ObjectStoreUnavailable,
)
from infra.settings import Settings

Patch = pytest.MonkeyPatch


async def _blocks(count: int, block: bytes) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield block


async def test_what_was_put_is_read_back(objects: ObjectStore) -> None:
    await objects.put("a/b.txt", b"hello")
    assert await objects.get("a/b.txt") == b"hello"


async def test_an_empty_object_can_be_put(objects: ObjectStore) -> None:
    await objects.put("a/empty", b"")
    assert await objects.get("a/empty") == b""


@pytest.mark.parametrize("start", [0, 1, 3 * 2**20 + 6])
async def test_an_object_is_read_in_blocks_from_any_byte(objects: ObjectStore, start: int) -> None:
    data = bytes(range(256)) * 4096 * 3 + b"the end"
    await objects.put("b/long", data)
    blocks = [block async for block in await objects.open_stream("b/long", start)]
    assert b"".join(blocks) == data[start:]
    assert max(map(len, blocks)) <= DOWNLOAD_BLOCK


async def test_an_empty_object_has_no_blocks(objects: ObjectStore) -> None:
    await objects.put("b/empty", b"")
    assert [block async for block in await objects.open_stream("b/empty")] == []


async def test_a_missing_object_is_named_before_its_first_block(objects: ObjectStore) -> None:
    with pytest.raises(ObjectNotFound, match="b/missing"):
        await objects.open_stream("b/missing")


async def test_reading_may_stop_early(objects: ObjectStore) -> None:
    await objects.put("b/long", bytes(3 * DOWNLOAD_BLOCK))
    blocks = await objects.open_stream("b/long")
    assert isinstance(blocks, AsyncGenerator)
    await anext(blocks)
    await blocks.aclose()
    assert await objects.get("b/long") == bytes(3 * DOWNLOAD_BLOCK)


async def test_a_missing_object_is_named(objects: ObjectStore) -> None:
    with pytest.raises(ObjectNotFound, match="a/missing"):
        await objects.get("a/missing")


async def test_a_missing_file_leaves_no_local_file(objects: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(ObjectNotFound):
        await objects.get_file("a/missing", tmp_path / "file")
    assert not (tmp_path / "file").exists()


async def test_starting_twice_is_harmless(objects: ObjectStore) -> None:
    await objects.start()
    await objects.ping()


async def test_names_are_those_below_the_prefix(objects: ObjectStore) -> None:
    for key in ("n/1/b", "n/1/c/d", "n/2/a"):
        await objects.put(key, b"x")
    assert await objects.names("n/1/") == ["n/1/b", "n/1/c/d"]


async def test_a_prefix_without_objects_has_no_names(objects: ObjectStore) -> None:
    assert await objects.names("nothing/here/") == []


async def test_names_come_with_their_sizes(objects: ObjectStore) -> None:
    await objects.put("z/2", b"22")
    await objects.put("z/1", b"")
    assert await objects.sizes("z/") == {"z/1": 0, "z/2": 2}


async def test_deleted_objects_are_gone_and_the_others_remain(objects: ObjectStore, monkeypatch: Patch) -> None:
    monkeypatch.setattr("infra.objects.DELETE_BATCH", 2)
    for name in "abcd":
        await objects.put(f"d/{name}", b"x")
    await objects.delete(["d/a", "d/missing", "d/b", "d/d"])
    assert await objects.names("d/") == ["d/c"]


async def test_a_deletion_raises_if_the_store_is_away() -> None:
    away = ObjectStore(Settings(s3_endpoint="http://127.0.0.1:9"))
    with pytest.raises(ObjectStoreUnavailable):
        await away.delete(["a"])
    await away.close()


async def test_a_stream_longer_than_a_part_arrives_complete(objects: ObjectStore, tmp_path: Path) -> None:
    block = bytes(range(256)) * 4096
    count = PART // len(block) + 3
    assert await objects.put_stream("s/long", _blocks(count, block)) == count * len(block)
    await objects.get_file("s/long", tmp_path / "long")
    expected = hashlib.sha256(block * count).hexdigest()
    assert hashlib.sha256((tmp_path / "long").read_bytes()).hexdigest() == expected


async def test_a_short_stream_arrives_complete(objects: ObjectStore) -> None:
    assert await objects.put_stream("s/short", _blocks(3, b"abc")) == 9
    assert await objects.get("s/short") == b"abcabcabc"


async def test_a_stream_that_breaks_off_leaves_no_object(objects: ObjectStore) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * (PART + 1)
        raise ConnectionResetError("the client went away")

    with pytest.raises(ConnectionResetError):
        await objects.put_stream("s/broken", broken())
    with pytest.raises(ObjectNotFound):
        await objects.get("s/broken")


async def test_an_upload_that_was_cancelled_sends_nothing_more(
    objects: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"x")
    started, stopped = threading.Event(), threading.Event()

    def endless(_bucket: str, _key: str, source: BinaryIO, _size: int, **_: object) -> None:
        started.set()
        try:
            while True:
                source.seek(0)
        finally:
            stopped.set()

    monkeypatch.setattr(objects._client, "put_object", endless)
    sending = asyncio.create_task(objects.put_file("u/cancelled", tmp_path / "file"))
    await asyncio.to_thread(started.wait, 10)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert stopped.is_set()


def files_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())


class Endless:
    """A response whose body never ends."""

    def __init__(self) -> None:
        self.started, self.closed = threading.Event(), threading.Event()

    def stream(self, size: int) -> Iterator[bytes]:
        while True:
            self.started.set()
            yield b"x" * size

    def close(self) -> None:
        self.closed.set()

    def release_conn(self) -> None:
        """Do nothing: there is no connection."""


async def test_a_download_that_was_cancelled_writes_nothing_more(
    objects: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    response = Endless()
    monkeypatch.setattr(objects._client, "get_object", lambda *_: response)
    getting = asyncio.create_task(objects.get_file("d/endless", tmp_path / "file"))
    await asyncio.to_thread(response.started.wait, 10)
    getting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await getting
    assert response.closed.is_set()
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("wrong", ["s3_access_key", "s3_secret_key"])
async def test_a_wrong_key_is_distinguished_from_a_missing_object(store_settings: Settings, wrong: str) -> None:
    store = ObjectStore(store_settings.model_copy(update={wrong: SecretStr("wrong")}))
    with pytest.raises(ObjectStoreDenied, match="TREADLE_S3_ACCESS_KEY"):
        await store.get("a/b")
    await store.close()


async def test_a_missing_bucket_is_distinguished_from_a_missing_object(store_settings: Settings) -> None:
    store = ObjectStore(store_settings)
    with pytest.raises(ObjectStoreUnavailable, match=store_settings.s3_bucket):
        await store.get("a/b")
    await store.close()


async def test_a_server_that_is_away_is_reported_as_unavailable() -> None:
    away = ObjectStore(Settings(s3_endpoint="http://127.0.0.1:9"))
    with pytest.raises(ObjectStoreUnavailable, match="check TREADLE_S3_ENDPOINT"):
        await away.get("a/b")
    await away.close()


def test_an_endpoint_without_a_scheme_is_refused_by_name() -> None:
    with pytest.raises(BadConfiguration, match="http://host:port") as refused:
        ObjectStore(Settings(s3_endpoint="localhost:9000"))
    assert refused.value.field == "TREADLE_S3_ENDPOINT"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    created = tmp_path / "made"
    (created / "splits").mkdir(parents=True)
    (created / "train.jsonl").write_text("rows")
    (created / "splits" / "dev.jsonl").write_text("dev")
    return created


async def test_a_downloaded_artifact_equals_the_uploaded_folder(
    objects: ObjectStore, folder: Path, tmp_path: Path
) -> None:
    await upload(objects, "art/1", folder)
    assert await download(objects, "art/1", tmp_path / "back") == 7
    assert (tmp_path / "back" / "splits" / "dev.jsonl").read_text() == "dev"


async def test_a_part_of_an_artifact_loses_the_name_of_its_folder(
    objects: ObjectStore, folder: Path, tmp_path: Path
) -> None:
    await upload(objects, "art/2", folder)
    await download(objects, "art/2#splits/", tmp_path / "part")
    assert [path.name for path in (tmp_path / "part").iterdir()] == ["dev.jsonl"]


async def test_one_file_of_an_artifact_can_be_downloaded(objects: ObjectStore, folder: Path, tmp_path: Path) -> None:
    await upload(objects, "art/3", folder)
    await download(objects, "art/3#train.jsonl", tmp_path / "one")
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["train.jsonl"]


async def test_a_missing_part_is_named(objects: ObjectStore, folder: Path, tmp_path: Path) -> None:
    await upload(objects, "art/4", folder)
    with pytest.raises(BadArtifact, match="pool"):
        await download(objects, "art/4#pool/", tmp_path / "none")


async def test_an_artifact_without_a_manifest_does_not_exist(objects: ObjectStore, tmp_path: Path) -> None:
    await objects.put("art/5/train.jsonl", b"rows")
    assert await read_manifest(objects, "art/5") is None
    with pytest.raises(BadArtifact, match="no manifest"):
        await download(objects, "art/5", tmp_path)


async def test_a_changed_file_is_refused(objects: ObjectStore, folder: Path, tmp_path: Path) -> None:
    await upload(objects, "art/6", folder)
    await objects.put("art/6/train.jsonl", b"ROWS")
    with pytest.raises(BadArtifact, match=r"train\.jsonl"):
        await download(objects, "art/6", tmp_path / "back")
    assert not (tmp_path / "back" / "train.jsonl").exists()


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "a\\..\\evil", ""])
async def test_a_manifest_cannot_write_outside_its_folder(objects: ObjectStore, tmp_path: Path, name: str) -> None:
    manifest = Manifest(files=(ManifestFile(name=name, size=0, sha256="0" * 64),))
    await objects.put(f"art/7/{MANIFEST}", manifest.model_dump_json().encode())
    with pytest.raises(BadArtifact, match="not allowed"):
        await download(objects, "art/7", tmp_path)


async def test_an_unreadable_manifest_is_a_bad_artifact(objects: ObjectStore) -> None:
    await objects.put(f"art/8/{MANIFEST}", b"{}")
    with pytest.raises(BadArtifact, match="cannot be read"):
        await read_manifest(objects, "art/8")


async def test_a_symbolic_link_is_not_uploaded(objects: ObjectStore, folder: Path) -> None:
    (folder / "link").symlink_to("/etc/hostname")
    with pytest.raises(BadArtifact, match="symbolic link"):
        await upload(objects, "art/9", folder)


async def test_a_removal_begins_with_the_manifest(objects: ObjectStore, folder: Path, monkeypatch: Patch) -> None:
    await upload(objects, "art/10", folder)
    monkeypatch.setattr("infra.objects.DELETE_BATCH", 1)
    requests = _fail_after(objects, 1, monkeypatch)
    with pytest.raises(ObjectStoreUnavailable, match="broken off"):
        await remove(objects, await objects.names("art/10/"))
    assert requests == [[f"art/10/{MANIFEST}"]]
    assert await read_manifest(objects, "art/10") is None


def _fail_after(objects: ObjectStore, count: int, monkeypatch: Patch) -> list[list[str]]:
    """Let deletions fail after `count` requests; returns the keys of each request before."""
    delete, requests = objects._delete, []

    def limited(keys: Sequence[str]) -> None:
        if len(requests) == count:
            raise ObjectStoreUnavailable("broken off")
        requests.append(list(keys))
        delete(keys)

    monkeypatch.setattr(objects, "_delete", limited)
    return requests


async def test_the_bytes_of_a_transferred_file_are_counted_as_they_move(objects: ObjectStore, tmp_path: Path) -> None:
    size = PART + 5
    await asyncio.to_thread((tmp_path / "file").write_bytes, bytes(size))
    for transfer in (objects.put_file, objects.get_file):
        blocks: list[int] = []
        counting = ON_BYTES.set(blocks.append)
        await transfer("counted", tmp_path / "file")
        ON_BYTES.reset(counting)
        assert sum(blocks) == size
        assert len(blocks) > 1
