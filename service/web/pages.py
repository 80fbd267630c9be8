"""The store page and the admin page. Their files hold nothing of the store, so they need no key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import xxhash
from fastapi import APIRouter, Request, Response

from retrieval.filters.schema import FieldCatalog, FieldInfo
from service.http.context import Contextual
from service.http.errors import RequestError
from service.http.schemas import matches_tag, tagged_response

router = APIRouter(include_in_schema=False)

_ASSETS = Path(__file__).parent / "assets"
_TYPES: Mapping[str, str] = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_POLICY = (
    "default-src 'self'; img-src 'self' https: data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Only pictures may be loaded from other origins, and no text is run as a script."""
_OPTIONAL_PATHS = {"suggest": "/v1/suggest", "recommend": "/v1/recommend"}
"""Paths that the store page can do without."""
_CORE = ("brand", "price", "availability")
_SORTS = ("price", "rating", "created")
_MOST_ATTRIBUTES = 3
_LEAST_SHARE = 0.05
"""Share of the products that must have an attribute for it to be a facet of the store page."""


@router.get("/")
async def store(request: Request) -> Response:
    """The store page."""
    return _send(request, page_files()["store.html"])


@router.get("/admin")
async def admin(request: Request) -> Response:
    """The admin page, which prompts for a key with the scope admin."""
    return _send(request, page_files()["admin.html"])


@router.get("/assets/store.json")
async def facts(context: Contextual, request: Request) -> Response:
    """Facts about this store for the store page."""
    snapshot = context.engine.snapshot
    paths = request.app.openapi()["paths"]
    offers = tuple(name for name, path in _OPTIONAL_PATHS.items() if path in paths)
    key = request.app.state.page_key
    return tagged_response(request, store_facts(snapshot.catalog, snapshot.manifest.products, key=key, offers=offers))


@router.get("/assets/{name}")
async def asset(request: Request, name: str) -> Response:
    """A style sheet, script or picture of the pages."""
    file = page_files().get(name)
    if file is None:
        raise RequestError(404, f"there is no file {name[:100]!r} here")
    return _send(request, file)


@router.get("/favicon.ico")
async def icon(request: Request) -> Response:
    """The icon that browsers request by themselves."""
    return _send(request, page_files()["icon.svg"])


def _send(request: Request, file: PageFile) -> Response:
    """The file, or 304. Browsers revalidate on each use, so that a new version of the program is seen at once."""
    headers = {"ETag": file.tag, "Cache-Control": "no-cache", "Content-Security-Policy": _POLICY}
    if matches_tag(request, file.tag):
        return Response(None, 304, headers)
    return Response(file.content, 200, headers, file.type)


@dataclass(frozen=True, slots=True)
class PageFile:
    """A file of the pages."""

    content: bytes
    type: str
    """The media type."""
    tag: str
    """The ETag, a hash of the content."""


@cache
def page_files() -> Mapping[str, PageFile]:
    """Every file by its name, read once."""
    found = sorted(path for path in _ASSETS.iterdir() if path.suffix in _TYPES)
    return {path.name: _read(path) for path in found}


def _read(path: Path) -> PageFile:
    content = path.read_bytes()
    return PageFile(content, _TYPES[path.suffix], f'"{xxhash.xxh3_128_hexdigest(content)}"')


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """Facts about a store for the store page."""

    key: str
    """The public key that the page sends; empty if the service has none."""
    facets: tuple[str, ...]
    """The fields to count in addition to the category, in display order."""
    sorts: tuple[str, ...]
    """The fields that hits may be sorted by."""
    offers: tuple[str, ...]
    """Optional parts of the API that the service has, such as "suggest"."""


def store_facts(catalog: FieldCatalog, products: int, *, key: str, offers: tuple[str, ...]) -> StoreFacts:
    """The facts of a catalog of `products` products: the text attributes that most of them have are its facets."""

    def is_used(name: str) -> bool:
        return name in catalog.fields and catalog.fields[name].products > 0

    def is_facet(info: FieldInfo) -> bool:
        return info.name.startswith("attributes.") and info.is_textual and info.products >= _LEAST_SHARE * products

    attributes = sorted(filter(is_facet, catalog.fields.values()), key=lambda info: -info.products)
    names = tuple(info.name for info in attributes[:_MOST_ATTRIBUTES])
    return StoreFacts(key, (*filter(is_used, _CORE), *names), tuple(filter(is_used, _SORTS)), offers)
