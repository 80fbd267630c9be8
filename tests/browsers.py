"""A headless Chromium, and a real server for it."""

from __future__ import annotations

import base64
import json
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import uvicorn

from shelfwise.service.app import create_app
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.settings import ServiceSettings, SourcedSettings
from tests.machine import within
from tests.servers.skips import program_or_skip

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Request

PIXEL = base64.b64decode("R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw==")
"""Response of every address of pictures.example."""
WAIT_MS = 30_000
"""Longest time of one step of a page in milliseconds, on a busy machine."""
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def opened_browser() -> Iterator[Browser]:
    """A browser with a new profile; if none is installed, the test is skipped and the summary reports it."""
    # The headless shell of the same browser takes half of the time.
    program = shutil.which("chromium-headless-shell") or program_or_skip("chromium", "chromium")
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=WAIT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(_FLAGS))
        try:
            yield browser
        finally:
            browser.close()


_TOKENS: dict[str, str] = {}
"""The token of each server, by its address."""


@contextmanager
def served(
    engine: SearchEngine, settings: ServiceSettings | None = None, sourced: SourcedSettings | None = None
) -> Iterator[str]:
    """The address of an HTTP server for an engine, on a free port."""
    app = create_app(engine, settings or ServiceSettings(), sourced=sourced)
    server = uvicorn.Server(uvicorn.Config(app, "127.0.0.1", 0, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        assert within(60, lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        address = f"http://127.0.0.1:{port}"
        _TOKENS[address] = app.state.shared.token.ensure()
        yield address
    finally:
        server.should_exit = True
        thread.join(20)


@dataclass
class Visit:
    """One visitor: a page, its errors, its requests, and those of them that have no response yet."""

    page: Page
    faults: list[str] = field(default_factory=list)
    sent: list[Request] = field(default_factory=list)
    pending: set[Request] = field(default_factory=set)

    def record_request(self, request: Request) -> None:
        if request.is_navigation_request():
            self.pending.clear()
        self.sent.append(request)
        self.pending.add(request)

    def record_response(self, request: Request) -> None:
        self.pending.discard(request)

    def settle(self) -> None:
        """Waits until all requests of the page have responses, and the page shows them."""

        def is_settled() -> bool:
            before = len(self.pending)
            self.page.evaluate("new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)))")
            return before + len(self.pending) == 0

        assert within(WAIT_MS / 1_000, is_settled)

    def bodies(self, path: str) -> list[Any]:
        return [json.loads(each.post_data or "null") for each in self.sent if urlsplit(each.url).path == path]

    def results(self, query: str) -> None:
        from playwright.sync_api import expect

        expect(self.page.locator("h1")).to_contain_text(query)
        expect(self.page.locator(".results:not([aria-busy]) .hits .card[data-product]").first).to_be_visible()

    def ids(self) -> list[str]:
        cards = self.page.locator(".hits .card[data-product]")
        shown: list[str] = cards.evaluate_all("each => each.map(one => one.dataset.product)")
        return shown

    def expect_ids(self, products: Sequence[str]) -> None:
        """Waits until these hits are shown in this order."""
        within(WAIT_MS / 1_000, lambda: self.ids() == products)
        assert self.ids() == products


@contextmanager
def visiting(
    browser: Browser, address: str, *, consent: bool | None = False, is_owner: bool = True, **options: object
) -> Iterator[Visit]:
    """A visitor who gave consent, declined it, or (None) was not asked yet, by default with the cookie of the owner; an
    error on the page fails the test."""
    # Without animations, since elements that fade in do not have their final colours at first.
    wanted: dict[str, Any] = {"viewport": {"width": 1_280, "height": 900}, "reduced_motion": "reduce", **options}
    context = browser.new_context(base_url=address, **wanted)
    context.set_default_timeout(WAIT_MS)
    for pictures in ("https://pictures.example/**", "**/v1/products/*/pictures/*"):
        context.route(pictures, lambda route: route.fulfill(body=PIXEL, content_type="image/gif"))
    if is_owner and address in _TOKENS:
        context.add_cookies([{"name": "shelfwise", "value": _TOKENS[address], "url": address, "sameSite": "Strict"}])
    if consent is not None:
        context.add_init_script(f"localStorage.setItem('shelfwise.consent', '\"{'yes' if consent else 'no'}\"')")
    visit = Visit(context.new_page())
    visit.page.on("pageerror", lambda error: visit.faults.append(str(error)))
    visit.page.on("console", lambda message: visit.faults.append(message.text) if message.type == "error" else None)
    visit.page.on("request", visit.record_request)
    visit.page.on("requestfinished", visit.record_response)
    visit.page.on("requestfailed", visit.record_response)
    try:
        yield visit
        assert visit.faults == [], visit.faults
    finally:
        context.close()


def serious_faults(page: Page) -> list[tuple[str, str]]:
    """Violations found by axe-core that are serious or critical: the rule, and the first element that violates it."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in ("serious", "critical")]
