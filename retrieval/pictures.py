"""Pictures of products: fetched from other servers or read from a folder, decoded within bounds, and cached on disk.

All addresses of a host must be public, and the connection is made to one that was checked, also after a redirect: a
name that resolves to another address later leads nowhere else.
"""

from __future__ import annotations

import asyncio
import io
import ipaddress
import os
import socket
import stat
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

import httpx2
import xxhash
from PIL import Image, ImageOps

from retrieval.errors import PictureError

_PORTS = (80, 443)
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
_MOST_ADDRESS = 2_000
_MOST_REDIRECTS = 3
_FETCH_SECONDS = 10.0
"""For all of a picture, redirects included."""
_CONNECT_SECONDS = 4.0
MOST_BYTES = 10_000_000
MOST_PIXELS = 40_000_000
"""Of a picture: it takes four bytes for each while it is made smaller."""
_TYPES = frozenset({"image/jpeg", "image/jpg", "image/png", "image/webp", "image/gif", "application/octet-stream"})
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
"""AVIF is missing: its decoder would use all processors. SVG is missing: it is a program that draws, and may name other
files."""
_KNOWN = "JPEG, PNG, WebP or GIF"
_QUALITY = 80
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


def is_local(address: str) -> bool:
    """Whether an address names a file, as `file:pictures/7.webp` does in the folder that is set."""
    return address[:5].lower() == "file:"


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


class PictureFetcher:
    """Fetches pictures: so many at once, of them so many from one host."""

    def __init__(
        self, parallel: int, per_host: int, resolve: Resolve = resolve_host, allows: Allow = is_public
    ) -> None:
        self._resolve = resolve
        self._allows = allows
        self._parallel = parallel
        self._threads = ThreadPoolExecutor(parallel, thread_name_prefix="picture-hosts")
        self._slots = asyncio.Semaphore(parallel)
        self._hosts: defaultdict[str, asyncio.Semaphore] = defaultdict(partial(asyncio.Semaphore, per_host))

    @cached_property
    def _transport(self) -> httpx2.AsyncHTTPTransport:
        """Made when it is needed: it loads the certificates."""
        limits = httpx2.Limits(max_connections=self._parallel, max_keepalive_connections=0)
        return httpx2.AsyncHTTPTransport(trust_env=False, limits=limits)

    async def fetch(self, address: str) -> bytes:
        """The content of a picture's file; raises PictureError."""
        async with self._hosts[(urlsplit(address).hostname or "") if address.isprintable() else ""], self._slots:
            return await self._fetch(address)

    async def close(self) -> None:
        """Ends the connections."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if "_transport" in self.__dict__:
            await self._transport.aclose()

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
        found = await asyncio.get_running_loop().run_in_executor(self._threads, partial(self._resolve, host, port))
        if not found or not all(self._allows(each, port) for each in found):
            raise PictureError("its address is not public")
        headers = {"Host": url.netloc.decode("ascii"), "Accept": "image/*", "Accept-Encoding": "identity"}
        timeouts = dict.fromkeys(("read", "write", "pool"), _FETCH_SECONDS) | {"connect": _CONNECT_SECONDS}
        request = httpx2.Request(
            "GET",
            url.copy_with(host=found[0]),
            headers={**headers, "User-Agent": "Shelfwise", "Connection": "close"},
            extensions={"sni_hostname": host, "timeout": timeouts},
        )
        return await self._transport.handle_async_request(request)


async def _read(response: httpx2.Response) -> bytes:
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if response.status_code != httpx2.codes.OK:
        raise PictureError(f"its server responds with the status {response.status_code}")
    if kind not in _TYPES:
        raise PictureError(f"its server sends {kind[:60]!r}; it can be {_KNOWN}")
    content = bytearray()
    async for part in response.aiter_raw():
        content += part
        if len(content) > MOST_BYTES:
            raise _too_long()
    return bytes(content)


def _too_long() -> PictureError:
    return PictureError(f"it has more than {MOST_BYTES:,} bytes")


def _too_large() -> PictureError:
    return PictureError(f"it has more than {MOST_PIXELS:,} pixels")


def local_path(address: str, folder: Path | None) -> Path:
    """The file of a local address, inside the folder that pictures may be read from; raises PictureError."""
    if folder is None:
        raise PictureError("it is a file, and no folder of pictures is set")
    parts = urlsplit(address)
    path, root = (folder / unquote(parts.path)).resolve(), folder.resolve()
    if parts.netloc or not path.is_relative_to(root):
        raise PictureError("it is a file outside the folder of pictures")
    return path


def read_file(path: Path) -> bytes:
    """The content of a picture's file; raises PictureError."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise PictureError("it is no file")
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else ""
        raise PictureError(f"its file cannot be read ({reason or error})") from error
    if len(content) > MOST_BYTES:
        raise _too_long()
    return content


def decode(content: bytes, width: int) -> Image.Image:
    """A picture within a square of `width` pixels, RGB or RGBA, upright and without metadata; of an animation the first
    picture. Raises PictureError for more than MOST_BYTES or MOST_PIXELS, and for anything that is no picture."""
    if len(content) > MOST_BYTES:
        raise _too_long()
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as original:
            if original.width * original.height > MOST_PIXELS:
                raise _too_large()
            original.draft("RGB", (width, width))
            small: Image.Image = original.convert("RGBA" if original.has_transparency_data else "RGB")
        small.thumbnail((width, width))
        small = ImageOps.exif_transpose(small)
        small.info.clear()
    except PictureError:
        raise
    except Image.DecompressionBombError as error:
        raise _too_large() from error
    except Exception as error:  # the readers of Pillow raise errors of many kinds
        raise PictureError(f"it is no {_KNOWN}, or damaged") from error
    return small


def on_white(picture: Image.Image) -> Image.Image:
    """The picture in RGB, what is transparent of it white."""
    if picture.mode != "RGBA":
        return picture
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


def resize(content: bytes, width: int, kind: str) -> bytes:
    """A picture within a square of `width` pixels as `webp` or `jpeg`; raises PictureError."""
    small, output = decode(content, width), io.BytesIO()
    (on_white(small) if kind == "jpeg" else small).save(output, kind, quality=_QUALITY)
    return output.getvalue()


class PictureCache:
    """Files of small pictures; those that were not used for longest go first. Processes may share a folder."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder = folder
        self._most = most_bytes
        self._unmeasured = most_bytes
        """Bytes since the size was measured."""

    def read(self, name: str, since: float = 0.0) -> bytes | None:
        """A picture that is new enough, and not older than `since`, in seconds since 1970; None where there is none.
        Raises PictureError for one that failed."""
        path = self._folder / name
        try:
            content = path.read_bytes()
            written = path.stat().st_mtime
            os.utime(path, (time.time(), written))
        except OSError:
            return None
        most = _FAILED_SECONDS if content.startswith(_FAILURE) else _FRESH_SECONDS
        if written < since or time.time() - written >= most:
            return None
        if content.startswith(_FAILURE):
            raise PictureError(content.removeprefix(_FAILURE).decode())
        return content

    def write_failure(self, name: str, error: PictureError) -> None:
        """Remembers that a picture failed, for some minutes."""
        self.write(name, _FAILURE + str(error).encode())

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
                return
            Path(path).unlink(missing_ok=True)
            surplus -= size


CATALOG_FOLDER, CATALOG_WIDTH = "picture_cache", 320
"""The folder of an index directory with the pictures that a rebuild encoded, and the pixels of their longer side."""


def catalog_name(address: str) -> str:
    """The name of a catalog's picture in that folder."""
    return f"{xxhash.xxh3_128_hexdigest(address.encode('utf-8', 'surrogatepass'))}.webp"


class CatalogPictures:
    """The pictures of a catalog, made small once: fetched, or read from a folder. What an interrupted run has fetched
    is not fetched again."""

    def __init__(
        self, cache: PictureCache, folder: Path | None, make_fetcher: Callable[[], PictureFetcher], parallel: int
    ) -> None:
        self._cache = cache
        self._folder = folder
        self._make_fetcher = make_fetcher
        self._parallel = parallel

    def keys(self, addresses: Sequence[str], advance: Callable[[int], None]) -> tuple[dict[str, bytes], Counter[str]]:
        """The fingerprint of each picture (16 bytes), by its address, and how many failed for which reason."""
        return asyncio.run(self._keys(addresses, advance))

    async def _keys(
        self, addresses: Sequence[str], advance: Callable[[int], None]
    ) -> tuple[dict[str, bytes], Counter[str]]:
        found, failed, waiting = dict[str, bytes](), Counter[str](), iter(addresses)
        fetcher = self._make_fetcher()
        with ThreadPoolExecutor(min(self._parallel, os.cpu_count() or 1), thread_name_prefix="picture-decoder") as own:

            async def work() -> None:
                for address in waiting:
                    try:
                        found[address] = xxhash.xxh3_128_digest(await self._small(address, fetcher, own))
                    except PictureError as error:
                        failed[str(error)] += 1
                    advance(1)

            try:
                await asyncio.gather(*(work() for _ in range(self._parallel)))
            finally:
                await fetcher.close()
        return found, failed

    async def _small(self, address: str, fetcher: PictureFetcher, decoder: ThreadPoolExecutor) -> bytes:
        """The small picture of an address; raises PictureError."""
        run, name = asyncio.get_running_loop().run_in_executor, catalog_name(address)
        if is_local(address):
            return await run(decoder, partial(self._local, address, name))
        small = await run(decoder, partial(self._cache.read, name))
        if small is not None:
            return small
        try:
            content = await fetcher.fetch(address)
            small = await run(decoder, partial(resize, content, CATALOG_WIDTH, "webp"))
        except PictureError as error:
            await run(decoder, partial(self._cache.write_failure, name, error))
            raise
        await run(decoder, partial(self._cache.write, name, small))
        return small

    def _local(self, address: str, name: str) -> bytes:
        path = local_path(address, self._folder)
        changed = path.stat().st_mtime if path.is_file() else 0.0
        with suppress(PictureError):
            small = self._cache.read(name, changed)
            if small is not None:
                return small
        small = resize(read_file(path), CATALOG_WIDTH, "webp")
        self._cache.write(name, small)
        return small
