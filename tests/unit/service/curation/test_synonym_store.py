"""Synonyms, and goals of exposure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from shelfwise.retrieval.errors import SynonymError
from shelfwise.retrieval.records import ControlledExposure, ExposureGoal, Hit, Page, Product
from shelfwise.retrieval.text.analysis import SynonymRule, Synonyms
from shelfwise.service.curation.exposure import (
    NOT_COUNTED,
    STRONGEST,
    ExposureState,
    ExposureStore,
    attention,
    goals_of,
)
from shelfwise.service.curation.rules import Boost, Exposure, Rule
from shelfwise.service.curation.synonyms import (
    Synonym,
    SynonymKind,
    SynonymStore,
    format_lines,
    name_synonym,
    parse_line,
    read_lines,
)
from shelfwise.service.engine.editors import ServedExposure

NOW = datetime(2026, 11, 27, 12, 30, tzinfo=UTC)
SOFA = Synonym("sofa", SynonymKind.TWO_WAY, ("sofa", "couch", "settee"))
HDD = Synonym("hdd", SynonymKind.ONE_WAY, ("hdd",), ("hard drive", "hard disk"))


@pytest.fixture
def store(tmp_path: Path) -> SynonymStore:
    return SynonymStore(tmp_path, clock=lambda: NOW)


def test_synonym_expands_each_phrase() -> None:
    assert list(SOFA.rules) == [
        SynonymRule("sofa", ("couch", "settee")),
        SynonymRule("couch", ("sofa", "settee")),
        SynonymRule("settee", ("sofa", "couch")),
    ]
    assert list(HDD.rules) == [SynonymRule("hdd", ("hard drive", "hard disk"))]


def test_whitespace_is_collapsed(store: SynonymStore) -> None:
    store.put([Synonym("pan", SynonymKind.TWO_WAY, ("  frying \t pan", "skillet"))])
    assert store.get("pan").phrases == ("frying pan", "skillet")


@pytest.mark.parametrize(
    ("synonym", "field", "message"),
    [
        ("couch, sofa", "", "must be of the class Synonym, not str"),
        (Synonym("", SynonymKind.TWO_WAY, ("a", "b")), "id", "is empty"),
        (Synonym("x", SynonymKind.TWO_WAY, ("a",)), "phrases", "has 1 phrases, it can have 2 to 30"),
        (Synonym("x", SynonymKind.TWO_WAY, tuple(f"word{n}" for n in range(31))), "phrases", "has 31 phrases"),
        (Synonym("x", SynonymKind.TWO_WAY, ("a", "b"), ("c",)), "to", "but kind is two-way"),
        (Synonym("x", SynonymKind.ONE_WAY, ("a",)), "to", "has 0 phrases, it can have 1 to 30"),
        (Synonym("x", SynonymKind.TWO_WAY, ("a", "!?")), "phrases", "has no word"),
        (Synonym("x", SynonymKind.TWO_WAY, ("a", "b, c")), "phrases", 'contains ","'),
        (Synonym("x", SynonymKind.TWO_WAY, ("a", "b # c")), "phrases", 'contains "#"'),
        (Synonym("x", SynonymKind.TWO_WAY, ("couch", "Couches")), "phrases", "is the same as 'couch'"),
        (Synonym("x", SynonymKind.ONE_WAY, ("couch",), ("sofa", "COUCH")), "to", "is the same as 'couch'"),
    ],
)
def test_an_invalid_one_names_its_field(store: SynonymStore, synonym: Synonym, field: str, message: str) -> None:
    with pytest.raises(SynonymError, match=message) as refused:
        store.put([SOFA, synonym])
    assert refused.value.field == field
    assert store.revision() == 0


def test_synonyms_of_one_phrase_are_limited_in_total(store: SynonymStore) -> None:
    several = [
        Synonym(f"s{n}", SynonymKind.ONE_WAY, ("Thing",), tuple(f"w{n}x{m}" for m in range(30))) for n in range(2)
    ]
    store.put(several)
    more = Synonym("more", SynonymKind.ONE_WAY, ("thing",), ("other",))
    with pytest.raises(SynonymError, match="'thing' would have 61 synonyms, at most 60"):
        store.put([more])
    store.put([replace(more, enabled=False)])


def test_id_is_derived_from_the_words() -> None:
    assert name_synonym(SynonymKind.TWO_WAY, ("Sofa", "Big couch")).id == "sofa-big-couch"
    assert parse_line(" hdd =>  hard   drive, hard disk ") == Synonym(
        "hdd-to-hard-drive-hard-disk", SynonymKind.ONE_WAY, ("hdd",), ("hard drive", "hard disk")
    )
    long = name_synonym(SynonymKind.TWO_WAY, tuple(f"phrase {number}" for number in range(20)))
    assert len(long.id) == 69
    assert long.id == name_synonym(long.kind, long.phrases).id != name_synonym(long.kind, long.phrases[:-1]).id


def test_file_uses_the_format_of_rebuild(tmp_path: Path) -> None:
    path = tmp_path / "synonyms.txt"
    text = "# a comment\nsofa, couch, sofa # twice\n\nhdd => hard drive\n移动电源, 充电宝\nsofa, couch\n"
    path.write_text(text, encoding="utf-8")
    found = read_lines(path)
    assert [each.line for each in found] == ["sofa, couch", "hdd => hard drive", "移动电源, 充电宝"]
    written = format_lines([*found, replace(HDD, enabled=False)])
    assert written.splitlines()[-1] == "# off: hdd => hard drive, hard disk"
    rules = tuple(rule for each in found for rule in each.rules)
    assert Synonyms.parse(written.splitlines()) == Synonyms.parse(text.splitlines()[:-1]) == Synonyms(rules)


@pytest.mark.parametrize(
    ("line", "message"), [("couch", "has no synonym"), ("a => b => c", "more than one"), ("a, => c", "is empty")]
)
def test_invalid_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "synonyms.txt"
    path.write_text(f"sofa, couch\n{line}\n")
    with pytest.raises(SynonymError, match=f"synonyms.txt:2: .*{message}"):
        read_lines(path)


def test_unreadable_file_raises(tmp_path: Path) -> None:
    with pytest.raises(SynonymError, match="cannot be read"):
        read_lines(tmp_path / "none.txt")
    (tmp_path / "bad.txt").write_bytes(b"a, b\n\xff\n")
    with pytest.raises(SynonymError, match=r"bad\.txt:2: not UTF-8"):
        read_lines(tmp_path / "bad.txt")


FLOOR = ExposureGoal("floor", "brand = Bosch", at_least=0.25)
CEILING = ExposureGoal("ceiling", "brand = Bosch", at_most=0.25)


def shown(ids: str, *, own: str = "", pinned: str = "", page: int = 1, goal: ExposureGoal = FLOOR) -> Page:
    """A page of hits whose ids are single letters."""
    hits = tuple(Hit(Product(each, each), 1.0, {}) for each in ids)
    return Page(hits, 99, page, len(ids), exposure_goals=(ControlledExposure(goal, 0.0, tuple(own), tuple(pinned)),))


def test_attention_is_one_by_rank_of_the_first_twenty_without_pinned_hits() -> None:
    assert attention(shown("abc", own="b")) == [(FLOOR, 1 / 2, 1 + 1 / 2 + 1 / 3)]
    assert attention(shown("abc", own="ab", pinned="a")) == [(FLOOR, 1 / 2, 1 / 2 + 1 / 3)]
    assert attention(shown("abc", own="c", page=2)) == [(FLOOR, 1 / 6, 1 / 4 + 1 / 5 + 1 / 6)]
    assert attention(shown("abc", own="abc", page=7)) == [(FLOOR, 1 / 19 + 1 / 20, 1 / 19 + 1 / 20)]
    assert attention(Page((), 0, 1, 20)) == []


def after_days(goal: ExposureGoal, share_at: Callable[[float], float]) -> ExposureState:
    """The state after two days of searches in which the products randomly get all attention or none."""
    chance, state = np.random.default_rng(3), NOT_COUNTED
    for day in (1, 2):
        for _ in range(2_000):
            own = float(chance.random() < share_at(state.strength))
            state = (state + state.step(goal, day, own, 1.0)).within(goal)
    return state


def test_floor_is_held_over_a_day_by_a_steady_strength() -> None:
    found = after_days(FLOOR, lambda strength: 0.1 + 0.1 * strength)
    assert (found.day, found.searches, found.counted) == (2, 2_000, 4_000)
    assert found.share == pytest.approx(0.25, abs=0.02)
    assert found.strength == pytest.approx(1.5, abs=0.5)


def test_ceiling_moves_products_down_and_a_reached_goal_moves_none() -> None:
    assert after_days(CEILING, lambda strength: 0.4 + 0.1 * strength).share == pytest.approx(0.25, abs=0.02)
    assert -0.1 < after_days(CEILING, lambda _: 0.1).strength <= 0
    assert 0 <= after_days(FLOOR, lambda _: 0.5).strength < 0.1


def test_strength_is_bounded_where_no_product_can_be_shown() -> None:
    assert after_days(FLOOR, lambda _: 0.0).strength == STRONGEST
    assert after_days(CEILING, lambda _: 1.0).strength == -STRONGEST


def test_days_begin_at_nothing_with_the_strength_of_the_day_before() -> None:
    first = ExposureState(1, 2.0, 8.0, 3, 0.5, 3)
    assert first.on(2) == ExposureState(2, strength=0.5, counted=3)
    late = ExposureState(1, 1.0, 2.0, 1, -0.1, 1)
    assert first.on(2) + late == ExposureState(2, strength=0.4, counted=4)
    assert first + late == ExposureState(1, 3.0, 10.0, 4, 0.4, 4)
    assert (NOT_COUNTED + late).within(FLOOR).strength == 0


def test_processes_share_their_counts(tmp_path: Path) -> None:
    now = [datetime(2026, 11, 30, 12, tzinfo=UTC)]
    one, other = (ServedExposure(tmp_path, clock=lambda: now[0]) for _ in range(2))
    one.count(shown("abcd", own="d"))
    assert one.state(FLOOR).searches == 1
    assert other.state(FLOOR) == ExposureState(20_787)
    other.count(shown("abcd", own="a"))
    for each in (one, other, one):
        each.write()
        each.reload_if_changed()
    both = one.state(FLOOR)
    assert both == other.state(FLOOR)
    total = 1 + 1 / 2 + 1 / 3 + 1 / 4
    assert (both.searches, both.own) == (2, 1 / 4 + 1)
    assert both.total == pytest.approx(2 * total)
    # Counts per products: another share of the same products continues them, other products start anew.
    assert one.state(replace(FLOOR, at_least=0.5)).searches == 2
    assert one.state(replace(FLOOR, filters="brand = Makita")).searches == 0
    now[0] += timedelta(days=1)
    assert one.state(FLOOR) == ExposureState(20_788, strength=both.strength, counted=2)


def test_counts_are_written_about_once_a_second(tmp_path: Path) -> None:
    now = [datetime(2026, 11, 30, 12, tzinfo=UTC)]
    served, store = ServedExposure(tmp_path, clock=lambda: now[0]), ExposureStore(tmp_path)
    served.count(shown("ab", own="b"))
    served.reload_if_changed()
    assert store.read() == {}
    now[0] += timedelta(seconds=2)
    served.reload_if_changed()
    assert store.read()["floor", "brand = Bosch"].searches == 1


def test_counts_wait_while_the_file_cannot_be_written(tmp_path: Path) -> None:
    served = ServedExposure(tmp_path)
    store = ExposureStore(tmp_path)
    store.path.write_bytes(b"damaged" * 999)
    served.count(shown("ab", own="b"))
    served.write()
    assert "exposure is not counted" in served.notices[0]
    store.path.unlink()
    served.write()
    assert served.notices == ()
    assert store.read()["floor", "brand = Bosch"].searches == 1


def test_goals_of_rules() -> None:
    rule = Rule("own", (Boost("price < 9"), Exposure("brand = Bosch", 0.04), Exposure("price > 90", at_most=0.5)))
    floor, ceiling = goals_of([rule])
    assert (floor, ceiling.share) == (ExposureGoal("own", "brand = Bosch", 0.04), 0.5)
