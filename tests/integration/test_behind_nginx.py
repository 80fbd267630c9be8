"""A service without keys behind a real nginx that is configured with `proxy_pass` and nothing else."""

from __future__ import annotations

import shutil
import socket
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from shelfwise.retrieval.store.files import text_seal
from shelfwise.service.http.auth import TOKEN_FILE
from tests.machine import within
from tests.servers.skips import program_or_skip
from tests.services import TLS, Service, service

_CONFIGURATION = """
daemon off; pid {folder}/pid; error_log {folder}/error.log; events {{}}
http {{
  access_log {folder}/access.log;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder}; uwsgi_temp_path {folder};
  scgi_temp_path {folder};
  server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{upstream}; {more} }} }}
}}
"""
_ATTACKS: tuple[tuple[str, str, object], ...] = (
    ("GET", "/v1/settings", None),
    ("GET", "/v1/keys", None),
    ("POST", "/v1/keys", {"name": "mine", "scopes": ["admin"]}),
    ("PATCH", "/v1/products/{product}", {"price": 0.01}),
    ("DELETE", "/v1/products/{product}", None),
    ("PUT", "/v1/rules", {"documents": []}),
    ("POST", "/v1/tasks", {"kind": "refresh"}),
    ("GET", "/metrics", None),
    ("GET", "/1/indexes/p/settings", None),
    ("POST", "/1/indexes/p/clear", {}),
)
_FORGED = f"swt_{'a' * 64}{text_seal('a' * 64)}"


@contextmanager
def nginx(folder: Path, upstream: int, more: str = "") -> Iterator[str]:
    """The address of an nginx in front of a port of this machine, with its defaults and `more` directives."""
    program = program_or_skip("nginx", "nginx")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    folder.mkdir()
    file = folder / "nginx.conf"
    file.write_text(_CONFIGURATION.format(folder=folder, port=port, upstream=upstream, more=more))
    process = subprocess.Popen([program, "-e", f"{folder}/error.log", "-c", str(file)])  # noqa: S603

    def is_open() -> bool:
        with socket.socket() as tried:
            return tried.connect_ex(("127.0.0.1", port)) == 0

    try:
        assert within(20, is_open), (folder / "error.log").read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def running(demo_index: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("behind")
    with service(Path(shutil.copytree(demo_index, folder / "store")), folder / "log") as started:
        yield started


@pytest.fixture(scope="module")
def outside(running: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with nginx(tmp_path_factory.mktemp("proxy") / "nginx", running.port) as address:
        yield address


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Host": "localhost"},
        {"X-API-Key": _FORGED, "Authorization": f"Bearer {_FORGED}", "X-Algolia-API-Key": _FORGED},
        {"Cookie": f"shelfwise-0={_FORGED}", "Sec-Fetch-Site": "same-origin"},
        {"X-HTTP-Method-Override": "GET", "X-Forwarded-For": "127.0.0.1", "X-Original-URL": "/v1/search"},
    ],
)
def test_a_proxy_that_adds_no_header_lets_nobody_administer(outside: str, headers: dict[str, str]) -> None:
    """Regression: nginx with its defaults sends `Host: 127.0.0.1:PORT`, so every caller was taken for this machine."""
    with httpx2.Client(base_url=outside, timeout=20, verify=TLS) as caller:
        found = caller.get("/v1/search", params={"q": "drill", "size": 1}, headers=headers).json()["hits"][0]
        product, price = found["product"]["id"], found["product"]["price"]
        for method, path, body in _ATTACKS:
            answer = caller.request(method, path.format(product=product), json=body, headers=headers)
            assert answer.status_code == 401, (method, path)
        assert caller.get(f"/v1/products/{product}").json()["product"]["price"] == price
        for path in ("//v1/settings", "/v1/%73ettings", "/v1/search/../settings", "/v1/settings/", "/V1/settings"):
            assert caller.get(path, headers=headers).status_code in (401, 404)
        assert caller.get("/").status_code == 200
        click = {"kind": "click", "product_id": product, "session": "s"}
        assert caller.post("/v1/events", json={"events": [click]}, headers=headers).status_code == 200
        searched = caller.post("/1/indexes/p/query", json={"query": "drill"}, headers=headers)
        assert searched.json()["nbHits"] > 0


def test_a_proxy_that_the_settings_do_not_name_is_reported(running: Service, tmp_path: Path) -> None:
    forwarding = "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;"
    with nginx(tmp_path / "nginx", running.port, forwarding) as address:
        httpx2.get(f"{address}/v1/search", params={"q": "drill"}, verify=TLS).raise_for_status()
    ready = httpx2.get(f"{running.address}/health/ready", verify=TLS).text
    assert "service.trusted_proxies does not name the proxy at 127.0.0.1" in ready


def test_the_printed_link_lets_its_owner_in(running: Service, outside: str, tmp_path: Path) -> None:
    token, log = running.token, running.log.read_text()
    assert f"{running.address}/admin?token={token}\n" in log
    assert stat.S_IMODE((running.index / TOKEN_FILE).stat().st_mode) == 0o600
    with httpx2.Client(timeout=20, verify=TLS) as owner:
        answer = owner.get(f"{running.address}/admin", params={"token": token})
        assert (answer.status_code, answer.headers["Location"]) == (303, "admin")
        assert owner.get(f"{running.address}/v1/settings").status_code == 200
        own = {"Origin": running.address, "Sec-Fetch-Site": "same-origin"}
        other = {"Origin": "http://127.0.0.1:9999", "Sec-Fetch-Site": "same-site"}
        for headers, status in ((own, 200), (other, 403)):
            changed = owner.delete(f"{running.address}/v1/products/nosuch", headers=headers)
            assert changed.status_code == status
        # nginx sends another Host than the browser's: a page cannot prove that it is the service's own, a token can.
        assert owner.delete(f"{outside}/v1/products/nosuch", headers={"Origin": outside}).status_code == 403
        bearer = {"Authorization": f"Bearer {token}"}
        assert httpx2.delete(f"{outside}/v1/products/nosuch", headers=bearer, verify=TLS).status_code == 200
    with nginx(tmp_path / "nginx", running.port, "proxy_set_header Host $http_host;") as whole:
        for origin, status in ((whole, 200), (outside, 403)):
            headers = {"Origin": origin, "Cookie": f"shelfwise={token}"}
            answer = httpx2.delete(f"{whole}/v1/products/nosuch", headers=headers, verify=TLS)
            assert answer.status_code == status
    answered = running.log.read_text()[len(log) :]
    assert '"route": "/admin"' in answered and token not in answered
