"""`shelfwise learn` from the events of a demo store to its report: complete, postponed, refused, killed; `--towers`."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import torch
from typer.testing import CliRunner

from shelfwise.rerank.evaluation.promotion import NDCG
from shelfwise.rerank.model_store import WEIGHTS_FILE
from shelfwise.rerank.ranker.spec import ranker_store
from shelfwise.rerank.text_towers.model import read_towers
from shelfwise.rerank.user_tower.files import user_tower_store
from shelfwise.retrieval.errors import StoreLockedError, StoreMissingError, TrainingError
from shelfwise.retrieval.progress import NullProgress
from shelfwise.retrieval.store.files import checksum
from shelfwise.retrieval.store.lock import hold_lock
from shelfwise.retrieval.store.versions import Store
from shelfwise.service.cli.main import app
from shelfwise.service.events.popular_queries import query_key, read_popular_queries
from shelfwise.service.reports.training import (
    SHOPPERS,
    TOWERS,
    LearnReport,
    RecordedSteps,
    RunDecision,
    Stage,
    StageOutcome,
)
from shelfwise.service.training.learn import REPORT_FILE, LearnOptions, last_days, learn, report_path, train_encoder
from shelfwise.service.training.text_towers import TextTowersRequest
from shelfwise.service.training.text_towers_promotion import judging
from shelfwise.service.training.training_session import TRAINING_FOLDER
from shelfwise.service.training.user_tower import NEAR
from tests.learning_stores import QUICK, SETTINGS, SMALL, record_visits, with_events
from tests.unit.rerank.text_towers.tiny_towers import PRODUCTS, TRAINING, every_query, make_index
from tests.unit.rerank.user_tower.small_stores import TINY

pytestmark = pytest.mark.usefixtures("one_thread")

STAGES = [
    *("clean", "towers", "click model", "labels", "ranker", "shoppers", "evaluation", "gate", "publish", "expansions")
]
OPTIONS = LearnOptions(SMALL, replace(TINY, epochs=2, refit=False))


@pytest.fixture(scope="module")
def learned(eventful_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = Path(shutil.copytree(eventful_store, tmp_path_factory.mktemp("learned") / "store"))
    learn(root, SETTINGS, OPTIONS, NullProgress())
    return root


def report_of(root: Path) -> LearnReport:
    return msgspec.json.decode((root / TRAINING_FOLDER / REPORT_FILE).read_bytes(), type=LearnReport)


class TestReport:
    def test_progress_reports_every_stage_and_that_the_encoder_is_kept(self, learned: Path) -> None:
        stages = report_of(learned).stages
        assert [stage.name for stage in stages] == STAGES
        towers = stages[STAGES.index("towers")]
        assert towers.outcome is StageOutcome.LEFT
        assert {stage.outcome for stage in stages if stage is not towers} == {StageOutcome.DONE}
        steps = [step for stage in stages for step in stage.steps]
        assert all(step.did and step.seconds >= 0 for step in steps)
        assert [step.name for step in steps].count("events") == 1, "the tables are made once"

    def test_report_has_the_promotion_decision_of_the_user_tower(self, learned: Path) -> None:
        found, registry = report_of(learned).learned[SHOPPERS], user_tower_store(learned)
        assert registry.names() == [found.name]
        report = registry.open(found.name).report
        assert found.serves == (registry.current() == found.name) == (not report.rejection_reasons)
        assert found.rejection_reasons == report.rejection_reasons
        assert found.is_new
        assert report.against == NEAR
        assert report.measures[NDCG] == report.comparisons[0].challenger

    def test_report_has_the_events_and_the_promotion_decision_of_the_ranker(self, learned: Path) -> None:
        report, registry = report_of(learned), ranker_store(learned)
        assert registry.names() == [report.ranker]
        assert report.report == registry.open(report.ranker).report
        decision = report.report.decision
        assert decision is not None
        assert report.decision is (RunDecision.SERVES if decision.publish else RunDecision.REJECTED)
        assert report.reasons == decision.reasons
        assert report.events is not None
        assert report.events.flagged_sessions > 0
        assert {NDCG, "nDCG@10 of the merged order"} <= {*report.report.measures}

    def test_report_compares_first_hits_before_and_after(self, learned: Path) -> None:
        examples = report_of(learned).examples
        assert 0 < len(examples) <= 3
        popular = read_popular_queries(learned).places
        assert all(query_key(each.query) in popular for each in examples)
        lists = [each.lists for each in examples]
        assert lists == sorted(lists, reverse=True)
        for each in examples:
            assert each.before != each.after
            assert max(len(each.before), len(each.after)) <= 3


class TestNotEnoughEvents:
    def test_too_few_new_events_train_nothing(self, learned: Path) -> None:
        before = report_path(learned).stat()
        done = CliRunner().invoke(app, ["learn", str(learned), "--if-new", "1"])
        assert done.exit_code == 0, done.output
        assert done.stdout.splitlines() == ["Nothing to learn yet: 0 new events since the last run, 1 are needed."]
        assert report_path(learned).stat() == before
        done = CliRunner().invoke(app, ["learn", str(learned), "--if-new", "7", "--json"])
        expected = {"decision": "not enough new events", "new_events": 0, "needed": 7}
        assert msgspec.json.decode(done.stdout) == expected


class TestRefused:
    def test_report_without_events_says_so(self, demo_index: Path, tmp_path: Path) -> None:
        root = Path(shutil.copytree(demo_index, tmp_path / "store"))
        done = CliRunner().invoke(app, ["learn", str(root), "--towers"])
        assert isinstance(done.exception, StoreMissingError)
        report = report_of(root)
        assert report.decision is RunDecision.REFUSED
        assert report.reasons == (str(done.exception),)
        assert report.stages[0].outcome is StageOutcome.STOPPED
        assert {stage.outcome for stage in report.stages[1:]} == {StageOutcome.NOT_REACHED}
        assert "Full report: " in done.stdout

    def test_report_with_too_few_lists_shows_the_counts(self, demo_index: Path, tmp_path: Path) -> None:
        root = with_events(demo_index, tmp_path, sessions=20)
        with pytest.raises(TrainingError, match="shown lists; training on clicks needs at least 100"):
            learn(root, SETTINGS, OPTIONS, NullProgress())
        report = report_of(root)
        assert report.events is not None
        assert report.events.events > 0
        outcomes = [stage.outcome for stage in report.stages[:4]]
        assert outcomes == [StageOutcome.DONE, StageOutcome.LEFT, StageOutcome.STOPPED, StageOutcome.NOT_REACHED]
        assert last_days(root) == {}

    def test_report_on_a_refused_run_keeps_the_days_of_the_run_before(self, learned: Path, tmp_path: Path) -> None:
        root = Path(shutil.copytree(learned, tmp_path / "store"))
        few = replace(OPTIONS, ranker=replace(SMALL, least=10_000))
        with pytest.raises(TrainingError):
            learn(root, SETTINGS, few, NullProgress())
        assert report_of(root).decision is RunDecision.REFUSED
        assert last_days(root) == last_days(learned)

    def test_concurrent_training_writes_no_report(self, learned: Path, tmp_path: Path) -> None:
        root = Path(shutil.copytree(learned, tmp_path / "store"))
        before = report_path(root).read_bytes()
        with hold_lock(root / TRAINING_FOLDER, "training"), pytest.raises(StoreLockedError):
            learn(root, SETTINGS, OPTIONS, NullProgress())
        assert report_path(root).read_bytes() == before


class _Dying(NullProgress):
    def __init__(self, step: str, after: int) -> None:
        self._step, self._after, self._current = step, after, ""

    def begin(self, phase: str, total: int | None, unit: str) -> None:
        self._current = phase
        self._look()

    def advance(self, amount: int) -> None:
        if self._current == self._step:
            self._after -= amount
        self._look()

    def _look(self) -> None:
        if self._current == self._step and self._after <= 0:
            os.kill(os.getpid(), signal.SIGKILL)


def run_learn(root: Path, step: str, after: int) -> None:
    torch.set_num_threads(1)
    if step == REPORT_FILE:
        sys.addaudithook(_die_at_report)
    learn(root, SETTINGS, OPTIONS, _Dying(step, after))


def _die_at_report(event: str, arguments: tuple[object, ...]) -> None:
    if event == "os.rename" and str(arguments[1]).endswith(REPORT_FILE):
        os.kill(os.getpid(), signal.SIGKILL)


def killed(root: Path, step: str, after: int = 0) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=run_learn, args=(root, step, after))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.slow
def test_killed_run_is_resumed(eventful_store: Path, learned: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(eventful_store, tmp_path / "store"))
    before = report_of(learned)
    queries = ranker_store(learned).open(before.ranker).spec.trained_on["queries"]
    steps = -(-int(queries) // SMALL.training.lists)
    for way, after in (("debiased", steps + 1), ("train", 2)):
        killed(root, way, after)
        assert ranker_store(root).names() == []
        assert user_tower_store(root).names() == []
        assert not report_path(root).exists()
    # Two killed runs and a third one train the same as one run.
    killed(root, REPORT_FILE)
    assert ranker_store(root).names() == [before.ranker]
    towers = [user_tower_store(each) for each in (root, learned)]
    assert towers[0].names() == towers[1].names()
    assert len({checksum(each.folder / each.names()[0] / WEIGHTS_FILE) for each in towers}) == 1
    assert len({checksum(each / "rankers" / before.ranker / WEIGHTS_FILE) for each in (root, learned)}) == 1
    # The report was not written, so the run does not count as complete.
    assert not report_path(root).exists()
    learn(root, SETTINGS, OPTIONS, NullProgress())
    # The tower is still that of the killed run.
    found = report_of(root).learned[SHOPPERS]
    assert not found.is_new
    assert towers[0].names() == [found.name]


@pytest.fixture(scope="module")
def store(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_index(tmp_path_factory.mktemp("clicked"), cache, "onnx-int8")
    right = {each.query: next(iter(each.opinions)) for each in every_query()}
    record_visits(root, [[query] for query in right] * 2, right, [each.id for each in PRODUCTS])
    return root


@pytest.fixture
def root(store: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(store, tmp_path / "index"))


@pytest.fixture
def options(cache: Path) -> LearnOptions:
    return LearnOptions(QUICK, replace(TINY, epochs=1, refit=False), TextTowersRequest(cache=cache, options=TRAINING))


def test_better_encoder_serves_and_other_models_train_on_its_vectors(root: Path, options: LearnOptions) -> None:
    report = learn(root, SETTINGS, options, NullProgress())
    assert report_of(root) == report
    towers = report.learned[TOWERS]
    assert towers.serves
    serving = Store(root).find_serving().manifest
    assert (serving.version, serving.encoder_name) == ("v000002", towers.name)
    spec = read_towers(Path(towers.name))
    assert (spec.source, spec.version) == ("clicks", "v000001")
    assert spec.trained_on["training queries"] + spec.trained_on["validation queries"] == (
        len(every_query()) - len(judging(every_query()))
    )
    assert ranker_store(root).open(report.ranker).spec.encoder == serving.encoder
    names = [stage.name for stage in report.stages if stage.outcome is not StageOutcome.NOT_REACHED]
    assert names[1] == TOWERS


def recorded() -> RecordedSteps:
    return RecordedSteps(NullProgress())


def towers_stage(steps: RecordedSteps) -> Stage:
    (stage,) = (each for each in steps.stages(is_over=True) if each.name == TOWERS)
    return stage


def test_failed_stage_gives_a_reason_and_the_run_continues(root: Path, cache: Path) -> None:
    steps = recorded()
    # Steps too small for an improvement.
    request = TextTowersRequest(cache=cache, options=replace(TRAINING, epochs=1, learning_rate=1e-7))
    assert train_encoder(root, SETTINGS, request, steps) is None
    stage = towers_stage(steps)
    assert stage.outcome is StageOutcome.NOT_TRAINED
    assert "so nothing is written" in stage.steps[-1].did
    assert Store(root).current() == "v000001"


def test_locked_index_keeps_trained_towers_for_the_next_run(root: Path, cache: Path) -> None:
    request, steps, again = TextTowersRequest(cache=cache, options=TRAINING), recorded(), recorded()
    with Store(root).lock("rebuild"):
        assert train_encoder(root, SETTINGS, request, steps) is None
    assert towers_stage(steps).outcome is StageOutcome.NOT_TRAINED
    made = train_encoder(root, SETTINGS, request, again)
    assert made is not None
    assert made.serves
    assert Store(root).current() == "v000002"
    assert "already trained" in " ".join(step.did for step in towers_stage(again).steps)
