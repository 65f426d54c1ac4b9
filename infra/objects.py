"""The S3 object store, on the minio SDK. Every error is one of ours, told apart by its HTTP status."""

from __future__ import annotations

import asyncio
import io
import os
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.deleteobjects import DeleteObject
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError

from contracts.errors import TreadleError
from infra.byte_stream import ByteStream
from infra.errors import BadConfiguration
from infra.settings import Settings
from infra.tasks import seen_through

T = TypeVar("T")
PART = 16 * 1024 * 1024
"""Bytes of one part of a multipart upload. An upload holds a few of them, whatever its size."""
MOST_PARTS = 9_000
"""S3 takes 10,000 parts; a larger file gets larger parts."""
BLOCK = 1024 * 1024
DELETED_AT_ONCE = 1_000
"""Keys that S3 takes in one deletion."""
CALLS, STREAMS = 8, 16
"""Threads for calls, and for uploads that wait for a client."""
NOT_FOUND, CONFLICT = 404, 409
DENIALS = frozenset({401, 403})
REFUSALS = frozenset({400, 405, 411, 412, 413, 414, 416, 501})
"""Statuses that asking again does not change."""


class ObjectNotFound(TreadleError):
    """There is no object of this key."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"there is no object {key}")


class ObjectStoreUnavailable(TreadleError):
    """The store is away, or does not let us in; the same call may succeed later."""


class ObjectStoreDenied(ObjectStoreUnavailable):
    """The store does not let us in: a person must mend a key or a right."""


class ObjectRefused(TreadleError):
    """The store will never take this call, however often it is made."""


class ObjectStore:
    """One bucket. The SDK blocks, so every call runs on a thread; memory stays constant whatever the size."""

    def __init__(self, settings: Settings) -> None:
        self._endpoint = settings.s3_endpoint
        self._bucket = settings.s3_bucket
        self._client = _client(settings)
        self._calls = ThreadPoolExecutor(CALLS, "objects")
        self._streams = ThreadPoolExecutor(STREAMS, "object-streams")

    async def start(self) -> None:
        """Make the bucket where it is missing. Raises ObjectStoreUnavailable."""
        if not await self._call(self._client.bucket_exists, self._bucket):
            await self._call(self._make_bucket)

    async def ping(self) -> None:
        """Raise ObjectStoreUnavailable where the store is away or the bucket is missing."""
        if not await self._call(self._client.bucket_exists, self._bucket):
            raise self._no_bucket()

    async def put(self, key: str, data: bytes) -> None:
        """Write a small object. Cancelled, it returns once nothing is on its way any more."""
        source = io.BytesIO(data)
        call = self._call(self._client.put_object, self._bucket, key, source, len(data), key=key)
        await seen_through(call, source.close)

    async def get(self, key: str) -> bytes:
        """Read a small object. Raises ObjectNotFound."""
        return await self._call(self._read, key, key=key)

    async def put_file(self, key: str, path: Path) -> None:
        """Upload a file of any size. Cancelled, it gives up at the next part, and returns as `put` does."""
        file = path.open("rb")
        await seen_through(self._call(self._upload, key, file, key=key), file.close)

    async def get_file(self, key: str, path: Path) -> None:
        """Download to `path`, written beside and renamed. Raises ObjectNotFound.

        Cancelled, it gives up at the next block, and returns once nothing is written any more. A store that hangs holds
        it for as long as any call.
        """
        unwanted = threading.Event()
        await seen_through(self._call(self._download, key, path, unwanted, key=key), unwanted.set)

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes]) -> int:
        """Upload what `chunks` yields, up to 160 GB, and answer its size. An error of `chunks` ends the upload."""
        with ByteStream(chunks, asyncio.get_running_loop()) as stream:
            put = partial(self._client.put_object, part_size=PART, num_parallel_uploads=1)
            await self._call(put, self._bucket, key, stream, -1, key=key, pool=self._streams)
            return stream.size

    async def names(self, prefix: str) -> list[str]:
        """Keys that begin with `prefix`, sorted."""
        return list(await self.sizes(prefix))

    async def sizes(self, prefix: str) -> dict[str, int]:
        """Keys that begin with `prefix`, sorted, and the bytes of each."""
        return await self._call(self._sizes, prefix)

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete these objects, a request for every thousand; one that is not there is as good as deleted."""
        for first in range(0, len(keys), DELETED_AT_ONCE):
            await self._call(self._delete, keys[first : first + DELETED_AT_ONCE])

    async def close(self) -> None:
        """Let go of threads; a call in flight ends by itself."""
        self._calls.shutdown(wait=False, cancel_futures=True)
        self._streams.shutdown(wait=False, cancel_futures=True)

    def _read(self, key: str) -> bytes:
        response = self._client.get_object(self._bucket, key)
        try:
            return bytes(response.read())
        finally:
            response.close()
            response.release_conn()

    def _upload(self, key: str, file: BinaryIO) -> None:
        size = os.fstat(file.fileno()).st_size
        part = max(PART, -(-size // MOST_PARTS))
        self._client.put_object(self._bucket, key, file, size, part_size=part)

    def _download(self, key: str, path: Path, unwanted: threading.Event) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(path.name + ".part")
        response = self._client.get_object(self._bucket, key)
        try:
            with beside.open("wb") as file:
                for block in response.stream(BLOCK):
                    if unwanted.is_set():
                        break
                    file.write(block)
        finally:
            response.close()
            response.release_conn()
        if unwanted.is_set():
            beside.unlink()
        else:
            beside.replace(path)

    def _sizes(self, prefix: str) -> dict[str, int]:
        found = self._client.list_objects(self._bucket, prefix=prefix, recursive=True)
        objects = [item for item in found if item.object_name and not item.is_dir]
        return {item.object_name: item.size or 0 for item in sorted(objects, key=lambda item: item.object_name)}

    def _delete(self, keys: Sequence[str]) -> None:
        for error in self._client.remove_objects(self._bucket, [DeleteObject(key) for key in keys]):
            raise ObjectStoreUnavailable(f"the object store at {self._endpoint} did not delete {error.name}: {error}")

    def _make_bucket(self) -> None:
        with suppress(_MadeByAnother):
            try:
                self._client.make_bucket(self._bucket)
            except MinioException as error:
                raise (_MadeByAnother if _status(error) == CONFLICT else error) from error

    async def _call(
        self,
        call: Callable[..., T],
        *arguments: object,
        key: str | None = None,
        pool: ThreadPoolExecutor | None = None,
        **named: object,
    ) -> T:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(pool or self._calls, partial(call, *arguments, **named))
        except (MinioException, urllib3.exceptions.HTTPError) as error:
            raise self._ours(error, key) from error

    def _ours(self, error: Exception, key: str | None) -> TreadleError:
        status = _status(error)
        if status == NOT_FOUND and "NoSuchBucket" in str(error):
            return self._no_bucket()
        if status == NOT_FOUND and key is not None:
            return ObjectNotFound(key)
        if status in REFUSALS:
            return ObjectRefused(f"the object store at {self._endpoint} refused {key or self._bucket}: {error}")
        what = f"it answered {status}" if status else str(error)
        sentence = f"the object store at {self._endpoint} does not serve us ({what}); check"
        if status in DENIALS:
            return ObjectStoreDenied(f"{sentence} TREADLE_S3_ACCESS_KEY and TREADLE_S3_SECRET_KEY")
        return ObjectStoreUnavailable(f"{sentence} TREADLE_S3_ENDPOINT and that the store runs")

    def _no_bucket(self) -> ObjectStoreUnavailable:
        what = f"the object store at {self._endpoint} has no bucket {self._bucket}"
        return ObjectStoreUnavailable(f"{what}; check TREADLE_S3_BUCKET, or start a service, which makes it")


class _MadeByAnother(Exception):
    """Two services made the bucket at once; one was first."""


def _client(settings: Settings) -> Minio:
    address = urlsplit(settings.s3_endpoint)
    if address.scheme not in {"http", "https"} or not address.netloc or address.path.strip("/"):
        raise BadConfiguration(
            f"expected http://host:port or https://host:port, got {settings.s3_endpoint!r}", field="TREADLE_S3_ENDPOINT"
        )
    return Minio(
        address.netloc,
        access_key=settings.s3_access_key.get_secret_value(),
        secret_key=settings.s3_secret_key.get_secret_value(),
        secure=address.scheme == "https",
        region=settings.s3_region,
        http_client=_connections(),
    )


def _connections() -> urllib3.PoolManager:
    """Few and quick retries: callers that have time are patient themselves."""
    return urllib3.PoolManager(
        maxsize=CALLS + STREAMS,
        timeout=urllib3.Timeout(connect=3.0, read=60.0),
        retries=urllib3.Retry(total=2, connect=1, backoff_factor=0.1, status_forcelist=(500, 502, 503, 504)),
    )


def _status(error: Exception) -> int | None:
    """The HTTP status: `rclone serve s3` answers text/xml, which the SDK reports as InvalidResponseError."""
    match error:
        case InvalidResponseError():
            return int(error._code)
        case ServerError():
            return int(error.status_code)
        case S3Error():
            return int(error.response.status)
        case _:
            return None
