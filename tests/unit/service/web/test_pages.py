"""Pages, and the pictures that they show."""

from __future__ import annotations

import asyncio
import io
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import repeat
from pathlib import Path
from typing import Any, ClassVar

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from shelfwise.retrieval import pictures
from shelfwise.retrieval.errors import PictureError, SettingError
from shelfwise.retrieval.pictures import PictureCache, is_public, resize
from shelfwise.service.app import create_app
from shelfwise.service.curation.relevance import Relevance
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.http.auth import KeyFile, Scope
from shelfwise.service.http.errors import RequestError
from shelfwise.service.settings import ServiceSettings, Settings, SourcedSettings, StoreSettings
from shelfwise.service.web.pages import contrast, look_style, page_files, read_look
from shelfwise.service.web.pictures import FOLDER, Pictures
from tests.services import add_key, local_client

LOCAL = "http://localhost"
_ENTRY = re.compile(r'^  "([^"]+)": \[\s*"([^"]*)"(?:,\s+"([^"]*)")?,?\s*\],$', re.MULTILINE)
_USED = re.compile(r"""\bt\("([^"]+)"|data-(?:word|label|hint)="([^"]+)\"""")


@pytest.mark.parametrize("path", ["/", "/admin", "/assets/shop.js", "/assets/base.css", "/favicon.ico"])
def test_static_file_has_an_etag_and_a_strict_policy(client: TestClient, path: str) -> None:
    sent = client.get(path)
    assert sent.status_code == 200
    policy = sent.headers["content-security-policy"]
    assert policy.startswith("default-src 'self'; img-src 'self' https: data:;")
    assert "unsafe" not in policy
    again = client.get(path, headers={"If-None-Match": sent.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_pages_have_no_inline_script_or_style() -> None:
    for name in ("store.html", "admin.html"):
        text = page_files()[name].content.decode()
        assert not re.search(r"<script(?![^>]* src=)|<style|\son\w+=|\sstyle=", text)
        assert not re.search(r"(?:src|href)=\"(?!\.?/)(?!#)", text), "everything comes from this server"


@pytest.mark.parametrize("name", [name for name in page_files() if name.endswith(".js")])
def test_scripts_do_not_create_markup_from_text(name: str) -> None:
    text = page_files()[name].content.decode()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text)


def test_page_receives_the_configuration_of_the_store(client: TestClient, store: SearchEngine) -> None:
    facts = client.get("/assets/store.json").json()
    assert facts["facets"][:3] == ["brand", "price", "availability"]
    assert "attributes.color" in facts["facets"]
    assert set(facts["facets"]) <= set(store.snapshot.catalog.fields)
    assert facts["sorts"] == ["price", "rating", "created"]
    assert facts["key"] == ""


def facts_key(client: TestClient) -> str:
    key: str = client.get("/assets/store.json").json()["key"]
    return key


def test_first_key_gives_the_store_page_its_own(store: SearchEngine, keys: KeyFile) -> None:
    """Regression: with the first key, visitors of the store page read the name of a setting."""
    with TestClient(create_app(store, ServiceSettings(keys=keys.path)), LOCAL) as client:
        assert facts_key(client) == ""
        add_key(keys, Scope.WRITE)
        (own,) = (each for each in keys.keys().values() if each.page_key)
        before = {"X-API-Key": facts_key(client)}
        assert before["X-API-Key"] == own.page_key == KeyFile(keys.path).page_key()
        assert client.get("/v1/search", headers=before).status_code == 200
        click = {"kind": "click", "product_id": "d000001", "session": "s"}
        assert client.post("/v1/events", json={"events": [click]}, headers=before).status_code == 200
        assert client.get("/v1/settings", headers=before).status_code == 403
        keys.withdraw(own.id)
        assert client.get("/v1/search", headers=before).status_code == 401
        assert client.get("/v1/search", headers={"X-API-Key": facts_key(client)}).status_code == 200


@pytest.mark.parametrize(
    ("scopes", "problem"),
    [
        ((Scope.SEARCH,), ""),
        ((Scope.SEARCH, Scope.EVENTS), ""),
        ((Scope.EVENTS,), "without the scope search"),
        ((Scope.SEARCH, Scope.WRITE), "every visitor would get it"),
        ((Scope.ADMIN,), "every visitor would get it"),
        (None, "unknown, withdrawn or expired"),
    ],
)
def test_owner_reads_why_the_key_of_the_settings_is_not_used(
    store: SearchEngine, keys: KeyFile, scopes: tuple[Scope, ...] | None, problem: str
) -> None:
    add_key(keys, Scope.METRICS)
    key = add_key(keys, *scopes) if scopes else "sw_nosuch"
    with TestClient(create_app(store, ServiceSettings(keys=keys.path, page_key=key)), LOCAL) as client:
        assert facts_key(client) == ("" if problem else key)
        notices = [each for each in client.get("/health/ready").json()["notices"] if "store page" in each]
    assert len(notices) == bool(problem)
    assert all(problem in each and "service.page_key" in each for each in notices)


def test_pages_can_be_disabled(store: SearchEngine) -> None:
    with TestClient(create_app(store, ServiceSettings(pages=False)), LOCAL) as client:
        assert [client.get(path).status_code for path in ("/", "/admin", "/assets/shop.js")] == [404, 404, 404]


HOSTILE = '</style><script>alert(1)</script>"'
LOGO = b'<svg xmlns="http://www.w3.org/2000/svg"/>'


def test_page_receives_the_look_of_the_settings(store: SearchEngine, tmp_path: Path) -> None:
    logo = tmp_path / "logo.svg"
    logo.write_bytes(LOGO)
    look = StoreSettings(name=HOSTILE, name_zh="北光", logo=logo, colour="#ffee00", language="zh")
    sourced = SourcedSettings(Settings(store=look))
    with TestClient(create_app(store, ServiceSettings(), sourced=sourced), LOCAL) as client:
        facts = client.get("/assets/store.json").json()["look"]
        sent = client.get("/assets/logo")
        assert "--accent:" in client.get("/assets/look.css").text
    assert facts == {
        "texts": {"en": {"store": HOSTILE}, "zh": {"store": "北光"}},
        "language": "zh",
        "has_logo": True,
        "has_reasons": False,
    }
    assert (sent.content, sent.headers["content-type"]) == (LOGO, "image/svg+xml")
    assert "sandbox" in sent.headers["content-security-policy"]


def test_logo_that_cannot_be_shown_is_an_error_that_names_the_setting(tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    large.write_bytes(bytes(1_000_001))
    for path, fault in (
        (tmp_path / "logo.html", r"ends in \.png"),
        (tmp_path / "nosuch.png", "cannot be read"),
        (large, "1,000,001 bytes"),
    ):
        with pytest.raises(SettingError, match=rf"store\.logo is .*{fault}"):
            read_look(StoreSettings(logo=path))


@pytest.mark.parametrize("colour", ["#ffffff", "#000000", "#ffee00", "#2b5c8a", "#808080", "#ff0000"])
def test_text_in_the_store_colour_is_readable(colour: str) -> None:
    grounds = {"light": "#eeeeea", "dark": "#262c34"}
    found = re.findall(r"--accent: (\S+); --accent-soft: (\S+);", look_style(colour))
    for (accent, soft), ground in zip(found, grounds.values(), strict=True):
        assert min(contrast(rgb(accent), rgb(soft)), contrast(rgb(accent), rgb(ground))) >= 4.45


def rgb(text: str) -> tuple[float, float, float]:
    red, green, blue = bytes.fromhex(text.removeprefix("#"))
    return red / 255, green / 255, blue / 255


def texts() -> dict[str, tuple[str, str]]:
    """The English and the Chinese text of each name; the Chinese one is empty if there is none."""
    return {
        name: (english, chinese) for name, english, chinese in _ENTRY.findall(page_files()["words.js"].content.decode())
    }


def test_both_languages_have_the_same_messages_and_placeholders() -> None:
    needed = {name for name in texts() if not name.startswith("field.") and not name.endswith(".one")} - {"footer"}
    assert len(needed) > 100
    for name, (english, chinese) in texts().items():
        assert chinese or name not in needed, name
        assert not chinese or set(re.findall(r"\{\w+\}", chinese)) == set(re.findall(r"\{\w+\}", english)), name


def test_every_message_of_the_store_page_exists() -> None:
    scripts = {name: file.content.decode() for name, file in page_files().items() if not name.startswith("admin")}
    used = {one or other for text in scripts.values() for one, other in _USED.findall(text)}
    assert len(used) > 50
    assert used <= set(texts())


_OWN = repeat(["127.0.0.1"])


def encoded(size: tuple[int, int] = (800, 400), kind: str = "PNG", mode: str = "RGB", **options: Any) -> bytes:  # noqa: ANN401
    output = io.BytesIO()
    Image.new(mode, size).save(output, kind, **options)
    return output.getvalue()


class HostileServer(BaseHTTPRequestHandler):
    """A server whose paths name its behaviour."""

    requests: ClassVar[list[str]] = []
    ended = threading.Event()

    def do_GET(self) -> None:
        self.requests.append(self.path)
        kind, _, rest = self.path[1:].partition("/")
        getattr(self, f"send_{kind}")(rest)

    def send(self, status: int, headers: dict[str, str], content: bytes = b"") -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def send_png(self, _rest: str) -> None:
        self.send(200, {"Content-Type": "image/png"}, encoded())

    def send_busy(self, _rest: str) -> None:
        self.send(429, {"Retry-After": "30"})

    def send_redirect(self, rest: str) -> None:
        self.send(302, {"Location": rest.replace("PORT", str(self.server.server_port))})  # type: ignore[attr-defined]

    def send_loop(self, _rest: str) -> None:
        self.send(302, {"Location": self.path})

    def send_svg(self, _rest: str) -> None:
        self.send(200, {"Content-Type": "image/svg+xml"}, b"<svg/>")

    def send_script(self, _rest: str) -> None:
        self.send(200, {"Content-Type": "image/png"}, b"<svg xmlns='http://www.w3.org/2000/svg'/>")

    def send_header_of(self, _rest: str) -> None:
        self.send(200, {"Content-Type": "image/png", "X-Long": "x" * 300_000}, encoded())

    def send_packed(self, _rest: str) -> None:
        self.send(200, {"Content-Type": "image/png", "Content-Encoding": "gzip"}, b"\x1f\x8b" + bytes(100))

    def send_endless(self, _rest: str) -> None:
        self.send(200, {"Content-Type": "image/png"})
        while not self.ended.is_set():
            self.wfile.write(bytes(1_000_000))

    def send_slow(self, _rest: str) -> None:
        self.send(200, {"Content-Type": "image/png"})
        self.ended.wait(60)

    def log_message(self, *_: object) -> None:
        """Logs nothing."""


@pytest.fixture(scope="module")
def hostile() -> Iterator[ThreadingHTTPServer]:
    """A hostile server that outlives clients which give up."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), HostileServer)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    HostileServer.ended.set()
    server.shutdown()


def opened(folder: Path, hostile: ThreadingHTTPServer, answers: Iterator[list[str]] = _OWN) -> Pictures:
    """A picture proxy that may fetch from that server under a public name, despite its internal address."""
    names = {
        "pictures.example": answers,
        "inner.example": repeat(["10.0.0.7"]),
        "both.example": repeat(["8.8.8.8", "127.0.0.1"]),
    }
    return Pictures(
        folder / FOLDER,
        StoreSettings(),
        lambda host, port: next(names[host]) if host in names else pictures.resolve_host(host, port),
        lambda address, port: (address, port) == ("127.0.0.1", hostile.server_port) or is_public(address, port),
    )


def fetched(folder: Path, hostile: ThreadingHTTPServer, path: str, answers: Iterator[list[str]] = _OWN) -> bytes | str:
    """The picture, or the reason why there is none."""

    async def get() -> bytes:
        own = opened(folder, hostile, answers)
        try:
            return await own.get(f"http://pictures.example:{hostile.server_port}/{path}", 160, "webp", folder)
        finally:
            await own.close()

    try:
        return asyncio.run(get())
    except RequestError as error:
        return error.message


def test_picture_is_made_smaller_and_cached(tmp_path: Path, hostile: ThreadingHTTPServer) -> None:
    HostileServer.requests.clear()
    first, second = (fetched(tmp_path, hostile, "png/one") for _ in range(2))
    assert isinstance(first, bytes)
    assert first == second
    with Image.open(io.BytesIO(first)) as small:
        assert (small.format, small.size) == ("WEBP", (160, 80))
    assert HostileServer.requests == ["/png/one"]
    assert [path.suffix for path in (tmp_path / FOLDER).iterdir()] == [".webp"]


def test_page_does_not_wait_for_a_busy_server(tmp_path: Path, hostile: ThreadingHTTPServer) -> None:
    started = time.monotonic()
    assert "asked to wait" in str(fetched(tmp_path, hostile, "busy/one"))
    assert time.monotonic() - started < 10


def test_failure_is_remembered(tmp_path: Path, hostile: ThreadingHTTPServer) -> None:
    HostileServer.requests.clear()
    first, second = (fetched(tmp_path, hostile, "svg/one") for _ in range(2))
    reason = "its server sends 'image/svg+xml'; it can be JPEG, PNG, WebP or GIF"
    assert first == second == f"the picture cannot be shown: {reason}"
    assert HostileServer.requests == ["/svg/one"]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("redirect/http://127.0.0.1:80/", "not public"),
        ("redirect/http://127.0.0.1:8080/", "not public"),
        ("redirect/http://169.254.169.254/latest/meta-data/", "not public"),
        ("redirect/http://[::ffff:127.0.0.1]/", "not public"),
        ("redirect/http://[::1]/", "not public"),
        ("redirect/http://2130706433/", "not public"),
        ("redirect/http://inner.example/", "not public"),
        ("redirect/http://both.example/", "not public"),
        ("redirect/http://8.8.8.8:22/", "not public"),
        ("redirect/ftp://pictures.example/", "not a web address"),
        ("redirect/file:///etc/passwd", "not a web address"),
        ("redirect/http://user@pictures.example/", "not a web address"),
        ("redirect/http://[", "is not known"),
        ("loop/", "redirects too often"),
        ("script/", "damaged"),
        ("packed/", "damaged"),
        ("header_of/", "does not respond"),
        ("endless/", "more than"),
        ("slow/", "too slow"),
    ],
)
def test_hostile_server_gets_nothing(
    tmp_path: Path, hostile: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch, path: str, reason: str
) -> None:
    if path == "slow/":
        monkeypatch.setattr(pictures, "_FETCH_SECONDS", 0.5)
    found = fetched(tmp_path, hostile, path)
    assert isinstance(found, str)
    assert reason in found


def test_redirect_to_a_public_server_is_followed(tmp_path: Path, hostile: ThreadingHTTPServer) -> None:
    assert isinstance(fetched(tmp_path, hostile, "redirect/http://pictures.example:PORT/png/"), bytes)


def test_a_name_is_resolved_once(tmp_path: Path, hostile: ThreadingHTTPServer) -> None:
    """A name could have a public address when it is checked, and an internal one when it is used (DNS rebinding)."""
    answers = iter([["127.0.0.1"], ["10.0.0.7"]])
    assert isinstance(fetched(tmp_path, hostile, "png/first", answers), bytes)
    assert "not public" in str(fetched(tmp_path, hostile, "png/second", answers))


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.1.2.3",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1%eth0",
        "fec0::1",
        "fd00::1",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "64:ff9b::a00:1",
        "2002:7f00:1::",
        "ff0e::1",
    ],
)
def test_inner_addresses_are_not_public(address: str) -> None:
    assert not is_public(address, 80)


def test_public_addresses_are_public_at_the_ports_of_the_web() -> None:
    assert all(is_public(address, port) for address in ("8.8.8.8", "2606:4700::1111") for port in (80, 443))
    assert not is_public("8.8.8.8", 22)


def test_bombs_and_damaged_files_are_no_pictures() -> None:
    bomb = encoded((8_000, 6_000), mode="1")
    assert len(bomb) < 10_000
    for content in (bomb, b"", b"GIF89a", encoded()[:200], b"%PDF-1.7", b"II*\0"):
        with pytest.raises(PictureError):
            resize(content, 160, "webp")


def test_a_jpeg_of_many_scans_is_refused_before_it_is_decoded() -> None:
    progressive = encoded((1_600, 1_600), "JPEG", progressive=True)
    last = progressive[progressive.rindex(b"\xff\xda") : -2]
    assert resize(progressive, 160, "webp")
    with pytest.raises(PictureError, match="more than 100 scans"):
        resize(progressive[:-2] + 20_000 * last + progressive[-2:], 160, "webp")


def test_wrong_metadata_writes_nothing_to_the_log() -> None:
    # Pillow prints a warning for each tag without a value, whatever the log's format.
    tags = b"".join(tag.to_bytes(2, "little") + b"\1\0\xff\xff\xff\0\x08\0\0\0" for tag in range(1, 100))
    exif = b"Exif\0\0II*\0\x08\0\0\0" + (99).to_bytes(2, "little") + tags + bytes(4)
    script = "import sys; from shelfwise.retrieval.pictures import resize; resize(sys.stdin.buffer.read(), 160, 'webp')"
    content = encoded((40, 20), "WEBP", exif=exif)
    done = subprocess.run([sys.executable, "-c", script], input=content, capture_output=True, check=True)
    assert done.stderr == b""


def test_metadata_is_dropped_and_the_orientation_applied() -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "taken at home"
    for kind in ("webp", "jpeg"):
        small = resize(encoded((400, 200), "JPEG", exif=exif, comment=b"at home"), 160, kind)
        assert b"at home" not in small
        with Image.open(io.BytesIO(small)) as picture:
            assert picture.size == (80, 160)
            assert not picture.getexif()


def test_the_cache_keeps_to_its_size(tmp_path: Path) -> None:
    cache = PictureCache(tmp_path / "cache", 10_000)
    for number in range(30):
        cache.write(f"{number}.webp", bytes(1_000))
        cache.read("0.webp")  # recently used, and so not removed
    assert sum(path.stat().st_size for path in (tmp_path / "cache").iterdir()) <= 11_000
    assert cache.read("0.webp")
    assert cache.read("1.webp") is None


@pytest.fixture
def shop(live: SearchEngine, hostile: ThreadingHTTPServer) -> Iterator[TestClient]:
    """A client of a service with a product that has pictures at http: and https: addresses."""
    images = [f"http://pictures.example:{hostile.server_port}/png/shop", "https://pictures.example/png"]
    app = create_app(live, ServiceSettings())
    with local_client(app) as client:
        put = {"id": "a/1", "title": "Kettle", "brand": "Torvald", "images": images}
        assert client.put("/v1/products/a/1", json=put).is_success
        app.state.pictures = opened(live.root, hostile)
        yield client


def test_route_sends_only_pictures_of_the_catalog(shop: TestClient) -> None:
    path = "/v1/products/a/1/pictures/0"
    sent = shop.get(path, params={"width": 160}, headers={"Accept": "image/webp,*/*"})
    assert (sent.status_code, sent.headers["Content-Type"]) == (200, "image/webp")
    assert sent.headers["Cache-Control"] == "private, max-age=86400"
    known = {"Accept": "image/webp", "If-None-Match": sent.headers["ETag"]}
    again = shop.get(path, params={"width": 160}, headers=known)
    assert (again.status_code, again.content) == (304, b"")
    assert shop.get(path).headers["Content-Type"] == "image/jpeg"
    assert shop.get(path, params={"width": 161}).status_code == 400
    for number in (1, 2):  # a picture at https:, which browsers load themselves; and a missing one
        assert shop.get(f"/v1/products/a/1/pictures/{number}").status_code == 404
    assert shop.get("/v1/products/ghost/pictures/0").status_code == 404


def test_route_respects_keys_and_hidden_fields(shop: TestClient, live: SearchEngine) -> None:
    keys = KeyFile(live.root / "keys.json")
    path = "/v1/products/a/1/pictures/0"
    assert shop.put("/v1/relevance", json={"documents": [{"hidden": ["images"]}]}).is_success
    token = shop.app.state.shared.token.ensure()  # type: ignore[attr-defined]
    assert shop.get(path).status_code == 404
    assert shop.get(path, params={"key": token}).status_code == 200  # requests with all rights see hidden fields
    shop.cookies.clear()
    searches, writes = add_key(keys, Scope.SEARCH), add_key(keys, Scope.WRITE)
    narrowed, other = (add_key(keys, Scope.SEARCH, filters=f"brand = {each}") for each in ("Torvald", "Kessholt"))
    assert shop.get(path).status_code == 401
    assert shop.get(path, params={"key": searches}).json()["error"]["message"].startswith("the product has 0 pictures")
    live.relevance.put([Relevance()], who="")
    assert shop.get(path, params={"key": searches}).status_code == 200
    assert shop.get(path, params={"key": narrowed}).status_code == 200
    assert shop.get(path, params={"key": other}).status_code == 404
    assert shop.get(path, headers={"X-API-Key": writes}).status_code == 403
    assert json.loads(shop.get(path, params={"key": "sw_x_y"}).text)["error"]["code"] == "bad_key"
