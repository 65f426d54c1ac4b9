"""Lists and streams the files of artifacts; a name that is not in the manifest is never read from the object store."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import quote

from fastapi.responses import StreamingResponse

from contracts.artifacts import ManifestFile
from contracts.files import SEALED, FilesView, FileView
from control.gateway.errors import RequestRejected
from infra.artifacts import read_manifest
from infra.objects import ObjectNotFound, ObjectStore

BINARY = "application/octet-stream"
"""The type of every file, so that no browser interprets what a user has uploaded."""
FIELD = "path"
MAX_QUOTED = 200
_FROM = re.compile(r"bytes=(\d{1,18})-")


async def list_files(objects: ObjectStore, prefixes: Mapping[str, str]) -> FilesView:
    """The files of these artifacts; `prefixes` maps the folder of each artifact in the list to its prefix."""
    files, removed = list[FileView](), list[str]()
    for folder, prefix in prefixes.items():
        manifest = await read_manifest(objects, prefix)
        if manifest is None:
            removed.append(folder)
        else:
            visible = (file for file in manifest.files if file.name != SEALED)
            files += [FileView(name=_below(folder, f.name), size=f.size, sha256=f.sha256) for f in visible]
    return FilesView(files=tuple(files), removed=tuple(removed))


async def send_file(
    objects: ObjectStore, prefixes: Mapping[str, str], path: str, byte_range: str | None
) -> StreamingResponse:
    """Stream the file that `list_files` lists as `path`. Raises RequestRejected if there is none or it is sealed."""
    prefix, file = await _find(objects, prefixes, path)
    start = _start(byte_range, file.size)
    try:
        blocks = await objects.open_stream(f"{prefix}/{file.name}", start)
    except ObjectNotFound as error:
        raise _not_found(path) from error
    headers = {
        "Content-Length": str(file.size - start),
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(file.name.rpartition('/')[2])}",
        "Accept-Ranges": "bytes",
        "ETag": f'"{file.sha256}"',
    }
    if not start:
        return StreamingResponse(blocks, HTTPStatus.OK, headers, BINARY)
    headers["Content-Range"] = f"bytes {start}-{file.size - 1}/{file.size}"
    return StreamingResponse(blocks, HTTPStatus.PARTIAL_CONTENT, headers, BINARY)


async def _find(objects: ObjectStore, prefixes: Mapping[str, str], path: str) -> tuple[str, ManifestFile]:
    """The prefix of the artifact that has the file, and the file."""
    for folder, prefix in prefixes.items():
        if path == _below(folder, SEALED):
            raise RequestRejected(
                HTTPStatus.FORBIDDEN,
                FIELD,
                "the rows of the sealed test split are not served, so that no model is tuned on them",
            )
        if not path.startswith(_below(folder, "")):
            continue
        manifest = await read_manifest(objects, prefix)
        for file in manifest.files if manifest else ():
            if path == _below(folder, file.name):
                return prefix, file
    raise _not_found(path)


def _below(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _start(byte_range: str | None, size: int) -> int:
    """The first byte to send: only `bytes=N-` is honoured, which resumes a download; other ranges may be ignored."""
    match = _FROM.fullmatch(byte_range or "")
    start = int(match[1]) if match else 0
    if start and start >= size:
        raise RequestRejected(
            HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "Range", f"expected a first byte below the size, {size}"
        )
    return start


def _not_found(path: str) -> RequestRejected:
    message = f"there is no file {path[:MAX_QUOTED]!r}; the same address without the name lists all files"
    return RequestRejected(HTTPStatus.NOT_FOUND, FIELD, message)
