"""Routes of the store page, the admin page, and the documentation of the API. Their files contain no products, so they
need no key."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from shelfwise.retrieval.errors import SettingError
from shelfwise.retrieval.filters.schema import FieldCatalog, FieldInfo
from shelfwise.service.answers.questions import chinese_names
from shelfwise.service.curation.relevance import is_hidden
from shelfwise.service.http.context import Contextual, Indexes, RequestIndexes, SharedParts
from shelfwise.service.http.errors import RequestError
from shelfwise.service.http.indexes import UnknownIndexError
from shelfwise.service.http.limits import Client
from shelfwise.service.http.schemas import STRUCT_SCHEMAS, encode, tagged_response
from shelfwise.service.settings import PictureSource, StoreSettings

router = APIRouter(include_in_schema=False)
docs_router = APIRouter(include_in_schema=False)

ASSETS = Path(__file__).parent / "assets"
_TYPES: Mapping[str, str] = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}
_LOGO_TYPES: Mapping[str, str] = {
    **{f".{kind}": f"image/{kind}" for kind in ("png", "jpeg", "webp", "avif", "gif")},
    ".jpg": "image/jpeg",
    ".svg": "image/svg+xml",
}
_LOGO_BYTES = 1_000_000
_POLICY = (
    "default-src 'self'; img-src 'self' https: data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Content security policy: only pictures may come from other origins, and no text runs as a script."""
_DOCS_POLICY = (
    "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
"""Policy of the documentation page: Swagger UI needs inline styles."""
_LOGO_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
"""Policy for a logo that is opened as a document: it runs and loads nothing."""
_CORE = ("brand", "price", "availability", "rating")
_SORTS = ("price", "rating", "created")
_MAX_ATTRIBUTES = 3
_building = threading.Lock()
"""Held while the OpenAPI document is built."""
_COOKIE_SECONDS = 30 * 86_400
_MIN_SHARE = 0.05
"""Minimum share of products with an attribute for it to be a facet of the store page."""


@router.get("/")
async def store(request: Request, indexes: Indexes) -> Response:
    """The store page; a list of the stores if there are several and the request names none."""
    try:
        indexes.registry.resolve(indexes.name)
    except UnknownIndexError:
        if not indexes.name:
            return send_file(request, _list_of_stores(indexes))
    return send_file(request, page_files()["store.html"])


def _list_of_stores(indexes: RequestIndexes) -> PageFile:
    """A page with links to the stores that the store page may show."""
    names = (each for each in indexes.registry.names if _has_page(indexes.shared, each))
    shown = [(escape(each), f"/stores/{quote(each, safe='')}") for each in names]
    cells = '<td><a href="{1}/">{0}</a></td><td><a href="{1}/admin" aria-label="Admin page of {0}">admin page</a></td>'
    rows = "".join(f"<tr>{cells.format(*each)}</tr>" for each in shown) or "<tr><td>There are none to show.</td></tr>"
    head = page_files()["admin.html"].content.partition(b"<script")[0].replace(b"<title>Admin", b"<title>Stores")
    content = page_files()["stores.html"].content.replace(b"{head}", head).replace(b"{stores}", rows.encode())
    return PageFile(content, _TYPES[".html"])


@router.get("/admin")
async def admin(request: Request) -> Response:
    """The admin page, which prompts for a key with the scope admin. An address with the token leads to the one without
    it, and sets a cookie."""
    token = request.query_params.get("token")
    if token is None:
        return send_file(request, page_files()["admin.html"])
    shared: SharedParts = request.app.state.shared
    shared.rates.count_address(Client.of("", request.client.host if request.client else "").address)
    response = Response(None, 303, {"Location": "admin", "Cache-Control": "no-store"})
    if shared.token.is_among([token]):
        is_encrypted = request.url.scheme == "https"
        # Named after the token: browsers send the cookies of all ports of a host to each of them.
        name = f"{'__Host-' if is_encrypted else ''}shelfwise-{hashlib.sha256(token.encode()).hexdigest()[:16]}"
        response.set_cookie(name, token, _COOKIE_SECONDS, secure=is_encrypted, httponly=True, samesite="strict")
    return response


@router.get("/assets/store.json")
async def facts(context: Contextual, request: Request) -> Response:
    """Facts about this store for the store page; with several indexes, only if its key may search this one."""
    if request.app.state.indexes.root and not _has_page(context.shared, context.name, context.called):
        raise RequestError(404, "there is no store page at this address")
    snapshot = context.engine.snapshot
    hidden = context.engine.relevance.served.hidden
    facets, sorts = used_fields(snapshot.catalog, snapshot.manifest.products, hidden)
    look: StoreLook = request.app.state.look
    key = context.shared.page_key()
    shown = StoreFacts(key, facets, sorts, look.facts, look.pictures, snapshot.pictures is not None, chinese_names())
    return tagged_response(request, encode(shown))


def _has_page(shared: SharedParts, *names: str) -> bool:
    """Whether the store page may show the index of several with this name, or with one of these names."""
    key = shared.page_key()
    permit = shared.keys.permit(key, datetime.now(UTC)) if key else None
    return permit is None or permit.sees(*names)


@router.get("/assets/logo")
@router.get("/favicon.ico")
async def logo(request: Request) -> Response:
    """The configured logo, or the program's icon; browsers request favicon.ico by default."""
    picture: PageFile | None = request.app.state.look.logo
    return send_file(request, picture, _LOGO_POLICY) if picture else send_file(request, page_files()["icon.svg"])


@router.get("/assets/look.css")
async def look(request: Request) -> Response:
    """The configured colours as a style sheet."""
    return send_file(request, request.app.state.look.style)


@router.get("/assets/{name}")
async def asset(request: Request, name: str) -> Response:
    """A style sheet, script or picture of the pages."""
    return _send_named(request, name, page_files(), _POLICY)


@docs_router.get("/v1/openapi.json")
def document(request: Request) -> Response:
    """The OpenAPI document, built once, which takes a second."""
    with _building:
        described = request.app.openapi()
        described["components"]["schemas"] |= STRUCT_SCHEMAS
    return JSONResponse(described)


@docs_router.get("/docs")
@docs_router.get("/docs/{name}")
async def docs(request: Request, name: str = "docs.html") -> Response:
    """The documentation page of the API, and its parts: Swagger UI, without files of other servers."""
    return _send_named(request, name, docs_files(), _DOCS_POLICY)


def _send_named(request: Request, name: str, present: Mapping[str, PageFile], policy: str) -> Response:
    if name not in present:
        raise RequestError(404, f"there is no file {name[:100]!r} here")
    return send_file(request, present[name], policy)


def send_file(request: Request, file: PageFile, policy: str = _POLICY) -> Response:
    """The file, or 304. Browsers revalidate on each use, so that a new program version takes effect immediately."""
    headers = {"Cache-Control": "no-cache", "Content-Security-Policy": policy}
    return tagged_response(request, file.content, file.type, headers)


@dataclass(frozen=True, slots=True)
class PageFile:
    """A static file of the pages."""

    content: bytes
    type: str
    """Media type."""


@cache
def page_files() -> Mapping[str, PageFile]:
    """All page files by name, read once per process."""
    return _read_files(sorted(path for path in ASSETS.iterdir() if path.suffix in _TYPES))


@cache
def docs_files() -> Mapping[str, PageFile]:
    """The files of the documentation page by name, read once per process."""
    swagger = Path(str(files("fastapi_offline"))) / "static"
    own = (ASSETS / name for name in ("docs.html", "docs.js"))
    return _read_files([*own, swagger / "swagger-ui-bundle.js", swagger / "swagger-ui.css"])


def _read_files(paths: Iterable[Path]) -> Mapping[str, PageFile]:
    return {path.name: PageFile(path.read_bytes(), _TYPES[path.suffix]) for path in paths}


@dataclass(frozen=True, slots=True)
class LookFacts:
    """Configured texts and language of the store page."""

    texts: Mapping[str, Mapping[str, str]]
    """Texts by language ("en", "zh"), then by the name of the page message that they replace."""
    language: str | None
    """Fixed language of the page; None if visitors choose."""
    has_logo: bool
    has_reasons: bool
    """Whether hits show the reason for their rank."""


@dataclass(frozen=True, slots=True)
class StoreLook:
    """Name, logo, colours and texts of the store page."""

    facts: LookFacts
    logo: PageFile | None
    style: PageFile
    pictures: PictureSource


def read_look(settings: StoreSettings) -> StoreLook:
    """Builds the look from the settings; raises SettingError for a logo that cannot be read or shown."""
    english = {"store": settings.name, "footer": settings.footer}
    chinese = {"store": settings.name_zh, "footer": settings.footer_zh}
    texts = {
        "en": {name: text for name, text in english.items() if text},
        "zh": {name: text for name in english if (text := chinese[name] or english[name])},
    }
    logo = _read_logo(settings.logo) if settings.logo else None
    style = PageFile(look_style(settings.colour).encode(), _TYPES[".css"])
    return StoreLook(
        LookFacts(texts, settings.language, logo is not None, settings.reasons), logo, style, settings.pictures
    )


def _read_logo(path: Path) -> PageFile:
    kind = _LOGO_TYPES.get(path.suffix.lower())
    if kind is None:
        raise SettingError(f"store.logo is {path}; the name of a logo ends in {', '.join(_LOGO_TYPES)}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SettingError(f"store.logo is {path}, which cannot be read ({error.strerror})") from error
    if len(content) > _LOGO_BYTES:
        raise SettingError(f"store.logo is {path}, of {len(content):,} bytes; the limit is {_LOGO_BYTES:,}")
    return PageFile(content, kind)


_Colour = tuple[float, float, float]
"""Red, green and blue, each 0 to 1."""
_BLACK, _WHITE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
_DARKEST_LIGHT, _LIGHTEST_DARK = (0.933, 0.933, 0.918), (0.149, 0.173, 0.204)
"""The backgrounds of base.css in light and dark mode with the least contrast to a colour."""
_MIN_CONTRAST = 4.5
"""Minimum contrast of text and background (WCAG 2.2, success criterion 1.4.3)."""
_SOFT_SHARE = 0.14


def look_style(colour: str) -> str:
    """A style sheet that sets the colours of base.css; a colour is #rrggbb or empty."""
    rules = []
    if colour:
        for ground, toward, rule in (
            (_DARKEST_LIGHT, _BLACK, ":root {{ {} }}"),
            (_LIGHTEST_DARK, _WHITE, "@media (prefers-color-scheme: dark) {{ :root {{ {} }} }}"),
        ):
            accent = _readable(_parse_colour(colour), ground, toward)
            values = f"--accent: {_hex(accent)}; --accent-soft: {_hex(_mix(ground, accent, _SOFT_SHARE))};"
            rules.append(rule.format(values))
    return "\n".join(rules)


def _readable(colour: _Colour, ground: _Colour, toward: _Colour) -> _Colour:
    """The colour, mixed with `toward` just enough to be readable on `ground` mixed softly with it."""
    for step in range(21):
        mixed = _mix(colour, toward, step / 20)
        if contrast(mixed, _mix(ground, mixed, _SOFT_SHARE)) >= _MIN_CONTRAST:
            break
    return mixed


def contrast(one: _Colour, other: _Colour) -> float:
    """Contrast ratio of two colours, 1 to 21 (WCAG 2.2, contrast ratio and relative luminance)."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: _Colour) -> float:
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _mix(one: _Colour, other: _Colour, share: float) -> _Colour:
    red, green, blue = ((1 - share) * a + share * b for a, b in zip(one, other, strict=True))
    return red, green, blue


def _parse_colour(text: str) -> _Colour:
    red, green, blue = (int(text[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return red, green, blue


def _hex(colour: _Colour) -> str:
    return "#" + "".join(f"{round(255 * part):02x}" for part in colour)


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """Facts about a store for the store page."""

    key: str
    """Public key that the page sends; empty if the service has none."""
    facets: tuple[str, ...]
    """Facet fields in display order, in addition to the category."""
    sorts: tuple[str, ...]
    """Fields by which hits can be sorted."""
    look: LookFacts
    pictures: PictureSource
    """Pictures of other servers that this server delivers itself."""
    searches_pictures: bool
    """Whether the index supports search by picture."""
    chinese_names: Mapping[str, str]
    """Names of fields, by the words in English that name them."""


def used_fields(
    catalog: FieldCatalog, products: int, hidden: Collection[str] = ()
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Facet fields and sort fields of a catalog of `products` products, without `hidden` ones; the most common text
    attributes are facets."""

    def is_used(name: str) -> bool:
        return name in catalog.fields and catalog.fields[name].products > 0 and not is_hidden(name, hidden)

    def is_facet(info: FieldInfo) -> bool:
        is_common = info.is_textual and info.products >= _MIN_SHARE * products
        return info.name.startswith("attributes.") and is_common and not is_hidden(info.name, hidden)

    attributes = sorted(filter(is_facet, catalog.fields.values()), key=lambda info: -info.products)
    names = tuple(info.name for info in attributes[:_MAX_ATTRIBUTES])
    return ((*filter(is_used, _CORE), *names), tuple(filter(is_used, _SORTS)))
