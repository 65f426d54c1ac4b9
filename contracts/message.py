"""Base classes of messages, and ids that are derived from content."""

from __future__ import annotations

from collections.abc import Hashable
from functools import lru_cache
from uuid import UUID, uuid5

from pydantic import BaseModel, ConfigDict

NAMESPACE = UUID("6f1d7a52-94b8-5d0c-9c1e-7b1c2f0a4e11")
"""Namespace of every derived id. If it changed, every redelivered message would look new."""


@lru_cache(maxsize=8192, typed=True)
def derived_id(*parts: Hashable) -> UUID:
    """An id that is the same for the same parts, in every process. Cached, because it is computed often per message."""
    return uuid5(NAMESPACE, "/".join(str(part) for part in parts))


class Frozen(BaseModel):
    """An immutable value, which refuses unknown fields, NaN and infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Message(Frozen):
    """A message on the broker. Subclasses fix `kind` and `version` as literals."""

    kind: str
    version: int

    @property
    def message_id(self) -> UUID:
        """Derived from the content, so that a redelivered or republished message has the same id."""
        raise NotImplementedError
