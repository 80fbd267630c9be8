"""Token states and signals of an index whose words are in a cluster: they stay in the version's files."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from shelfwise.indexer.build import RebuildOptions, RebuildReport, rebuild
from shelfwise.indexer.targets import reencode
from shelfwise.retrieval.encoders.registry import open_encoder
from shelfwise.retrieval.index.token_states import STATES_FILES
from shelfwise.retrieval.progress import NullProgress
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.manifest import STATES_FOLDER
from shelfwise.retrieval.store.signals import SIGNALS_FILE
from shelfwise.retrieval.store.versions import Store
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.settings import Settings
from tests.catalogs import write_feed
from tests.clusters import moved, removed, settings_for
from tests.conftest import ENCODER
from tests.servers.server import Server

pytestmark = pytest.mark.elasticsearch

CATALOG = tuple(
    Product(f"p{place}", title, price=10.0 + place)
    for place, title in enumerate(("cordless drill", "hammer drill", "garden hose", "frying pan", "desk lamp"))
)
KETTLE = Product("kettle-1", "enamel whistling kettle", price=49.0)


def built(root: Path, cache: Path, settings: Settings | None) -> RebuildReport:
    feed = write_feed(root.with_name("feed.jsonl"), CATALOG)
    return rebuild(
        root,
        RebuildOptions(
            (str(feed),),
            cache,
            encoder=ENCODER,
            runtime="onnx-int8",
            workers=1,
            cluster=settings.cluster if settings else None,
        ),
    )


def contents(root: Path) -> list[bytes]:
    folder = Store(root).version_folder(Store(root).current())
    names = [*(f"{STATES_FOLDER}/{name}" for name in STATES_FILES), SIGNALS_FILE]
    return [(folder / name).read_bytes() for name in names]


@pytest.fixture(scope="module")
def embedded(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("embedded") / "index"
    assert built(root, cache, None).token_states
    return root


def test_rebuild_into_a_cluster_has_states_for_products_and_live_changes(
    embedded: Path, elasticsearch: Server, cache: Path, tmp_path: Path
) -> None:
    settings = settings_for(elasticsearch)
    root = tmp_path / "index"
    with removed(settings.cluster):
        built(root, cache, settings)
        assert contents(root) == contents(embedded)
        with SearchEngine.open(root, settings=settings) as engine:
            engine.upsert([KETTLE, dataclasses.replace(CATALOG[1], price=1.5)])
            states, row = engine.snapshot.states, engine.snapshot.products.row_of(KETTLE.id)
            assert states is not None
            assert row == len(CATALOG)
            result = states.gather(np.array([row, 1]))
            assert (result.ids >= 0).any(axis=1).all()
            assert engine.snapshot.signals.at(np.array([row, 1])).price.tolist() == [49, 1.5]


def test_other_encoder_reencodes_a_cluster_index(
    embedded: Path, elasticsearch: Server, cache: Path, tmp_path: Path
) -> None:
    settings = settings_for(elasticsearch)
    encoder = open_encoder(ENCODER, "onnx-fp32", cache)
    with moved(embedded, tmp_path / "index", settings) as root:
        assert contents(root) == contents(embedded)
        with SearchEngine.open(root, settings=settings) as engine:
            engine.upsert([KETTLE])
            report = reencode(root, encoder, ENCODER, NullProgress(), cluster=settings.cluster)
            assert (report.version, report.published, report.encoded) == ("v000003", True, len(CATALOG))
        with SearchEngine.open(root, settings=settings) as engine:
            assert engine.manifest.cluster is not None
            assert engine.manifest.encoder == encoder.identity
            assert engine.search("drill for holes", stage="dense").hits[0].product.title.endswith("drill")
            assert engine.search("kettle").hits[0].product.id == KETTLE.id
