"""Static encoders that a rebuild distils from a teacher."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
from tokenizers import Tokenizer

from shelfwise.indexer.embedding import teacher_name
from shelfwise.retrieval.encoders.base import TableEncoder
from shelfwise.retrieval.encoders.folder import TOKENIZER_FILE, TORCH_FOLDER
from shelfwise.retrieval.encoders.registry import load_encoder, open_encoder
from shelfwise.retrieval.encoders.static import StaticEncoder
from shelfwise.retrieval.errors import SettingError
from shelfwise.retrieval.index.token_states import MAX_TOKENS, STATES_FILE, StoredStates, quantise_tokens
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.manifest import STATES_FOLDER
from shelfwise.retrieval.store.products import ProductStore, encoder_text
from shelfwise.service.engine.versions import has_static_encoder
from tests.unit.indexer.conftest import Shop
from tests.unit.rerank.text_towers.tiny_towers import PRODUCTS, make_encoder

LONG = Product("long", " ".join(f"red lampshade {place}" for place in range(40)))
CATALOG = [*PRODUCTS, LONG]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_encoder(tmp_path_factory.mktemp("teacher") / "tiny")


@pytest.fixture(scope="module")
def shop(teacher: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    made = Shop(tmp_path_factory.mktemp("static") / "index", cache)
    report = made.rebuild(CATALOG, encoder=f"static:{teacher}", runtime="torch")
    assert (report.encoder, report.encoder_reason) == (f"static:{teacher}", f"distilled from {teacher} on this catalog")
    return made


def served(shop: Shop) -> TableEncoder:
    encoder = load_encoder(shop.store.encoders / shop.store.serving()[0].encoder)
    assert isinstance(encoder, StaticEncoder)
    assert isinstance(encoder, TableEncoder)
    return encoder


def texts(shop: Shop) -> list[str]:
    products = ProductStore(shop.folder)
    return [encoder_text(products[row]) for row in range(len(products))]


def test_the_table_gives_nearly_the_vectors_of_its_teacher(shop: Shop, teacher: Path) -> None:
    products = texts(shop)[1:]
    reference = open_encoder(str(teacher), "torch", shop.cache).encode_products(products)
    cosines = (served(shop).encode_products(products) * reference).sum(axis=1)
    assert np.median(cosines) > 0.9
    assert np.array_equal(shop.vectors[1:], served(shop).encode_products(products))


def test_a_frequent_word_of_the_catalog_has_a_row_of_its_own(shop: Shop) -> None:
    folder = shop.store.encoders / shop.store.serving()[0].encoder
    tokens = Tokenizer.from_file(str(folder / TOKENIZER_FILE)).encode("red lampshade", add_special_tokens=False).tokens
    assert tokens == ["red", "lampshade"]


def test_capitals_do_not_change_a_vector(teacher: Path, fresh: Shop, tmp_path: Path) -> None:
    cased = tmp_path / "cased"
    shutil.copytree(teacher, cased)
    (path,) = cased.rglob(TOKENIZER_FILE)
    content = msgspec.json.decode(path.read_bytes())
    content["normalizer"]["lowercase"] = False
    path.write_bytes(msgspec.json.encode(content))
    fresh.rebuild(CATALOG, encoder=f"static:{cased}", runtime="torch")
    lower, mixed = served(fresh).encode_queries(["red lamp", "RED Lamp"])
    assert np.array_equal(lower, mixed)


def test_products_store_only_the_ids_of_their_tokens(shop: Shop) -> None:
    check_states(shop)
    assert np.load(shop.folder / STATES_FOLDER / STATES_FILE).shape[0] == served(shop).vocabulary


def check_states(shop: Shop) -> None:
    """Asserts that the stored token states are those of the products' texts."""
    stored, encoder, products = StoredStates(shop.folder / STATES_FOLDER), served(shop), texts(shop)
    expected = quantise_tokens(encoder.encode_products_with_tokens(products)[1], stored.dimension)
    rows = np.arange(len(products))
    found, wanted = stored.gather(rows), expected.gather(rows)
    assert np.array_equal(found.ids, wanted.ids)
    assert np.array_equal(found.states, wanted.states)
    assert found.ids.shape[1] == MAX_TOKENS


def test_learning_trains_a_static_encoder_by_default(shop: Shop, tmp_path: Path) -> None:
    assert has_static_encoder(shop.root)
    assert not has_static_encoder(tmp_path / "nothing")


def test_later_rebuilds_keep_the_table(shop: Shop, tmp_path: Path) -> None:
    copied = shop.copy(tmp_path / "copied")
    report = copied.rebuild([*CATALOG, Product("new", "blue carpet")], encoder="", runtime="auto")
    assert (report.encoder_reason, report.encoded) == ("as for the previous version", 1)
    assert copied.store.serving()[0].encoder == shop.store.serving()[0].encoder
    check_states(copied)
    again = copied.rebuild(CATALOG, encoder=report.encoder, runtime="torch")
    assert again.encoded == 0, "the same texts give the same table"


def test_the_stored_table_is_a_model_of_sentence_transformers(shop: Shop) -> None:
    folder = shop.store.encoders / shop.store.serving()[0].encoder / TORCH_FOLDER
    opened = open_encoder(str(folder), "static-int8", shop.cache)
    assert np.array_equal(opened.encode_queries(["red lamp"]), served(shop).encode_queries(["red lamp"]))


def test_a_table_is_no_teacher(shop: Shop, fresh: Shop) -> None:
    folder = shop.store.encoders / shop.store.serving()[0].encoder / TORCH_FOLDER
    with pytest.raises(SettingError, match="is already a table: use it as the encoder, without static:"):
        fresh.rebuild(CATALOG, encoder=f"static:{folder}", runtime="auto")


@pytest.mark.parametrize(
    ("encoder", "teacher"),
    [("static", ""), ("static:e5", "e5"), ("static:", None), ("statics", None), ("", None), ("e5", None)],
)
def test_names_of_static_encoders(encoder: str, teacher: str | None) -> None:
    assert teacher_name(encoder) == teacher
