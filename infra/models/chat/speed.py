"""Refuses a tokenizer that is far too slow: its regular expressions may take exponential time for some texts.

Its library limits the time at one place of a text, to about 0.1 s, but not for a whole text, and cannot be interrupted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from infra.errors import BadConfiguration
from infra.models.library_errors import as_bad_configuration

PROBES = tuple(mark * 64 + "!" for mark in ("a", " ", "0", "\n", ".", "aA1 ", "\u00e9"))
"""Texts of repeated characters, for which such expressions often take long."""
PREFIXES = (64, 256, 1024)
"""Numbers of characters at the beginning of a text that are encoded first, to notice early that it takes long."""
CHECKED_TEXTS = 32
"""Number of texts of which the beginnings are encoded first."""
CHARACTERS_AT_ONCE = 2**14
"""Number of characters after which the time is looked at; a single text may be longer."""
FREE_SECONDS, SECONDS_PER_CHARACTER = 2.0, 5e-4
"""Processor time that is allowed in any case, and for each character; slow tokenizers take 1e-5 s."""

Encode = Callable[[list[str]], list[list[int]]]


class Speed:
    """Encodes texts in parts and raises BadConfiguration if that takes far too long or the tokenizer breaks."""

    def __init__(self, encode: Encode, *, free_seconds: float = FREE_SECONDS) -> None:
        self._encode = encode
        self._free = free_seconds
        self._probed = False
        self._checked = 0

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text."""
        for probe in () if self._probed else PROBES:
            self._timed([probe])
        self._probed = True
        for text in texts[: max(0, CHECKED_TEXTS - self._checked)]:
            self._checked += 1
            for length in PREFIXES:
                self._timed([text[:length]])
        return [ids for part in _parts(texts) for ids in self._timed(part)]

    def _timed(self, texts: list[str]) -> list[list[int]]:
        with as_bad_configuration("the model's tokenizer cannot encode a text"), self._in_time(sum(map(len, texts))):
            return self._encode(texts)

    @contextmanager
    def _in_time(self, characters: int) -> Iterator[None]:
        started = time.thread_time()
        yield
        seconds = time.thread_time() - started
        if seconds > self._free + SECONDS_PER_CHARACTER * characters:
            raise BadConfiguration(
                f"the model's tokenizer took {seconds:.1f} s of processor time for {characters:,} characters; "
                "simplify the regular expressions in its tokenizer.json",
                field="model",
            )


def _parts(texts: Sequence[str]) -> Iterator[list[str]]:
    """Divide the texts into lists of about CHARACTERS_AT_ONCE."""
    part: list[str] = []
    size = 0
    for text in texts:
        if part and size + len(text) > CHARACTERS_AT_ONCE:
            yield part
            part, size = [], 0
        part.append(text)
        size += len(text)
    if part:
        yield part
