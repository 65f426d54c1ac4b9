"""The AsyncAPI document, beside FastAPI's own OpenAPI."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter

router = APIRouter(tags=["documents"])


@router.get("/asyncapi.json")
def asyncapi() -> dict[str, Any]:
    """Every exchange, queue and message on the broker, as AsyncAPI 3."""
    return _document()


@cache
def _document() -> dict[str, Any]:
    from infra.bus.asyncapi import asyncapi_document  # FastStream takes a second to load, and few ask

    return asyncapi_document(version("treadle"))
