"""Stores with enough events to train on, for the tests of `shelfwise learn`; and options for a short training."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from shelfwise.indexer.events.importer import import_events
from shelfwise.rerank.sessions.options import DeriveOptions
from shelfwise.rerank.sessions.refresh import refresh
from shelfwise.rerank.training.click_training import ClickOptions
from shelfwise.rerank.training.trainer import LoopOptions
from shelfwise.retrieval.events.privacy import utc_now
from shelfwise.retrieval.records import Event, EventKind
from shelfwise.service.demo import write_demo_store
from shelfwise.service.events.event_log import DERIVED_FOLDER, EventLog, rejects_path
from shelfwise.service.experiments.assignment import DraftMark, Mark, SplitMark, sign_query_id
from shelfwise.service.experiments.experiment import ExperimentStore
from shelfwise.service.settings import Settings
from shelfwise.service.training.click_dataset import ClickRankerOptions

SETTINGS = Settings(backend="embedded")
_LOOP = LoopOptions(epochs=2, learning_rate=3e-3, warm_up=5)
SMALL = ClickRankerOptions(training=ClickOptions(loop=_LOOP), queries=60, depth=15, candidates=12, validating=30)
QUICK = replace(SMALL, training=ClickOptions(loop=replace(_LOOP, epochs=1)))


def with_events(index: Path, folder: Path, sessions: int = 300) -> Path:
    """A copy of the demo index, in `folder`, with the events of simulated shoppers."""
    root = Path(shutil.copytree(index, folder / "store"))
    import_log(root, write_demo_store(folder / "demo", products=600, sessions=sessions).events)
    return root


def import_log(root: Path, log: Path) -> None:
    with EventLog.open(root, SETTINGS) as events:
        import_events([str(log)], events.store, events.intake, rejected=rejects_path(events.folder, utc_now()))


def record_visits(
    root: Path, visits: Iterable[Sequence[str]], right: Mapping[str, str], products: Sequence[str]
) -> None:
    """Records visits an hour apart: each query has a page, and a click on the right product if it has one."""
    began, events = datetime(2026, 1, 1, tzinfo=UTC), []
    for visit, queries in enumerate(visits):
        for number, query in enumerate(queries):
            time = began + timedelta(hours=visit, minutes=number)
            common = {"query_id": f"q{visit}-{number}", "query": query, "session": f"s{visit}"}
            page = [products[(visit * 7 + step * 11) % len(products)] for step in range(4)]
            page = [each for each in page if each != right.get(query)]
            if query in right:
                page.insert(visit % 4, right[query])
            for position, product in enumerate(page, 1):
                shown = {"kind": "impression", "product_id": product, "position": position, "time": time.isoformat()}
                events.append({"event_id": f"i{visit}-{number}-{position}", **common, **shown})
            if query in right:
                at = {"position": page.index(right[query]) + 1, "time": (time + timedelta(seconds=9)).isoformat()}
                click = {"event_id": f"c{visit}-{number}", "kind": "click", "product_id": right[query]}
                events.append({**click, **common, **at})
    log = root.with_name("events.jsonl")
    log.write_text("\n".join(map(json.dumps, events)))
    import_log(root, log)


def record_searches(root: Path, shoppers: int) -> None:
    """Records searches of shoppers in the experiments "merging", a split, and "draft"; those with an odd number click
    the second hit. Then refreshes the tables."""
    key, now = ExperimentStore(root).read().key, datetime.now(UTC) - timedelta(hours=2)
    with EventLog.open(root, SETTINGS) as log:
        for number in range(shoppers):
            time = now + timedelta(seconds=5 * number)
            parts: list[Mark] = [SplitMark("merging", "rrf" if number % 2 else "now"), DraftMark("draft", 1, "ab")]
            who = {"query_id": sign_query_id(f"q{number}", parts, key), "shopper": f"u{number}", "time": time}
            events = [Event(EventKind.QUERY, query="drill", results=2, **who)]  # type: ignore[arg-type]
            events += [Event(EventKind.IMPRESSION, f"p{at}", query="drill", position=at, **who) for at in (1, 2)]  # type: ignore[arg-type]
            if number % 2:
                clicked = {**who, "time": time + timedelta(seconds=20 + number % 7)}
                events.append(Event(EventKind.CLICK, "p2", position=2, **clicked))  # type: ignore[arg-type]
            log.record(events)
        refresh(log.store, log.folder / DERIVED_FOLDER, None, DeriveOptions(), now=datetime.now(UTC))
