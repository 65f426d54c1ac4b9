"""Convert records of a question and its answer, or of a text and its label."""

from __future__ import annotations

from contracts.rows import Turn
from optimizer_worker.reading.fields import Fields, RecordError, decoded, kind, lined, optional, required, scalar
from optimizer_worker.reading.messages import SYSTEM_FIELDS, Conversation, answered, message_list, with_system
from optimizer_worker.reading.tools import calls_in
from optimizer_worker.reading.turns import REASONING_FIELDS, reasoning_of

GIVEN_FIELDS = ("input", "context")
"""Fields with a text that belongs to the question and follows it on a new line."""
_BESIDE = frozenset({"history", *SYSTEM_FIELDS, *REASONING_FIELDS})


def pair(record: Fields, question: str, answer: str) -> Conversation:
    """Convert a question and its answer, behind the system prompt and the history.

    Each of the two may be text or, as in prompt and completion, a list of messages; only the answer is then learnt.
    """
    asked, said = _asked(record, question, answer), _said(record, answer)
    turns, unused = (*asked.turns, *said.turns), asked.unused | said.unused
    if not _BESIDE.isdisjoint(record):
        before = _history(record)
        turns, unused = with_system(record, (*before.turns, *turns)), unused | before.unused
    return answered(turns, answer, unused)


def labelled(record: Fields, text: str, label: str) -> Conversation:
    """Convert a text and its label, which may be a number or a truth value."""
    turns = (Turn(role="user", content=required(record, text)), Turn(role="assistant", content=scalar(record, label)))
    return Conversation(with_system(record, turns))


def calling(record: Fields) -> Conversation:
    """Convert a query and the calls that answer it."""
    asked = Turn(role="user", content=required(record, "query"))
    said = Turn(role="assistant", content="", tool_calls=calls_in(record.get("answers"), "answers"))
    return Conversation(with_system(record, (asked, said)))


def _asked(record: Fields, question: str, answer: str) -> Conversation:
    given = [name for name in GIVEN_FIELDS if name in record and name not in (question, answer)]
    if isinstance(record.get(question), list):
        if filled := next((name for name in given if record[name]), None):
            raise RecordError(f"{filled}: expected nothing, because {question} is a list of messages")
        listed = message_list(record, question)
        return Conversation(tuple(_context(turn) for turn in listed.turns), listed.unused)
    texts = [text for name in (question, *given) if (text := optional(record, name))]
    return Conversation((Turn(role="user", content="\n".join(texts) if texts else required(record, question)),))


def _said(record: Fields, answer: str) -> Conversation:
    if isinstance(record.get(answer), list):
        return message_list(record, answer)
    return Conversation((Turn(role="assistant", content=required(record, answer), reasoning=reasoning_of(record)),))


def _history(record: Fields) -> Conversation:
    history = decoded(record.get("history"), "history")
    if not history:
        return Conversation(())
    if not isinstance(history, list):
        raise RecordError(f"history: expected a list of [question, answer] pairs, got {kind(history)}")
    if isinstance(history[0], dict):
        return message_list(record, "history")
    return Conversation(tuple(turn for i, item in enumerate(history) for turn in _exchange(item, f"history[{i}]")))


def _exchange(item: object, place: str) -> tuple[Turn, Turn]:
    if isinstance(item, list) and len(item) == 2 and all(isinstance(text, str) for text in item):
        return Turn(role="user", content=lined(item[0])), Turn(role="assistant", content=lined(item[1]))
    raise RecordError(f"{place}: expected a [question, answer] pair of strings")


def _context(turn: Turn) -> Turn:
    return turn.model_copy(update={"learn": False}) if turn.role == "assistant" else turn
