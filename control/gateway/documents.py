"""The AsyncAPI document, beside FastAPI's own OpenAPI."""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter

from control.apply.submissions import Submissions
from control.consumers.submissions.app import asyncapi_document
from control.gateway.parts import Parts

router = APIRouter(tags=["documents"])


@router.get("/asyncapi.json")
async def asyncapi(parts: Parts) -> dict[str, Any]:
    """The requests that Treadle takes over RabbitMQ, and its answers, as AsyncAPI 3."""
    return _document(parts.submissions)


@lru_cache(maxsize=1)
def _document(submissions: Submissions) -> dict[str, Any]:
    return asyncapi_document(submissions, version("treadle"))
