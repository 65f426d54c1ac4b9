"""The page that shows the OpenAPI document, with Swagger UI served from this process."""

from __future__ import annotations

from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Response
from fastapi import Path as PathField
from fastapi.responses import FileResponse, HTMLResponse

ASSETS = Path(str(files("fastapi_offline") / "static"))
"""Swagger UI, as the package fastapi-offline brings it."""
SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Treadle: HTTP API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
START = """SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
  queryConfigEnabled: false,
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
});
"""


class Asset(StrEnum):
    """The files of Swagger UI that the page needs."""

    SCRIPT = "swagger-ui-bundle.js"
    STYLES = "swagger-ui.css"


CACHED = {"Cache-Control": "public, max-age=3600"}

router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def page() -> HTMLResponse:
    """The page."""
    return HTMLResponse(PAGE, headers={"Content-Security-Policy": SECURITY_POLICY})


@router.get("/docs/start.js")
async def start() -> Response:
    """The script that starts Swagger UI; the page has no inline script, so that its policy can forbid them."""
    return Response(START, media_type="text/javascript", headers=CACHED)


@router.get("/docs/{name}")
async def asset(name: Annotated[Asset, PathField()]) -> FileResponse:
    """A file of Swagger UI."""
    return FileResponse(ASSETS / name.value, headers=CACHED)
