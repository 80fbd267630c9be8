"""`engine.rules`: changes that searches follow, in this engine and in others, and previews that change nothing."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.quality import run_stage
from retrieval.errors import RuleError, UnknownFieldError
from retrieval.filters.schema import FieldCatalog
from retrieval.records import Page
from service.curation.rules import Boost, Hide, Match, Pin, Redirect, Restrict, Rule, RuleStore, When
from service.engine.editors import ServedRules
from service.engine.engine import SearchEngine
from tests.machine import within

RULES_FILE = "rules.sqlite"

DRILL = When("drill", Match.CONTAINS)


def ids(page: Page) -> list[str]:
    return [hit.product.id for hit in page.hits]


@pytest.fixture
def root(demo_index: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(demo_index, tmp_path / "index"))


@pytest.fixture
def own(root: Path) -> Iterator[SearchEngine]:
    """An engine of an index that no other test has."""
    with SearchEngine.open(root) as opened:
        yield opened


def test_a_change_holds_in_the_next_search(own: SearchEngine) -> None:
    first, second = ids(own.search("drill", size=2))
    own.rules.put([Rule("it", (Hide((first,)),), DRILL)], who="m7")
    assert ids(own.search("drill", size=1)) == [second]
    assert ids(own.search("drill", size=1, rules=False)) == [first]
    own.rules.patch("it", {"enabled": False})
    assert ids(own.search("drill", size=1)) == [first]
    own.rules.restore(1)
    assert ids(own.search("drill", size=1)) == [second]
    own.rules.delete(["it"])
    assert ids(own.search("drill", size=1)) == [first]
    assert own.rules.revision == 4
    assert [change.who for change in own.rules.history("it")] == ["", "", "", "m7"]
    assert own.rules.list() == ()


def test_other_engines_follow_within_a_second(own: SearchEngine, root: Path) -> None:
    first = ids(own.search("drill", size=1))[0]
    RuleStore(root).put([Rule("it", (Hide((first,)),), DRILL)])
    assert within(1.0, lambda: first not in ids(own.search("drill")))
    # Twice in one moment: the file may have one time of change for both.
    for turn in range(5):
        RuleStore(root).put([Rule("it", (Redirect(f"/{turn}"),), DRILL)])
        RuleStore(root).put([Rule("it", (Redirect(f"/{turn}b"),), DRILL)])
        wanted = f"/{turn}b"
        assert within(1.0, lambda: own.search("drill").redirect == wanted)  # noqa: B023  # asked within this turn


def test_a_version_that_is_published_later_has_the_rules(own: SearchEngine) -> None:
    own.rules.put([Rule("it", (Redirect("/a"),), DRILL)])
    own.refresh()
    assert own.search("drill").redirect == "/a"


def test_an_engine_that_follows_nothing_has_the_rules_that_were_there(root: Path) -> None:
    RuleStore(root).put([Rule("it", (Redirect("/a"),), DRILL)])
    with SearchEngine.open(root, follow=False) as opened:
        assert opened.search("drill").redirect == "/a"


def test_a_field_that_comes_later_makes_a_rule_hold(own: SearchEngine, root: Path) -> None:
    product = ids(own.search("drill", size=30))[-1]
    with pytest.raises(RuleError, match="no field 'campaign'"):
        own.rules.put([Rule("it", (Boost("campaign = winter", 10),), DRILL)])
    RuleStore(root).put([Rule("it", (Boost("campaign = winter", 10),), DRILL)])
    own.reload_if_changed()
    assert "no field 'campaign'" in own.rules.faults["it"]
    assert any("passed over: rule 'it'" in notice for notice in own.notices)
    assert own.search("drill").rules == ()
    own.patch(product, **{"attributes.campaign": "winter"})
    assert ids(own.search("drill", size=1)) == [product]
    assert own.rules.faults == {}
    assert own.notices == ()


def test_rules_of_fields_that_a_version_lacks_are_passed_over(engine: SearchEngine, tmp_path: Path) -> None:
    served = ServedRules(tmp_path)
    served.store.put([Rule("brand", (Boost("brand = Bosch"),)), Rule("price", (Boost("price < 9"),))])
    served.reload_if_changed(engine.snapshot)
    compiled = served.compiled(engine.snapshot)
    assert compiled is not None
    assert compiled.faults == {}
    fields = {name: info for name, info in engine.snapshot.catalog.fields.items() if name != "brand"}
    older = replace(engine.snapshot, catalog=FieldCatalog(fields))
    compiled = served.compiled(older)
    assert compiled is not None
    assert list(compiled.faults) == ["brand"]
    assert compiled.effect([engine.snapshot.analyzer.analyze("x")], None, 0).rules == ("price",)
    again = served.compiled(engine.snapshot)
    assert again is not None
    assert again.faults == {}


def test_what_cannot_be_read_leaves_the_rules_as_they_were(own: SearchEngine, root: Path) -> None:
    own.rules.put([Rule("it", (Redirect("/a"),), DRILL)])
    whole = (root / RULES_FILE).read_bytes()
    (root / RULES_FILE).write_bytes(b"damaged" * 999)
    assert within(2.0, lambda: any("rules are not loaded" in notice for notice in own.notices))
    assert own.search("drill").redirect == "/a"
    (root / RULES_FILE).write_bytes(b"")
    time.sleep(0.2)
    assert own.search("drill").redirect == "/a"
    # The other one is a file from a backup, in which fewer changes were made.
    (root / RULES_FILE).unlink()
    (root / RULES_FILE).write_bytes(whole)
    RuleStore(root).put([Rule("it", (Redirect("/b"),), DRILL)])
    assert within(2.0, lambda: own.search("drill").redirect == "/b")
    assert own.notices == ()
    (root / RULES_FILE).unlink()
    assert within(2.0, lambda: own.search("drill").redirect == "")


def test_an_index_with_damaged_rules_is_opened(root: Path) -> None:
    (root / RULES_FILE).write_bytes(b"damaged" * 999)
    with SearchEngine.open(root) as opened:
        assert opened.search("drill").hits
        assert "rules.sqlite is damaged" in opened.notices[0]


def test_similar_products_are_without_those_that_rules_keep_out(own: SearchEngine) -> None:
    product = ids(own.search("drill", size=1))[0]
    near = ids(own.similar(product))
    rules = [
        Rule("hide", (Hide((near[0],)),)),
        Rule("only", (Restrict("price < 100"),), When(filters="availability = in_stock")),
        Rule("pin", (Pin((near[5],)), Redirect("/a"))),
        Rule("query", (Hide((near[1],)),), DRILL),
    ]
    own.rules.put(rules)
    page = own.similar(product)
    assert ids(page)[:9] == near[1:10]
    assert page.rules == ("hide",)
    assert not page.redirect
    stocked = own.similar(product, filters="availability = in_stock")
    assert stocked.rules == ("hide", "only")
    assert all(hit.product.price is not None and hit.product.price < 100 for hit in stocked.hits)
    assert ids(own.similar(product, rules=False)) == near


def test_what_is_measured_does_not_go_by_rules(own: SearchEngine) -> None:
    before = run_stage(own, ["drill", "mug"], "merged")
    own.rules.put([Rule("it", (Hide(filters="price > 0"),))])
    assert own.search("drill").total == 0
    assert run_stage(own, ["drill", "mug"], "merged") == before


class TestPreview:
    def test_it_tells_what_would_come_go_and_move(self, own: SearchEngine) -> None:
        before = ids(own.search("drill", size=6))
        strange = ids(own.search("mug", size=1))[0]
        rules = [Rule("a", (Pin((strange,), 2), Hide((before[0],))), DRILL)]
        found = own.rules.preview("drill", rules, size=5)
        assert ids(found.before) == before[:5]
        assert ids(found.after) == [before[1], strange, *before[2:5]]
        assert [(each.product, each.before, each.after, each.rule) for each in found.gained] == [
            (strange, None, 2, "a")
        ]
        assert [(each.product, each.before, each.after) for each in found.lost] == [(before[0], 1, None)]
        assert [(each.product, each.before, each.after) for each in found.moved] == [(before[1], 2, 1)]
        assert found.after.total == found.before.total
        assert found.moved[0].title == own.product(before[1]).title

    def test_nothing_is_changed(self, own: SearchEngine, root: Path) -> None:
        page = own.search("drill")
        own.rules.preview("drill", [Rule("a", (Hide(filters="price > 0"),))])
        assert ids(own.search("drill")) == ids(page)
        assert own.rules.list() == ()
        assert not (root / RULES_FILE).exists()

    def test_it_counts_with_the_rules_that_stay(self, own: SearchEngine) -> None:
        first, second, third = ids(own.search("drill", size=3))
        own.rules.put([Rule("a", (Hide((first,)),), DRILL), Rule("b", (Hide((second,)),), DRILL)])
        found = own.rules.preview("drill", [Rule("c", (Redirect("/c"),))], delete=["b"], size=1)
        assert (ids(found.before), ids(found.after)) == ([third], [second])
        assert (found.before.rules, found.after.rules) == (("a", "b"), ("a", "c"))
        assert (found.before.redirect, found.after.redirect) == ("", "/c")

    def test_places_go_on_over_pages(self, own: SearchEngine) -> None:
        tenth = ids(own.search("drill", size=10))[9]
        found = own.rules.preview("drill", [Rule("a", (Pin((tenth,), 7),), DRILL)], size=5, page=2)
        assert [(each.product, each.before, each.after) for each in found.moved if each.rule] == [(tenth, 10, 7)]

    def test_what_could_not_be_put_is_refused(self, own: SearchEngine) -> None:
        with pytest.raises(RuleError, match="no field 'colr'"):
            own.rules.preview("drill", [Rule("a", (Boost("colr = red"),))])
        with pytest.raises(RuleError, match="no rule 'b'"):
            own.rules.preview("drill", delete=["b"])
        with pytest.raises(UnknownFieldError):
            own.rules.preview("drill", filters="colr = red")


def test_a_rule_instead_of_a_list_is_told(own: SearchEngine) -> None:
    with pytest.raises(RuleError, match="must be a list"):
        own.rules.put(Rule("a", (Redirect("/a"),)))  # type: ignore[arg-type]
    with pytest.raises(RuleError, match="must be a list"):
        own.rules.delete("a")
