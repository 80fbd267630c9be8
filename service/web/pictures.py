"""Pictures of products on other servers, sent by this one: fetched within bounds, made smaller, and cached on disk.

Only pictures of the catalog are fetched. All addresses of a host must be public, and the connection is made to one that
was checked, also after a redirect: a name that resolves to another address later leads nowhere else.
"""

from __future__ import annotations

import asyncio
import io
import ipaddress
import os
import socket
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, TypeVar

import httpx2
import xxhash
from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as PathParameter
from PIL import Image, ImageOps

from retrieval.records import Product
from service.http.auth import Scope, combine_filters
from service.http.context import Contextual, SentKey, authorize
from service.http.errors import ErrorResponse, RequestError
from service.http.schemas import MOST_ID, RESPONSES, matches_tag
from service.settings import PictureSource, StoreSettings

FOLDER = "pictures"
WIDTHS = (160, 320, 640, 1_280)
"""Pixels of the longer side."""
_PORTS = (80, 443)
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
_MOST_ADDRESS = 2_000
_MOST_REDIRECTS = 3
_FETCH_SECONDS = 10.0
"""For all of a picture, redirects included."""
_CONNECT_SECONDS = 4.0
_MOST_BYTES = 10_000_000
_MOST_PIXELS = 25_000_000
"""Of a picture: it takes four bytes for each while it is made smaller."""
_TYPES = frozenset({"image/jpeg", "image/jpg", "image/png", "image/webp", "image/gif", "application/octet-stream"})
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
"""AVIF is missing: its decoder would use all processors."""
_QUALITY = 80
_PARALLEL = 4
_MOST_WAITING = 64
_FRESH_SECONDS = 7 * 86_400.0
_FAILED_SECONDS = 600.0
"""After which a picture that failed is tried again."""
_FAILURE = b"!"
"""The first byte of a cached failure, whose message follows: no picture begins so."""
_CHECKED_SHARE = 0.05
"""Share of the cache that is written before its size is measured again."""

T = TypeVar("T")
Resolve = Callable[[str, int], Sequence[str]]
Allow = Callable[[str, int], bool]

router = APIRouter(prefix="/v1", tags=["search"])

_RESPONSES = {
    **RESPONSES,
    200: {
        "description": "The picture, as WebP if `Accept` names it, else as JPEG.",
        "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in ("image/webp", "image/jpeg")},
    },
    304: {"description": "The client has this picture."},
    502: {"model": ErrorResponse, "description": "The picture cannot be fetched, or is none."},
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
    product_id: Annotated[str, PathParameter(min_length=1, max_length=MOST_ID, description="A product's id.")],
    number: Annotated[int, PathParameter(ge=0, le=1_000, description="Its place: `images`, then those of variants.")],
    width: Annotated[int, Query(description=f"Pixels of the longer side: one of {', '.join(map(str, WIDTHS))}.")] = 320,
    key: Annotated[str, Query(max_length=5_000, description="The key: an element `img` sends no header.")] = "",
) -> Response:
    """A picture from another server, made smaller. `store.pictures` sets which ones are sent."""
    permit = authorize(context, request, sent or key, Scope.SEARCH)
    if width not in WIDTHS:
        raise RequestError(400, f"width is {width}, it can be {', '.join(map(str, WIDTHS))}", field="width")
    find = partial(context.engine.product, product_id, filters=combine_filters(permit.filters))
    images = images_of(context.shown(permit, await context.shared.threads.run(find)))
    if number >= len(images):
        raise RequestError(404, f"the product has {len(images)} pictures, numbered from 0", field="number")
    pictures: Pictures = request.app.state.pictures
    kind = "webp" if "image/webp" in request.headers.get("accept", "") else "jpeg"
    content = await pictures.get(images[number], width, kind)
    tag = f'"{xxhash.xxh3_128_hexdigest(content)}"'
    headers = {"ETag": tag, "Cache-Control": "private, max-age=86400", "Vary": "Accept"}
    headers |= {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'; sandbox"}
    if matches_tag(request, tag):
        return Response(None, 304, headers)
    return Response(content, 200, headers, f"image/{kind}")


def images_of(product: Product) -> Sequence[str]:
    """The addresses of a product's pictures in the order of their numbers: its own, then others of its variants."""
    return tuple(dict.fromkeys((*product.images, *(each.image for each in product.variants if each.image))))


class PictureError(Exception):
    """A picture that cannot be shown; the message says why."""


def resolve_host(host: str, port: int) -> Sequence[str]:
    """All addresses of a host."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def is_public(address: str, port: int) -> bool:
    """Whether an address is one of the public internet, and the port one of web servers. An address of IPv6 that holds
    one of IPv4, which may be an inner one, is not."""
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv6Address) and (found not in _GLOBAL_UNICAST or found.sixtofour):
        return False
    return port in _PORTS and found.is_global and not found.is_multicast


class Pictures:
    """The pictures of a service. At most four are fetched at once and one is made smaller, in threads of their own, so
    that searches do not wait for them."""

    def __init__(
        self, folder: Path, settings: StoreSettings, resolve: Resolve = resolve_host, allows: Allow = is_public
    ) -> None:
        self._source = settings.pictures
        self._cache = PictureCache(folder, settings.pictures_bytes)
        self._resolve = resolve
        self._allows = allows
        self._threads = ThreadPoolExecutor(_PARALLEL, thread_name_prefix="pictures")
        self._decoder = ThreadPoolExecutor(1, thread_name_prefix="picture-decoder")
        self._slots = asyncio.Semaphore(_PARALLEL)
        self._running: dict[str, asyncio.Task[bytes]] = {}

    @cached_property
    def _transport(self) -> httpx2.AsyncHTTPTransport:
        """Made when it is needed: it loads the certificates."""
        limits = httpx2.Limits(max_connections=_PARALLEL, max_keepalive_connections=0)
        return httpx2.AsyncHTTPTransport(trust_env=False, limits=limits)

    async def get(self, address: str, width: int, kind: str) -> bytes:
        """A picture as `webp` or `jpeg`, within a square of `width` pixels; raises RequestError (404, 502, 503)."""
        secure = address.lower().startswith("https:")
        if self._source is PictureSource.DIRECT or (secure and self._source is PictureSource.HTTP):
            raise RequestError(404, f"store.pictures is {self._source}: this picture is loaded from its own address")
        name = f"{xxhash.xxh3_128_hexdigest(f'{address} {width}'.encode())}.{kind}"
        content = await self._run(self._threads, partial(self._cache.read, name))
        if content is None:
            task = self._running.get(name) or self._start(name, address, width, kind)
            content = await asyncio.shield(task)
        if content.startswith(_FAILURE):
            message = content.removeprefix(_FAILURE).decode()
            raise RequestError(502, f"the picture cannot be shown: {message}", code="bad_picture")
        return content

    async def close(self) -> None:
        """Ends what is being fetched, and its connections."""
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._decoder.shutdown(wait=False, cancel_futures=True)

    def _start(self, name: str, address: str, width: int, kind: str) -> asyncio.Task[bytes]:
        if len(self._running) >= _MOST_WAITING:
            raise RequestError(503, "too many pictures are being fetched", retry_after=2)
        task = asyncio.create_task(self._make(name, address, width, kind))
        self._running[name] = task
        task.add_done_callback(lambda _: self._running.pop(name, None))
        return task

    async def _make(self, name: str, address: str, width: int, kind: str) -> bytes:
        try:
            async with self._slots:
                original = await self._fetch(address)
                content = await self._run(self._decoder, partial(resize, original, width, kind))
        except PictureError as error:
            content = _FAILURE + str(error).encode()
        await self._run(self._threads, partial(self._cache.write, name, content))
        return content

    async def _fetch(self, address: str) -> bytes:
        try:
            async with asyncio.timeout(_FETCH_SECONDS):
                for _ in range(_MOST_REDIRECTS + 1):
                    response = await self._request(httpx2.URL(address))
                    try:
                        if not response.has_redirect_location:
                            return await _read(response)
                        address = str(httpx2.URL(address).join(response.headers["Location"]))
                    finally:
                        await response.aclose()
        except TimeoutError:
            raise PictureError("its server is too slow") from None
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
            raise PictureError("its server does not respond as a web server does") from error
        raise PictureError("its server redirects too often")

    async def _request(self, url: httpx2.URL) -> httpx2.Response:
        """The head of a response, from an address that was checked."""
        if url.scheme not in ("http", "https") or url.userinfo or not url.host or len(str(url)) > _MOST_ADDRESS:
            raise PictureError("its address is none of the web")
        host, port = url.raw_host.decode("ascii"), url.port or (443 if url.scheme == "https" else 80)
        found = await self._run(self._threads, partial(self._resolve, host, port))
        if not found or not all(self._allows(each, port) for each in found):
            raise PictureError("its address is not public")
        headers = {"Host": url.netloc.decode("ascii"), "Accept": "image/*", "Accept-Encoding": "identity"}
        timeouts = {
            "connect": _CONNECT_SECONDS,
            "read": _FETCH_SECONDS,
            "write": _FETCH_SECONDS,
            "pool": _FETCH_SECONDS,
        }
        request = httpx2.Request(
            "GET",
            url.copy_with(host=found[0]),
            headers={**headers, "User-Agent": "Shelfwise", "Connection": "close"},
            extensions={"sni_hostname": host, "timeout": timeouts},
        )
        return await self._transport.handle_async_request(request)

    @staticmethod
    async def _run(threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(threads, work)


async def _read(response: httpx2.Response) -> bytes:
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if response.status_code != httpx2.codes.OK:
        raise PictureError(f"its server responds with the status {response.status_code}")
    if kind not in _TYPES:
        raise PictureError(f"its server sends {kind[:60]!r}; it can be JPEG, PNG, WebP or GIF")
    content = bytearray()
    async for part in response.aiter_raw():
        content += part
        if len(content) > _MOST_BYTES:
            raise PictureError(f"it has more than {_MOST_BYTES:,} bytes")
    return bytes(content)


def resize(content: bytes, width: int, kind: str) -> bytes:
    """A picture within a square of `width` pixels, without metadata; raises PictureError."""
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as original:
            if original.width * original.height > _MOST_PIXELS:
                raise PictureError(f"it has more than {_MOST_PIXELS:,} pixels")
            original.draft("RGB", (width, width))
            small: Image.Image = original.convert("RGBA" if original.has_transparency_data else "RGB")
        small.thumbnail((width, width))
        small = ImageOps.exif_transpose(small)
        if small.mode == "RGBA" and kind == "jpeg":
            ground = Image.new("RGBA", small.size, "white")
            small = Image.alpha_composite(ground, small).convert("RGB")
        small.info.clear()
        output = io.BytesIO()
        small.save(output, kind, quality=_QUALITY)
        return output.getvalue()
    except PictureError:
        raise
    except Exception as error:  # the readers of Pillow raise errors of many kinds
        raise PictureError("it is no JPEG, PNG, WebP or GIF, or damaged") from error


class PictureCache:
    """Files of small pictures; those that were not used for longest go first. Processes may share a folder."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder = folder
        self._most = most_bytes
        self._unmeasured = most_bytes
        """Bytes since the size was measured."""

    def read(self, name: str) -> bytes | None:
        """A file that is new enough; None where there is none."""
        path = self._folder / name
        try:
            content = path.read_bytes()
            written = path.stat().st_mtime
            os.utime(path, (time.time(), written))
        except OSError:
            return None
        most = _FAILED_SECONDS if content.startswith(_FAILURE) else _FRESH_SECONDS
        return content if time.time() - written < most else None

    def write(self, name: str, content: bytes) -> None:
        """Adds a file; a disk that is full or cannot be written is no error, the picture is then fetched again."""
        with suppress(OSError):
            self._folder.mkdir(exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self._folder, delete=False) as file:
                file.write(content)
            Path(file.name).replace(self._folder / name)
            self._unmeasured += len(content)
            if self._unmeasured > _CHECKED_SHARE * self._most:
                self._unmeasured = 0
                self._prune()

    def _prune(self) -> None:
        found = []
        for entry in os.scandir(self._folder):
            with suppress(FileNotFoundError):  # another process may have removed it
                known = entry.stat()
                found.append((known.st_atime, known.st_size, entry.path))
        surplus = sum(size for _, size, _ in found) - self._most
        for _, size, path in sorted(found):
            if surplus <= 0:
                break
            Path(path).unlink(missing_ok=True)
            surplus -= size
