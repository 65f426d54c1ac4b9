"""One upload: its fields and its file in any order, the file straight to the object store. Nothing is parsed."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import Self
from uuid import uuid4

import anyio
from pydantic import Field, ValidationError

from contracts.artifacts import MANIFEST, Manifest, ManifestFile, dataset_prefix
from contracts.errors import InvalidInput
from contracts.message import Text
from contracts.options import Options
from contracts.wire import field_errors
from control.gateway.errors import Refused
from control.gateway.multipart import Part
from infra.objects import ObjectStore

FILE = "file"
EXTENSIONS = (".json", ".jsonl", ".csv")
CONTENT_TYPES = frozenset(
    {
        "",
        "application/csv",
        "application/json",
        "application/jsonl",
        "application/octet-stream",
        "application/vnd.ms-excel",  # what browsers on Windows say of a .csv
        "application/x-jsonlines",
        "application/x-ndjson",
        "text/csv",
        "text/plain",
    }
)
LONGEST_FIELD = 10_000
"""Bytes of a field that is not the file."""
_UNSAFE = re.compile(r"[^A-Za-z0-9.-]+")


class DatasetForm(Options):
    """The fields beside the file."""

    name: Text = Field(min_length=1, max_length=200)
    dataset_type: str = Field(default="training", pattern=r"^[\w-]{1,50}$")
    domain: Text | None = Field(default=None, max_length=200)
    user_id: int = Field(ge=0, lt=2**63)


class Upload:
    """Takes the parts one after another; `finish` writes the manifest, and only then is the dataset there.

    A file that comes before the fields that say where it belongs waits on disk, else it is never held.
    """

    def __init__(self, objects: ObjectStore, limit: int) -> None:
        self.dataset_id = f"ds-{uuid4().hex}"
        self._objects = objects
        self._limit = limit
        self._fields: dict[str, str] = {}
        self._file: ManifestFile | None = None
        self._waiting: Path | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def take(self, part: Part) -> None:
        """Take one part. Raises Refused or InvalidInput."""
        if part.name == FILE:
            await self._take_file(part)
        elif part.name in self._fields:
            raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, part.name, "expected once, came twice")
        else:
            self._fields[part.name] = await _text(part)

    async def finish(self) -> tuple[DatasetForm, ManifestFile]:
        """Make the dataset complete: the file first, the manifest last. Raises Refused or InvalidInput."""
        form = _form(self._fields)
        if self._file is None:
            raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, FILE, f"missing; expected one file: {_known()}")
        if self._waiting is not None:
            await self._objects.put_file(self._key(form, self._file.name), self._waiting)
        manifest = Manifest(files=(self._file,))
        await self._objects.put(self._key(form, MANIFEST), manifest.model_dump_json().encode())
        return form, self._file

    async def _take_file(self, part: Part) -> None:
        if self._file is not None:
            raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, FILE, "expected one file, came twice")
        name = _checked_name(part)
        form = _form_if_whole(self._fields)
        content = _Measured(part.chunks, self._limit)
        if form is not None:
            await self._objects.put_stream(self._key(form, name), await content.begin())
        else:
            self._waiting = await self._hold(await content.begin())
        self._file = ManifestFile(name=name, size=content.size, sha256=content.sha256)

    async def _hold(self, chunks: AsyncIterator[bytes]) -> Path:
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="treadle-upload-"))
        path = Path(folder) / FILE
        async with await anyio.open_file(path, "wb") as file:
            async for chunk in chunks:
                await file.write(chunk)
        return path

    def _key(self, form: DatasetForm, name: str) -> str:
        return f"{dataset_prefix(form.user_id, self.dataset_id)}/{name}"


class _Measured:
    """Counts and hashes what passes through; an empty or too large file is refused."""

    def __init__(self, chunks: AsyncIterator[bytes], limit: int) -> None:
        self._chunks = chunks
        self._limit = limit
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        """Of what has passed so far, in hex."""
        return self._hash.hexdigest()

    async def begin(self) -> AsyncIterator[bytes]:
        """The chunks, once the first is there. Raises Refused where there is none."""
        first = await anext(self._chunks, b"")
        if not first:
            raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, FILE, f"empty; expected rows as {_known()}")
        return self._passing(first)

    async def _passing(self, first: bytes) -> AsyncIterator[bytes]:
        yield self._pass(first)
        async for chunk in self._chunks:
            yield self._pass(chunk)

    def _pass(self, chunk: bytes) -> bytes:
        self.size += len(chunk)
        if self.size > self._limit:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, FILE, f"expected at most {self._limit} bytes")
        self._hash.update(chunk)
        return chunk


async def _text(part: Part) -> str:
    found = bytearray()
    async for chunk in part.chunks:
        found += chunk
        if len(found) > LONGEST_FIELD:
            raise Refused(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, part.name, f"expected at most {LONGEST_FIELD} bytes of text"
            )
    try:
        return found.decode()
    except UnicodeDecodeError as error:
        raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, part.name, "expected UTF-8 text") from error


def _checked_name(part: Part) -> str:
    """A safe object name made of the file's own, so that errors in its lines can quote it."""
    if not part.filename:
        raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, FILE, f"expected a file with its name: {_known()}")
    given = PurePosixPath(part.filename.replace("\\", "/"))
    suffix = given.suffix.lower()
    if suffix not in EXTENSIONS:
        raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, FILE, f"{given.name!r} is not {_known()}")
    if part.content_type not in CONTENT_TYPES:
        raise Refused(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, FILE, f"its content type {part.content_type!r} is no {_known()}"
        )
    stem = _UNSAFE.sub("-", given.stem).strip("-.")[:100]
    return f"{stem or 'data'}{suffix}"


def _form(fields: dict[str, str]) -> DatasetForm:
    try:
        return DatasetForm.model_validate(fields)
    except ValidationError as error:
        raise InvalidInput(field_errors(error)) from error


def _form_if_whole(fields: dict[str, str]) -> DatasetForm | None:
    """The form where nothing is missing; what is missing may come after the file. Raises InvalidInput for the rest."""
    try:
        return DatasetForm.model_validate(fields)
    except ValidationError as error:
        if all(item["type"] == "missing" for item in error.errors()):
            return None
        raise InvalidInput(field_errors(error)) from error


def _known() -> str:
    return " or ".join(EXTENSIONS)
