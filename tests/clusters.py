"""Indexes in a real cluster, for tests: moved there, opened, and deleted at the end."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

from shelfwise.indexer.targets import move
from shelfwise.retrieval.elasticsearch.client import Cluster
from shelfwise.retrieval.elasticsearch.settings import ClusterSettings
from shelfwise.retrieval.progress import NullProgress
from shelfwise.retrieval.records import Page, Product
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.settings import ElasticsearchSettings, Settings
from tests.servers.server import Server


def settings_for(server: Server, **more: object) -> Settings:
    """Settings for a server, with an unused alias."""
    named = {"url": server.urls, "alias": f"test-{uuid4().hex[:12]}", "deadline": 20.0, **more}
    return Settings(backend="elasticsearch", elasticsearch=ElasticsearchSettings.model_validate(named))


@contextlib.contextmanager
def moved(index: Path, folder: Path, settings: Settings) -> Iterator[Path]:
    """A copy of an index in `folder` whose words are in the cluster; its cluster indexes are deleted at the end."""
    copied = Path(shutil.copytree(index, folder))
    with removed(settings.cluster):
        move(copied, settings.cluster, NullProgress())
        yield copied


@contextlib.contextmanager
def removed(settings: ClusterSettings) -> Iterator[None]:
    """Deletes all cluster indexes of this alias at the end."""
    try:
        yield
    finally:
        with contextlib.closing(Cluster(settings)) as cluster:
            cluster.delete([state.name for state in cluster.states(f"{settings.alias}-*")])


TEXT = "wireless headphones"
"""A query that matches many products of the demo store."""
KETTLE, LAMP, TEAPOT, LADLE = (
    Product(f"{name}-1", title, brand="Torvald", price=price, category=category)
    for name, title, price, category in (
        ("kettle", "zweeble whistling kettle", 49.0, ("Kitchen", "Kettles")),
        ("lamp", "frindle reading lamp", 19.0, ("Lighting", "Lamps")),
        ("teapot", "quorvax porcelain teapot", 29.0, ("Kitchen", "Teapots")),
        ("ladle", "quorble soup ladle", 7.0, ("Kitchen", "Ladles")),
    )
)
"""Products whose first words no product of the demo store has."""


def ids(page: Page) -> list[str]:
    return [hit.product.id for hit in page.hits]


def is_whole(engine: SearchEngine) -> bool:
    return not engine.search(TEXT).degraded and not engine.notices


def finds(engine: SearchEngine, product: Product) -> bool:
    """Whether a product is found by a word that no other product has."""
    page = engine.search(product.title.split()[0], size=1, stage="bm25")
    return not page.degraded and ids(page) == [product.id]
