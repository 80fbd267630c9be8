"""Suggestions and corrections: by words of the catalog, by popular queries, and with rules."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfwise.retrieval.errors import FilterError, QueryError, StoreDamagedError
from shelfwise.retrieval.records import Event, EventKind, Page, Preference, Product
from shelfwise.retrieval.store.manifest import POPULAR_QUERIES_FILE, WORDS_FOLDER
from shelfwise.retrieval.text.analysis import contains_chinese
from shelfwise.retrieval.text.vocabulary import forms, words_of
from shelfwise.service.answers.answering import unanswered_questions
from shelfwise.service.curation.rules import Hide, Match, Pin, Restrict, Rule, When
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.engine.spelling import TypedText
from shelfwise.service.engine.suggest import MAX_SUGGESTIONS, QuerySource, Suggestions
from shelfwise.service.events.popular_queries import PopularQuery, read_popular_queries, write_popular_queries
from tests.catalogs import ids
from tests.unit.service.cli import commands
from tests.unit.service.engine.demo_visits import MADE, refresh_tables, visit
from tests.versions import reseal

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
def index(build_index: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    synonyms = tmp_path_factory.mktemp("synonyms") / "synonyms.txt"
    synonyms.write_text("dril => cordless drill\n")
    return build_index(CATALOG, synonyms=synonyms)


@pytest.fixture(scope="module")
def store(index: Path) -> Iterator[SearchEngine]:
    with SearchEngine.open(index) as opened:
        yield opened


def shown(found: Suggestions) -> list[str]:
    """All texts with the typed parts in brackets."""
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
    def test_suggestions_of_each_kind_mark_the_typed_part(self, store: SearchEngine) -> None:
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

    def test_words_match_in_any_order_and_only_the_last_as_prefix(self, store: SearchEngine) -> None:
        assert "[cord]less [drill]" in shown(store.suggest("drill cord"))
        assert not store.suggest("cord drill")
        assert store.suggest("cordless drill ").queries == (), "there is nothing that says more"

    def test_chinese_is_completed_from_any_character_and_never_corrected(self, store: SearchEngine) -> None:
        assert "无[线电]钻" in shown(store.suggest("线电"))
        assert store.suggest("牧").brands[0].name == "牧田"
        assert not store.suggest("无钻")
        page = store.search("无线电占", size=1)
        assert (page.suggestion, page.corrected) == ("", False)

    def test_a_chinese_query_is_translated_if_the_catalog_is_not_chinese(
        self, build_index: Callable[..., Path], store: SearchEngine
    ) -> None:
        english = [each for each in CATALOG if not contains_chinese(each.title)]
        with SearchEngine.open(build_index(english)) as engine:
            assert correction_of(engine.search("马克杯")) == ("mug", True)
            assert correction_of(engine.search("智能马克杯 20元以下")) == ("smart mug 20元以下", True)
            assert correction_of(engine.search("20元以内的马克杯")) == ("20元以内的 mug", True)
            assert correction_of(engine.search("马克杯", visible="brand = Bosch")) == ("", False)
        assert correction_of(store.search("马克杯")) == ("", False)

    @pytest.mark.parametrize(
        "text", ["", " ", "\x00\x1b[31m", "…", "\ud800", "a" * 10_000, "drill " * 1_000, "钻" * 9_999]
    )
    def test_empty_or_too_long_text_has_no_suggestions(self, store: SearchEngine, text: str) -> None:
        assert store.suggest(text) == Suggestions()

    def test_typo_is_corrected_if_no_prefix_matches(self, store: SearchEngine) -> None:
        found = store.suggest("cordles dri")
        assert found.corrected == "cordless dri"
        assert shown(found)[0] == "[cordless] [dri]ll"
        assert store.suggest("cordels").corrected == "cordless"
        assert store.suggest("coredl").corrected == "cordless"
        assert store.suggest("cord").corrected == ""

    def test_deleted_or_renamed_products_are_not_suggested(self, index: Path, tmp_path: Path) -> None:
        with SearchEngine.open(shutil.copytree(index, tmp_path / "index")) as engine:
            assert [each.product.id for each in engine.suggest("cordless drill", size=4).products] == ["a24", "a23"]
            engine.delete(["a24"])
            engine.patch("a23", title="Impact driver")
            found = engine.suggest("cordless drill", size=4).products
            assert [each.product.id for each in found] == ["a22", "a21"]

    @pytest.mark.parametrize(
        ("size", "queries", "products"), [(0, 0, 0), (1, 1, 1), (3, 3, 2), (MAX_SUGGESTIONS, 5, 25)]
    )
    def test_size_limits_suggestions(self, store: SearchEngine, size: int, queries: int, products: int) -> None:
        found = store.suggest("d", size=size)
        assert (len(found.queries), len(found.products)) == (queries, products)

    @pytest.mark.parametrize(
        ("text", "size", "correction_of"),
        [
            ("a" * 10_001, 8, "the query has 10001 characters, at most 10000"),
            ("a", -1, "size is -1, it can be 0 to 50"),
            ("a", True, "size is bool, it must be int"),
        ],
    )
    def test_invalid_request_is_refused(self, store: SearchEngine, text: str, size: int, correction_of: str) -> None:
        with pytest.raises(QueryError, match=correction_of):
            store.suggest(text, size=size)
        with pytest.raises(QueryError, match=correction_of):
            store.related(text, size=size)

    def test_version_without_words_reports_the_missing_part(self, index: Path, tmp_path: Path) -> None:
        copy = Path(shutil.copytree(index, tmp_path / "index"))
        shutil.rmtree(copy / "versions" / "v000001" / WORDS_FOLDER)
        reseal(copy, "v000001")
        with SearchEngine.open(copy) as engine:
            assert engine.suggest("dr") == Suggestions(degraded=("words",))
            assert engine.search("cordles drill").suggestion == ""
            assert any("suggestions and corrections do not use the catalog" in notice for notice in engine.notices)


def correction_of(page: Page) -> tuple[str, bool]:
    return page.suggestion, page.corrected


class TestPrefixSearch:
    @pytest.mark.parametrize(
        ("typed", "completion"),
        [("cordl", "cordless"), ("bosch dri", "bosch drill"), ("smart m", "smart mug"), ("hammer", ""), ("cordl ", "")],
    )
    def test_last_word_matches_as_a_prefix(self, store: SearchEngine, typed: str, completion: str) -> None:
        page = store.search(typed, prefix=True)
        assert (page.completion, page.corrected) == (completion, False)
        assert ids(page) == ids(store.search(completion or typed))

    def test_completions_alternate(self, store: SearchEngine) -> None:
        page = store.search("c", prefix=True)
        assert page.completion == "cordless"
        first = [hit.product.id[0] for hit in page.hits[:8]]
        assert set(first) == {"a", "e"}, "a café is a fifth as likely as a cordless drill"
        pages = [store.search("c", prefix=True, size=5, page=at) for at in range(1, 5)]
        assert [product for each in pages for product in ids(each)] == ids(page)

    def test_a_typing_error_in_another_word_is_corrected(self, store: SearchEngine) -> None:
        page = store.search("cordles dri", prefix=True)
        assert (page.completion, page.suggestion, page.corrected) == ("cordles drill", "cordless drill", True)


class TestCorrection:
    def test_misspelled_word_is_corrected(self, store: SearchEngine) -> None:
        page, meant = store.search("Cordles drill"), store.search("cordless drill")
        assert correction_of(page) == ("cordless drill", True)
        assert correction_of(store.search("hammerdrill")) == ("hammer drill", True), "two words were typed as one"
        assert correction_of(meant) == ("", False)
        assert ids(page) == ids(meant)

    @pytest.mark.parametrize(
        ("query", "why"),
        [
            ("drlil", "a title has it, once"),
            ("snart", "a description has it"),
            ("drilx", "it is an identifier"),
            ("dril", "it is a synonym"),
            ("drills", "the search finds its singular"),
            ("", "it browses"),
            ("cordless didn't", "the parts of a word of the language belong to it"),
        ],
    )
    def test_words_that_are_not_corrected(self, store: SearchEngine, query: str, why: str) -> None:
        assert correction_of(store.search(query)) == ("", False), why

    def test_a_live_word_is_not_corrected(self, index: Path, tmp_path: Path) -> None:
        with SearchEngine.open(shutil.copytree(index, tmp_path / "index")) as engine:
            assert correction_of(engine.search("cordlex")) == ("cordless", True)
            engine.upsert([Product("new", "Cordlex trimmer")])
            assert correction_of(engine.search("cordlex")) == ("", False)

    def test_correction_that_finds_nothing_better_is_only_offered(self, store: SearchEngine) -> None:
        assert correction_of(store.search("grinder cordles")) == ("grinder cordless", False), "no product is both"
        hidden = [Rule("none", (Restrict("price < 0"),), When("cordless", Match.CONTAINS))]
        page = store.search("cordles", rules=hidden)
        assert correction_of(page) == ("cordless", False)
        assert page.hits == store.search("cordles", rules=hidden, correct=False).hits

    def test_words_of_invisible_products_are_not_used(self, store: SearchEngine) -> None:
        bosch, makita = "brand = Bosch", "brand = Makita"
        assert correction_of(store.search("cordles drill", visible=bosch)) == ("cordless drill", True)
        assert correction_of(store.search("cordles drill", visible=makita)) == ("", False)
        assert correction_of(store.search("angel grindar", visible=makita)) == ("", False)
        assert store.search("cordl", prefix=True, visible=bosch).completion == "cordless"
        assert store.search("cordl", prefix=True, visible=makita).completion == ""
        assert store.suggest("cordles dri", filters=bosch).corrected == "cordless dri"
        assert store.suggest("cordles dri", filters=makita) == store.suggest("bosh", filters=makita) == Suggestions()
        found = store.suggest("d", filters=makita)
        assert {word for each in found.queries for word in words_of(each.text)} == {
            "hammer",
            "drill",
            "drills",
            "makita",
        }
        assert [each.product.brand for each in found.products] == ["Makita"] * 4
        assert [(each.text, each.count) for each in found.categories] == [("Tools > Drills", 6)]
        assert store.suggest("bos", filters=makita).brands == ()
        assert correction_of(store.search("drilx", visible=makita)) == ("drill", True), "the identifier is of another"
        with pytest.raises(FilterError):
            store.suggest("d", filters="brand =")

    def test_preferences_have_only_values_of_visible_products(self, store: SearchEngine) -> None:
        both = Preference("brand", "brand IN (Bosch, Makita)", ("Bosch", "Makita"))
        price = Preference("price", "price <= 9", high=9.0)
        found = list(store.visible("brand = Makita").preferences([both, price]))
        assert found == [replace(both, values=("Makita",), filter="brand IN (Makita)"), price]
        assert list(store.visible("brand = 牧田").preferences([both])) == []


def test_commands_show_suggestions_and_corrections(index: Path) -> None:
    (brand,) = commands.document("query", "suggest", index, "makita")["brands"]
    assert brand == {"name": "Makita", "count": 6, "spans": [[0, 6]]}
    assert "nothing matches cordles drill" in commands.shown("search", index, "cordles drill")
    assert "Did you mean cordless drill?" in commands.shown("search", index, "cordles drill", "--no-correct")


@given(st.one_of(st.text(), st.text("cordles dril钻无线é'", max_size=20)))
def test_suggestions_contain_all_words_of_arbitrary_text(engine: SearchEngine, text: str) -> None:
    found = engine.suggest(text)
    typed = TypedText(found.corrected or text)
    texts = [*(each.text for each in found.queries), *(each.text for each in found.categories)]
    texts += [each.name for each in found.brands]
    texts += [f"{each.product.title} {each.product.brand}" for each in found.products]
    for suggested in texts:
        there = words_of(suggested)
        for place, word in enumerate(typed.words):
            is_chinese = contains_chinese(word.word)
            may_go_on = place == len(typed.words) - 1 or is_chinese
            assert any(
                other in forms(word.word)
                or (may_go_on and word.word in other and (is_chinese or other.startswith(word.word)))
                for other in there
            ), suggested


def test_the_demo_stores_own_words_are_never_corrected(engine: SearchEngine) -> None:
    products = engine.snapshot.products
    for row in range(0, len(products), 7):
        assert correction_of(engine.search(products[row].title, size=1, stage="bm25")) == ("", False)


RULED = (
    Product("both", "Drill driver", brand="Bosch", rating_count=9),
    Product("bit", "Drill bit set", brand="Makita", rating_count=8),
    Product("drill", "Cordless drill", brand="Bosch", rating_count=7),
    Product("driver", "Impact driver", brand="Makita", rating_count=6),
    Product("cn", "无线电钻", brand="牧田", rating_count=5),
    Product("set", "Socket set", brand="Bosch", rating_count=4),
)


@pytest.fixture(scope="module")
def ruled_index(build_index: Callable[..., Path]) -> Path:
    return build_index(RULED)


@pytest.fixture
def ruled(ruled_index: Path, tmp_path: Path) -> Iterator[SearchEngine]:
    with SearchEngine.open(shutil.copytree(ruled_index, tmp_path / "index")) as opened:
        yield opened


def suggested(ruled: SearchEngine, text: str) -> list[str]:
    return [each.product.id for each in ruled.suggest(text, size=20).products]


DRILL, CHINESE = When("drill", Match.CONTAINS), When("电钻", Match.CONTAINS)
EXACT, DRIVER = When("drill", Match.EXACT), When("driver", Match.CONTAINS)
OVER = When(ends=datetime(2020, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("actions", "when", "expected"),
    [
        (Pin(("driver",)), When(), {"dri": "both bit drill driver"}),
        (Hide(("both",)), OVER, {"dri": "both bit drill driver"}),
        (Hide(("both", "bit")), When(), {"dri": "drill driver"}),
        # The title has the words of the rule, but the query does not.
        (Hide(("bit",)), DRILL, {"set": "bit set", "bit s": "bit", "bit set dr": ""}),
        # A query hides products while it is being typed.
        (Hide(("bit",)), DRILL, {"d": "both drill driver", "dri": "both drill driver", "drill": "both drill"}),
        (Hide(("bit",)), DRILL, {"Drills": "both drill", "drill ": "both drill", "drlil": "both drill"}),
        (Hide(("bit", "drill")), EXACT, {"dril": "both", "cordless dril": "drill"}),
        (Hide(("both",)), DRIVER, {"dri": "bit drill driver", "drill": "both bit drill"}),
        (Restrict("brand = Bosch"), DRILL, {"drill": "both drill", "driv": "both driver"}),
        (Hide(("cn",)), CHINESE, {"电": "", "电钻": "", "线电": "", "牧": "cn"}),
    ],
)
def test_rules_apply_to_completions(
    ruled: SearchEngine, actions: Hide | Pin | Restrict, when: When, expected: dict[str, str]
) -> None:
    assert suggested(ruled, "dri") == ["both", "bit", "drill", "driver"]
    ruled.rules.put([Rule("it", (actions,), when)])
    assert {text: " ".join(suggested(ruled, text)) for text in expected} == expected


def test_rules_match_the_typed_and_the_corrected_text(ruled: SearchEngine) -> None:
    assert ruled.suggest("impcat dri").corrected == "impact dri"
    assert suggested(ruled, "impcat dri") == ["driver"]
    for when in (When("impact driver", Match.EXACT), When("impcat", Match.CONTAINS)):
        ruled.rules.put([Rule("hide", (Hide(("driver",)),), when)])
        assert suggested(ruled, "impcat dri") == []
    assert suggested(ruled, "impact dri") == ["driver"]


def test_missing_related_queries_are_damage(tmp_path: Path) -> None:
    write_popular_queries(tmp_path, [PopularQuery("drill", 9, related=(1,))], MADE)
    with pytest.raises(StoreDamagedError, match="refers to related queries that it does not contain"):
        read_popular_queries(tmp_path)


def visits(products: Sequence[str]) -> Iterator[Event]:
    """Events of seven shoppers who search "steel pan", choose two products, then search "frying pan" and buy one of
    them; seven others search "skillet" and choose the same; two search a name."""
    for number in range(7):
        who, at = str(number), MADE - timedelta(days=1, hours=number)
        yield from visit(who, "steel pan", products[:2], at)
        yield from visit(who, "frying pan", products[1:3], at + timedelta(minutes=2))
        yield Event(
            EventKind.PURCHASE,
            products[1],
            query_id=f"frying pan-{who}",
            shopper=f"shopper-{who}",
            session=f"s{who}",
            time=at + timedelta(minutes=3),
        )
        yield from visit(who, "skillet", products[1:3], at + timedelta(hours=2))
        if number < 2:
            yield from visit(who, "anna svensson", products[:1], at + timedelta(hours=5))


@pytest.fixture(scope="module")
def visited(demo_index: Path, engine: SearchEngine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index with tables derived from `visits`, read-only."""
    root = Path(shutil.copytree(demo_index, tmp_path_factory.mktemp("visited") / "index"))
    refresh_tables(root, visits([engine.snapshot.products.id_of(row) for row in range(4)]))
    return root


class TestPopularQueries:
    def test_popular_queries_have_enough_shoppers_sales_and_related_queries(self, visited: Path) -> None:
        asked = read_popular_queries(visited)
        by_text = {query.text: query for query in asked.queries}
        assert by_text.keys() == {"steel pan", "frying pan", "skillet"}
        assert "svensson" not in (visited / POPULAR_QUERIES_FILE).read_text("utf-8")
        assert {text for text, query in by_text.items() if query.has_purchases} == {"frying pan"}
        assert all(query.is_suggested for query in asked.queries)
        related = [asked.queries[at].text for at in by_text["steel pan"].related]
        assert related[0] == "frying pan", "shoppers went on with it"
        assert "frying pan" in [asked.queries[at].text for at in by_text["skillet"].related], "the same was chosen"

    def test_questions_of_pages_are_counted_by_their_products(self, root: Path, engine: SearchEngine) -> None:
        first, second = engine.snapshot.products.id_of(0), engine.snapshot.products.id_of(1)

        def asked(who: str, product: str) -> Event:
            at = MADE - timedelta(days=1, hours=int(who))
            of = {"query": "Is it vegan?", "query_id": f"{product}-{who}", "shopper": f"shopper-{who}", "time": at}
            return Event(EventKind.QUERY, product, results=0, **of)  # type: ignore[arg-type]

        of_pages = [asked(str(number), first) for number in range(7)]
        of_few = [asked(str(number), second) for number in range(2)]
        elsewhere = [replace(asked(str(number), ""), query="is it  VEGAN?") for number in range(8, 14)]
        refresh_tables(root, [*of_pages, *of_few, *elsewhere])
        (query,) = read_popular_queries(root).queries
        assert (query.searches, query.pages) == (15, ((first, 7),)), "too few shoppers asked it on the second page"
        unanswered = unanswered_questions(engine.answer, root, 10)
        assert [(each.times, each.about.product_id) for each in unanswered] == [(8, ""), (7, first)]

    def test_query_gets_the_category_that_shoppers_choose_from(self, root: Path, engine: SearchEngine) -> None:
        drills = ids(engine.search("", size=4, filters='category = "Tools > Power tools > Drills"'))
        before = [engine.search("machine for holes", stage=stage) for stage in ("merged", "bm25")]
        assert not {hit.product.category[-1] for hit in before[0].hits} <= {"Drills"}
        visits_of_queries = (
            visit(str(number), query, chosen, MADE - timedelta(days=days, hours=number))
            for query, chosen, days in (("machine for holes", drills, 1), ("hole maker", drills[:2], 3))
            for number in range(7)
        )
        refresh_tables(root, chain.from_iterable(visits_of_queries))
        found = {query.text: query.category for query in read_popular_queries(root).queries}
        assert found == {"machine for holes": "Drills", "hole maker": ""}
        with SearchEngine.open(root) as opened:
            first = opened.search("Holes for machine", size=3, stage="merged").hits
            assert {hit.product.category[-1] for hit in first} == {"Drills"}
            assert ids(opened.search("machine for holes", stage="bm25")) == ids(before[1])
            assert ids(opened.search("hole maker")) == ids(engine.search("hole maker"))

    def test_engine_suggests_popular_and_related_queries(self, visited: Path) -> None:
        with SearchEngine.open(visited) as engine:
            suggested = {query.text: query.source for query in engine.suggest("pan st").queries}
            assert suggested["steel pan"] is QuerySource.POPULAR
            popular = engine.suggest(" ", size=2)
            assert [(query.source, query.spans) for query in popular.queries] == [(QuerySource.POPULAR, ())] * 2
            assert not popular.products
            assert engine.related("Steel  PAN")[0] == "frying pan"
            assert engine.related("pan steel", size=1) == ("frying pan",)
            assert set(engine.related("pan")) == {"steel pan", "frying pan"}, "nobody asked it: what says more"
            assert engine.related("anna svensson") == ()
            assert engine.related("") == ()

    def test_word_of_a_successful_query_is_not_corrected(self, root: Path) -> None:
        query = PopularQuery("wireles speeker", 9, has_purchases=True, is_suggested=True)
        write_popular_queries(root, [query], MADE)
        with SearchEngine.open(root) as engine:
            page = engine.search("wireles speeker", size=1)
            assert (page.suggestion, page.corrected) == ("", False)
            write_popular_queries(root, [msgspec.structs.replace(query, has_purchases=False)], MADE)
            engine.reload_if_changed()
            page = engine.search("wireles speeker", size=1)
            assert (page.suggestion, page.corrected) == ("wireless speaker", True)
            suggested = engine.suggest("wireles e")
            assert suggested
            assert all(query.source is QuerySource.CATALOG for query in suggested.queries), (
                "a misspelling is not taught"
            )

    def test_misspelling_with_purchases_is_not_suggested_beside_its_correction(self, root: Path) -> None:
        query = PopularQuery("wireles speeker", 9, has_purchases=True, is_suggested=True)
        right = PopularQuery("wireless speaker", 8, has_purchases=True, is_suggested=True)
        for stored, expected in (([query], {"wireles speeker"}), ([query, right], {"wireless speaker"})):
            write_popular_queries(root, stored, MADE)
            with SearchEngine.open(root) as engine:
                suggested = engine.suggest("wirel", size=8).queries
                assert {each.text for each in suggested if each.source is QuerySource.POPULAR} == expected
