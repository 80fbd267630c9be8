"""Secured clusters, and test servers that leave nothing behind."""

from __future__ import annotations

import base64
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from shelfwise.indexer.build import RebuildOptions, rebuild
from shelfwise.indexer.targets import move
from shelfwise.retrieval.elasticsearch.client import Cluster
from shelfwise.retrieval.errors import ClusterError, ClusterRefusedError, ClusterUnavailableError, UnknownProductError
from shelfwise.retrieval.progress import NullProgress
from shelfwise.retrieval.store.versions import Store
from shelfwise.retrieval.updates.journal import Journal
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.settings import ElasticsearchSettings, Settings
from tests.clusters import moved, settings_for
from tests.conftest import ENCODER
from tests.machine import within
from tests.servers.server import Server

pytestmark = pytest.mark.elasticsearch

TEXT = "wireless headphones"
WRONG_KEY = base64.b64encode(b"a-key-of-nobody:that-opens-nothing").decode()
WRONG_PASSWORD = "that-opens-nothing-either"
NOBODY = {"username": "", "password": ""}
CHECK_USER = "check elasticsearch.username and elasticsearch.password, or elasticsearch.api_key"
SET_CERTIFICATE = "its certificate is not trusted .*; set elasticsearch.ca_certificate"
NEEDS_HTTPS = "elasticsearch.url must begin with https://"

REFUSED = (
    pytest.param({"password": WRONG_PASSWORD}, rf"401.*owner.*{CHECK_USER}", id="wrong password"),
    pytest.param(NOBODY, rf"401.*missing authentication.*{CHECK_USER}", id="no password"),
    pytest.param({**NOBODY, "api_key": WRONG_KEY}, rf"401.*{CHECK_USER}", id="wrong API key"),
    pytest.param({"ca_certificate": None}, SET_CERTIFICATE, id="no authority"),
    pytest.param({"ca_certificate": Path(__file__)}, SET_CERTIFICATE, id="no certificate of an authority"),
)


@dataclass(frozen=True, slots=True)
class Served:
    """An index whose keyword index is in the secured server, created by an administrator."""

    index: Path
    server: Server
    settings: Settings

    def given(self, changed: dict[str, object]) -> Settings:
        given = {**self.settings.elasticsearch.model_dump(), **changed}
        return Settings(backend="elasticsearch", elasticsearch=ElasticsearchSettings.model_validate(given))

    @property
    def reader(self) -> Settings:
        return self.given({"username": "reader", "password": self.server.passwords["reader"]})

    @property
    def plain(self) -> Settings:
        return self.given({"url": self.server.url.replace("https:", "http:"), "ca_certificate": None})

    def opened(self, settings: Settings | None = None) -> SearchEngine:
        return SearchEngine.open(self.index, settings=settings or self.settings)

    @property
    def name(self) -> str:
        return f"{self.settings.elasticsearch.alias}-{Store(self.index).current()}"

    def named(self) -> list[str]:
        with contextlib.closing(Cluster(self.settings.cluster)) as cluster:
            return [state.name for state in cluster.states(self.settings.elasticsearch.alias)]


@pytest.fixture
def served(demo_index: Path, tmp_path: Path, secured_elasticsearch: Server) -> Iterator[Served]:
    server = secured_elasticsearch
    user = {"username": "owner", "password": server.password, "ca_certificate": server.ca_certificate}
    settings = settings_for(server, **user)
    with moved(demo_index, tmp_path / "index", settings) as index:
        yield Served(index, server, settings)


def rebuilt(root: Path, settings: Settings) -> None:
    """Rebuilds from a missing feed, which fails before the feed is read."""
    rebuild(root, RebuildOptions(("no-such-feed.jsonl",), root / "cache", encoder=ENCODER, cluster=settings.cluster))


def ids(engine: SearchEngine, text: str = "", filters: str = "") -> list[str]:
    page = engine.search(text, size=1_000, filters=filters)
    assert not page.degraded, engine.notices
    return [hit.product.id for hit in page.hits]


def test_everything_works_with_certificate_authority_and_password(served: Served, engine: SearchEngine) -> None:
    with served.opened() as secured:
        assert secured.notices == ()
        assert ids(secured, TEXT) == ids(engine, TEXT)
        product = secured.snapshot.products[3]
        secured.patch(product.id, price=1.25)
        assert ids(secured, filters="price = 1.25") == [product.id]
    move(served.index, None, NullProgress())
    assert move(served.index, served.settings.cluster, NullProgress()).published
    with served.opened() as secured:
        assert ids(secured, filters="price = 1.25") == [product.id]
    assert served.named() == [served.name]


class TestRefused:
    @pytest.mark.parametrize(("changed", "message"), REFUSED)
    def test_wrong_credentials_error_names_the_setting(
        self, served: Served, tmp_path: Path, changed: dict[str, object], message: str
    ) -> None:
        settings = served.given(changed)
        attempts: tuple[Callable[[], object], ...] = (
            lambda: served.opened(settings),
            lambda: rebuilt(served.index, settings),
            lambda: rebuilt(tmp_path / "new", settings),
            lambda: move(served.index, settings.cluster, NullProgress()),
        )
        for attempt in attempts:
            with pytest.raises(ClusterRefusedError, match=message):
                attempt()
        assert Store(served.index).versions() == ["v000001", "v000002"]
        assert Store(tmp_path / "new").versions() == []

    def test_plain_http_address_of_a_tls_server_is_reported(self, served: Served) -> None:
        with pytest.raises(ClusterUnavailableError, match=NEEDS_HTTPS):
            rebuilt(served.index, served.plain)
        with served.opened(served.plain) as engine:
            assert any(NEEDS_HTTPS in notice for notice in engine.notices)
            assert engine.search(TEXT).degraded == ("bm25",)
            assert any(NEEDS_HTTPS in notice for notice in engine.notices)
            with pytest.raises(ClusterUnavailableError, match=NEEDS_HTTPS):
                engine.patch(engine.snapshot.products[3].id, price=1.25)
        assert Journal(served.index).last() == 0

    def test_tls_address_of_a_plain_server_is_reported(self, demo_index: Path, elasticsearch: Server) -> None:
        settings = settings_for(elasticsearch, url=elasticsearch.url.replace("http:", "https:"))
        with (
            contextlib.closing(Cluster(settings.cluster)) as cluster,
            pytest.raises(ClusterRefusedError, match=r"it does not use TLS .* should begin with http://"),
        ):
            cluster.check_server()


class TestReadOnlyUser:
    def test_read_only_user_opens_searches_and_follows_changes(self, served: Served, engine: SearchEngine) -> None:
        with served.opened(served.reader) as reading:
            assert reading.notices == ()
            assert ids(reading, TEXT) == ids(engine, TEXT)
            assert ids(reading, filters="price < 60") == ids(engine, filters="price < 60")
        with served.opened() as writing:
            changed, gone = writing.snapshot.products[3], writing.snapshot.products[4]
            writing.patch(changed.id, price=1.25)
            writing.delete([gone.id])
            with served.opened(served.reader) as reading:
                assert reading.notices == ()
                assert ids(reading, filters="price = 1.25") == [changed.id]
                assert reading.product(changed.id).price == 1.25
                with pytest.raises(UnknownProductError):
                    reading.product(gone.id)

    def test_changes_are_refused_before_they_are_journaled(self, served: Served) -> None:
        with served.opened(served.reader) as reading:
            product = reading.snapshot.products[3]
            changes: tuple[Callable[[], object], ...] = (
                lambda: reading.patch(product.id, price=1.25),
                lambda: reading.upsert([product]),
                lambda: reading.delete([product.id]),
            )
            for change in changes:
                with pytest.raises(ClusterRefusedError, match=r"403.*user \[reader\].*grant this user the privilege"):
                    change()
            assert Journal(served.index).last() == 0
            assert reading.product(product.id) == product
            assert reading.notices == ()

    def test_rebuild_and_move_errors_name_the_missing_privilege(self, served: Served, tmp_path: Path) -> None:
        new = served.given({**served.reader.elasticsearch.model_dump(), "alias": "test-of-the-reader"})
        with pytest.raises(ClusterRefusedError, match=r"user \[reader\].*privileges \[.*manage.*\]; grant this user"):
            rebuilt(tmp_path / "new", new)
        with pytest.raises(ClusterRefusedError, match=r"user \[reader\].*privileges \[.*manage.*\]; grant this user"):
            move(served.index, served.reader.cluster, NullProgress())
        assert served.named() == [served.name]

    def test_wrong_alias_is_reported_and_kept(self, served: Served) -> None:
        alias = served.settings.elasticsearch.alias
        assert served.server.request("DELETE", f"/{served.name}/_alias/{alias}").status_code == 200
        with served.opened(served.reader) as reading:
            (notice,) = reading.notices
            assert notice.startswith(f"the alias {alias} names nothing, {served.name} serves; it cannot be corrected: ")
            assert "user [reader]" in notice
            assert len(ids(reading)) == 600
        assert served.named() == []
        served.opened().close()
        assert served.named() == [served.name]


class LogRecorder(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(f"{record.name} {self.format(record)} {vars(record)}")


@pytest.fixture
def log_messages() -> Iterator[list[str]]:
    handler, root = LogRecorder(), logging.getLogger()
    known = [each for each in root.manager.loggerDict.values() if isinstance(each, logging.Logger)]
    kept = [each for each in known if not each.propagate or each.level]
    before = [(logger, logger.level) for logger in (root, *kept)]
    for logger, _ in before:
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
    yield handler.records
    for logger, level in before:
        logger.removeHandler(handler)
        logger.setLevel(level)


def output_of(settings: Settings, index: Path) -> str:
    output = [repr(settings), str(settings), repr(settings.cluster), settings.model_dump_json()]
    with contextlib.closing(Cluster(settings.cluster)) as cluster:
        output += [repr(cluster), repr(vars(cluster))]
    attempts: tuple[Callable[[Path, Settings], None], ...] = (rebuilt, partial(_searched, output))
    for attempt in attempts:
        try:
            attempt(index, settings)
        except ClusterError as error:
            output += [str(error), repr(error), "".join(traceback.format_exception(error))]
    return "\n".join(output)


def _searched(outputs: list[str], index: Path, settings: Settings) -> None:
    with SearchEngine.open(index, settings=settings) as engine:
        outputs += engine.notices
        outputs.append(repr(engine.search(TEXT, size=1)))
        engine.patch(engine.snapshot.products[3].id, price=1.25)


def test_secrets_are_not_shown_logged_or_written(served: Served, log_messages: list[str]) -> None:
    password, reading = served.server.password, served.server.passwords["reader"]
    users = {"owner": password, "reader": reading}
    headers = [base64.b64encode(f"{user}:{secret}".encode()).decode() for user, secret in users.items()]
    wrong = base64.b64encode(f"owner:{WRONG_PASSWORD}".encode()).decode()
    secrets = (password, reading, WRONG_PASSWORD, WRONG_KEY, wrong, *headers)
    refused = [served.given(changed) for case in REFUSED if isinstance(changed := case.values[0], dict)]
    assert served.server.request("DELETE", f"/{served.name}").status_code == 200
    assert move(served.index, served.settings.cluster, NullProgress()).restored
    result = [output_of(each, served.index) for each in (*refused, served.reader, served.plain)]
    _searched(result, served.index, served.settings)
    files = [path.read_bytes() for path in sorted(served.index.rglob("*")) if path.is_file()]
    assert any("Authorization: Basic <hidden>" in line for line in log_messages)
    assert len(files) > 20
    for secret in secrets:
        assert not any(secret in text for text in (*result, *log_messages))
        assert not any(secret.encode() in content for content in files)


ROOT = Path(__file__).parents[2]
START = """
import time
from tests.servers.server import start
server = start()
print(server.port, server.folder, flush=True)
time.sleep(600)
"""


def is_open(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


eventually = partial(within, 10)


@pytest.mark.slow
@pytest.mark.elasticsearch
def test_a_killed_process_leaves_no_server_behind(elasticsearch: Server) -> None:
    with subprocess.Popen([sys.executable, "-c", START], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        assert process.stdout is not None
        port, folder = process.stdout.readline().split()
        was_open = is_open(int(port))
        os.kill(process.pid, signal.SIGKILL)
    assert was_open
    assert eventually(lambda: not is_open(int(port)))
    assert eventually(lambda: not Path(folder).exists())
    assert is_open(elasticsearch.port)
