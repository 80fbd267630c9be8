"""Proxy for product pictures on other servers: fetches them within limits, scales them down, and caches them on disk.

Only pictures of the catalog are fetched, by `shelfwise.retrieval.pictures`. Pictures that the catalog names as local
files are sent as scaled down by the rebuild: this process reads no file outside the index directory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Annotated, TypeVar

import xxhash
from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as PathParameter

from shelfwise.retrieval.errors import PictureError
from shelfwise.retrieval.pictures import (
    CATALOG_FOLDER,
    CATALOG_WIDTH,
    Allow,
    PictureCache,
    PictureFetcher,
    Resolve,
    SmallPictures,
    catalog_name,
    is_public,
    read_file,
    resize,
    resolve_host,
)
from shelfwise.retrieval.records import images_of, is_local
from shelfwise.service.http.auth import Scope, combine_filters
from shelfwise.service.http.context import Contextual, MaySearch, SentKey, authorize
from shelfwise.service.http.errors import ErrorResponse, RequestError
from shelfwise.service.http.limits import search_cost
from shelfwise.service.http.schemas import (
    BINARY_BODY,
    MAX_ID,
    MAX_RETURNED,
    RESPONSES,
    FieldNames,
    ProductsResponse,
    json_response,
    product_hits,
    tagged_response,
)
from shelfwise.service.settings import PictureSource, StoreSettings

FOLDER = "pictures"
WIDTHS = (160, 320, 640, 1_280)
"""Supported widths: pixels of the longer side."""
_ALL_FIELDS: list[str] = []
_PARALLEL = 4
_CACHE_BYTES = 500_000_000
"""The total size of the small pictures in the index directory."""
_MAX_WAITING = 64

T = TypeVar("T")

router = APIRouter(prefix="/v1", tags=["search"])

_RESPONSES = {
    **RESPONSES,
    200: {
        "description": "The picture, as WebP if `Accept` names it, else as JPEG.",
        "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in ("image/webp", "image/jpeg")},
    },
    304: {"description": "The client's copy of the picture is current."},
    502: {"model": ErrorResponse, "description": "The picture cannot be fetched or decoded."},
}


@router.get(
    "/products/{product_id:path}/pictures/{number}",
    responses=_RESPONSES,
    response_class=Response,
    summary="A picture of a product",
)
async def picture(
    context: Contextual,
    request: Request,
    sent: SentKey,
    product_id: Annotated[str, PathParameter(min_length=1, max_length=MAX_ID, description="A product's id.")],
    number: Annotated[int, PathParameter(ge=0, le=1_000, description="From 0: `images`, then those of variants.")],
    width: Annotated[int, Query(description=f"Pixels of the longer side: one of {', '.join(map(str, WIDTHS))}.")] = 320,
    key: Annotated[str, Query(max_length=5_000, description="API key, for `img` elements, which send no header.")] = "",
) -> Response:
    """A picture from another server, scaled down. `store.pictures` sets which pictures are sent."""
    permit = authorize(context, request, sent or key, Scope.SEARCH)
    if width not in WIDTHS:
        raise RequestError(400, f"width is {width}, it can be {', '.join(map(str, WIDTHS))}", field="width")
    find = partial(context.engine.product, product_id, filters=combine_filters(permit.filters))
    images = images_of(context.shown(permit, await context.shared.threads.run(find)))
    if number >= len(images):
        raise RequestError(404, f"the product has {len(images)} pictures, numbered from 0", field="number")
    pictures: Pictures = request.app.state.pictures
    kind = "webp" if "image/webp" in request.headers.get("accept", "") else "jpeg"
    content = await pictures.get(images[number], width, kind, context.engine.root)
    headers = {"Cache-Control": "private, max-age=86400", "Vary": "Accept"}
    headers |= {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'; sandbox"}
    return tagged_response(request, content, f"image/{kind}", headers)


_ENCODING_COST = 10
"""Cost of encoding a picture, in searches of the rate limit."""


@router.post(
    "/search/picture",
    response_model=ProductsResponse,
    responses=RESPONSES,
    openapi_extra=BINARY_BODY,
    summary="Search by a picture",
)
async def search_by_picture(
    context: Contextual,
    permit: MaySearch,
    request: Request,
    size: Annotated[int, Query(ge=1, le=100)] = 20,
    filters: Annotated[str, Query(max_length=10_000)] = "",
    fields: Annotated[FieldNames, Query(max_length=MAX_RETURNED)] = _ALL_FIELDS,
) -> Response:
    """The products that look most like the picture in the body: JPEG, PNG, WebP or GIF, of at most 40 million pixels
    and `service.body_bytes`. The type is detected from the content. The picture is not stored."""
    context.shared.charge(permit, search_cost(hits=size, characters=len(filters)) + _ENCODING_COST)
    returned = context.returned_fields(permit, fields)
    pictures: Pictures = request.app.state.pictures
    content = await request.body()
    if request.headers.get("Content-Type", "").startswith("multipart/"):
        advice = "send the file itself, not a form, such as with: curl --data-binary @photo.jpg"
        raise RequestError(400, f"the body is not a picture; {advice}", field="body")
    small = await pictures.make_small(content)

    def respond() -> Response:
        page = context.engine.search_by_picture(small, size=size, filters=context.narrow(permit, filters))
        shown = context.shown_page(permit, page)
        return json_response(ProductsResponse(product_hits(shown.hits, returned), shown.degraded, shown.version, ()))

    return await context.shared.threads.run(respond)


class Pictures:
    """Picture proxy of a service. At most four pictures are fetched and one is scaled down at the same time, in threads
    of their own, so that searches do not wait."""

    def __init__(
        self, folder: Path, settings: StoreSettings, resolve: Resolve = resolve_host, allows: Allow = is_public
    ) -> None:
        self._source = settings.pictures
        self._cache = PictureCache(folder, _CACHE_BYTES)
        # A page does not wait for a server that requests a delay.
        self._make_fetcher = partial(PictureFetcher, _PARALLEL, _PARALLEL, resolve, allows, patience=0.0)
        self._fetcher: PictureFetcher | None = None
        self._threads = ThreadPoolExecutor(_PARALLEL, thread_name_prefix="pictures")
        self._decoder = ThreadPoolExecutor(1, thread_name_prefix="picture-decoder")
        self._decoding = 0
        """Number of uploaded pictures that are being decoded or wait for it."""
        self._running: dict[str, asyncio.Task[bytes]] = {}

    async def get(self, address: str, width: int, kind: str, root: Path) -> bytes:
        """A picture of the index at `root` as `webp` or `jpeg`, scaled to fit a square of `width` pixels; raises
        RequestError (404, 502, 503)."""
        local = root / CATALOG_FOLDER / catalog_name(address) if is_local(address) else None
        secure = address.lower().startswith("https:")
        if not local and (self._source is PictureSource.DIRECT or (secure and self._source is PictureSource.HTTP)):
            raise RequestError(404, f"store.pictures is {self._source}: this picture is loaded from its own address")
        name = f"{xxhash.xxh3_128_hexdigest(f'{local or address} {width}'.encode())}.{kind}"
        try:
            since = local.stat().st_mtime if local and local.is_file() else 0.0
            content = await self._run(self._threads, partial(self._cache.read, name, since))
            if content is None:
                task = self._running.get(name) or self._start(name, local or address, width, kind)
                content = await asyncio.shield(task)
        except PictureError as error:
            raise RequestError(502, f"the picture cannot be shown: {error}", code="bad_picture") from None
        return content

    async def make_small(self, content: bytes) -> bytes:
        """Scales an uploaded picture down as a rebuild does; raises PictureError or RequestError (503)."""
        if self._decoding >= _MAX_WAITING:
            raise RequestError(503, "too many pictures are being decoded", retry_after=2)
        self._decoding += 1
        try:
            return await self._run(self._decoder, partial(resize, content, CATALOG_WIDTH, "webp"))
        except PictureError as error:
            raise PictureError(f"the picture cannot be used: {error}") from None
        finally:
            self._decoding -= 1

    async def close(self) -> None:
        """Cancels running fetches, and closes connections and threads."""
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        if self._fetcher is not None:
            await self._fetcher.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._decoder.shutdown(wait=False, cancel_futures=True)

    def _start(self, name: str, source: str | Path, width: int, kind: str) -> asyncio.Task[bytes]:
        if len(self._running) >= _MAX_WAITING:
            raise RequestError(503, "too many pictures are being fetched", retry_after=2)
        task = asyncio.create_task(self._make(name, source, width, kind))
        self._running[name] = task
        task.add_done_callback(lambda done: (self._running.pop(name, None), done.cancelled() or done.exception()))
        return task

    async def _make(self, name: str, source: str | Path, width: int, kind: str) -> bytes:
        if not isinstance(source, Path):
            self._fetcher = self._fetcher or self._make_fetcher()
            pictures = SmallPictures(self._cache, self._fetcher, self._threads, self._decoder)
            content, _ = await pictures.refresh(name, source, width, kind)
            return content
        try:
            original = await self._run(self._threads, partial(read_file, source))
            content = await self._run(self._decoder, partial(resize, original, width, kind))
        except PictureError as error:
            await self._run(self._threads, partial(self._cache.write_failure, name, error))
            raise
        await self._run(self._threads, partial(self._cache.write, name, content))
        return content

    @staticmethod
    async def _run(threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(threads, work)
