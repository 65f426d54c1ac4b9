"""Receives one upload, with its fields and its file in any order, and stores the file without parsing it."""

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
from contracts.bounds import Text
from contracts.errors import InvalidInput
from contracts.options import Options
from contracts.wire import field_errors
from control.gateway.binary_files import LONGEST_SIGNATURE, binary_kind
from control.gateway.errors import RequestRejected
from control.gateway.integers import Digits
from control.gateway.multipart import FormPart
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
        "application/vnd.ms-excel",  # browsers on Windows send this for .csv
        "application/x-jsonlines",
        "application/x-ndjson",
        "text/csv",
        "text/plain",
    }
)
PLAIN_ENCODINGS = frozenset({"7bit", "8bit", "binary", "identity"})
LONGEST_FIELD = 10_000
"""Bytes of a form field that is not the file."""
MAX_PARTS = 16
"""Parts of one upload; the form has five."""
MAX_QUOTED = 100
"""Characters of a name that an error quotes."""
COPY_BLOCK = 1024 * 1024
"""Bytes of a buffered file that are read at a time."""
_UNSAFE = re.compile(r"[^A-Za-z0-9.-]+")


class DatasetForm(Options):
    """The form fields besides the file."""

    name: Text = Field(min_length=1, max_length=200)
    dataset_type: str = Field(default="training", pattern=r"^[\w-]{1,50}$")
    domain: Text | None = Field(default=None, max_length=200)
    user_id: Digits = Field(ge=0, lt=2**63)


FIELDS = frozenset(
    name for field, info in DatasetForm.model_fields.items() for name in (field, info.alias) if name is not None
)
"""The names of the form fields, in both spellings."""


class Upload:
    """Receives the parts one after another; `finish` writes the manifest, which makes the dataset complete.

    The file is streamed to the object store, but buffered on disk if it arrives before the fields that decide its key.
    """

    def __init__(self, objects: ObjectStore, limit: int) -> None:
        self.dataset_id = f"ds-{uuid4().hex}"
        self._objects = objects
        self._limit = limit
        self._parts = 0
        self._fields: dict[str, str] = {}
        self._file: ManifestFile | None = None
        self._buffered: Path | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def receive(self, part: FormPart) -> None:
        """Receive one part. Raises RequestRejected or InvalidInput at the first one that is wrong or too large."""
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise RequestRejected(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body", f"expected at most {MAX_PARTS} parts")
        if part.name == FILE:
            await self._receive_file(part)
        elif part.name not in FIELDS:
            message = f"expected one of {', '.join(sorted({FILE, *FIELDS}))}"
            raise RequestRejected(HTTPStatus.UNPROCESSABLE_ENTITY, part.name[:MAX_QUOTED], message)
        elif part.name in self._fields:
            raise RequestRejected(HTTPStatus.UNPROCESSABLE_ENTITY, part.name, "expected one value, got two")
        else:
            self._fields[part.name] = await _text(part)

    async def finish(self) -> tuple[DatasetForm, ManifestFile]:
        """Store the file, then the manifest. Raises RequestRejected or InvalidInput if a part is missing or wrong."""
        form = _form(self._fields)
        if self._file is None:
            raise RequestRejected(HTTPStatus.UNPROCESSABLE_ENTITY, FILE, f"missing; expected one {_extensions()} file")
        if self._buffered is not None:
            await self._objects.put_stream(self._key(form, self._file.name), _blocks(self._buffered))
        manifest = Manifest(files=(self._file,))
        await self._objects.put(self._key(form, MANIFEST), manifest.model_dump_json().encode())
        return form, self._file

    async def _receive_file(self, part: FormPart) -> None:
        if self._file is not None:
            raise RequestRejected(HTTPStatus.UNPROCESSABLE_ENTITY, FILE, "expected one file, got two")
        name = _checked_name(part)
        form = _form_if_complete(self._fields)
        content = _Measured(part.chunks, self._limit, name)
        if form is not None:
            await self._objects.put_stream(self._key(form, name), await content.begin())
        else:
            self._buffered = await self._buffer(await content.begin())
        self._file = ManifestFile(name=name, size=content.size, sha256=content.sha256)

    async def _buffer(self, chunks: AsyncIterator[bytes]) -> Path:
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="treadle-upload-"))
        path = Path(folder) / FILE
        async with await anyio.open_file(path, "wb") as file:
            async for chunk in chunks:
                await file.write(chunk)
        return path

    def _key(self, form: DatasetForm, name: str) -> str:
        return f"{dataset_prefix(form.user_id, self.dataset_id)}/{name}"


class _Measured:
    """Counts and hashes the chunks of a file; refuses an empty or too large file."""

    def __init__(self, chunks: AsyncIterator[bytes], limit: int, name: str) -> None:
        self._chunks = chunks
        self._limit = limit
        self._name = name
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        """The digest of the chunks so far, in hex."""
        return self._hash.hexdigest()

    async def begin(self) -> AsyncIterator[bytes]:
        """The chunks, once the first bytes have arrived. Raises RequestRejected if there are none, or not of text."""
        first = b""
        while len(first) < LONGEST_SIGNATURE and (chunk := await anext(self._chunks, b"")):
            first += chunk
        if not first:
            raise RequestRejected(
                HTTPStatus.UNPROCESSABLE_ENTITY, FILE, f"the file is empty; expected rows as {_extensions()}"
            )
        if (kind := binary_kind(first)) is not None:
            message = f"expected text in {self._name}, got {kind}; upload the unpacked or converted file"
            raise RequestRejected(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, FILE, message)
        return self._measured(first)

    async def _measured(self, first: bytes) -> AsyncIterator[bytes]:
        yield self._measure(first)
        async for chunk in self._chunks:
            yield self._measure(chunk)

    def _measure(self, chunk: bytes) -> bytes:
        self.size += len(chunk)
        if self.size > self._limit:
            raise RequestRejected(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, FILE, f"expected a file of at most {self._limit} bytes"
            )
        self._hash.update(chunk)
        return chunk


async def _text(part: FormPart) -> str:
    data = bytearray()
    async for chunk in part.chunks:
        data += chunk
        if len(data) > LONGEST_FIELD:
            raise RequestRejected(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, part.name, f"expected a text of at most {LONGEST_FIELD} bytes"
            )
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise RequestRejected(HTTPStatus.UNPROCESSABLE_ENTITY, part.name, "expected UTF-8 text") from error


def _checked_name(part: FormPart) -> str:
    """A safe object name, similar to the file's name so that users recognize it in errors. Raises RequestRejected."""
    if not part.filename:
        raise RequestRejected(
            HTTPStatus.UNPROCESSABLE_ENTITY, FILE, f"expected a file name that ends in {_extensions()}"
        )
    original = PurePosixPath(part.filename.replace("\\", "/"))
    suffix = original.suffix.lower()
    if suffix not in EXTENSIONS:
        raise RequestRejected(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            FILE,
            f"expected a file name that ends in {_extensions()}, got {original.name[-MAX_QUOTED:]!r}",
        )
    if part.content_type not in CONTENT_TYPES:
        raise RequestRejected(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            FILE,
            f"expected a content type for {_extensions()}, such as text/plain; got {part.content_type[:MAX_QUOTED]!r}",
        )
    for header in ("content-encoding", "content-transfer-encoding"):
        if (encoding := part.headers.get(header, "binary").lower()) not in PLAIN_ENCODINGS:
            message = f"expected the file as it is, got {header} {encoding[:MAX_QUOTED]!r}; leave the header out"
            raise RequestRejected(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, FILE, message)
    stem = _UNSAFE.sub("-", original.stem).strip("-.")[:100]
    return f"{stem or 'data'}{suffix}"


async def _blocks(path: Path) -> AsyncIterator[bytes]:
    async with await anyio.open_file(path, "rb") as file:
        while block := await file.read(COPY_BLOCK):
            yield block


def _form(fields: dict[str, str]) -> DatasetForm:
    try:
        return DatasetForm.model_validate(fields)
    except ValidationError as error:
        raise InvalidInput(field_errors(error)) from error


def _form_if_complete(fields: dict[str, str]) -> DatasetForm | None:
    """The form, or None if fields are missing, which may arrive after the file. Raises InvalidInput if one is wrong."""
    try:
        return DatasetForm.model_validate(fields)
    except ValidationError as error:
        if all(item["type"] == "missing" for item in error.errors()):
            return None
        raise InvalidInput(field_errors(error)) from error


def _extensions() -> str:
    return " or ".join(EXTENSIONS)
