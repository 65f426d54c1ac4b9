"""Masks secrets in the log of a program: known values, and texts that look like keys, tokens and passwords."""

from __future__ import annotations

import re
from collections.abc import Collection

from infra.logs import MASK

MASKED = MASK.encode()
LONGEST_LINE = 64 * 1024
"""Bytes of a line that are kept until it ends; a longer line is masked in pieces."""
LONGEST_TOKEN = 4096
"""Bytes at the end of a piece that are kept for the next one, or more if a known secret is longer."""
SHORTEST_PART = 4
"""Bytes of the beginning of a known secret that are masked where the log ends in the middle of it."""
STEP = 1024

_SHAPES: tuple[tuple[bytes, re.Pattern[bytes]], ...] = (
    (b"AKIA", re.compile(rb"(?<![A-Za-z0-9])AKIA[A-Z0-9]{12,}")),
    (b"ASIA", re.compile(rb"(?<![A-Za-z0-9])ASIA[A-Z0-9]{12,}")),
    (b"hf_", re.compile(rb"(?<![A-Za-z0-9])hf_(?:(?=[a-z]*[A-Z0-9])[A-Za-z0-9]{6,}|[a-z]{16,})")),
    (b"sk-", re.compile(rb"(?<![A-Za-z0-9])sk-(?:(?=[A-Za-z_-]*[0-9])[\w-]{6,}|[\w-]{16,})")),
    (b"gh", re.compile(rb"(?<![A-Za-z0-9])gh[opsur]_[A-Za-z0-9]{20,}")),
    (b"earer", re.compile(rb"(?i:(?P<kept>\bBearer[ \t]+|\bBearer%20))[\w.~+/=-]{6,}")),
    (b"EARER", re.compile(rb"(?P<kept>\bBEARER[ \t]+)[\w.~+/=-]{6,}")),
    (b"Basic ", re.compile(rb"(?P<kept>\bBasic +)(?=[A-Za-z+/]*[0-9=])[A-Za-z0-9+/]{8,}=*")),
    (b"://", re.compile(rb"(?<=://)[^\s/@:'\"<>]*:[^\s/'\"<>]+(?=@)")),
    (b"password=", re.compile(rb"(?P<kept>[?&;]password=)[^\s&'\"]+")),
)
"""Each shape with bytes that it contains, because a search for these is much faster. No shape goes across a line."""


class Masker:
    """Masks a log that arrives in pieces of any size; what it returns, joined, is the masked log.

    With `inside`, the log begins in the middle of a word, which is left out because it may be the rest of a secret.
    """

    def __init__(self, secrets: Collection[bytes], *, inside: bool = False) -> None:
        self._secrets = sorted(secrets, key=len, reverse=True)
        self._overlap = max([LONGEST_TOKEN, *map(len, self._secrets)])
        self._rest = b""
        self._inside = inside
        """Whether the log goes on with the rest of a secret that was masked already."""

    def feed(self, data: bytes) -> bytes:
        """Add bytes of the log, and return those that can be masked now: up to the end of the last line."""
        self._rest += data
        end = max(self._rest.rfind(b"\n"), self._rest.rfind(b"\r")) + 1
        complete, self._rest = self._rest[:end], self._rest[end:]
        masked = self._continued(complete)
        if len(self._rest) > LONGEST_LINE + self._overlap:
            masked += self._piece()
        return masked

    @property
    def kept_back(self) -> int:
        """Bytes that were added and not returned yet."""
        return len(self._rest)

    def flush(self) -> bytes:
        """Return what is left of a log that has ended, perhaps in the middle of a secret."""
        rest, self._rest = self._rest, b""
        return self._continued(rest, ended=True)

    def _continued(self, data: bytes, *, ended: bool = False) -> bytes:
        if self._inside and data:
            data = data.lstrip(_TOKEN)
            self._inside = False
        masked = self.masked(data)
        return self._without_partial_secret(masked) if ended else masked

    def _piece(self) -> bytes:
        """Mask the beginning of a long line, up to a place where no secret is cut."""
        line = self._rest.lstrip(_TOKEN) if self._inside else self._rest
        self._inside = False
        whole = self.masked(line)
        for place in range(len(line) - self._overlap, 0, -STEP):
            before = self.masked(line[:place])
            if before + self.masked(line[place:]) == whole:
                self._rest = line[place:]
                return before
        self._rest, self._inside = b"", True  # one secret fills the whole line so far
        return whole

    def masked(self, text: bytes) -> bytes:
        """Mask whole lines."""
        for secret in self._secrets:
            text = text.replace(secret, MASKED)
        for part, shape in _SHAPES:
            if part in text:
                text = shape.sub(_mask, text)
        return text

    def _without_partial_secret(self, text: bytes) -> bytes:
        for secret in self._secrets:
            for length in range(min(len(secret) - 1, len(text)), SHORTEST_PART - 1, -1):
                if text.endswith(secret[:length]):
                    return text[:-length] + MASKED
        return text


_TOKEN = bytes(range(0x21, 0x7F))
"""What a secret may consist of, for the rest of one that is too long to be kept."""


def _mask(match: re.Match[bytes]) -> bytes:
    return (match.groupdict().get("kept") or b"") + MASKED
