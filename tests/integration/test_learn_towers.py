"""`shelfwise learn --towers`: the encoder learns from clicks and serves before all else is trained on its vectors."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from indexer.build import RebuildOptions, rebuild
from indexer.events.importer import import_events
from rerank.ranker.spec import ranker_store
from rerank.text_towers.artifacts import read_towers
from retrieval.events.privacy import utc_now
from retrieval.progress import NullProgress
from retrieval.store.versions import Store
from service.events.event_log import EventLog, rejects_path
from service.reports.training import TOWERS, LearnReport, RecordedSteps, StageOutcome
from service.training.learn import REPORT_FILE, LearnOptions, learn, train_encoder
from service.training.text_towers import TextTowersRequest
from service.training.text_towers_promotion import judging
from service.training.training_session import TRAINING_FOLDER
from tests.catalogs import write_feed
from tests.learning_stores import SETTINGS, SMALL
from tests.unit.rerank.text_towers.tiny_towers import PRODUCTS, TRAINING, every_query, make_encoder
from tests.unit.rerank.user_tower.small_stores import TINY

pytestmark = pytest.mark.usefixtures("one_thread")

SHOWN = 5
"""Products of a page."""


@pytest.fixture(scope="module")
def store(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clicked")
    feed = write_feed(folder / "feed.jsonl", PRODUCTS)
    encoder = make_encoder(folder / "tiny")
    root = folder / "index"
    rebuild(root, RebuildOptions((str(feed),), cache, encoder=str(encoder), runtime="onnx-int8"))
    log = folder / "events.jsonl"
    log.write_text("\n".join(json.dumps(event) for event in _events()))
    with EventLog.open(root, SETTINGS) as events:
        import_events([str(log)], events.store, events.intake, rejected=rejects_path(events.folder, utc_now()))
    return root


def _events() -> list[dict[str, object]]:
    began, ids, made = datetime(2026, 1, 1, tzinfo=UTC), [each.id for each in PRODUCTS], []
    for visit, asked in enumerate([*every_query()] * 2):
        (right,) = asked.opinions
        others = [ids[(visit * 7 + step * 11) % len(ids)] for step in range(SHOWN)]
        page = [each for each in dict.fromkeys(others) if each != right][: SHOWN - 1]
        page.insert(visit % SHOWN, right)
        time = began + timedelta(hours=visit)
        said = {"query_id": f"q{visit}", "query": asked.query, "session": f"s{visit}"}
        for position, product in enumerate(page, 1):
            shown = {"kind": "impression", "product_id": product, "position": position, "time": time.isoformat()}
            made.append({"event_id": f"i{visit}-{position}", **said, **shown})
        at = {"product_id": right, "position": page.index(right) + 1, "time": (time + timedelta(seconds=9)).isoformat()}
        made.append({"event_id": f"c{visit}", "kind": "click", **said, **at})
    return made


@pytest.fixture
def root(store: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(store, tmp_path / "index"))


@pytest.fixture
def options(cache: Path) -> LearnOptions:
    return LearnOptions(SMALL, replace(TINY, epochs=1, refit=False), TextTowersRequest(cache=cache, options=TRAINING))


def report_of(root: Path) -> LearnReport:
    return msgspec.json.decode((root / TRAINING_FOLDER / REPORT_FILE).read_bytes(), type=LearnReport)


def test_what_is_better_serves_and_the_rest_is_trained_on_its_vectors(root: Path, options: LearnOptions) -> None:
    report = learn(root, SETTINGS, options, NullProgress())
    assert report_of(root) == report
    towers = report.towers
    assert towers is not None
    assert (towers.version, towers.next) == ("v000002", ())
    serving = Store(root).find_serving().manifest
    assert (serving.version, serving.encoder_name) == (towers.version, towers.folder)
    spec = read_towers(Path(towers.folder))
    assert (spec.source, spec.version) == ("clicks", "v000001")
    assert (towers.before, towers.after) == (spec.curve[0].validation, spec.validation)
    assert towers.queries == len(every_query())
    assert spec.trained_on["training queries"] + spec.trained_on["validation queries"] == (
        len(every_query()) - len(judging(every_query()))
    )
    assert f"The encoder that was trained on {towers.queries:,} clicked queries serves from now on, as v000002." in (
        report.summary
    )
    assert ranker_store(root).open(report.ranker).spec.encoder == serving.encoder
    names = [stage.name for stage in report.stages if stage.outcome is not StageOutcome.NOT_REACHED]
    assert names[1] == TOWERS


@pytest.mark.parametrize(
    ("request_of", "why"),
    [
        # Too small a step to be better, and too few queries.
        (TextTowersRequest(options=replace(TRAINING, epochs=1, learning_rate=1e-7)), "so nothing is written"),
        (
            TextTowersRequest(options=TRAINING, held_out=[each.query for each in every_query()][:-9]),
            "give more judged queries",
        ),
    ],
    ids=["no better", "too few"],
)
def test_what_comes_to_nothing_says_why_and_the_run_goes_on(
    root: Path, cache: Path, request_of: TextTowersRequest, why: str
) -> None:
    steps = RecordedSteps(NullProgress())
    assert train_encoder(root, SETTINGS, replace(request_of, cache=cache), steps) is None
    (stage,) = (each for each in steps.stages(is_over=True) if each.name == TOWERS)
    assert stage.outcome is StageOutcome.NOT_TRAINED
    assert why in stage.steps[-1].did
    assert Store(root).current() == "v000001"


def test_an_index_that_is_being_rebuilt_keeps_what_was_trained_for_the_next_run(root: Path, cache: Path) -> None:
    request, steps = TextTowersRequest(cache=cache, options=TRAINING), RecordedSteps(NullProgress())
    with Store(root).lock("rebuild"):
        assert train_encoder(root, SETTINGS, request, steps) is None
    (stage,) = (each for each in steps.stages(is_over=True) if each.name == TOWERS)
    assert stage.outcome is StageOutcome.NOT_TRAINED
    again = RecordedSteps(NullProgress())
    made = train_encoder(root, SETTINGS, request, again)
    assert made is not None
    assert made.version == "v000002"
    (stage,) = (each for each in again.stages(is_over=True) if each.name == TOWERS)
    assert "were trained before" in " ".join(step.did for step in stage.steps)
