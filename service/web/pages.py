"""The store page and the admin page: files that hold nothing of the store, so no key is needed for them."""

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
from service.http.schemas import tagged_response

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
    return _send(request, page_files()["store.html"])


@router.get("/admin")
async def admin(request: Request) -> Response:
    """What is behind it; the page asks for a key with the scope admin."""
    return _send(request, page_files()["admin.html"])


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
        raise RequestError(404, f"there is no file {name[:100]!r} here")
    return _send(request, file)


@router.get("/favicon.ico")
async def icon(request: Request) -> Response:
    """What browsers ask for by themselves."""
    return _send(request, page_files()["icon.svg"])


def _send(request: Request, file: PageFile) -> Response:
    """The file, or 304 where the browser has it; it asks each time, so a new version of the program is seen at once."""
    headers = {"ETag": file.tag, "Cache-Control": "no-cache", "Content-Security-Policy": _POLICY}
    known = {each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")}
    return Response(None, 304, headers) if file.tag in known else Response(file.content, 200, headers, file.type)


# The files of the pages, read once: each with its type and a fingerprint of what it holds.

_HERE = Path(__file__).parent
_TYPES: Mapping[str, str] = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class PageFile:
    """One file, as it is sent."""

    content: bytes
    type: str
    """Its media type."""
    tag: str
    """An ETag: another content has another one."""


@cache
def page_files() -> Mapping[str, PageFile]:
    """Every file by its name; there are no folders among them."""
    found = sorted(path for path in (_HERE / "assets").iterdir() if path.suffix in _TYPES)
    return {path.name: _read(path) for path in found}


def _read(path: Path) -> PageFile:
    content = path.read_bytes()
    return PageFile(content, _TYPES[path.suffix], f'"{xxhash.xxh3_128_hexdigest(content)}"')


# What the store page must know of a store before it asks anything: by which fields its products can be narrowed.

_CORE = ("brand", "price", "availability")
_SORTS = ("price", "rating", "created")
_MOST_ATTRIBUTES = 3
_LEAST_SHARE = 0.05
"""Of the products: an attribute of fewer is no facet of the whole store."""


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """What a page is told of the store that it shows."""

    key: str
    """The public key that the page sends; empty where the service has none."""
    facets: tuple[str, ...]
    """The fields to count beside the category, in the order in which they are shown."""
    sorts: tuple[str, ...]
    """The fields that hits may be sorted by."""
    offers: tuple[str, ...]
    """What of the API is there that older services have not, such as "suggest"."""


def store_facts(catalog: FieldCatalog, products: int, *, key: str, offers: tuple[str, ...]) -> StoreFacts:
    """The facts of a catalog of so many products: the texts that most of them have are its facets."""

    def is_used(name: str) -> bool:
        return name in catalog.fields and catalog.fields[name].products > 0

    attributes = sorted(
        (info for info in catalog.fields.values() if _narrows(info, products)), key=lambda info: -info.products
    )
    chosen = tuple(info.name for info in attributes[:_MOST_ATTRIBUTES])
    return StoreFacts(key, (*filter(is_used, _CORE), *chosen), tuple(filter(is_used, _SORTS)), offers)


def _narrows(info: FieldInfo, products: int) -> bool:
    return info.name.startswith("attributes.") and info.is_textual and info.products >= _LEAST_SHARE * products
