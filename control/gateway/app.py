"""Builds the HTTP gateway as one FastAPI application."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI

from contracts.submissions import Problem
from control.gateway import checks, datasets, documents, files, health, progress, tasks, workers
from control.gateway import errors as problems
from control.gateway.parts import GatewayParts

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]

ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"description": description, "content": {problems.MEDIA_TYPE: {"schema": Problem.model_json_schema()}}}
    for status, description in {
        404: "The task, iteration, dataset, file or path does not exist",
        409: "The task's status, or an earlier request, does not allow this request",
        413: "The body or the file is too large",
        415: "The content type is not the expected one",
        422: "A field is invalid; `errors` names it",
        503: "A part of Treadle is unavailable; retry later",
    }.items()
}


def build_app(parts: GatewayParts, lifespan: Lifespan | None = None) -> FastAPI:
    """The gateway; `lifespan` starts and stops its parts, or the caller does if it is None."""
    app = problems.GatewayApp(
        title="Treadle",
        version=version("treadle"),
        summary="A closed loop that makes language models better.",
        lifespan=lifespan,
        responses=ERROR_RESPONSES,
        max_body_size=problems.LARGEST_BODY,
    )
    app.state.parts = parts
    routed = (tasks, progress, checks, datasets, files, workers, health, documents)
    for router in (module.router for module in routed):
        app.include_router(router)
    problems.install_error_handlers(app)
    return app
