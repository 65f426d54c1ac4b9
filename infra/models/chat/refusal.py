"""Why a row cannot be used: a value, because one row must not end a program."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Rule(StrEnum):
    """What kind of row is refused."""

    TEMPLATE = "refused_by_template"
    LEFT_OUT = "left_out_by_template"
    CONTROL_TOKEN = "quotes_control_token"  # noqa: S105  # a rule, not a password
    UNKNOWN_TOKEN = "token_without_embedding"  # noqa: S105
    TOO_LONG = "too_long"
    NOT_LEARNT = "nothing_to_learn"
    NO_ANSWER = "no_answer"
    PLAIN_TEXT = "plain_text"
    TOO_SHORT = "too_short"


@dataclass(frozen=True, slots=True)
class Refusal:
    """The reason why a row gives no tokens; `reason` quotes nothing of the row, but `detail` may."""

    rule: Rule
    reason: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


class Refused(Exception):
    """Ends the rendering of one row; ChatFormat returns its refusal."""

    def __init__(self, rule: Rule, reason: str, detail: str = "") -> None:
        self.refusal = Refusal(rule, reason, detail)
        super().__init__(str(self.refusal))
