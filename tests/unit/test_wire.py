"""The wire format: one golden JSON per kind of message, and bodies that cannot be decoded."""

from __future__ import annotations

import json
import re
from pathlib import Path
from uuid import UUID, uuid5

import pytest
from pydantic import ValidationError

from contracts.errors import UndecodableMessage
from contracts.events import DataOptimized, ModelTrained
from contracts.message import Message
from contracts.submissions import CreateTask, PauseTask
from contracts.wire import MAX_BODY, MESSAGES, decode, encode, kind_of, version_of

GOLDEN = Path(__file__).parents[1] / "wire"
UUID_TEXT = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def golden(message: type[Message]) -> Path:
    return GOLDEN / f"{kind_of(message)}.v{version_of(message)}.json"


def test_every_kind_has_a_golden_file_and_every_golden_file_a_kind() -> None:
    assert {golden(m).name for m in MESSAGES} == {path.name for path in GOLDEN.glob("*.json")}


@pytest.mark.parametrize("message", MESSAGES, ids=kind_of)
def test_the_golden_body_is_read_and_written_back_unchanged(message: type[Message]) -> None:
    raw = golden(message).read_bytes()
    assert json.loads(encode(decode(raw, message))) == json.loads(raw)


@pytest.mark.parametrize("message", MESSAGES, ids=kind_of)
def test_every_field_of_a_kind_is_in_its_golden_body(message: type[Message]) -> None:
    assert set(json.loads(golden(message).read_bytes())) == set(message.model_fields)


IDS = dict(line.split() for line in (GOLDEN / "message_ids.txt").read_text().splitlines())
"""The id of the golden message for each kind and version. A recorded id never changes, because a redelivered message
of an earlier version must keep its id."""


@pytest.mark.parametrize("message", MESSAGES, ids=kind_of)
def test_the_message_id_is_the_recorded_one(message: type[Message]) -> None:
    assert str(decode(golden(message).read_bytes(), message).message_id) == IDS[golden(message).stem]


@pytest.mark.parametrize("message", MESSAGES, ids=kind_of)
def test_a_message_about_something_else_has_another_id(message: type[Message]) -> None:
    raw = golden(message).read_text()
    other = UUID_TEXT.sub(lambda found: str(uuid5(UUID(found[0]), "another")), raw)
    assert other != raw
    assert decode(other.encode(), message).message_id != decode(raw.encode(), message).message_id


@pytest.mark.parametrize("message", MESSAGES, ids=kind_of)
def test_a_message_cannot_be_changed(message: type[Message]) -> None:
    decoded = decode(golden(message).read_bytes(), message)
    with pytest.raises(ValidationError, match="frozen"):
        decoded.kind = "other"


@pytest.mark.parametrize("message", MESSAGES, ids=kind_of)
def test_an_unknown_field_is_refused_by_name(message: type[Message]) -> None:
    raw = {**json.loads(golden(message).read_bytes()), "surprise": 1}
    with pytest.raises(UndecodableMessage, match="surprise"):
        decode(json.dumps(raw).encode(), message)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"\xff", "not JSON"),
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "expected a JSON object, got list"),
        (b"{}", "kind None version None is not known here; expected pause_task"),
        (b'{"kind": "explode", "version": 1}', "kind 'explode' version 1"),
        (b'{"kind": "pause_task", "version": 2}', "kind 'pause_task' version 2"),
        (b'{"kind": "pause_task", "version": true}', "kind 'pause_task' version True"),
        (b'{"kind": "pause_task", "version": 1, "task_id": "x"}', "task_id: "),
        (b'{"kind":"pause_task","version":1,"task_id":"x"}', "task_id: "),
        (b'{"kind":"pause_task","version":2,"task_id":"x"}', "kind 'pause_task' version 2"),
        (b'{"kind":"pause_task","version":1,"version":2}', "kind 'pause_task' version 2"),
        (b'{"kind":"pause_task","version":1,"kind":"explode"}', "kind 'explode' version 1"),
        (b'{"kind":"pause_task","version":1,', "not JSON"),
    ],
)
def test_a_body_that_cannot_be_decoded_is_refused_with_the_reason(body: bytes, reason: str) -> None:
    with pytest.raises(UndecodableMessage, match=reason):
        decode(body, PauseTask)


def test_a_known_kind_is_refused_where_it_is_not_expected() -> None:
    with pytest.raises(UndecodableMessage, match="expected pause_task"):
        decode(golden(ModelTrained).read_bytes(), PauseTask)


def test_an_event_of_another_phase_than_its_key_is_refused() -> None:
    raw = json.loads(golden(DataOptimized).read_bytes())
    raw["key"]["phase"] = "train"
    with pytest.raises(UndecodableMessage, match="expected optimize in a data_optimized event"):
        decode(json.dumps(raw).encode(), DataOptimized)


def test_the_body_of_a_task_is_accepted_in_camel_case_too() -> None:
    raw = json.loads(golden(CreateTask).read_bytes())
    camel = {"taskName": "n", "modelName": "m", "datasetId": "d", "userId": 1, "mode": "STANDARD"}
    decoded = decode(json.dumps({**raw, "task": camel}).encode(), CreateTask)
    assert decoded.task.task_name == "n"


def test_a_number_that_json_cannot_hold_is_refused_by_name() -> None:
    raw = golden(DataOptimized).read_text().replace('"gpu_seconds": 0.0', '"gpu_seconds": 1e999')
    with pytest.raises(UndecodableMessage, match="gpu_seconds"):
        decode(raw.encode(), DataOptimized)


def test_a_body_that_is_too_long_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(UndecodableMessage, match=f"has {MAX_BODY + 1} bytes, expected at most {MAX_BODY}"):
        decode(b"x" * (MAX_BODY + 1), PauseTask)
