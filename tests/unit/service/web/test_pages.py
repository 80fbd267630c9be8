"""The store page and the admin page: their files, security headers, and texts in both languages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from shelfwise.retrieval.errors import SettingError
from shelfwise.service.app import create_app
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.http.auth import KeyFile, Scope
from shelfwise.service.settings import ServiceSettings, Settings, SourcedSettings, StoreSettings
from shelfwise.service.web.pages import contrast, look_style, page_files, read_look
from tests.services import add_key

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
        name: (english, chinese) for name, english, chinese in _ENTRY.findall(page_files()["texts.js"].content.decode())
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
