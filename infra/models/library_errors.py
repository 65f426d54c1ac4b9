"""Errors that torch, transformers, peft and tokenizers raise about a model, as one sentence for a person."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from infra.child.program import Stopped
from infra.errors import BadConfiguration, PhaseError
from infra.models.hub_errors import hub_unavailable, trouble_of

MAX_REASON_LENGTH = 400
PANIC = "PanicException"
"""Class of the errors of libraries in Rust that no handler foresaw; it is no Exception and cannot be imported."""


@contextmanager
def as_bad_configuration(sentence: str) -> Iterator[None]:
    """Raise the libraries' errors as BadConfiguration about the model, except out-of-memory errors.

    Raises HubUnavailable if a library could not reach the hub, for example for the code of a model.
    """
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError, PhaseError, Stopped):
        raise
    except Exception as error:  # malformed files raise many types; tokenizers raises a plain Exception
        if reason := trouble_of(error):
            raise hub_unavailable(sentence, reason) from error
        raise BadConfiguration(f"{sentence}: {_reason(error)}", field="model") from error
    except BaseException as error:
        if type(error).__name__ != PANIC:
            raise
        raise BadConfiguration(f"{sentence}: {in_one_line(error)}", field="model") from error


def in_one_line(error: BaseException) -> str:
    """The error's text without line breaks, cut at its maximum length; the error's type if it has no text."""
    return " ".join(str(error).split())[:MAX_REASON_LENGTH] or type(error).__name__


def _reason(error: Exception) -> str:
    if "custom code" in str(error):
        return "it contains its own code, which runs only with TREADLE_ALLOW_REMOTE_CODE=true (trust_remote_code)"
    return in_one_line(error)
