"""The store page and the admin page: files that hold nothing of the store, so no key is needed for them."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from service.http.answers import tagged_response
from service.http.context import Contextual
from service.http.errors import Refused
from service.pages.files import PageFile, page_files
from service.pages.store_facts import store_facts

router = APIRouter(include_in_schema=False)

_POLICY = (
    "default-src 'self'; img-src 'self' https: data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Nothing from elsewhere but pictures, and no text that becomes a script."""
_NEWER = {"suggest": "/v1/suggest", "recommend": "/v1/recommend"}
"""What the store page does without where the path is not there."""


@router.get("/")
async def store(request: Request) -> Response:
    """A store in the browser."""
    return _sent(request, page_files()["store.html"])


@router.get("/admin")
async def admin(request: Request) -> Response:
    """What is behind it; the page asks for a key with the scope admin."""
    return _sent(request, page_files()["admin.html"])


@router.get("/assets/store.json")
async def facts(context: Contextual, request: Request) -> Response:
    """What the store page must know of this store."""
    snapshot = context.engine.snapshot
    key = request.app.state.page_key
    paths = request.app.openapi()["paths"]
    offers = tuple(name for name, path in _NEWER.items() if path in paths)
    told = store_facts(snapshot.catalog, snapshot.manifest.products, key=key, offers=offers)
    return tagged_response(request, told)


@router.get("/assets/{name}")
async def asset(request: Request, name: str) -> Response:
    """A style, a script or a picture of the pages."""
    file = page_files().get(name)
    if file is None:
        raise Refused(404, f"there is no file {name[:100]!r} here")
    return _sent(request, file)


@router.get("/favicon.ico")
async def icon(request: Request) -> Response:
    """What browsers ask for by themselves."""
    return _sent(request, page_files()["icon.svg"])


def _sent(request: Request, file: PageFile) -> Response:
    """The file, or 304 where the browser has it; it asks each time, so a new version of the program is seen at once."""
    headers = {"ETag": file.tag, "Cache-Control": "no-cache", "Content-Security-Policy": _POLICY}
    known = {each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")}
    return Response(None, 304, headers) if file.tag in known else Response(file.content, 200, headers, file.type)
