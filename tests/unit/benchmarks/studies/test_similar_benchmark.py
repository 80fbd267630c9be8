"""`shelfwise bench similar`: which views are to be foretold, from what came before, and what each way makes of it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner, Result

from benchmarks.commands import bench
from benchmarks.studies.model_commands import show_similar
from benchmarks.studies.recommend import (
    ALL_VIEWS,
    COVIEWS,
    KNOWN,
    MIXED,
    TEXTS,
    WEIGHTS,
    ViewPart,
    Views,
    found_ranks,
    measure_similar,
    next_views,
)
from retrieval.errors import InputError, SettingError, StoreMissingError
from retrieval.records import Event, EventKind
from service.engine.engine import SearchEngine
from service.engine.hot_reload import NO_COVIEWS, CoViews
from service.events.derived_tables import DerivedTables
from service.events.event_log import EventLog
from service.settings import Settings

BEGIN = datetime(2026, 11, 20, tzinfo=UTC)


def acts(*told: tuple[str, str, str, float]) -> pl.DataFrame:
    """Rows of shopper, kind, product and minutes after `BEGIN`."""
    rows = [(who, product, kind, BEGIN + timedelta(minutes=at)) for who, kind, product, at in told]
    time = pl.Datetime("ms", "UTC")
    return pl.DataFrame(
        rows, {"shopper": pl.String, "product_id": pl.String, "kind": pl.String, "time": time}, orient="row"
    )


def pairs(views: Views) -> list[tuple[str, str]]:
    return list(zip(views.products, views.following, strict=True))


class TestViews:
    def found(self, *told: tuple[str, str, str, float]) -> Views:
        return next_views(acts(*told), BEGIN, BEGIN + timedelta(days=1), lambda name: name != "gone")

    def test_each_view_is_followed_by_the_next_other_product_of_the_same_shopper(self) -> None:
        views = self.found(
            ("u", "click", "a", 1),
            ("u", "consultation", "a", 2),
            ("v", "click", "x", 3),
            ("u", "cart", "a", 4),
            ("u", "click", "gone", 5),
            ("u", "click", "b", 6),
            ("u", "click", "a", 7),
            ("v", "click", "y", 8),
        )
        assert pairs(views) == [("a", "b"), ("b", "a"), ("x", "y")]
        assert views.shoppers[0] == views.shoppers[1] != views.shoppers[2]

    def test_a_long_pause_and_another_day_end_a_row(self) -> None:
        assert pairs(self.found(("u", "click", "a", 0), ("u", "click", "b", 30), ("u", "click", "c", 61))) == [
            ("a", "b")
        ]
        assert pairs(self.found(("u", "click", "a", -1), ("u", "click", "b", 1), ("u", "click", "c", 2))) == [
            ("b", "c")
        ]
        assert pairs(self.found(("u", "click", "a", 24 * 60 - 1), ("u", "click", "b", 24 * 60))) == []

    def test_ranks_count_from_1(self) -> None:
        views = Views(np.array([0, 0, 1]), ("a", "a", "b"), ("x", "y", "x"))
        ranked: dict[str, Sequence[str]] = {"a": ["y", "x"], "b": []}
        assert found_ranks(views, ranked.__getitem__).tolist() == [2, 1, 11]


@pytest.fixture(scope="module")
def judging(engine: SearchEngine) -> ViewPart:
    """After two products shoppers look at the one that their co-views tell of, after a third at the nearest."""
    product_of = engine.snapshot.products.id_of
    one, two, third = (product_of(row) for row in (3, 60, 90))
    far = {name: engine.similar(name, size=400).hits[-1].product.id for name in (one, two)}
    near = engine.similar(third, size=1).hits[0].product.id
    coviews = CoViews.of_pairs([*far, one], [*far.values(), "gone"], np.array([0.9, 0.9, 0.1]))
    return ViewPart(coviews, Views(np.array([0, 1, 1]), (one, two, third), (*far.values(), near)))


class TestMeasuring:
    def test_every_way_is_judged_on_the_same_views(self, engine: SearchEngine, judging: ViewPart) -> None:
        report = measure_similar(engine.snapshot, judging, judging, 50.0)
        assert (report.products, report.known, report.weight) == (600, 2, 50.0)
        assert list(report.tuning) == list(WEIGHTS)
        assert report.tuning[0.0] == pytest.approx(1 / 3)
        assert report.tuning[50.0] == pytest.approx(1)
        whole, known = report.slices[ALL_VIEWS], report.slices[KNOWN]
        assert (whole.views, whole.shoppers, known.views) == (3, 2, 2)
        recalls = {name: each.recall.mean for name, each in whole.figures.items()}
        assert recalls == {TEXTS: pytest.approx(1 / 3), COVIEWS: pytest.approx(2 / 3), MIXED: pytest.approx(1)}
        above = whole.figures[TEXTS].mixed_above
        assert above is not None
        assert above.mean == pytest.approx(2 / 3)
        assert whole.figures[MIXED].mixed_above is None
        assert known.figures[TEXTS].ndcg.mean == 0

    def test_it_is_shown_and_encoded(
        self, engine: SearchEngine, judging: ViewPart, capsys: pytest.CaptureFixture[str]
    ) -> None:
        report = measure_similar(engine.snapshot, judging, judging, 50.0)
        show_similar(report)
        printed = capsys.readouterr().out
        assert "600 products, 2 of them with co-views; co-views count 50 deviations of the cosine" in printed
        assert "after products with co-views: 2 of 2 shoppers" in printed
        assert f"{report.tuning[5.0]:.4f}" in printed
        document = msgspec.json.decode(msgspec.json.encode(report))
        assert document["slices"][ALL_VIEWS]["figures"][MIXED]["ndcg"]["mean"] == 1

    def test_nobody_to_judge_by(self, engine: SearchEngine, judging: ViewPart) -> None:
        nothing = ViewPart(NO_COVIEWS, Views(np.empty(0, np.int64), (), ()))
        with pytest.raises(InputError, match="in the part that judges: give more days"):
            measure_similar(engine.snapshot, judging, nothing, 10.0)


class TestCommand:
    def test_it_judges_the_last_days_by_what_came_before(self, demo_index: Path, tmp_path: Path) -> None:
        root = Path(shutil.copytree(demo_index, tmp_path / "index"))
        with pytest.raises(StoreMissingError, match="no derived tables yet"):
            raise _run(root).exception or AssertionError
        with SearchEngine.open(root, follow=False) as engine:
            one, other = (engine.snapshot.products.id_of(row) for row in (3, 500))
        with closing(EventLog.open(root, Settings())) as log:
            now = datetime.now(UTC)
            for day in range(4):
                for number in range(6):
                    begin = now - timedelta(days=day, minutes=10 + number)
                    for seconds, name in enumerate((one, other)):
                        at = begin + timedelta(seconds=20 * seconds)
                        log.record([Event(EventKind.CLICK, name, time=at, shopper=f"u{number}")])
            DerivedTables(root, log, Settings().events).refresh()
        report = msgspec.json.decode(_run(root, "--days", "1", "--json").stdout)
        assert (report["known"], report["tuning_views"]) == (2, 6)
        figures = report["slices"][ALL_VIEWS]["figures"]
        assert (figures[TEXTS]["recall"]["mean"], figures[MIXED]["recall"]["mean"]) == (0, 1)
        failed = _run(root, "--days", "9").exception
        assert isinstance(failed, InputError)

    def test_purchases_without_times_judge_by_what_came_before_each_file(
        self, demo_index: Path, engine: SearchEngine, tmp_path: Path
    ) -> None:
        one, other = (engine.snapshot.products.id_of(row) for row in (3, 500))
        for name in ("valid", "test"):
            # Whose history ends with the one goes on to the other; seven have had both before.
            lines = [{"user": f"{name}{number}", "history": [other, one], "next": other} for number in range(7)]
            (tmp_path / name).write_bytes(b"\n".join(map(msgspec.json.encode, lines)))
        files = ("--lines", str(tmp_path / "valid"), "--lines", str(tmp_path / "test"))
        report = msgspec.json.decode(_run(demo_index, *files, "--json").stdout)
        whole = report["slices"][ALL_VIEWS]
        assert (report["known"], report["tuning_views"], whole["views"], whole["shoppers"]) == (2, 7, 7, 7)
        assert whole["figures"][COVIEWS]["ndcg"]["mean"] == 1
        failed = _run(demo_index, *files[:2]).exception
        assert isinstance(failed, SettingError)
        assert "--lines: 1 files; give two" in str(failed)


def _run(root: Path, *options: str) -> Result:
    return CliRunner().invoke(bench, ["similar", str(root), *options])
