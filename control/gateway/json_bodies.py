"""Reads JSON bodies strictly: what `json.loads` accepts in silence, or refuses with several errors, is one problem."""

from __future__ import annotations

import json
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from contracts.http import DuplicateKey, unique_keys
from control.gateway.errors import RequestRejected

MAX_KEYS = 200
"""Keys of one object; no body has a quarter of them."""


def read_json(body: bytes) -> Any:  # noqa: ANN401  # JSON
    """The value in `body`. Raises RequestRejected with status 422 if it is not strict JSON."""
    try:
        return json.loads(body.decode("utf-8-sig"), object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        raise _invalid("body", f"expected UTF-8 text; byte {error.start} is not") from error
    except json.JSONDecodeError as error:
        raise _invalid("body", f"expected valid JSON; the syntax error is at character {error.pos}") from error
    except DuplicateKey as error:
        raise _invalid(error.key, "expected one value, got two") from error
    except RecursionError as error:
        raise _invalid("body", "expected fewer levels of lists and objects") from error
    except ValueError as error:  # Python limits the digits of an integer
        raise _invalid("body", "expected integers of at most 4,300 digits") from error


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > MAX_KEYS:
        raise _invalid("body", f"expected at most {MAX_KEYS} keys in an object, got {len(pairs)}")
    return unique_keys(pairs)


def _invalid(field: str, message: str) -> RequestRejected:
    return RequestRejected(HTTPStatus.UNPROCESSABLE_ENTITY, field, message)
