"""What every message on the broker has: a frozen body, a stable wire kind, a version and a derived id."""

from __future__ import annotations

from collections.abc import Hashable
from functools import lru_cache
from typing import Annotated
from uuid import UUID, uuid5

from pydantic import AfterValidator, BaseModel, ConfigDict

NAMESPACE = UUID("6f1d7a52-94b8-5d0c-9c1e-7b1c2f0a4e11")
"""Root of every derived id. Changing it would make every redelivery look new."""


@lru_cache(maxsize=8192, typed=True)
def derived_id(*parts: Hashable) -> UUID:
    """The same parts give the same id, in every process and for ever. One message asks for its own several times."""
    return uuid5(NAMESPACE, "/".join(str(part) for part in parts))


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("expected text without the character NUL, which no database text may hold")
    return text


Text = Annotated[str, AfterValidator(_without_nul)]
"""What a person wrote, fit to be stored."""


class Frozen(BaseModel):
    """A value: it cannot be changed, and it refuses unknown fields and numbers that JSON cannot hold."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Message(Frozen):
    """Something that travels over the broker. Subclasses pin `kind` and `version` to literals."""

    kind: str
    version: int

    @property
    def message_id(self) -> UUID:
        """Derived from the content, so a redelivery or a republication has the same id."""
        raise NotImplementedError
