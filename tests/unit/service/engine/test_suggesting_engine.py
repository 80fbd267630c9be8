"""Suggestions and corrections of an opened engine, on the demo store and on a catalog with its traps."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from indexer.build import RebuildOptions, rebuild
from retrieval.errors import QueryError
from retrieval.records import Page, Product
from retrieval.store.files import checksum
from retrieval.store.manifest import SEAL, WORDS_FOLDER
from retrieval.text.vocabulary import forms, words_of
from service.cli.main import app
from service.engine.engine import SearchEngine
from service.engine.spelling import QuerySource, Suggestions, TypedText
from service.engine.suggest import MOST_SUGGESTIONS
from tests.catalogs import write_feed
from tests.conftest import ENCODER

CATALOG = (
    *(
        Product(f"a{n}", f"Cordless drill {n}", brand="Bosch", price=n, rating_count=n, category=("Tools", "Drills"))
        for n in range(25)
    ),
    *(Product(f"b{n}", f"Hammer drill {n}", brand="Makita", category=("Tools", "Drills")) for n in range(6)),
    Product("c1", "Drlil bit", description="A snart tool"),
    Product("c2", "Angle grinder", identifiers={"mpn": ("DRILX",)}),
    *(Product(f"d{n}", f"无线电钻 {n}", brand="牧田", category=("工具",)) for n in range(5)),
    *(Product(f"e{n}", f"Café crème smart mug {n}") for n in range(5)),
)


@pytest.fixture(scope="module")
def index(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suggesting")
    feed = write_feed(folder / "products.jsonl", CATALOG)
    synonyms = folder / "synonyms.txt"
    synonyms.write_text("dril => cordless drill\n")
    rebuild(folder / "index", RebuildOptions((str(feed),), cache, encoder=ENCODER, synonyms=synonyms))
    return folder / "index"


@pytest.fixture(scope="module")
def store(index: Path) -> Iterator[SearchEngine]:
    with SearchEngine.open(index) as opened:
        yield opened


def shown(found: Suggestions) -> list[str]:
    """All texts with what was typed in brackets."""
    texts = [(each.text, each.spans) for each in found.queries]
    texts += [(each.text, each.spans) for each in found.categories]
    texts += [(each.name, each.spans) for each in found.brands]
    texts += [(each.product.title, each.spans) for each in found.products]
    marked = []
    for text, spans in texts:
        for start, end in reversed(spans):
            text = f"{text[:start]}[{text[start:end]}]{text[end:]}"  # noqa: PLW2901
        marked.append(text)
    return marked


class TestSuggest:
    def test_each_kind_with_what_was_typed_marked(self, store: SearchEngine) -> None:
        found = store.suggest("dr", size=4)
        assert shown(found) == [
            "[dr]ill",
            "bosch [dr]ills",
            "cordless [dr]ill",
            "hammer [dr]ill",
            "Tools > [Dr]ills",
            "Cordless [dr]ill 24",
            "Cordless [dr]ill 23",
        ]
        assert {query.source for query in found.queries} == {QuerySource.CATALOG}
        assert found.categories[0].path == ("Tools", "Drills")
        assert found.categories[0].count == 31
        assert (found.corrected, found.degraded) == ("", ())

    def test_the_order_of_words_is_free_and_only_the_last_goes_on(self, store: SearchEngine) -> None:
        assert "[cord]less [drill]" in shown(store.suggest("drill cord"))
        assert not store.suggest("cord drill")
        assert store.suggest("cordless drill ").queries == (), "there is nothing that says more"

    def test_a_brand_brings_its_products(self, store: SearchEngine) -> None:
        found = store.suggest("makita h", size=2)
        assert found.products[0].product.brand == "Makita"
        assert store.suggest("mak").brands[0].name == "Makita"

    def test_chinese_is_completed_from_any_character_and_never_corrected(self, store: SearchEngine) -> None:
        assert "无[线电]钻" in shown(store.suggest("线电"))
        assert store.suggest("牧").brands[0].name == "牧田"
        assert not store.suggest("无钻")
        page = store.search("无线电占", size=1)
        assert (page.suggestion, page.corrected) == ("", False)

    @pytest.mark.parametrize("text", ["caf", "café cr", "CAFE", "Ｃａｆé"])
    def test_accents_case_and_width_do_not_count(self, store: SearchEngine, text: str) -> None:
        assert store.suggest(text).products[0].product.title.startswith("Café crème")

    @pytest.mark.parametrize(
        "text", ["", " ", "\x00\x1b[31m", "…", "\ud800", "a" * 10_000, "drill " * 1_000, "钻" * 9_999]
    )
    def test_nothing_comes_of_nothing_or_too_much(self, store: SearchEngine, text: str) -> None:
        assert store.suggest(text) == Suggestions()

    def test_one_letter(self, store: SearchEngine) -> None:
        assert all("[c" in text.lower() for text in shown(store.suggest("c")))

    def test_a_typo_is_put_right_where_nothing_begins_as_typed(self, store: SearchEngine) -> None:
        found = store.suggest("cordles dri")
        assert found.corrected == "cordless dri"
        assert shown(found)[0] == "[cordless] [dri]ll"
        assert store.suggest("cordels").corrected == "cordless"
        assert store.suggest("coredl").corrected == "cordless"
        assert store.suggest("cord").corrected == ""

    def test_products_that_are_gone_or_renamed_are_not_suggested(self, index: Path, tmp_path: Path) -> None:
        with SearchEngine.open(shutil.copytree(index, tmp_path / "index")) as engine:
            assert [each.product.id for each in engine.suggest("cordless drill", size=4).products] == ["a24", "a23"]
            engine.delete(["a24"])
            engine.patch("a23", title="Impact driver")
            found = engine.suggest("cordless drill", size=4).products
            assert [each.product.id for each in found] == ["a22", "a21"]

    @pytest.mark.parametrize(
        ("size", "queries", "products"), [(0, 0, 0), (1, 1, 1), (3, 3, 2), (MOST_SUGGESTIONS, 5, 25)]
    )
    def test_size(self, store: SearchEngine, size: int, queries: int, products: int) -> None:
        found = store.suggest("d", size=size)
        assert (len(found.queries), len(found.products)) == (queries, products)

    @pytest.mark.parametrize(
        ("text", "size", "told"),
        [
            ("a" * 10_001, 8, "the text has 10001 characters, at most 10000"),
            ("a", -1, "size is -1, it can be 0 to 50"),
            ("a", 51, "size is 51, it can be 0 to 50"),
            ("a", True, "size is bool, it must be int"),
            (None, 8, "text is NoneType, it must be str"),
        ],
    )
    def test_what_cannot_be_answered_is_refused(self, store: SearchEngine, text: str, size: int, told: str) -> None:
        with pytest.raises(QueryError, match=told):
            store.suggest(text, size=size)
        with pytest.raises(QueryError, match=told):
            store.related(text, size=size)

    def test_a_version_of_an_older_program_says_what_it_lacks(self, index: Path, tmp_path: Path) -> None:
        copy = Path(shutil.copytree(index, tmp_path / "index"))
        shutil.rmtree(next((copy / "versions").iterdir()) / WORDS_FOLDER)
        manifest = next((copy / "versions").iterdir()) / "manifest.json"
        told = msgspec.json.decode(manifest.read_bytes())
        told["files"] = {name: entry for name, entry in told["files"].items() if f"/{WORDS_FOLDER}/" not in name}
        manifest.write_bytes(msgspec.json.encode(told))
        manifest.with_name(SEAL).write_text(f"{checksum(manifest)}\n")
        with SearchEngine.open(copy) as engine:
            assert engine.suggest("dr") == Suggestions(degraded=("words",))
            assert engine.search("cordles drill").suggestion == ""
            assert any("has no words to suggest and correct by" in notice for notice in engine.notices)


def told(page: Page) -> tuple[str, bool]:
    return page.suggestion, page.corrected


class TestDidYouMean:
    def test_a_misspelled_word_is_searched_for_as_it_was_meant(self, store: SearchEngine) -> None:
        page, meant = store.search("Cordles drill"), store.search("cordless drill")
        assert told(page) == ("cordless drill", True)
        assert told(meant) == ("", False)
        assert [hit.product.id for hit in page.hits] == [hit.product.id for hit in meant.hits]

    def test_the_query_is_searched_for_as_it_is_where_that_is_asked(self, store: SearchEngine) -> None:
        page = store.search("cordles drill", correct=False)
        assert told(page) == ("cordless drill", False)
        assert page.total == store.search("drill").total

    def test_what_is_not_sure_is_only_offered(self, store: SearchEngine) -> None:
        assert told(store.search("angel grindar")) == ("angle grinder", False)

    @pytest.mark.parametrize(
        ("query", "why"),
        [
            ("drlil", "a title has it, once"),
            ("snart", "a description has it"),
            ("drilx", "it is an identifier"),
            ("dril", "it is a synonym"),
            ("drills", "the search finds its singular"),
            ("cordles5", "it has a digit"),
            ("cor", "it is short"),
            ("hammerdrill 无线", "both are found"),
            ("", "it browses"),
            ("qqqqqqq", "nothing is near"),
        ],
    )
    def test_what_is_never_corrected(self, store: SearchEngine, query: str, why: str) -> None:
        if query.startswith("hammerdrill"):
            assert told(store.search(query)) == ("hammer drill 无线", True), "two words were typed as one"
        else:
            assert told(store.search(query)) == ("", False), why

    def test_a_live_word_is_not_corrected(self, index: Path, tmp_path: Path) -> None:
        with SearchEngine.open(shutil.copytree(index, tmp_path / "index")) as engine:
            assert told(engine.search("cordlex")) == ("cordless", True)
            engine.upsert([Product("new", "Cordlex trimmer")])
            assert told(engine.search("cordlex")) == ("", False)

    def test_facets_pages_and_filters_are_of_what_was_meant(self, store: SearchEngine) -> None:
        asked = {"size": 5, "page": 2, "filters": "brand = Bosch", "facets": ["brand"], "sort": "price"}
        page, meant = store.search("cordles drill", **asked), store.search("cordless drill", **asked)  # type: ignore[arg-type]
        assert (page.hits, page.total, page.facets) == (meant.hits, meant.total, meant.facets)


class TestCommands:
    def test_suggest_shows_each_kind(self, index: Path) -> None:
        done = CliRunner().invoke(app, ["query", "suggest", str(index), "makita"])
        assert done.exit_code == 0, done.output
        assert [line.split()[0] for line in done.output.splitlines()][:2] == ["query", "brand"]
        done = CliRunner().invoke(app, ["query", "suggest", str(index), "cordels"])
        assert done.output.startswith("For cordless: nothing begins as typed.")
        assert CliRunner().invoke(app, ["query", "suggest", str(index), "zzz"]).output == "No suggestions.\n"
        assert CliRunner().invoke(app, ["query", "suggest", str(index), "drill", "--related"]).output == "None.\n"

    def test_suggest_writes_json(self, index: Path) -> None:
        done = CliRunner().invoke(app, ["query", "suggest", str(index), "makita", "--json"])
        found = msgspec.json.decode(done.stdout_bytes)
        assert found["brands"] == [{"name": "Makita", "count": 6, "spans": [[0, 6]]}]

    def test_search_says_what_it_searched_for(self, index: Path) -> None:
        done = CliRunner().invoke(app, ["search", str(index), "cordles drill"])
        assert "Showing results for cordless drill; nothing matches cordles drill" in done.output
        done = CliRunner().invoke(app, ["search", str(index), "cordles drill", "--no-correct"])
        assert "Did you mean cordless drill?" in done.output


@given(st.one_of(st.text(), st.text("cordles dril钻无线é'", max_size=20)))
def test_any_text_is_answered_and_suggestions_have_all_of_its_words(engine: SearchEngine, text: str) -> None:
    found = engine.suggest(text)
    typed = TypedText(found.corrected or text)
    texts = [*(each.text for each in found.queries), *(each.text for each in found.categories)]
    texts += [each.name for each in found.brands]
    texts += [f"{each.product.title} {each.product.brand}" for each in found.products]
    for suggested in texts:
        there = words_of(suggested)
        for place, word in enumerate(typed.words):
            may_go_on = place == len(typed.words) - 1 or word.is_chinese
            assert any(
                other in forms(word.word)
                or (may_go_on and word.word in other and (word.is_chinese or other.startswith(word.word)))
                for other in there
            ), suggested


@given(st.text(max_size=40))
def test_any_query_is_searched_for(engine: SearchEngine, text: str) -> None:
    page = engine.search(text, size=1, stage="bm25")
    assert page.suggestion or not page.corrected


def test_the_demo_stores_own_words_are_never_corrected(engine: SearchEngine) -> None:
    products = engine.snapshot.products
    for row in range(0, len(products), 7):
        assert told(engine.search(products[row].title, size=1, stage="bm25")) == ("", False)
