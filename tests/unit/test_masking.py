"""A program's log shows no secret, wherever it is cut."""

from __future__ import annotations

import itertools
import re
import time

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from infra.worker import masking
from infra.worker.masking import LONGEST_LINE, LONGEST_TOKEN, Masker

SECRETS = [b"correct horse", b"pa$$w0rd", b"pa$$w0rd-longer", b"\xff\xfe\x00key"]
SHAPES = {
    "access key": (b"key=AKIAIOSFODNN7EXAMPLE.", b"key=***."),
    "hub token": (b"token hf_abcDEF0123456789abcd!", b"token ***!"),
    "short hub token": (b"hf_abc123", b"***"),
    "API key": (b"'sk-proj-abc_DEF-0123456789'", b"'***'"),
    "bearer": (b"Authorization: Bearer abc.def-ghi", b"Authorization: Bearer ***"),
    "bearer in lower case": (b"authorization: bearer abc.def-ghi", b"authorization: bearer ***"),
    "bearer in upper case": (b"AUTHORIZATION: BEARER abc.def-ghi", b"AUTHORIZATION: BEARER ***"),
    "basic": (b"Authorization: Basic dXNlcjpwYXNzd29yZA==", b"Authorization: Basic ***"),
    "address": (b"at amqp://user:password@host:5672/ it", b"at amqp://***@host:5672/ it"),
    "address without user": (b"redis://:password@host", b"redis://***@host"),
    "parameter": (b"http://host/?a=1&password=open", b"http://host/?a=1&password=***"),
    "GitHub token": (b"ghp_abcdefghijklmnopqrst", b"***"),
}
HARMLESS = (
    b"hf_hub_download hf_quantizer task-1234567 disk-usage-2024 scikit-learn-1.7.2 bearer of news, basic tokenizer",
    b"http://host:8080/path?x=1 a@b.example 12:34:56 s3://bucket/key \xff\x00\x1b[31mred\x1b[0m",
)


def masked(text: bytes) -> bytes:
    masker = Masker(SECRETS)
    return masker.feed(text) + masker.flush()


def in_pieces(text: bytes, cuts: list[int]) -> bytes:
    places = sorted({0, *(cut % (len(text) + 1) for cut in cuts), len(text)})
    masker = Masker(SECRETS)
    return b"".join([*(masker.feed(text[a:b]) for a, b in itertools.pairwise(places)), masker.flush()])


@pytest.mark.parametrize("secret", SECRETS)
def test_a_known_secret_is_masked(secret: bytes) -> None:
    assert masked(b"a" + secret + b"b\n" + secret) == b"a***b\n***"


@pytest.mark.parametrize("shape", SHAPES)
def test_a_text_that_looks_like_a_secret_is_masked(shape: str) -> None:
    text, expected = SHAPES[shape]
    assert masked(text) == expected


@pytest.mark.parametrize("text", HARMLESS)
def test_other_text_stays_byte_by_byte(text: bytes) -> None:
    assert masked(text) == text


@given(
    st.lists(
        st.sampled_from([*SECRETS, *(text for text, _ in SHAPES.values()), b"\n", b"\r", b" ", b"word ", b"\x00"])
    ),
    st.lists(st.integers(0, 10_000)),
)
@examples(max_examples=200, deadline=None)
def test_the_masked_log_does_not_depend_on_the_pieces_in_which_it_arrives(parts: list[bytes], cuts: list[int]) -> None:
    text = b"".join(parts)
    assert in_pieces(text, cuts) == masked(text)


@given(st.integers(0, 2 * (LONGEST_LINE + LONGEST_TOKEN)), st.sampled_from(SECRETS), st.lists(st.integers(0, 10**6)))
@examples(max_examples=60, deadline=None)
def test_a_secret_anywhere_in_a_very_long_line_is_masked(before: int, secret: bytes, cuts: list[int]) -> None:
    filler = b"x," * 40_000
    text = b"x" * before + secret + filler
    assert in_pieces(text, cuts) == b"x" * before + b"***" + filler


@pytest.mark.parametrize("prefix", [b"", b"word "])
def test_a_secret_that_is_longer_than_what_is_kept_is_masked_completely(prefix: bytes) -> None:
    token = b"A1" * (LONGEST_LINE + LONGEST_TOKEN)
    text = prefix + b"Bearer " + token + b" end\nnext"
    assert in_pieces(text, list(range(0, len(text), 50_000))) == prefix + b"Bearer *** end\nnext"


def test_the_beginning_of_a_secret_at_the_end_of_the_log_is_masked() -> None:
    assert masked(b"the password is correct ho") == b"the password is ***"


def test_a_line_without_an_end_is_kept_back_until_the_log_ends() -> None:
    masker = Masker(SECRETS)
    assert (masker.feed(b"one\ntw"), masker.feed(b"o"), masker.flush()) == (b"one\n", b"", b"two")


def test_a_log_that_begins_in_the_middle_of_a_word_loses_the_word() -> None:
    masker = Masker(SECRETS, inside=True)
    assert masker.feed(b"w0rd and more\n") == b" and more\n"


def test_each_shape_contains_the_bytes_that_are_looked_for() -> None:
    found = {part: any(re.search(re.escape(part), text) for text, _ in SHAPES.values()) for part, _ in masking._SHAPES}
    assert [part for part, is_found in found.items() if not is_found] == [b"ASIA"]


def test_ten_megabytes_are_masked_in_a_few_seconds() -> None:
    text = (
        b"2026-01-01 12:00:00 step 17 of 4000: loss 0.123, see https://host.example/a/b and sk- or hf_hub\n" * 100_000
    )
    started = time.monotonic()
    masked(text)
    assert time.monotonic() - started < 5
