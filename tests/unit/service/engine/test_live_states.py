"""Token states and signals under live changes: a changed product has those of its new text at once."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from retrieval.encoders.base import as_token_encoder
from retrieval.index.token_states import PADDING, ProductTokens, quantise_tokens
from retrieval.records import Availability, Product
from retrieval.store.products import encoder_text
from retrieval.store.versions import Store
from service.engine.engine import SearchEngine
from service.engine.live import ChangedSignals, ChangedStates
from service.engine.snapshot import Connection, NullEncoder, Snapshot, open_snapshot

KETTLE = Product("kettle-1", "enamel whistling kettle", price=49.0, availability=Availability.IN_STOCK)


@pytest.fixture
def own_index(demo_index: Path, tmp_path: Path) -> Path:
    """A copy of the demo index that a test may change."""
    return Path(shutil.copytree(demo_index, tmp_path / "own"))


@pytest.fixture
def live(own_index: Path) -> Iterator[SearchEngine]:
    with SearchEngine.open(own_index) as opened:
        yield opened


def gathered(snapshot: Snapshot, *rows: int) -> ProductTokens:
    assert snapshot.states is not None
    return snapshot.states.gather(np.array(rows))


def expected(snapshot: Snapshot, product: Product) -> ProductTokens:
    encoder = as_token_encoder(snapshot.encoder)
    assert encoder is not None
    assert snapshot.states is not None
    tokens = encoder.encode_products_with_tokens([encoder_text(product)])[1]
    return quantise_tokens(tokens, snapshot.states.dimension).gather(np.array([0]))


def same(one: ProductTokens, other: ProductTokens) -> bool:
    """Whether the first product of both has the same tokens, however far they are padded."""
    length = int((other.ids[0] >= 0).sum())
    padded = (one.ids[0, length:] == PADDING).all() and not one.states[0, length:].any()
    return bool(
        padded
        and np.array_equal(one.ids[0, :length], other.ids[0, :length])
        and np.array_equal(one.states[0, :length], other.states[0, :length])
    )


def test_a_new_product_has_states_and_signals_at_once(live: SearchEngine) -> None:
    live.upsert([KETTLE])
    snapshot = live.snapshot
    row = snapshot.products.row_of(KETTLE.id)
    assert row == live.manifest.products
    assert same(gathered(snapshot, row), expected(snapshot, KETTLE))
    assert same(gathered(snapshot, row, 0, 5), expected(snapshot, KETTLE))
    told = snapshot.signals.at(np.array([row]))
    assert (told.price[0], told.availability[0]) == (49, 1)
    assert np.isnan(told.rating[0])


def test_a_changed_text_has_new_states_and_the_products_beside_it_keep_theirs(live: SearchEngine) -> None:
    before = live.snapshot
    changed = dataclasses.replace(before.products[7], title="oak bookshelf with five boards")
    live.upsert([changed])
    assert same(gathered(live.snapshot, 7), expected(live.snapshot, changed))
    assert not same(gathered(live.snapshot, 7), gathered(before, 7))
    for row in (6, 8):
        assert same(gathered(live.snapshot, row, 7), gathered(before, row))
    assert same(gathered(before, 7), expected(before, before.products[7]))


def test_a_price_keeps_states_and_changes_signals(live: SearchEngine) -> None:
    before = live.snapshot
    live.patch(before.products[7].id, price=12345.5)
    assert same(gathered(live.snapshot, 7), gathered(before, 7))
    assert live.snapshot.signals.at(np.array([7])).price.tolist() == [12345.5]
    assert before.signals.at(np.array([7])).price[0] != 12345.5


def test_a_product_that_is_gone_has_no_tokens_until_it_comes_back(live: SearchEngine) -> None:
    before = live.snapshot
    product = before.products[7]
    live.delete([product.id])
    told = gathered(live.snapshot, 7, 8)
    assert (told.ids[0] == PADDING).all()
    assert not told.states[0].any()
    assert np.isnan(live.snapshot.signals.at(np.array([7])).price).all()
    live.upsert([product])
    assert same(gathered(live.snapshot, 7), gathered(before, 7))


def test_another_engine_gathers_the_same_from_the_journal(live: SearchEngine, own_index: Path) -> None:
    changed = dataclasses.replace(live.snapshot.products[3], title="brass candlestick")
    live.upsert([KETTLE])
    live.upsert([changed])
    rows = [3, live.snapshot.products.row_of(KETTLE.id) or 0, 4]
    with SearchEngine.open(own_index) as other:
        one, two = gathered(live.snapshot, *rows), gathered(other.snapshot, *rows)
    assert np.array_equal(one.ids, two.ids)
    assert np.array_equal(one.states, two.states)


def test_idf_encoder_and_dimension_are_those_of_the_version(live: SearchEngine) -> None:
    before = live.snapshot.states
    live.upsert([KETTLE])
    after = live.snapshot.states
    assert before is not None
    assert after is not None
    assert after.idf is before.idf
    assert (after.encoder, after.dimension) == (live.manifest.encoder, before.dimension)


def test_where_the_encoder_is_lost_a_new_text_has_no_tokens(live: SearchEngine, own_index: Path) -> None:
    changed = dataclasses.replace(live.snapshot.products[3], title="brass candlestick")
    live.upsert([changed])
    live.close()
    store = Store(own_index)
    connection = Connection(store)
    opened = open_snapshot(store, connection)
    lost = NullEncoder(opened.encoder.identity, opened.encoder.dimension, "its files are gone")
    with SearchEngine(store, dataclasses.replace(opened, encoder=lost), connection) as engine:
        told = gathered(engine.snapshot, 3, 4)
        assert (told.ids[0] == PADDING).all()
        assert (told.ids[1] >= 0).any()


def test_many_changes_one_after_the_other_count_the_last(live: SearchEngine) -> None:
    base = live.snapshot
    assert base.states is not None
    first = quantise_tokens([], base.states.dimension)
    states = ChangedStates(base.states, live.manifest.products)
    encoder = as_token_encoder(base.encoder)
    assert encoder is not None
    for title in ("a", "brass candlestick", "oak bookshelf"):
        tokens = encoder.encode_products_with_tokens([title])[1]
        first = quantise_tokens(tokens, base.states.dimension)
        states = states.with_changes({5: first})
    assert states.gather(np.array([5])).ids.tolist() == [first.ids.tolist()]
    assert states.with_changes({5: None}).gather(np.array([5])).ids.shape == (1, 0)
    assert states.gather(np.empty(0, np.int64)).ids.shape == (0, 0)
    signals = ChangedSignals(base.signals, live.manifest.products)
    later = signals.with_changes({5: KETTLE}).with_changes({5: dataclasses.replace(KETTLE, price=50.0)})
    assert later.at(np.array([5, 4])).price[0] == 50
    assert np.isnan(later.at(np.array([live.manifest.products])).price[0])
