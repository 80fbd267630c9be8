"""Reports of events, analytics, exposure and trainings."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import count
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from shelfwise.rerank.evaluation.promotion import Decision
from shelfwise.rerank.sessions.options import DeriveOptions
from shelfwise.rerank.sessions.product_tables import POPULARITY
from shelfwise.rerank.sessions.query_tables import DAILY, QUERIES
from shelfwise.rerank.sessions.refresh import Steps, refresh
from shelfwise.retrieval.errors import InputError, StoreDamagedError, StoreMissingError, UnknownFieldError
from shelfwise.retrieval.events.stored import StoredEvent
from shelfwise.retrieval.progress import NullProgress
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.manifest import EVENTS_FOLDER
from shelfwise.service.cli import output
from shelfwise.service.cli.events import show_report
from shelfwise.service.cli.train import show_learned
from shelfwise.service.events.event_log import DERIVED_FOLDER
from shelfwise.service.reports.analytics import Analytics, analytics
from shelfwise.service.reports.event_report import (
    KindCount,
    ReasonCount,
    RejectCount,
    Suspect,
    build_report,
    positions,
    rejected_rows,
)
from shelfwise.service.reports.exposure_report import OTHERS, ExposureReport, groups_of, measure_exposure, with_targets
from shelfwise.service.reports.training import (
    SHOPPERS,
    LearnReport,
    RecordedSteps,
    RunDecision,
    StageOutcome,
    Step,
    summarize,
)
from tests.reports import (
    HOSTILE,
    START,
    Event,
    added_ranker,
    answer,
    event,
    event_frame,
    inputs,
    learn_report,
    off_policy,
    rejected_frame,
    session_frame,
)
from tests.unit.rerank.sessions.derived_log import MemoryEvents, search, stored


def test_events_are_counted_by_kind() -> None:
    events = [
        *answer(0, "a", ["p1", "p2"]),
        event("click", 0, "a", 1, product_id="p1"),
        event("click", 1, "b", 2 * 24 * 60, product_id="p1", is_fraud=True),
    ]
    sessions = session_frame([{"shopper": "k1~0"}, {"shopper": "k1~1", "is_fraud": True}, {}])
    report = build_report(
        inputs(events=event_frame(events), sessions=sessions, rejected=rejected_frame([{"reason": "duplicate"}]))
    )
    assert report.kinds == (KindCount("impression", 2, 0, 0), KindCount("click", 1, 1, 1))
    assert (report.sessions, report.flagged_sessions) == (3, 1)


def swapped_answers(lists: int, clicks_first: int, clicks_second: int) -> list[Event]:
    """Answers with two products, in both orders equally often, with these numbers of clicks by position."""
    events: list[Event] = []
    for at in range(2 * lists):
        products = ["p1", "p2"] if at % 2 else ["p2", "p1"]
        events += answer(at, f"a{at}", products, at=at)
        clicked = [at // 2 < clicks_first, at // 2 < clicks_second]
        events += [
            event("click", at, f"a{at}", at + 0.5, product_id=product, position=position)
            for position, (product, is_clicked) in enumerate(zip(products, clicked, strict=True), 1)
            if is_clicked
        ]
    return events


def test_click_rates_are_divided_by_examination() -> None:
    first, second = positions(event_frame(swapped_answers(lists=200, clicks_first=120, clicks_second=30)))
    assert (first.position, first.impressions, first.clicks, first.ctr) == (1, 400, 240, 240 / 400)
    assert (second.position, second.impressions, second.clicks, second.ctr) == (2, 400, 60, 60 / 400)
    # Both products are equally attractive, so the position causes all of the difference.
    assert first.examination == 1.0
    assert second.examination == pytest.approx(60 / 240, abs=0.01)
    assert second.debiased == pytest.approx(240 / 400, abs=0.02)


def test_answer_with_a_query_event_is_a_search() -> None:
    result = swapped_answers(50, 30, 10)
    without_text = [
        *({**each, "query": ""} for each in result),
        *(event("query", at, f"a{at}", at - 0.1, query="drill") for at in range(2 * 50)),
    ]
    assert list(positions(event_frame(without_text))) == list(positions(event_frame(result))) != []


def fraudulent(reasons: Sequence[str], **values: object) -> Event:
    return {"is_fraud": True, "reasons": list(reasons), "score": 0.9, **values}


def test_fraud_is_counted_by_reason_and_by_shopper() -> None:
    later = START + timedelta(days=1)
    sessions = session_frame(
        [
            {"shopper": "k1~honest", "clicks": 4, "score": 0.1},
            fraudulent(["fast", "deep"], shopper="k1~abcdefghijkl", clicks=3, score=0.75),
            fraudulent(["fast"], shopper="k1~abcdefghijkl", clicks=2, first=later, score=0.5),
            fraudulent(["deep"], session="k1~session", clicks=1, score=1.0),
            fraudulent([], clicks=0, score=0.5),
        ]
    )
    report = build_report(inputs(sessions=sessions))
    assert (report.flagged_sessions, report.flagged_clicks) == (4, 3 + 2 + 1)
    assert report.reasons == (ReasonCount("deep", 2, 3 + 1, 2), ReasonCount("fast", 2, 3 + 2, 1))
    assert report.suspects == (
        Suspect("k1~session", 1.0, 1, 1, START, START),
        Suspect("k1~abcdefgh", 0.75, 2, 3 + 2, START, later),
        Suspect("", 0.5, 1, 0, START, START),
    )


def test_rejected_events_are_counted_with_the_time_of_the_first() -> None:
    rows = [{"reason": "duplicate", "time": START + timedelta(minutes=at)} for at in (5, 3, 1, 4)]
    report = build_report(inputs(rejected=rejected_frame([*rows, {"reason": "never shown", "kind": "cart"}])))
    assert report.rejected_events == (
        RejectCount("duplicate", 4, f"{START + timedelta(minutes=1):%Y-%m-%d %H:%M}"),
        RejectCount("never shown", 1, f"{START:%Y-%m-%d %H:%M}"),
    )


def test_rejected_import_rows_are_read_from_their_file(tmp_path: Path) -> None:
    path, other = tmp_path / "1.jsonl", tmp_path / "2.jsonl"
    assert rejected_rows([]) == ()
    path.write_text(
        '{"file":"f","line":3,"reason":"bad time","detail":"x","event":{"kind":"click"}}\n'
        '{"file":"f","line":1,"reason":"no JSON","detail":""}\n' + '{"file":"f","line":9,"reason":"no JSON"}\n' * 3
    )
    other.write_text('{"file":"g","line":5,"reason":"no JSON"}\n')
    assert rejected_rows([path, other]) == (RejectCount("no JSON", 1 + 4, "f:1"), RejectCount("bad time", 1, "f:3"))
    path.write_text("what is this\n")
    with pytest.raises(StoreDamagedError, match="an import creates it again"):
        rejected_rows([path])


def test_control_characters_do_not_reach_the_terminal_and_brackets_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    sessions = session_frame([{"shopper": f"{HOSTILE}~x", "is_fraud": True, "reasons": [HOSTILE], "clicks": 1}])
    rejected = rejected_frame([{"reason": HOSTILE}])
    show_report(build_report(inputs(sessions=sessions, rejected=rejected), (RejectCount(HOSTILE, 2, "f:7"),)))
    text = capsys.readouterr().out
    assert not {"\x1b", "\x07"} & {*text}
    assert "\ufffd" in text
    assert "[red]b[/]" in text
    show_report(build_report(inputs()))
    assert "There are no events in this window" in capsys.readouterr().out


LAST = date(2026, 3, 10)
CATALOG = {
    "lamp": Product("lamp", "Desk lamp", price=20.0, currency="EUR"),
    "saw": Product("saw", "Hand saw", price=5.5, currency="EUR"),
    "odd": Product("odd", "Odd one", price=900.0, currency="CNY"),
}


def log() -> Iterator[StoredEvent]:
    def on(day: int, minutes: int) -> datetime:
        return datetime(2026, 3, day, 12, minutes, tzinfo=UTC)

    for number in range(6):
        yield from search(f"u{number}", on(9, number), "desk lamp", ["lamp", "saw"], ("click", "lamp"))
        yield stored("purchase", on(9, number + 3), product_id="lamp", shopper=f"u{number}", quantity=2)
        yield from search(f"v{number}", on(10, number), "desk lamp", ["lamp", "saw"])
        yield stored("query", on(10, number), query="snow tyre", query_id=f"e{number}", shopper=f"w{number}", results=0)
    yield from search("x1", on(10, 30), "secret wish", ["saw"], ("click", "saw"))
    yield stored("purchase", on(10, 40), product_id="odd", shopper="y1", quantity=1)
    yield stored("purchase", on(10, 41), product_id="saw", shopper="y2")
    yield from search("z1", on(8, 1), "desk lamp", ["lamp"], ("click", "lamp"))


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("analytics")
    folder = root / EVENTS_FOLDER / DERIVED_FOLDER
    now, options = datetime(2026, 3, 10, 23, tzinfo=UTC), DeriveOptions(days=30, least_shoppers=5)
    refresh(MemoryEvents(list(log())), folder, None, options, now=now, steps=Steps(tables=(POPULARITY, QUERIES, DAILY)))
    return root


def found(index: Path, days: int) -> Analytics:
    return analytics(index, CATALOG.get, LAST - timedelta(days=days - 1), LAST)


def test_range_is_summed_and_compared_with_the_days_before(index: Path) -> None:
    report = found(index, 2)
    assert (report.first, report.first_before, report.last_before) == (
        date(2026, 3, 9),
        date(2026, 3, 7),
        date(2026, 3, 8),
    )
    now = report.now
    assert (now.searches, now.empty, now.clicked, now.unclicked, now.bought) == (19, 6, 7, 6, 6)
    assert (now.purchases, report.currency) == (8, "EUR")
    assert now.search_revenue == 6 * 2 * 20.0
    assert now.revenue == 6 * 2 * 20.0 + 5.5  # the purchase in another currency is not counted
    assert (report.before.searches, report.before.clicked, report.before.revenue) == (1, 1, 0)
    assert [(day.day.day, day.searches, day.empty) for day in report.days] == [(9, 6, 0), (10, 13, 6)]


def test_queries_of_few_shoppers_are_not_named(index: Path) -> None:
    report = found(index, 2)
    (top, empty) = report.top
    assert (top.query, top.searches, top.before, top.shoppers, top.clicked, top.revenue) == (
        "desk lamp",
        12,
        1,
        12,
        6,
        240,
    )
    assert (empty.query, empty.empty) == ("snow tyre", 6)
    assert [each.query for each in report.empty] == ["snow tyre"]
    assert [each.query for each in report.unclicked] == ["desk lamp"]
    assert [each.query for each in report.rising] == ["desk lamp", "snow tyre"]
    assert [each.query for each in report.earning] == ["desk lamp"]
    assert "secret wish" not in repr(report)
    assert "u1" not in repr(report)


def test_products_are_ordered_by_revenue(index: Path) -> None:
    (lamp,) = found(index, 2).products  # the others have too few shoppers
    assert (lamp.product_id, lamp.title, lamp.impressions, lamp.clicks) == ("lamp", "Desk lamp", 12, 6)
    assert (lamp.purchases, lamp.units, lamp.revenue) == (6, 12, 240)


def test_days_without_events_are_there(index: Path) -> None:
    report = found(index, 5)
    assert [day.searches for day in report.days] == [0, 0, 1, 6, 13]
    assert len(analytics(index, CATALOG.get).days) == 30
    assert analytics(index, CATALOG.get).last == LAST
    assert found(index, 366).now.searches == 20


def test_by_default_both_halves_of_the_days_with_events_are_compared(tmp_path: Path) -> None:
    folder, now = tmp_path / EVENTS_FOLDER / DERIVED_FOLDER, datetime(2026, 3, 30, 23, tzinfo=UTC)
    first, options = datetime(2026, 3, 10, 12, tzinfo=UTC), DeriveOptions(days=90, least_shoppers=1)
    events = [each for day in range(20) for each in search(f"u{day}", first + timedelta(days=day), "lamp", ["lamp"])]
    refresh(MemoryEvents(events), folder, None, options, now=now, steps=Steps(tables=(POPULARITY, QUERIES, DAILY)))
    report = analytics(tmp_path, CATALOG.get)
    assert (report.first_before, report.first, report.last) == tuple(date(2026, 3, day) for day in (10, 20, 29))
    assert (report.tables_first, report.tables_last) == (date(2026, 3, 10), date(2026, 3, 29))
    assert (report.now.searches, report.before.searches) == (10, 10)


@pytest.mark.parametrize("days", [0, -3, 367])
def test_invalid_range_is_refused(index: Path, days: int) -> None:
    with pytest.raises(InputError, match="a range has 1 to 366 days"):
        found(index, days)


def test_there_are_no_figures_without_a_refresh(tmp_path: Path) -> None:
    with pytest.raises(StoreMissingError, match="refresh"):
        analytics(tmp_path, CATALOG.get)


NOW = datetime(2026, 11, 30, tzinfo=UTC)
PRODUCTS = [
    Product("a", "drill", brand="Bosch", price=10.0, category=("Tools", "Drills")),
    Product("b", "drill", brand="Makita", price=20.0, category=("Tools",), attributes={"seller": "Nord"}),
    Product("c", "drill", brand="Rare", price=30.0, category=("Tools",)),
]


def report(shoppers: int = 40, rare: int = 2) -> ExposureReport:
    """Lists of a before b; every second shopper clicks a, every fourth buys it, and the first `rare` are shown c."""
    rows = []
    for shopper in range(shoppers):
        query_id, time = f"q{shopper}", NOW - timedelta(hours=shopper)
        products = ["a", "b", *(["c"] if shopper < rare else [])]
        acts = [("impression", name, position) for position, name in enumerate(products, 1)]
        acts += [("click", "a", 1)] * (shopper % 2) + [("purchase", "a", 1)] * (shopper % 4 == 1)
        rows += [(kind, query_id, "drill", name, position, time, f"s{shopper}") for kind, name, position in acts]
    texts = pl.Schema(dict.fromkeys(("kind", "query_id", "query", "product_id"), pl.String))
    schema = pl.Schema(
        [*texts.items(), ("position", pl.Int64()), ("time", pl.Datetime("ms", "UTC")), ("who", pl.String())]
    )
    return measure_exposure(
        pl.DataFrame(rows, schema, orient="row"), PRODUCTS, (NOW - timedelta(days=3), NOW), 5, "brand"
    )


def test_groups_have_their_counts_and_the_rare_are_pooled() -> None:
    found = report()
    assert [row.group for row in found.groups] == ["Bosch", "Makita", OTHERS]
    bosch, makita, others = found.groups
    assert (bosch.impressions, bosch.clicks, bosch.purchases, bosch.revenue) == (40, 20, 10, 100.0)
    assert (bosch.products, others.impressions) == (1, 2)
    assert sum(row.exposure for row in found.groups) == pytest.approx(1)
    assert sum(row.target for row in found.groups) == pytest.approx(1)
    assert bosch.ratio == pytest.approx(bosch.exposure / bosch.target)
    assert found.distance == pytest.approx(sum(abs(row.exposure - row.target) for row in (bosch, makita, others)) / 2)
    assert found.lists == 40
    assert found.examination[0] == pytest.approx(1)


def test_target_shares_each_query_by_its_rates() -> None:
    """100 examined impressions of each product: 20 and 10 clicks, shrunk by five at the mean rate of 15%."""
    merit = np.array([20 + 5 * 0.15, 10 + 5 * 0.15]) / 105
    pairs = pl.DataFrame({"query": ["q", "q"], "exposure": [100.0, 100.0], "clicks": [20.0, 10.0]})
    assert with_targets(pairs)["target"].to_list() == pytest.approx(200 * merit / merit.sum())
    apart = pl.DataFrame({"query": ["q", "r"], "exposure": [30.0, 70.0], "clicks": [30.0, 0.0]})
    assert with_targets(apart)["target"].to_list() == pytest.approx([30, 70])


def test_groupings_of_products() -> None:
    assert groups_of(PRODUCTS, "seller") == {"b": "Nord"}
    assert set(groups_of(PRODUCTS, "category").values()) == {"Tools"}
    with pytest.raises(UnknownFieldError, match="by is 'brnd', which no product has; did you mean brand"):
        groups_of(PRODUCTS, "brnd")


def test_an_empty_log_has_no_groups() -> None:
    found = report(0)
    assert (found.groups, found.lists, found.distance) == ((), 0, 0.0)


def test_summary_has_the_decision_its_reasons_and_the_estimate() -> None:
    better, worse = Decision(True, ("better: nDCG@10",), ()), Decision(False, ("worse: MRR", "worse: nDCG@10"), ())
    decision, estimate = summarize(added_ranker(better, serves=True), off_policy())
    assert decision == "The new ranker, ranker-0002, serves from now on in place of ranker-0001. better: nDCG@10"
    assert "+4.0% (95%: +2.0% to +6.0%), surely more. This estimate does not decide." in estimate
    assert "rankers are switched off. better: nDCG@10" in next(summarize(added_ranker(better), None))
    assert "ranker-0001 still serves. worse: MRR; worse: nDCG@10" in next(summarize(added_ranker(worse), None))


def recorded(*names: str) -> RecordedSteps:
    """Steps by a clock that advances by a second at each reading."""
    steps = RecordedSteps(NullProgress(), map(float, count()).__next__)
    for name in names:
        steps.begin(name, None, "")
        steps.advance(1)
        steps.end(f"{name} is done")
    return steps


@pytest.mark.parametrize("inside", [True, False])
def test_skipped_stage_has_a_reason_and_the_run_continues(inside: bool) -> None:
    steps = recorded("debiased")
    with steps.under(SHOPPERS):
        if inside:
            steps.begin("acts", None, "")
        steps.leave(StageOutcome.NOT_TRAINED, "too few shoppers")
    steps.begin("evaluation", None, "")
    steps.end("evaluated")
    stages = {stage.name: stage for stage in steps.stages(is_over=True)}
    assert stages[SHOPPERS].outcome is StageOutcome.NOT_TRAINED
    assert stages[SHOPPERS].steps == (Step("acts" if inside else SHOPPERS, "too few shoppers", 1.0),)
    assert stages["evaluation"].outcome is StageOutcome.DONE
    assert stages["towers"].outcome is StageOutcome.NOT_REACHED


def test_unfinished_run_shows_where_it_stopped() -> None:
    steps = recorded("events", "click model")
    steps.begin("labels", None, "")
    stages = steps.stages(is_over=False)
    outcomes = {stage.name: stage.outcome for stage in stages}
    assert [outcomes[name] for name in ("clean", "click model")] == [StageOutcome.DONE, StageOutcome.DONE]
    assert (outcomes["towers"], outcomes["ranker"]) == (StageOutcome.NOT_REACHED, StageOutcome.NOT_REACHED)
    (stopped,) = (stage for stage in stages if stage.outcome is StageOutcome.STOPPED)
    assert stopped.name == "labels"
    assert stopped.steps == (Step("labels", "", 1.0),)


def shown(report: LearnReport) -> str:
    file = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(output, "out", Console(file=file, width=100))
        show_learned(report, Path("store/training/learn.json"), Path("store"))
    return file.getvalue()


def test_terminal_shows_a_summary() -> None:
    text = shown(learn_report())
    assert text.splitlines()[0] == "nothing was clicked"
    assert "left as it is" not in text  # the file says more
    assert text.count("nothing was clicked") >= 4
    assert "stopped here" in text
    assert text.splitlines()[-1] == "Full report: store/training/learn.json"
    assert not {"\x1b", "\x07"} & {*shown(learn_report(HOSTILE))}
    served = shown(learn_report(decision=RunDecision.SERVES, against="ranker-0001"))
    assert "to go back to it: shelfwise models rollback store" in served
