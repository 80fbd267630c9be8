"""The documentation page of the HTTP API: Swagger UI, served from an installed package without other servers."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from shelfwise.service.http.errors import RequestError
from shelfwise.service.web.pages import ASSETS, PageFile, read_page_file, send_file

router = APIRouter(include_in_schema=False)

_POLICY = (
    "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
"""Content security policy; Swagger UI needs inline styles."""
_PACKAGED = ("swagger-ui-bundle.js", "swagger-ui.css")


@router.get("/v1/openapi.json")
def document(request: Request) -> Response:
    """The OpenAPI document."""
    return JSONResponse(request.app.openapi())


@router.get("/docs")
async def docs(request: Request) -> Response:
    """The documentation page."""
    return send_file(request, _file(ASSETS / "docs.html"), _POLICY)


@router.get("/docs/{name}")
async def part(request: Request, name: str) -> Response:
    """A script or style sheet of the page."""
    if name == "docs.js":
        return send_file(request, _file(ASSETS / name), _POLICY)
    if name not in _PACKAGED:
        raise RequestError(404, f"there is no file {name[:100]!r} here")
    return send_file(request, _file(Path(str(files("fastapi_offline"))) / "static" / name), _POLICY)


@cache
def _file(path: Path) -> PageFile:
    return read_page_file(path)
