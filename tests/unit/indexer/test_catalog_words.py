"""Words and types of a catalog."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from shelfwise.indexer import version_writer as making
from shelfwise.indexer.type_derivation import TitlePhrases, TitleReader, derive_types, read_titles
from shelfwise.indexer.version_writer import WordsWriter
from shelfwise.retrieval.errors import StoreDamagedError
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.products import product_to_json
from shelfwise.retrieval.text.vocabulary import CatalogWords


def made(folder: Path, products: Iterable[Product]) -> CatalogWords:
    writer = WordsWriter()
    writer.add(map(product_to_json, products))
    writer.finish(folder / "words")
    return CatalogWords.open(folder / "words")


def titled(*titles: str) -> list[Product]:
    return [Product(f"{place:03}", title) for place, title in enumerate(titles)]


def test_words_are_counted_once_per_product_folded_and_unstemmed(tmp_path: Path) -> None:
    words = made(tmp_path, titled("Drill drill DRILL", "Drills", "Café drill"))
    counts = {word: words.count_together([word]) for word in ("drill", "drills", "cafe", "café", "saw")}
    assert counts == {"drill": 2 + 1, "drills": 1, "cafe": 1, "café": 0, "saw": 0}, "it is a phrase of two titles, too"
    assert "cafe" in words
    assert "saw" not in words


def test_products_are_ordered_by_popularity(tmp_path: Path) -> None:
    known = [None, 3, 90, 3]
    words = made(tmp_path, [Product(str(row), "drill", rating_count=count) for row, count in enumerate(known)])
    assert words.rows.tolist() == [2, 1, 3, 0]


def test_brands_categories_and_their_pairs_are_counted(tmp_path: Path) -> None:
    drills = [Product(str(n), "x", brand="Bosch", category=("Tools", "Drills")) for n in range(2)]
    words = made(tmp_path, [*drills, Product("9", "y", brand="Makita", category=("Tools", "Saws"))])
    assert words.entries.brands == (("Bosch", 2), ("Makita", 1))
    assert words.entries.categories == ((("Tools",), 3), (("Tools", "Drills"), 2), (("Tools", "Saws"), 1))
    assert words.entries.phrases == (("bosch drills", 2),)


def test_phrases_occur_in_several_titles(tmp_path: Path) -> None:
    titles = [f"{name} Cordless Drill with Case, 18 V" for name in ("Aro", "Bex", "Cid", "Dov")]
    phrases = dict(made(tmp_path, titled(*titles)).entries.phrases)
    assert phrases["cordless drill"] == phrases["drill"] == phrases["case"] == 4
    assert "with case" not in phrases, "it begins with a link"
    assert not any("18" in phrase or "aro" in phrase for phrase in phrases)


def test_contained_phrase_is_dropped(tmp_path: Path) -> None:
    phrases = dict(made(tmp_path, titled(*["oil rubbed bronze"] * 5, "rubbed bronze")).entries.phrases)
    assert phrases["oil rubbed bronze"] == 5
    assert "rubbed bronze" not in phrases
    assert "oil rubbed" not in phrases


def test_chinese_phrases_have_no_spaces(tmp_path: Path) -> None:
    phrases = dict(made(tmp_path, titled("无线电钻 A1", "无线电钻 B2", "无线电钻 C3")).entries.phrases)
    assert phrases == {"无线电": 3, "无线电钻": 3}


def test_memory_is_bounded_and_common_phrases_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "MAX_COUNTED", 20)
    rare = [f"cordless drill {chr(97 + n // 26) * 3}{chr(97 + n % 26)}" for n in range(100)]
    assert dict(made(tmp_path, titled(*rare)).entries.phrases)["cordless drill"] > 90


@pytest.mark.parametrize("name", ["entries.json", "words.txt", "ends.npy", "rows.npy", ""])
def test_damage_is_reported(tmp_path: Path, name: str) -> None:
    made(tmp_path, titled("cordless drill", "hammer drill"))
    path = tmp_path / "words" / (name or "rows.npy")
    if name:
        path.write_bytes(path.read_bytes()[:-3])
    else:
        np.save(path, np.zeros(7, np.uint32))
    with pytest.raises(StoreDamagedError, match="rebuild the index" if name else "do not match each other"):
        CatalogWords.open(tmp_path / "words")


KINDS = ("Hair Dryer", "Frying Pan", "Desk Lamp")
MODELS = ("Kelda", "Ivara", "Ulver", "Hollis")


def titles_of(products: list[Product]) -> TitlePhrases:
    return read_titles(lambda work: [work(products)], range(len(products)), TitleReader())


def catalog(*, with_categories: bool) -> list[Product]:
    """Each kind in each model, with the model's name before or after it."""
    products: list[Product] = []
    for kind in KINDS:
        for model in MODELS:
            for title in (f"{kind} {model}", f"{model} {kind}", f"{model} Red {kind} for Home"):
                category = ("Home", f"{kind}s") if with_categories else ()
                products.append(Product(str(len(products)), title, category=category))
    return products


@pytest.mark.parametrize("with_categories", [True, False])
def test_head_is_the_word_with_similar_products(with_categories: bool) -> None:
    products = catalog(with_categories=with_categories)
    random = np.random.default_rng(3)
    kinds = np.repeat(np.eye(len(KINDS), 16), len(products) // len(KINDS), axis=0)
    vectors = (kinds + random.normal(0, 0.05, kinds.shape)).astype(np.float32)
    types = derive_types(titles_of(products), vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    named = [types.name_of(row).split()[-1] for row in range(len(products))]
    assert named == ["dryer"] * 12 + ["pan"] * 12 + ["lamp"] * 12
    by_category = [types.phrases[number] if number >= 0 else () for number in types.by_category.tolist()]
    assert by_category[0] == (("hair", "dryer") if with_categories else ())


def test_titles_without_a_noun_have_no_type() -> None:
    types = derive_types(titles_of([Product("a", "12"), Product("b", "7")]), np.eye(2, 8, dtype=np.float32))
    assert [types.name_of(row) for row in (0, 1)] == ["", ""]


def test_head_before_quantities_is_the_one_of_many_titles() -> None:
    models = ("Kelda", "Ivara", "Ulver", "Hollis", "Brisk", "Ottar")
    titles = [f'{model} Notebook Black 39.6 cm (15.6") 8 GB Windows 10 Home' for model in models]
    titles += [f"{model} 4 ft. Shop Light" for model in models]
    types = derive_types(titles_of([Product(title, title) for title in titles]), np.eye(len(titles), dtype=np.float32))
    assert {types.name_of(row).split()[-1] for row in range(6)} == {"notebook"}
    assert {types.name_of(row) for row in range(6, 12)} == {"shop light"}
