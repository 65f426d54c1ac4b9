"""The HTTP gateway as one FastAPI application, put together from parts that are given."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI

from contracts.submissions import Problem
from control.gateway import datasets, documents, health, progress, tasks
from control.gateway import errors as problems
from control.gateway.parts import GatewayParts

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]

REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"description": title, "content": {problems.MEDIA_TYPE: {"schema": Problem.model_json_schema()}}}
    for status, title in {
        404: "There is no such thing",
        409: "Its present state, or an earlier request, forbids it",
        413: "Too large",
        415: "Another content type is expected",
        422: "A field is wrong; `errors` names it",
        503: "A part is away; ask again",
    }.items()
}


def build_app(parts: GatewayParts, lifespan: Lifespan | None = None) -> FastAPI:
    """The gateway. `lifespan` starts and stops what is behind it; None: the caller does."""
    app = problems.GatewayApp(
        title="Treadle",
        version=version("treadle"),
        summary="A closed loop that makes language models better.",
        lifespan=lifespan,
        responses=REFUSALS,
        max_body_size=problems.LARGEST_BODY,
    )
    app.state.parts = parts
    for router in (tasks.router, progress.router, datasets.router, health.router, documents.router):
        app.include_router(router)
    problems.install(app)
    return app
