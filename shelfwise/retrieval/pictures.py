"""Pictures of products: fetched from other servers or read from a folder, decoded within limits, and cached on disk.

All addresses of a host must be public, and the connection uses an address that was checked, also after a redirect. So a
name that later resolves to another address leads nowhere else. A server that is busy or does not respond is not
contacted for a while (RFC 9110, sections 10.2.3 and 15.6.4).
"""

from __future__ import annotations

import asyncio
import io
import ipaddress
import math
import os
import socket
import stat
import tempfile
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

import httpx2
import xxhash
from PIL import Image, ImageOps

from shelfwise.retrieval.errors import PictureError, PictureUnavailableError
from shelfwise.retrieval.records import is_local

_PORTS = (80, 443)
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
_MAX_ADDRESS = 2_000
_MAX_REDIRECTS = 3
_FETCH_SECONDS = 10.0
"""The time limit for fetching a picture, including redirects."""
_CONNECT_SECONDS = 4.0
MAX_BYTES = 10_000_000
MAX_PIXELS = 40_000_000
"""The most pixels of a picture: it takes four bytes per pixel while it is made smaller."""
_TYPES = frozenset({"image/jpeg", "image/jpg", "image/png", "image/webp", "image/gif", "application/octet-stream"})
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
"""AVIF is missing because its decoder would use all processors, SVG because it is a drawing program that may name other
files."""
_KNOWN = "JPEG, PNG, WebP or GIF"
_START_OF_SCAN, MAX_SCANS = b"\xff\xda", 100
"""The marker of a scan of a JPEG, and how many it may have. Each is a pass over all pixels, which takes some
milliseconds and may be 50 bytes long; encoders make 10 of a progressive picture."""
_QUALITY = 80
_FRESH_SECONDS = 7 * 86_400.0
_FAILED_SECONDS = 600.0
"""The time after which a failed picture, or a host that does not respond, is tried again."""
_MAX_FAILURES = 8
"""The number of successive requests without a response after which a host gets none for a while."""
PATIENCE = 60.0
"""The seconds that a rebuild waits for a host that requests it; a longer wait fails."""
_WAIT_SECONDS, _MAX_WAITS = 5.0, 3
"""The pause of a busy host that gives no time, and the number of times that a picture waits for its host."""
_FAILURE = b"!"
"""The first byte of a cached failure, followed by its message; no picture begins with it."""
_CHECKED_SHARE = 0.05
"""The share of the cache that is written before its size is measured again."""

# Pillow warns of large pictures, which are refused before they are decoded, and of each wrong tag, of 65,535 in a file.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", module=r"PIL\.")
T = TypeVar("T")
Resolve = Callable[[str, int], Sequence[str]]
Allow = Callable[[str, int], bool]


def resolve_host(host: str, port: int) -> Sequence[str]:
    """All addresses of a host."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def is_public(address: str, port: int) -> bool:
    """Whether an address is on the public internet and the port is one of web servers. An IPv6 address that contains an
    IPv4 address, which may be internal, is not public."""
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv6Address) and (found not in _GLOBAL_UNICAST or found.sixtofour):
        return False
    return port in _PORTS and found.is_global and not found.is_multicast


@dataclass(slots=True)
class _Host:
    slots: asyncio.Semaphore
    ready: float = 0.0
    """The time, in the event loop's clock, from which it gets requests."""
    failures: int = 0
    """The number of successive requests without a response."""


class PictureFetcher:
    """Fetches pictures, with limits on how many at once in total and per host. A picture waits at most `patience`
    seconds for a host that requests a pause."""

    def __init__(
        self,
        parallel: int,
        per_host: int,
        resolve: Resolve = resolve_host,
        allows: Allow = is_public,
        patience: float = PATIENCE,
    ) -> None:
        self._resolve = resolve
        self._allows = allows
        self._parallel = parallel
        self._patience = patience
        self._threads = ThreadPoolExecutor(parallel, thread_name_prefix="picture-hosts")
        self._slots = asyncio.Semaphore(parallel)
        self._hosts: defaultdict[str, _Host] = defaultdict(lambda: _Host(asyncio.Semaphore(per_host)))

    @cached_property
    def _transport(self) -> httpx2.AsyncHTTPTransport:
        """Created on first use, since it loads the certificates."""
        limits = httpx2.Limits(max_connections=self._parallel, max_keepalive_connections=0)
        return httpx2.AsyncHTTPTransport(trust_env=False, limits=limits)

    async def fetch(self, address: str) -> bytes:
        """The content of a picture's file; raises PictureError, or PictureUnavailableError if the server does not
        respond at present."""
        host, waits = self._hosts[(urlsplit(address).hostname or "") if address.isprintable() else ""], 0
        async with host.slots:
            while True:
                await self._wait_for(host)
                try:
                    async with self._slots:
                        found = await self._fetch(address)
                except PictureUnavailableError as error:
                    self._note_failure(host, error)
                    if error.wait is None or waits == _MAX_WAITS:
                        raise
                    waits += 1
                except PictureError:
                    host.failures = 0
                    raise
                else:
                    host.failures = 0
                    return found

    async def _wait_for(self, host: _Host) -> None:
        """Waits until a host may get a request; raises PictureUnavailableError if that takes too long."""
        now = asyncio.get_running_loop().time
        while (wait := host.ready - now()) > 0:
            if wait > self._patience:
                raise PictureUnavailableError("its server did not respond before, or asked to wait")
            await asyncio.sleep(wait)

    @staticmethod
    def _note_failure(host: _Host, error: PictureUnavailableError) -> None:
        now = asyncio.get_running_loop().time()
        host.failures += now >= host.ready  # concurrent requests fail for the same reason and count once
        wait = _FAILED_SECONDS if host.failures >= _MAX_FAILURES else error.wait or 0.0
        host.ready = max(host.ready, now + wait)

    async def close(self) -> None:
        """Closes the connections."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if "_transport" in self.__dict__:
            await self._transport.aclose()

    async def _fetch(self, address: str) -> bytes:
        try:
            async with asyncio.timeout(_FETCH_SECONDS):
                for _ in range(_MAX_REDIRECTS + 1):
                    response = await self._request(httpx2.URL(address))
                    try:
                        if not response.has_redirect_location:
                            return await _read(response)
                        address = str(httpx2.URL(address).join(response.headers["Location"]))
                    finally:
                        await response.aclose()
        except TimeoutError:
            raise PictureUnavailableError("its server is too slow") from None
        except socket.gaierror as error:
            raise PictureUnavailableError("the name of its server is not known") from error
        except (httpx2.HTTPError, OSError) as error:
            raise PictureUnavailableError("its server does not respond like a web server") from error
        except (httpx2.InvalidURL, ValueError) as error:
            raise PictureError("its address is not a web address") from error
        raise PictureError("its server redirects too often")

    async def _request(self, url: httpx2.URL) -> httpx2.Response:
        """The head of a response, from an address that was checked."""
        if url.scheme not in ("http", "https") or url.userinfo or not url.host or len(str(url)) > _MAX_ADDRESS:
            raise PictureError("its address is not a web address")
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
    kind, status = response.headers.get("Content-Type", "").partition(";")[0].strip().lower(), response.status_code
    wait = _requested_wait(response.headers.get("Retry-After", ""))
    if status == httpx2.codes.TOO_MANY_REQUESTS or (status == httpx2.codes.SERVICE_UNAVAILABLE and wait is not None):
        raise PictureUnavailableError("its server asks to wait", _WAIT_SECONDS if wait is None else wait)
    if status != httpx2.codes.OK:
        kind_of_error = PictureUnavailableError if httpx2.codes.is_server_error(status) else PictureError
        raise kind_of_error(f"its server responds with the status {status}")
    if kind not in _TYPES:
        raise PictureError(f"its server sends {kind[:60]!r}; it can be {_KNOWN}")
    content = bytearray()
    async for part in response.aiter_raw():
        content += part
        if len(content) > MAX_BYTES:
            raise _too_long()
    return bytes(content)


def _requested_wait(text: str) -> float | None:
    """The seconds that a server asks to wait (`Retry-After`), as a number or a date; None if it gives no time."""
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):  # not a date, or one without a zone
        return None


def _too_long() -> PictureError:
    return PictureError(f"it has more than {MAX_BYTES:,} bytes")


def _too_large() -> PictureError:
    return PictureError(f"it has more than {MAX_PIXELS:,} pixels")


def local_path(address: str, folder: Path | None) -> Path:
    """The file of a local address, inside the folder of pictures; raises PictureError."""
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
            raise PictureError("it is not a file")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else ""
        raise PictureError(f"its file cannot be read ({reason or error})") from error
    if len(content) > MAX_BYTES:
        raise _too_long()
    return content


def decode(content: bytes, width: int) -> Image.Image:
    """A picture within a square of `width` pixels, RGB or RGBA, upright and without metadata; for an animation, its
    first frame. Raises PictureError for more than MAX_BYTES, MAX_PIXELS or MAX_SCANS, and for anything that is not a
    picture."""
    if len(content) > MAX_BYTES:
        raise _too_long()
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as original:
            if original.width * original.height > MAX_PIXELS:
                raise _too_large()
            if original.format in ("JPEG", "MPO") and content.count(_START_OF_SCAN) > MAX_SCANS:
                raise PictureError(f"it has more than {MAX_SCANS} scans, each a pass over all of its pixels")
            original.draft("RGB", (width, width))
            small: Image.Image = original.convert("RGBA" if original.has_transparency_data else "RGB")
        small.thumbnail((width, width))
        small = ImageOps.exif_transpose(small)
        small.info.clear()
    except PictureError:
        raise
    except Image.DecompressionBombError as error:
        raise _too_large() from error
    except Exception as error:  # Pillow's readers raise errors of many types
        raise PictureError(f"it is not {_KNOWN}, or it is damaged") from error
    return small


def on_white(picture: Image.Image) -> Image.Image:
    """The picture in RGB, with transparent parts in white."""
    if picture.mode != "RGBA":
        return picture
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


def resize(content: bytes, width: int, kind: str) -> bytes:
    """A picture within a square of `width` pixels as `webp` or `jpeg`; raises PictureError."""
    small, output = decode(content, width), io.BytesIO()
    (on_white(small) if kind == "jpeg" else small).save(output, kind, quality=_QUALITY)
    return output.getvalue()


class PictureCache:
    """Files of small pictures; the least recently used are removed first. Processes may share a folder.

    With `keeps_used`, files that this object read or wrote stay, whatever their size: a rebuild needs all of its own.
    """

    def __init__(self, folder: Path, most_bytes: int, *, keeps_used: bool = False) -> None:
        self._folder = folder
        self._most = most_bytes
        # A whole second, since the clock of files is some milliseconds behind.
        self._used_since = math.floor(time.time()) if keeps_used else math.inf
        self._unmeasured = most_bytes
        """Bytes written since the size was measured."""

    def read(self, name: str, since: float = 0.0) -> bytes | None:
        """A picture that is new enough, and not older than `since`, in seconds since 1970; None if there is none.
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
        """Stores the failure of a picture, for some minutes."""
        self.write(name, _FAILURE + str(error).encode())

    def read_old(self, name: str) -> bytes:
        """A picture of any age; empty if there is none or it failed."""
        try:
            content = (self._folder / name).read_bytes()
        except OSError:
            return b""
        return b"" if content.startswith(_FAILURE) else content

    def postpone(self, name: str) -> None:
        """Allows the use of an old picture for some more minutes."""
        now = time.time()
        with suppress(OSError):
            os.utime(self._folder / name, (now, now - _FRESH_SECONDS + _FAILED_SECONDS))

    def write(self, name: str, content: bytes) -> None:
        """Adds a file. A full or unwritable disk is not an error: the picture is then fetched again."""
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
        files = []
        for entry in os.scandir(self._folder):
            with suppress(FileNotFoundError):  # another process may have removed it
                known = entry.stat()
                files.append((known.st_atime, known.st_size, entry.path))
        surplus = sum(size for _, size, _ in files) - self._most
        for used, size, path in sorted(files):
            if surplus <= 0 or used >= self._used_since:
                return
            Path(path).unlink(missing_ok=True)
            surplus -= size


@dataclass(frozen=True, slots=True)
class SmallPictures:
    """Pictures of other servers, made small and cached. Threads read and write files, and decode."""

    cache: PictureCache
    fetcher: PictureFetcher
    files: ThreadPoolExecutor
    decoder: ThreadPoolExecutor

    async def refresh(self, name: str, address: str, width: int, kind: str) -> tuple[bytes, bool]:
        """The small picture of an address that is not in the cache under this name, or only an old one; and whether it
        is an old one whose server does not respond. Raises PictureError, which is stored in the cache."""
        run = asyncio.get_running_loop().run_in_executor
        old = await run(self.files, partial(self.cache.read_old, name))
        try:
            content = await self.fetcher.fetch(address)
            small = await run(self.decoder, partial(resize, content, width, kind))
        except PictureError as error:
            if old and isinstance(error, PictureUnavailableError):
                await run(self.files, partial(self.cache.postpone, name))
                return old, True
            await run(self.files, partial(self.cache.write_failure, name, error))
            raise
        await run(self.files, partial(self.cache.write, name, small))
        return small, False


CATALOG_FOLDER, CATALOG_WIDTH = "picture_cache", 320
"""The folder in an index directory with the pictures encoded by rebuilds, and the pixels of their longer side."""


def catalog_name(address: str) -> str:
    """The name of a catalog's picture in that folder."""
    return f"{xxhash.xxh3_128_hexdigest(address.encode('utf-8', 'surrogatepass'))}.webp"


@dataclass(slots=True)
class PictureKeys:
    """The pictures of a catalog by fingerprint."""

    keys: dict[str, bytes] = field(default_factory=dict)
    """The fingerprint of each small picture (16 bytes), by its address."""
    failed: Counter[str] = field(default_factory=Counter)
    """The number of pictures that cannot be used, by reason."""
    old: int = 0
    """The number of pictures whose server does not respond; their copy of an earlier rebuild is used."""


class CatalogPictures:
    """The pictures of a catalog, made small once: fetched, or read from a folder. Pictures that an interrupted run has
    fetched are not fetched again."""

    def __init__(
        self, cache: PictureCache, folder: Path | None, make_fetcher: Callable[[], PictureFetcher], parallel: int
    ) -> None:
        self._cache = cache
        self._folder = folder
        self._make_fetcher = make_fetcher
        self._parallel = parallel

    def keys(self, addresses: Sequence[str], advance: Callable[[int], None]) -> PictureKeys:
        """The fingerprints of the pictures at some addresses."""
        return asyncio.run(self._keys(addresses, advance))

    async def _keys(self, addresses: Sequence[str], advance: Callable[[int], None]) -> PictureKeys:
        found, waiting, fetcher = PictureKeys(), iter(addresses), self._make_fetcher()
        with ThreadPoolExecutor(min(self._parallel, os.cpu_count() or 1), thread_name_prefix="picture-decoder") as own:
            pictures = SmallPictures(self._cache, fetcher, own, own)

            async def work() -> None:
                for address in waiting:
                    try:
                        small, is_old = await self._small(address, pictures)
                        found.keys[address] = xxhash.xxh3_128_digest(small)
                        found.old += is_old
                    except PictureError as error:
                        found.failed[str(error)] += 1
                    advance(1)

            try:
                await asyncio.gather(*(work() for _ in range(self._parallel)))
            finally:
                await fetcher.close()
        return found

    async def _small(self, address: str, pictures: SmallPictures) -> tuple[bytes, bool]:
        """The small picture of an address, and whether its server does not respond; raises PictureError."""
        run, name = asyncio.get_running_loop().run_in_executor, catalog_name(address)
        if is_local(address):
            return await run(pictures.decoder, partial(self._local, address, name)), False
        small = await run(pictures.files, partial(self._cache.read, name))
        return (small, False) if small is not None else await pictures.refresh(name, address, CATALOG_WIDTH, "webp")

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
