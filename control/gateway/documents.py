"""The route of the AsyncAPI document; FastAPI serves the OpenAPI document."""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter

from control.apply.submissions import Submissions
from control.consumers.submissions.app import asyncapi_document
from control.gateway.parts import Parts
from control.gateway.routes import GatewayRoute

router = APIRouter(tags=["documents"], route_class=GatewayRoute)


@router.get("/asyncapi.json")
async def asyncapi(parts: Parts) -> dict[str, Any]:
    """The AsyncAPI 3 document of the requests over RabbitMQ and their answers."""
    return _document(parts.submissions)


@lru_cache(maxsize=1)
def _document(submissions: Submissions) -> dict[str, Any]:
    return asyncapi_document(submissions, version("treadle"))
