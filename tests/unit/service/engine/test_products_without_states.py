"""Products without token states: scored by features alone, beside others, until a rebuild or a live change brings
states, which an open engine takes up by itself."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from indexer.build import RebuildOptions, rebuild
from rerank.model_store import MODEL_FILE, WEIGHTS_FILE
from rerank.ranker.features import FEATURES
from rerank.ranker.network import NetworkShape, RankerNetwork, save_network
from rerank.ranker.onnx_export import export_network
from rerank.ranker.spec import ranker_store
from retrieval.index.token_states import DIMENSION
from retrieval.records import Product
from retrieval.store.versions import Store
from retrieval.updates.journal import Journal
from service.engine.candidates import ResolvedRequest, Stages
from service.engine.engine import SearchEngine
from service.engine.live import LiveSnapshot
from service.engine.models import ServedRanker
from service.engine.snapshot import Connection, NullEncoder, Snapshot, open_snapshot
from service.settings import RankerSettings, Settings
from tests.catalogs import write_feed
from tests.conftest import ENCODER
from tests.machine import within
from tests.rankers import REPORT
from tests.unit.service.engine.demo_rankers import spec_for

TITLES = ("cordless drill", "hammer drill", "steel frying pan", "drill bits for steel", "desk lamp", "two-man tent")
PRODUCTS = tuple(Product(f"p{place}", title, price=10.0 + place) for place, title in enumerate(TITLES))
PATIENT = Settings(ranker=RankerSettings(deadline=60))
QUERY = "steel drill"


def build(root: Path, cache: Path, products: Sequence[Product] = PRODUCTS, *, states: int = DIMENSION) -> None:
    feed = write_feed(root.with_name(f"{root.name}.jsonl"), products)
    options = RebuildOptions(
        (str(feed),), cache, encoder=ENCODER, runtime="onnx-int8", workers=1, state_dimension=states
    )
    rebuild(root, options)


@pytest.fixture(scope="module")
def ranked(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index with states, and a ranker with cross-attention, of drawn weights, that reads them."""
    root = tmp_path_factory.mktemp("with-states") / "index"
    build(root, cache)
    with SearchEngine.open(root, follow=False) as engine:
        spec = spec_for(engine.snapshot, layers=1)
    torch.manual_seed(5)
    network = RankerNetwork(NetworkShape(DIMENSION, spec.vector_dimension, len(FEATURES), feed_forward=16, history=0))

    def ranker(folder: Path) -> None:
        export_network(network, folder / MODEL_FILE)
        save_network(network, folder / WEIGHTS_FILE)

    ranker_store(root).publish(ranker, spec, REPORT)
    return root


@pytest.fixture
def old(ranked: Path, cache: Path, tmp_path: Path) -> Path:
    """An index whose version has no states, as one of an older program, with the same ranker."""
    root = tmp_path / "index"
    build(root, cache, states=0)
    shutil.copytree(ranked / "rankers", root / "rankers")
    return root


def scores(engine: SearchEngine) -> dict[str, float]:
    engine.reload_if_changed()
    page = engine.search(QUERY)
    assert page.degraded == ()
    assert engine.stages[-1] == "ranked"
    return {hit.product.id: hit.score for hit in page.hits}


def test_a_version_of_an_older_program_is_ranked_by_features_until_a_rebuild_makes_states(
    ranked: Path, old: Path, cache: Path
) -> None:
    with (
        SearchEngine.open(ranked, settings=PATIENT, follow=False) as reading,
        SearchEngine.open(old, settings=PATIENT) as engine,
    ):
        (notice,) = engine.notices
        assert notice.startswith("ranker-0001 scores by features alone: the index has no token states")
        assert "shelfwise rebuild" in notice
        alone, expected = scores(engine), scores(reading)
        assert alone.keys() == expected.keys()
        assert all(abs(alone[name] - expected[name]) > 1e-3 for name in expected)
        # The rebuild encodes beside the engine, which answers meanwhile, and then reads what was made.
        build(old, cache)
        assert within(30, lambda: engine.snapshot.states is not None)
        engine.reload_if_changed()
        assert engine.notices == ()
        assert scores(engine) == pytest.approx(expected, rel=1e-4)


def test_a_product_that_a_lost_encoder_left_without_states_is_scored_beside_the_others(
    ranked: Path, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(ranked, tmp_path / "index"))
    with SearchEngine.open(root, settings=PATIENT) as engine:
        engine.upsert([dataclasses.replace(PRODUCTS[3], title="drill bits for steel and stone")])
        known = scores(engine)
    store = Store(root)
    opened = open_snapshot(store, Connection(store))
    lost = NullEncoder(opened.encoder.identity, opened.encoder.dimension, "its files are gone")
    live = LiveSnapshot(dataclasses.replace(opened, encoder=lost))
    with Journal(root) as journal:
        live.apply(journal.since(live.sequence))
    states = live.snapshot.states
    assert states is not None
    assert states.gather(np.arange(len(PRODUCTS))).has_any.tolist() == [True, True, True, False, True, True]
    found = reranked(root, dataclasses.replace(live.snapshot, encoder=opened.encoder))
    assert found["p3"] != pytest.approx(known["p3"], rel=1e-3)
    assert found["p2"] == pytest.approx(known["p2"], rel=1e-4)
    # An engine that has the encoder makes the states of what the journal holds, before it answers.
    with SearchEngine.open(root, settings=PATIENT) as engine:
        assert scores(engine) == pytest.approx(known, rel=1e-4)


def reranked(root: Path, snapshot: Snapshot) -> dict[str, float]:
    """What the ranker of an index scores the candidates of a snapshot."""
    served = ServedRanker(root, PATIENT)
    served.reload_if_changed(snapshot)
    with ThreadPoolExecutor(2) as executor:
        request = ResolvedRequest(QUERY, snapshot.analyzer.groups(QUERY))
        ranking = Stages(snapshot, executor, served.stage(snapshot)).rank(request)
    served.close()
    assert ranking.degraded == ()
    assert np.isfinite(ranking.scores).all()
    ids = map(snapshot.products.id_of, ranking.rows.tolist())
    return dict(zip(ids, ranking.scores.tolist(), strict=True))
