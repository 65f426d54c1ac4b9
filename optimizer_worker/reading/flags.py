"""Read what a message or a record says about whether, and how much, it is to be learnt."""

from __future__ import annotations

from optimizer_worker.reading.fields import Fields, NotLearnt, RecordError

LEARN_FIELDS = ("learn", "weight", "train", "training", "trainable", "do_train", "loss", "loss_weight")
"""Fields of a message: true or 1 to learn it, false or 0 to use it as context only, null for the default."""
RATING_FIELDS = ("label", "kto_tag")
"""Fields of a record: whether its answer is a good one."""
GOOD: tuple[object, ...] = (True, 1, "True", "true", "1")
"""Ratings of a good answer."""
_BAD: tuple[object, ...] = (False, 0, "False", "false", "0")
MAX_WEIGHT = 100
"""Largest weight of a row."""


def learns(message: Fields, place: str) -> bool:
    """Whether an assistant message is to be learnt. Raises RecordError for a flag that is neither yes nor no."""
    given = [_flag(message[name], f"{place}.{name}") for name in LEARN_FIELDS if name in message]
    return all(flag is not False for flag in given)


def _flag(value: object, place: str) -> bool | None:
    if value is None:
        return None
    if isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    raise RecordError(f"{place}: expected true, false, 0 or 1", f", got {value!r:.40}")


def row_weight(record: Fields) -> float:
    """Return the row's weight, 1 by default. Raises NotLearnt for 0, and RecordError for other values."""
    value = record.get("weight")
    if value is None or value == "":
        return 1.0
    weight = _number(value)
    if weight == 0:
        raise NotLearnt("weight: is 0, so this row is not to be learnt")
    if weight is None or not 0 < weight <= MAX_WEIGHT:
        raise RecordError(f"weight: expected a number above 0, at most {MAX_WEIGHT}", f", got {value!r:.40}")
    return weight


def require_good(record: Fields) -> None:
    """Raise NotLearnt if the record says that its answer is a bad one."""
    for name in RATING_FIELDS:
        if record.get(name) in _BAD:
            raise NotLearnt(f"{name}: is false or 0, so the answer is a bad one; only good answers are learnt")


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None
