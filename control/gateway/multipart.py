"""Reads multipart bodies as a stream: one part at a time, in constant memory for parts of any size."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from urllib.parse import unquote, unquote_to_bytes

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from control.gateway.errors import RequestRejected

FORM = "multipart/form-data"
_EXTENDED_FILENAME = re.compile(r""";\s*filename\*\s*=\s*"?(?:([\w-]*)'[^'";]*')?([^";]*)""", re.IGNORECASE)
"""The charset, if there is one, and the percent-encoded name."""


class _End(Enum):
    OF_PART = "part"
    OF_BODY = "body"


Headers = dict[str, str]
_Event = Headers | bytes | _End


@dataclass(frozen=True, slots=True)
class FormPart:
    """One part; its `chunks` are skipped if they are not read before the next part is requested."""

    name: str
    filename: str
    """Empty if there is none."""
    content_type: str
    headers: Headers
    """All headers of the part, by their names in lower case."""
    chunks: AsyncIterator[bytes]


async def read_parts(request: Request) -> AsyncIterator[FormPart]:
    """The parts of a request's body, in order. Raises RequestRejected if it is not well-formed multipart."""
    events = _events(request.stream(), _boundary(request))
    async for event in events:
        if event is _End.OF_BODY:
            return
        if isinstance(event, dict):
            part = _part(event, _chunks(events))
            yield part
            async for _ in part.chunks:
                pass
    raise _malformed("the body ends before its last boundary")


def _boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != FORM.encode():
        got = kind.decode("latin-1") or "none"
        raise RequestRejected(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Content-Type", f"expected {FORM}, got {got}")
    if not options.get(b"boundary"):
        raise RequestRejected(
            HTTPStatus.UNPROCESSABLE_ENTITY, "Content-Type", f"expected a boundary, such as {FORM}; boundary=x"
        )
    return options[b"boundary"]


async def _events(stream: AsyncIterator[bytes], boundary: bytes) -> AsyncIterator[_Event]:
    try:
        collector = _Collector(boundary)
        async for data in stream:
            for event in collector.feed(data):
                yield event
    except FormParserError as error:
        raise _malformed(str(error)) from error


async def _chunks(events: AsyncIterator[_Event]) -> AsyncIterator[bytes]:
    async for event in events:
        if event is _End.OF_PART:
            return
        assert isinstance(event, bytes), "a part's headers come before its data"
        yield event
    raise _malformed("the body ends in the middle of a part")


def _part(headers: Headers, chunks: AsyncIterator[bytes]) -> FormPart:
    disposition = headers.get("content-disposition", "")
    _, options = parse_options_header(disposition)
    if b"name" not in options:
        raise _malformed("a part has no name in its Content-Disposition")
    kind, _ = parse_options_header(headers.get("content-type"))
    filename = options.get(b"filename", b"")
    return FormPart(
        name=_text(options[b"name"]),
        filename=_plain_filename(filename) or _extended_filename(disposition) or _text(filename),
        content_type=_text(kind),
        headers=headers,
        chunks=chunks,
    )


def _plain_filename(raw: bytes) -> str | None:
    """The `filename`, in which browsers percent-encode quotes and line breaks; None if it is empty or not UTF-8."""
    try:
        return unquote(raw.decode()) or None
    except UnicodeDecodeError:
        return None


def _extended_filename(disposition: str) -> str | None:
    """The `filename*` of RFC 8187, which RFC 7578 forbids in forms, but some clients send nothing else."""
    match = _EXTENDED_FILENAME.search(disposition)
    if match is None:
        return None
    encoding = "latin-1" if (match[1] or "").lower() == "iso-8859-1" else "utf-8"
    return unquote_to_bytes(match[2].strip().encode("latin-1")).decode(encoding, errors="replace")


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", errors="replace")


def _malformed(why: str) -> RequestRejected:
    return RequestRejected(HTTPStatus.UNPROCESSABLE_ENTITY, "body", f"expected well-formed {FORM}: {why}")


class _Collector:
    """Collects the parser's callbacks for one chunk of the body as a list of events."""

    def __init__(self, boundary: bytes) -> None:
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._on_field,
                "on_header_value": self._on_value,
                "on_header_end": self._on_header,
                "on_headers_finished": lambda: self._collected.append(self._headers),
                "on_part_data": lambda data, start, end: self._collected.append(data[start:end]),
                "on_part_end": lambda: self._collected.append(_End.OF_PART),
                "on_end": lambda: self._collected.append(_End.OF_BODY),
            },
        )
        self._collected: list[_Event] = []
        self._headers: Headers = {}
        self._field = b""
        self._value = b""

    def feed(self, data: bytes) -> list[_Event]:
        """The events in `data`, in order. Raises FormParserError."""
        self._collected = []
        self._parser.write(data)
        return self._collected

    def _begin(self) -> None:
        self._headers, self._field, self._value = {}, b"", b""

    def _on_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header(self) -> None:
        self._headers[self._field.decode("latin-1").lower()] = self._value.decode("latin-1")
        self._field = self._value = b""
