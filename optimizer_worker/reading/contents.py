"""Read the content of a message: text, or a list of text parts."""

from __future__ import annotations

from optimizer_worker.reading.fields import Fields, RecordError, kind, lined
from optimizer_worker.reading.tools import json_text

MEDIA_FIELDS = ("images", "image", "image_url", "videos", "video", "audios", "audio")
"""Fields of a record or of a message that hold what no text can say."""
_BLANK = frozenset({"", "[]", "[null]", '[""]', "null", "None", "[None]"})
_TEXT_PARTS = frozenset({"text", "input_text", "output_text"})
_OTHER_PARTS = ("image", "audio", "video", "file", "document", "tool", "refusal", "thinking", "reasoning")
"""Words in the types of parts that are no text."""
_ELSEWHERE = {
    "tool": "calls and results of tools are read from tool_calls and from messages of the role tool, not from parts",
    "thinking": "thoughts are read from the message's field reasoning_content, not from parts",
    "reasoning": "thoughts are read from the message's field reasoning_content, not from parts",
    "refusal": "write a refusal that is to be learnt as a text part",
}
"""What to do about parts that are no image, video or sound."""


def text_of(value: object, place: str) -> str:
    """Return the text; parts are joined by newlines. Raises RecordError for other types and for parts without text."""
    if isinstance(value, str):
        return lined(value)
    if isinstance(value, list):
        return lined("\n".join(_part(part, f"{place}[{i}]", place) for i, part in enumerate(value)))
    raise RecordError(f"{place}: expected a string or a list of text parts, got {kind(value)}")


def result_of(value: object, place: str) -> str:
    """Return the content of a tool message: text, parts, or any other JSON value as its JSON text; null is empty."""
    if value is None:
        return ""
    if isinstance(value, str) or (isinstance(value, list) and value and all(_is_part(part) for part in value)):
        return text_of(value, place)
    return json_text(value, place)


def require_text_only(holder: Fields, place: str = "") -> None:
    """Raise RecordError if a record or message has an image, a video or sound."""
    for name in MEDIA_FIELDS:
        if not _is_blank(holder.get(name)):
            raise RecordError(f"{place}{name}: has images, video or sound; Treadle trains on text only")


def _is_blank(value: object) -> bool:
    """Whether a field of images holds none: nothing, or a list of nothing, also as JSON text."""
    if isinstance(value, list):
        return all(map(_is_blank, value))
    return value in (None, {}) or (isinstance(value, str) and value.strip() in _BLANK)


def _is_part(part: object) -> bool:
    name = part.get("type") if isinstance(part, dict) else None
    return isinstance(name, str) and (name in _TEXT_PARTS or any(word in name for word in _OTHER_PARTS))


def _part(part: object, part_place: str, place: str) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        raise RecordError(f"{part_place}: expected a text part, got {kind(part)}")
    name = part.get("type", "text")
    if name not in _TEXT_PARTS:
        word = next((word for word in _OTHER_PARTS if word in str(name)), "unknown")
        article = "an" if word[0] in "aiu" else "a"
        raise RecordError(f"{place}: has {article} {word} part; {_ELSEWHERE.get(word, 'Treadle trains on text only')}")
    text = part.get("text", part.get("value"))
    if not isinstance(text, str):
        raise RecordError(f"{part_place}.text: expected a string, got {kind(text)}")
    return text
