"""Experiments and their outcomes."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import msgspec
import pytest

from shelfwise.retrieval.errors import ExperimentError
from shelfwise.service.curation.document_store import plain_document
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.experiments.analysis import (
    ExperimentReport,
    Outcome,
    draft_outcomes,
    experiment_report,
    split_outcomes,
)
from shelfwise.service.experiments.assignment import DraftMark, SplitMark, sign_query_id
from shelfwise.service.experiments.experiment import (
    EngineExperiments,
    Experiment,
    ExperimentStore,
    Goal,
    Mode,
    Unit,
    Variant,
    VariantOptions,
    check_overlaps,
)
from tests.reports import WINDOW, Event, answer, event, event_frame, inputs, session_frame

PLAIN: dict[str, Any] = {"id": "merging", "variants": [{"name": "now"}, {"name": "rrf", "options": {"merge": "rrf"}}]}
FULL = Experiment(
    "full",
    (Variant("a", VariantOptions(rules=False), 2.0), Variant("b", VariantOptions("merged", "rrf", True))),
    "A full one",
    Mode.SPLIT,
    Unit.QUERY,
    0.5,
    datetime(2026, 12, 1, tzinfo=UTC),
    datetime(2027, 1, 1, tzinfo=UTC),
    False,
    Goal.PURCHASES,
    5_000,
    0.1,
)
SAME_AS_NONE: list[dict[str, Any]] = [{}, {"rules": True}, {"stage": "ranked"}, {"merge": "per-word"}]
MERGED_ORDER = {"a": {"ranker": "off"}, "b": {"stage": "merged"}}
NO_RANKERS = ("best", "r1", "ranker-1", "ranker-" + "0" * 99)


def parse_experiment(document: object) -> Experiment:
    return ExperimentStore.kind.validate(ExperimentStore.kind.accept(document, "it"))


def test_experiment_round_trips() -> None:
    for experiment in (FULL, parse_experiment(PLAIN)):
        line = msgspec.json.encode(plain_document(experiment))
        assert parse_experiment(msgspec.json.decode(line)) == experiment
    assert plain_document(parse_experiment(PLAIN)) == PLAIN


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"id": "Upper"}, "id"),
        ({"id": "a~b"}, "id"),
        ({"name": "x" * 201}, "name"),
        ({"share": 0}, "share"),
        ({"planned": 5}, "planned"),
        ({"least_effect": -1}, "least_effect"),
        ({"mode": "both"}, "mode"),
        ({"starts": "2026-12-01T00:00:00"}, "starts"),
        ({"starts": "2026-12-02T00:00:00Z", "ends": "2026-12-01T00:00:00Z"}, "ends"),
        ({"starts": "9999-12-31T00:00:00Z"}, "starts"),
        ({"share": float("nan")}, "share"),
        ({"colour": "red"}, "colour"),
        ({"variants": [{"name": "a"}]}, "variants"),
        ({"variants": [{"name": "a"}] * 2}, "variants"),
        ({"variants": [{"name": f"v{number}"} for number in range(9)]}, "variants"),
        ({"variants": [{"name": "a"}, {"name": "b.c"}]}, "name"),
        ({"aa_test": True}, "aa_test"),
        *(({"variants": [{"name": "a"}, {"name": "b", "options": options}]}, "options") for options in SAME_AS_NONE),
        ({"variants": [*PLAIN["variants"], {"name": "c", "options": {"merge": "rrf", "rules": True}}]}, "options"),
        ({"variants": [{"name": name, "options": each} for name, each in MERGED_ORDER.items()]}, "options"),
        ({"variants": [{"name": "a"}, {"name": "b", "weight": 0}]}, "weight"),
        ({"variants": [{"name": "a"}, {"name": "b", "options": {"stage": "dense"}}]}, "stage"),
        *(({"variants": [{"name": "a"}, {"name": "b", "options": {"ranker": name}}]}, "ranker") for name in NO_RANKERS),
        ({"mode": "interleave", "variants": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}, "variants"),
        ({"mode": "interleave", "variants": [{"name": "a"}, {"name": "b", "weight": 2}]}, "weight"),
        ({"mode": "interleave", "variants": [{"name": "a"}, {"name": "b", "options": {"rules": False}}]}, "rules"),
    ],
)
def test_invalid_experiment_error_names_the_field(wrong: dict[str, Any], field: str) -> None:
    with pytest.raises(ExperimentError) as caught:
        parse_experiment(PLAIN | wrong)
    assert caught.value.field == field
    assert field in str(caught.value)


def test_variant_may_name_a_ranker_only_for_the_ranked_stage() -> None:
    for name in ("off", "default", "ranker-0001"):
        made = parse_experiment(PLAIN | {"variants": [{"name": "a"}, {"name": "b", "options": {"ranker": name}}]})
        assert made.variants[1].options.given == {"ranker": name}
    options = {"ranker": "ranker-0001", "stage": "merged"}
    with pytest.raises(ExperimentError, match='no ranker reorders the stage "merged"'):
        parse_experiment(PLAIN | {"variants": [{"name": "a"}, {"name": "b", "options": options}]})


def test_equal_variants_need_an_aa_test() -> None:
    twins = {"id": "check", "variants": [{"name": "a"}, {"name": "b", "weight": 2}]}
    with pytest.raises(ExperimentError, match=r"variants\[1\]: options: equals 'a', .* declare an A/A test"):
        parse_experiment(twins)
    assert parse_experiment(twins | {"aa_test": True}).aa_test


def test_conflicting_experiments_are_refused() -> None:
    def one(identity: str, mode: Mode = Mode.SPLIT, **options: str | bool) -> Experiment:
        variants = [{"name": "a"}, {"name": "b", "options": options}]
        return parse_experiment({"id": identity, "mode": mode, "variants": variants, "aa_test": not options})

    merging = one("merging", merge="rrf")
    check_overlaps(one("rules", rules=False), [merging])
    check_overlaps(one("draft", Mode.INTERLEAVE, stage="merged"), [merging])
    check_overlaps(replace(merging, variants=one("x", stage="merged").variants), [merging])
    with pytest.raises(ExperimentError, match="sets merge at that time"):
        check_overlaps(one("other", merge="rrf"), [merging])
    with pytest.raises(ExperimentError, match="interleaves at that time"):
        check_overlaps(one("other", Mode.INTERLEAVE), [one("draft", Mode.INTERLEAVE, merge="rrf")])
    ended = replace(merging, ends=datetime(2026, 12, 1, tzinfo=UTC))
    check_overlaps(replace(one("other", merge="rrf"), starts=datetime(2026, 12, 1, tzinfo=UTC)), [ended])
    order, stage = one("order", ranker="off"), one("stage", stage="merged")
    check_overlaps(merging, [order])
    for new, there, message in ((order, stage, "sets stage"), (stage, order, "sets ranker")):
        with pytest.raises(ExperimentError, match=message):
            check_overlaps(new, [there])
    with pytest.raises(ExperimentError, match="4 others run"):
        check_overlaps(one("fifth"), [one(f"e{number}") for number in range(4)])


NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
MERGING = Experiment("merging", (Variant("now"), Variant("rrf", VariantOptions(merge="rrf"))))
ORDER = Experiment("order", (Variant("now"), Variant("words", VariantOptions(ranker="ranker-0099"))))


@pytest.fixture
def clock() -> Mock:
    return Mock(return_value=NOW)


@pytest.fixture
def store(tmp_path: Path, clock: Mock) -> ExperimentStore:
    return ExperimentStore(tmp_path, clock=clock)


def test_started_experiment_can_be_switched_off_but_not_changed(store: ExperimentStore, clock: Mock) -> None:
    assert store.put([MERGING], who="m7") == store.put([MERGING]) == 1
    clock.return_value += HOUR
    changes: list[Callable[[], int]] = [
        lambda: store.put([replace(MERGING, share=0.5)]),
        lambda: store.put([replace(MERGING, starts=NOW + 2 * HOUR)]),
        lambda: store.put([replace(MERGING, ends=NOW + 2 * HOUR)]),
        lambda: store.delete(["merging"]),
        lambda: store.restore(0),
    ]

    def refuse() -> None:
        for change in changes:
            with pytest.raises(ExperimentError, match="'merging' has started: it can be switched off, not changed"):
                change()

    refuse()
    assert store.get("merging").runs(clock.return_value)
    assert store.patch("merging", {"enabled": False}, who="m9") == store.patch("merging", {"enabled": False}) == 2
    kept = store.get("merging")
    assert kept == replace(MERGING, starts=NOW, ends=NOW + HOUR)
    assert kept.state(clock.return_value) == "ended"
    changes += [lambda: store.put([MERGING]), lambda: store.restore(1)]
    refuse()
    assert [(each.who, each.after) for each in store.history()] == [("m9", kept), ("m7", replace(MERGING, starts=NOW))]


def test_draft_and_scheduled_experiments_can_be_changed(store: ExperimentStore, clock: Mock) -> None:
    store.put([replace(MERGING, enabled=False)])
    clock.return_value += HOUR
    assert store.get("merging").state(clock.return_value) == "draft"
    store.put([replace(MERGING, starts=NOW + 3 * HOUR)])
    assert store.get("merging").state(clock.return_value) == "waiting"
    store.put([replace(MERGING, starts=NOW + 2 * HOUR, ends=NOW + 4 * HOUR)])
    kept = store.get("merging")
    assert [kept.runs(NOW + hours * HOUR) for hours in range(1, 5)] == [False, True, True, False]
    assert kept.state(NOW + 5 * HOUR) == "ended"
    store.patch("merging", {"enabled": False})
    assert store.delete(["merging"]) == 5


def test_experiment_saved_after_its_start_begins_when_saved(store: ExperimentStore) -> None:
    early = replace(MERGING, starts=NOW - HOUR)
    assert store.put([early]) == store.put([early]) == 1
    assert store.get("merging").starts == NOW
    with pytest.raises(ExperimentError) as caught:
        store.put([replace(MERGING, id="old", ends=NOW - HOUR)])
    assert caught.value.field == "ends"


def test_conflicting_experiment_is_refused_until_the_other_ends(store: ExperimentStore, clock: Mock) -> None:
    other = replace(MERGING, id="other")
    for both in ([MERGING, other], [other, MERGING]):
        with pytest.raises(ExperimentError, match="also sets merge"):
            store.put(both)
    store.put([MERGING, replace(other, enabled=False)])
    with pytest.raises(ExperimentError, match="'merging' also sets merge"):
        store.patch("other", {"enabled": True})
    clock.return_value += HOUR
    store.patch("merging", {"enabled": False})
    assert store.put([other]) == 3


def test_experiments_have_own_assignments_and_share_one_key(store: ExperimentStore) -> None:
    store.put([MERGING])
    read = store.read()
    store.put([Experiment("rules", (Variant("on"), Variant("off", VariantOptions(rules=False))))])
    assert store.read().key == read.key
    assert len(read.key) == 32
    assert read.salt("merging") == store.read().salt("merging") != read.salt("rules")
    assert store.path.stat().st_mode & 0o077 == 0


def test_engine_loads_experiments_of_other_processes(root: Path, clock: Mock, engine: SearchEngine) -> None:
    store = ExperimentStore(root, clock=clock)
    followed = EngineExperiments(root, lambda: engine.snapshot, engine.ranker_problem, clock=clock)
    assert followed.running().documents == ()
    store.put([MERGING])
    followed.reload_if_changed(engine.snapshot)
    assert [each.id for each in followed.running().documents] == ["merging"]
    store.path.write_bytes(b"damaged" * 1_000)
    followed.reload_if_changed(engine.snapshot)
    assert [each.id for each in followed.running().documents] == ["merging"]
    assert "not loaded" in followed.notices[0]


def test_missing_ranker_is_refused_until_the_experiment_is_off(root: Path) -> None:
    store = ExperimentStore(root)
    store.put([replace(ORDER, enabled=False)])
    changes: list[Callable[[], int]] = [lambda: store.put([ORDER]), lambda: store.patch("order", {"enabled": True})]
    for change in changes:
        with pytest.raises(ExperimentError, match="has no ranker 'ranker-0099'"):
            change()
    assert store.revision() == 1


KEY = b"k" * 32
TOMORROW = WINDOW.last + timedelta(days=1)
SPLIT = Experiment("merging", (Variant("now"), Variant("rrf", VariantOptions(merge="rrf"))))
DRAFT = replace(SPLIT, id="draft", mode=Mode.INTERLEAVE)


def seen(name: str, variant: str) -> str:
    return sign_query_id(name, [SplitMark("merging", variant)], KEY)


def draft_id(name: str, teams: str, first: int = 1) -> str:
    return sign_query_id(name, [DraftMark("draft", first, teams)], KEY)


def asked(session_number: int, query_id: str, products: Sequence[str], at: float = 0, **values: object) -> list[Event]:
    result = {"query": "drill", "results": len(products), **values}
    shown = {name: value for name, value in result.items() if name not in ("query", "results")}
    query = str(result["query"])
    return [
        event("query", session_number, query_id, at, **result),
        *answer(session_number, query_id, products, query, at, **shown),
    ]


def rows(events: Sequence[Event], experiment: Experiment = SPLIT) -> dict[tuple[str, str], dict[str, float]]:
    frame = event_frame(events)
    sessions = session_frame([{"session": f"s{number}"} for number in range(10)]).select("session_number", "session")
    table = split_outcomes(frame, sessions, experiment, KEY).shoppers
    return {(row["who"], row["variant"]): row for row in table.to_dicts()}


def test_pages_and_reloads_are_one_search() -> None:
    one, two = seen("q1", "rrf"), seen("q2", "rrf")
    events = [
        *asked(1, one, ["p1", "p2"]),
        *asked(1, two, ["p3"], at=1, query="  Drill "),
        event("click", 1, two, 2, product_id="p3"),
        event("cart", 1, two, 3, product_id="p3"),
        event("purchase", 1, two, 4, product_id="p3"),
    ]
    (row,) = rows(events).values()
    counts = {"searches": 1, "clicked": 1, "empty": 0, "abandoned": 0, "carts": 1, "purchases": 1, "shoppers": 1}
    assert row == {"who": "k1~1", "variant": "rrf", **counts}


def test_search_without_further_acts_is_abandoned() -> None:
    events = [
        *asked(1, seen("q1", "now"), ["p1"]),
        *asked(1, seen("q2", "now"), ["p2"], at=1, query="hammer drill"),
        *asked(2, seen("q3", "now"), ["p1"]),
        event("query", 2, "q4", 1, query="cordless drill", results=3),
        *asked(3, seen("q5", "rrf"), []),
    ]
    found = rows(events)
    assert found["k1~1", "now"]["abandoned"] == 1
    assert found["k1~1", "now"]["searches"] == 2
    assert found["k1~2", "now"]["abandoned"] == 0
    assert (found["k1~3", "rrf"]["empty"], found["k1~3", "rrf"]["abandoned"]) == (1, 1)


def test_cart_without_query_id_belongs_to_the_clicked_search() -> None:
    one, browsed = seen("q1", "now"), seen("q2", "now")
    events = [
        *asked(1, one, ["p1"]),
        event("click", 1, one, 1, product_id="p1"),
        event("cart", 1, "", 2, product_id="p1"),
        event("cart", 1, "", 3, product_id="p9"),
        *answer(2, browsed, ["p1"], ""),
        event("cart", 2, browsed, 2, product_id="p1"),
    ]
    found = rows(events)
    assert [(found[who, "now"]["searches"], found[who, "now"]["carts"]) for who in ("k1~1", "k1~2")] == [(1, 1), (0, 1)]


def test_forged_events_are_ignored() -> None:
    fakes = [
        "q~merging.rrf~AAAAAAAAAAAA",
        sign_query_id("q", [SplitMark("merging", "rrf")], b"other"),
        seen("q", "third"),
    ]
    fakes += [sign_query_id("q", [SplitMark("merging-2", "rrf")], KEY)]
    # A valid mark without a recorded search does not count either.
    events = [each for number, fake in enumerate(fakes) for each in asked(number, fake, ["p1"])]
    events += [event("purchase", 5, seen("q9", "rrf"), 2, product_id="p1")]
    assert rows(events) == {}


def test_units_are_counted_by_assignment() -> None:
    events = [
        *asked(1, seen("q1", "now"), ["p1"], shopper="k1~1", who="k1~1"),
        *asked(2, seen("q2", "now"), ["p1"], shopper="k1~1", who="k1~1"),
        *asked(2, seen("q3", "rrf"), ["p1"], query="saw", shopper="k1~1", who="k1~1"),
    ]
    sessions = session_frame([{"session": f"s{number}"} for number in range(3)]).select("session_number", "session")
    for unit, drawn in ((Unit.SHOPPER, (1, 1)), (Unit.SESSION, (2, 1)), (Unit.QUERY, (1, 1))):
        found = split_outcomes(event_frame(events), sessions, replace(SPLIT, unit=unit), KEY)
        assert (found.units["now"], found.units["rrf"]) == drawn


def test_list_with_more_clicks_wins_the_search() -> None:
    one, two, three = draft_id("q1", "abab"), draft_id("q2", "ba-a", first=5), draft_id("q3", "ab")
    events = [
        *asked(1, one, ["p1", "p2", "p3", "p4"]),
        event("click", 1, one, 1, product_id="p2"),
        event("click", 1, one, 1.5, product_id="p2"),
        *[
            event("impression", 1, two, 2, query="drill", product_id=f"p{place}", position=place)
            for place in range(5, 9)
        ],
        event("click", 1, two, 3, product_id="p5"),
        event("click", 1, two, 3, product_id="p6"),
        event("click", 1, two, 3, product_id="p7"),
        *asked(2, three, ["p1", "p2"]),
        event("click", 2, three, 1, product_id="p1"),
        event("click", 2, three, 1, product_id="p2"),
        *asked(3, draft_id("q4", "ab"), ["p1", "p2"]),
        *asked(4, draft_id("q5", "ab"), ["p1", "p2"]),
        event("click", 4, draft_id("q5", "ab"), 1, product_id="p1"),
    ]
    table = draft_outcomes(event_frame(events), DRAFT, KEY)
    assert table.select("wins", "losses", "ties").rows() == [(1, 0, 0), (0, 0, 1), (0, 0, 0), (0, 1, 0)]
    assert table["searches"].to_list() == [1, 1, 1, 1]


def report_of(events: Sequence[Event], experiment: Experiment, days: int = 10, ended: bool = False) -> ExperimentReport:
    begins = WINDOW.last - timedelta(days=days)
    stored = replace(experiment, starts=begins, ends=WINDOW.last if ended else experiment.ends)
    count = 1 + max(int(str(each["session_number"])) for each in events)
    sessions = session_frame([{}] * count)
    return experiment_report(stored, KEY, inputs(event_frame(events), sessions=sessions), WINDOW.last)


def shoppers(count: int, clicks: dict[str, float], seed: int = 1) -> list[Event]:
    """Events of `count` shoppers, half of them in each variant, with these click rates."""
    dice, events = random.Random(seed), list[Event]()
    for session_number in range(count):
        variant = list(clicks)[session_number % 2]
        query_id = seen(f"q{session_number}", variant)
        events += asked(session_number, query_id, ["p1"])
        if dice.random() < clicks[variant]:
            events.append(event("click", session_number, query_id, 1, product_id="p1"))
    return events


def test_planted_difference_is_detected() -> None:
    report = report_of(shoppers(1_200, {"now": 0.3, "rrf": 0.45}), SPLIT)
    (decision,) = report.analysis.decisions
    assert (decision.outcome, decision.winner) == (Outcome.DECIDED, "rrf")
    clicked = next(each for each in report.analysis.comparisons if each.goal == Goal.CLICK_THROUGH)
    assert clicked.decides
    assert clicked.always.low < clicked.fixed.low < 0.15 < clicked.fixed.high < clicked.always.high
    assert [figures.units for figures in report.analysis.variants] == [600, 600]
    assert report.analysis.mismatch_p == pytest.approx(1.0)
    assert not report.analysis.warnings
    # If less is better, the other variant wins.
    fewer = report_of(shoppers(1_200, {"now": 0.3, "rrf": 0.45}), replace(SPLIT, goal=Goal.ABANDONED))
    assert fewer.analysis.decisions[0].winner == "rrf"


@pytest.mark.parametrize(
    ("changes", "ended", "outcome", "text", "size"),
    [
        ({"least_effect": 0.3}, False, Outcome.NOT_YET, "more shoppers", 1_200),
        ({"least_effect": 0.01, "ends": TOMORROW}, False, Outcome.NEVER, "before it ends", 1_200),
        ({}, True, Outcome.NEVER, "chance", 1_200),
        ({"least_effect": 0.9}, False, Outcome.DECIDED, "no relevant difference", 1_200),
        ({"goal": Goal.PURCHASES}, False, Outcome.NOT_YET, "there is nothing to compare yet", 1_200),
        ({}, False, Outcome.NOT_YET, "at least 100", 120),
    ],
)
def test_equal_variants_have_no_winner(
    changes: dict[str, Any], ended: bool, outcome: Outcome, text: str, size: int
) -> None:
    events = shoppers(size, {"now": 0.3, "rrf": 0.3})
    (decision,) = report_of(events, replace(SPLIT, **changes), ended=ended).analysis.decisions
    assert (decision.outcome, decision.winner) == (outcome, "")
    assert text in decision.text


def test_sample_ratio_mismatch_gives_a_warning() -> None:
    events = [each for each in shoppers(1_200, {"now": 0.3, "rrf": 0.3}) if int(str(each["session_number"])) % 6 != 1]
    report = report_of(events, SPLIT)
    assert report.analysis.mismatch_p is not None
    assert report.analysis.mismatch_p < 0.001
    assert "do not trust differences" in report.analysis.warnings[0]


def test_interleaving_finds_the_preferred_list() -> None:
    dice, events = random.Random(4), list[Event]()
    for session_number in range(600):
        query_id = draft_id(f"q{session_number}", dice.choice(("ab", "ba")))
        events += asked(session_number, query_id, ["p1", "p2"])
        liked = 1 + query_id.split(":")[2].index("b")
        chosen = liked if dice.random() < 0.65 else 3 - liked
        events.append(event("click", session_number, query_id, 1, product_id=f"p{chosen}"))
    report = report_of(events, DRAFT)
    draft = report.analysis.draft
    assert draft is not None
    assert draft.wins + draft.losses == 600
    assert draft.win_share == pytest.approx(draft.wins / 600)
    assert draft.always
    assert draft.always.low > 0.5
    assert draft.sign_p
    assert draft.sign_p < 1e-6
    assert report.analysis.decisions[0].winner == "rrf"


def test_experiment_without_traffic_has_a_report_and_missing_days_are_listed() -> None:
    events = [event("click", 1, "q1", product_id="p1")]
    for experiment in (SPLIT, DRAFT):
        report = report_of(events, experiment)
        assert report.analysis.decisions[0].outcome == Outcome.NOT_YET
        assert not report.notices
    assert "refresh with more --days" in report_of(events, SPLIT, days=100).notices[0]
