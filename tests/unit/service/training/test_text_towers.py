"""Text towers in training: candidates, tuning, and the days that judge them."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from shelfwise.indexer.build import RebuildOptions, rebuild
from shelfwise.rerank.ranker.spec import ERASURES
from shelfwise.rerank.text_towers.task import TextTowerOptions
from shelfwise.rerank.text_towers.tower_loss import LossOptions
from shelfwise.rerank.training.trainer import Epoch
from shelfwise.retrieval.encoders.registry import open_encoder
from shelfwise.retrieval.errors import (
    EncoderUnavailableError,
    SettingError,
    StoreDamagedError,
    StoreForeignError,
    TrainingError,
)
from shelfwise.retrieval.events.stored import StoredEvent
from shelfwise.retrieval.progress import NullProgress
from shelfwise.retrieval.store.manifest import EVENTS_FOLDER
from shelfwise.service.curation.sqlite_file import to_microseconds
from shelfwise.service.sponsored.campaign import Campaign
from shelfwise.service.sponsored.ledger import Ledger, Offer, seal_offer, text_hash
from shelfwise.service.training.derived_tables import last_full_day, refund_fraud
from shelfwise.service.training.learn import last_days, new_events, report_path
from shelfwise.service.training.text_towers import TextTowersRequest, train_text_towers, tuned
from tests.catalogs import write_feed
from tests.learning_stores import SETTINGS, record_visits
from tests.unit.rerank.text_towers.tiny_towers import (
    PRODUCTS,
    TRAINING,
    every_query,
    judged,
    make_encoder,
    make_index,
    write_judgments,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def store(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_index(tmp_path_factory.mktemp("given-up"), cache)
    right = {each.query: next(iter(each.opinions)) for each in every_query()}
    visits = [[query] for query in right] * 2
    record_visits(root, visits, right, [each.id for each in PRODUCTS])
    return root


@pytest.fixture
def root(store: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(store, tmp_path / "index"))


def test_encoder_that_learned_from_an_erased_shopper_is_not_trained_further(
    root: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / EVENTS_FOLDER / "erasures.json").write_text("2")
    request = TextTowersRequest(cache=cache, options=replace(TRAINING, epochs=1))
    first = train_text_towers(root, SETTINGS, request, NullProgress())
    assert (first.spec.base, first.spec.trained_on[ERASURES]) == ("tiny", 2)
    feed = write_feed(tmp_path / "feed.jsonl", PRODUCTS)
    rebuild(root, RebuildOptions((str(feed),), cache, encoder=str(first.folder), runtime="onnx-fp32"))
    (root / EVENTS_FOLDER / "erasures.json").write_text("4")
    with pytest.raises(EncoderUnavailableError, match="data of a shopper who has been erased, and tiny,"):
        train_text_towers(root, SETTINGS, request, NullProgress())
    make_encoder(tmp_path / "tiny")
    monkeypatch.chdir(tmp_path)
    second = train_text_towers(root, SETTINGS, request, NullProgress())
    assert (second.spec.base, second.spec.trained_on[ERASURES]) == ("tiny", 4)


def test_a_static_encoder_is_trained_from_the_table_that_serves(cache: Path, tmp_path: Path) -> None:
    make_index(tmp_path, cache, encoder="static:{}", runtime="torch")
    write_judgments(tmp_path / "judgments.tsv", judged())
    request = TextTowersRequest([tmp_path / "judgments.tsv"], cache=cache, options=replace(TRAINING, learning_rate=0.0))
    done = train_text_towers(tmp_path / "index", SETTINGS, request, NullProgress())
    assert done.spec.options["learning_rate"] == 2e-3
    assert done.spec.curve[-1].validation > done.spec.curve[0].validation
    assert open_encoder(str(done.folder), "auto", cache).identity.startswith("towers-0001-static-int8")
    faulty = replace(request, options=replace(TRAINING, fgm=0.1))
    with pytest.raises(SettingError, match="a table has none: leave it out"):
        train_text_towers(tmp_path / "index", SETTINGS, faulty, NullProgress())


OPTIONS = TextTowerOptions(learning_rate=2e-5, loss=LossOptions(temperature=0.02), seed=3)


class TrialRecorder:
    def __init__(self, lost: int | None = None, killed: int | None = None) -> None:
        self.tried: list[TextTowerOptions] = []
        self._lost, self._killed = lost, killed

    def __call__(self, options: TextTowerOptions, folder: Path, judged: Callable[[Epoch], None]) -> float:
        self.tried.append(options)
        folder.mkdir()
        if len(self.tried) == self._killed:
            raise KeyboardInterrupt
        if len(self.tried) == self._lost:
            raise TrainingError("the loss became nan at step 3")
        value = 1 - abs(math.log10(options.learning_rate / 3e-4)) / 4 - abs(options.negatives.count - 2) / 10
        for number in range(3):
            judged(Epoch(number, None, value * (number + 1) / 3))
        return value


def test_resumed_study_tries_new_options(tmp_path: Path) -> None:
    first, more = TrialRecorder(), TrialRecorder()
    tuned(OPTIONS, 4, tmp_path / "study.db", first, NullProgress())
    tuned(OPTIONS, 8, tmp_path / "study.db", more, NullProgress())
    assert len(more.tried) == 4
    assert not {each.learning_rate for each in first.tried} & {each.learning_rate for each in more.tried}


def test_killed_study_resumes(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        tuned(OPTIONS, 6, tmp_path / "study.db", TrialRecorder(killed=4), NullProgress())
    train = TrialRecorder()
    found = tuned(OPTIONS, 6, tmp_path / "study.db", train, NullProgress())
    assert len(train.tried) == 3
    assert tuned(OPTIONS, 6, tmp_path / "study.db", TrialRecorder(killed=1), NullProgress()) == found


def test_invalid_study_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "study.db").write_text("no database " * 100)
    with pytest.raises(TrainingError, match=r"study\.db has no search that can resume .* remove it"):
        tuned(OPTIONS, 2, tmp_path / "study.db", TrialRecorder(), NullProgress())


def test_trial_with_non_finite_loss_counts_and_is_not_selected(tmp_path: Path) -> None:
    train = TrialRecorder(lost=1)
    with pytest.raises(TrainingError, match="no trial completed"):
        tuned(OPTIONS, 1, tmp_path / "one.db", TrialRecorder(lost=1), NullProgress())
    assert tuned(OPTIONS, 2, tmp_path / "study.db", train, NullProgress()) == train.tried[1]


BEFORE = {10: 5, 11: 7}


def test_new_events_include_additions_to_old_days() -> None:
    assert new_events({10: 5, 11: 9, 12: 4}, BEFORE) == 2 + 4
    assert new_events({10: 5}, {}) == 5
    assert new_events({11: 3, 12: 4}, BEFORE) == 4, "what was removed since does not hide what is new"


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"schema": 1, "days": 3}', b'{"schema": 2}'])
def test_unreadable_report_error_names_the_remedy(tmp_path: Path, content: bytes) -> None:
    report_path(tmp_path).parent.mkdir()
    report_path(tmp_path).write_bytes(content)
    with pytest.raises((StoreDamagedError, StoreForeignError), match="run shelfwise learn without --if-new"):
        last_days(tmp_path)


NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("active", "expected"),
    [
        ([], (None, 0)),
        ([700], (700, 0)),
        (list(range(100, 142)), (141, 0)),
        ([*range(100, 142), 700], (141, 1)),
        ([*range(100, 142), *range(700, 715)], (141, 15)),
        ([*range(100, 142), *range(700, 721)], (720, 0)),
        ([*range(100, 142), 150, 200], (200, 0)),
    ],
    ids=["no events", "one day", "six weeks", "one event after a pause", "two weeks", "half a window", "a short pause"],
)
def test_a_few_days_after_a_long_pause_do_not_replace_a_full_window(
    active: list[int], expected: tuple[int | None, int]
) -> None:
    assert last_full_day(np.array(active, np.int64), 180) == expected


def test_clicks_in_sessions_of_bots_are_refunded(tmp_path: Path) -> None:
    """A click belongs to the latest session of its shopper, or of its session id, that began before it."""
    ledger, key = Ledger(tmp_path, clock=lambda: NOON), bytes(32)
    campaign = Campaign("drills", "acme", ("p1",), 0.5)
    offer = Offer("drills", "acme", text_hash("p1"), 1, 300_000, 6, to_microseconds(NOON))
    who = [("bot", "s1"), ("ann", "s2"), ("", "s3"), ("bob", "s4"), ("unknown", "s5")]
    clicks = [
        StoredEvent(
            name.encode(), "click", 0, 0, shopper, name, seal_offer(offer, name, key), "", "p1", None, None, None, None
        )
        for shopper, name in who
    ]
    assert [*map(str, ledger.charge(clicks, {"drills": campaign}, key))] == ["charged"] * 5
    hours = [("bot", "s0", -1, True), ("ann", "s2", -1, False), ("", "s3", 0, True), ("bob", "", -3, True)]
    hours += [("bob", "s4", -1, False), ("ann", "s9", 1, True)]
    naive = NOON.replace(tzinfo=None)
    table = [(shopper, session, naive + timedelta(hours=at), is_fraud) for shopper, session, at, is_fraud in hours]
    sessions = pl.DataFrame(table, schema=["shopper", "session", "first", "is_fraud"], orient="row")
    assert refund_fraud(ledger, sessions, NOON - timedelta(days=1)) == 2
    assert [each.refunds for each in ledger.entries() if each.reason == "fraud"] == [1, 3]
    assert refund_fraud(ledger, sessions, NOON - timedelta(days=1)) == 0
