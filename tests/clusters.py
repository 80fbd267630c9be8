"""Indexes in a real cluster, for tests: moved there, opened, and removed in the end."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

from indexer.migrate import move
from retrieval.elasticsearch.client import Cluster
from retrieval.elasticsearch.settings import ClusterSettings
from retrieval.progress import NullProgress
from service.settings import ElasticsearchSettings, Settings
from tests.servers.server import Server


def settings_for(server: Server, **more: object) -> Settings:
    """Settings for a server, with an alias that no other test has."""
    named = {"url": server.urls, "alias": f"test-{uuid4().hex[:12]}", "deadline": 20.0, **more}
    return Settings(backend="elasticsearch", elasticsearch=ElasticsearchSettings.model_validate(named))


@contextlib.contextmanager
def moved(index: Path, folder: Path, settings: Settings) -> Iterator[Path]:
    """A copy of an index in `folder`, its words in the cluster; what is there of it is removed in the end."""
    copied = Path(shutil.copytree(index, folder))
    with removed(settings.cluster):
        move(copied, settings.cluster, NullProgress(), vectors=settings.vectors == "elasticsearch")
        yield copied


@contextlib.contextmanager
def removed(settings: ClusterSettings) -> Iterator[None]:
    """In the end no index of this alias is left."""
    try:
        yield
    finally:
        with contextlib.closing(Cluster(settings)) as cluster:
            cluster.delete([state.name for state in cluster.states(f"{settings.alias}-*")])
