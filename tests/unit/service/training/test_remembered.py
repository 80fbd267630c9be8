"""The record of the last training, and the amount of new data since."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from shelfwise.retrieval.errors import StoreDamagedError, StoreForeignError
from shelfwise.service.training.learn import LEARNED_FILE, LearnRecord, new_events, read_record, write_record
from shelfwise.service.training.training_session import TRAINING_FOLDER

BEFORE = LearnRecord(time=datetime(2026, 10, 2, tzinfo=UTC), days={10: 5, 11: 7}, ranker="ranker-0001", serves=True)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / TRAINING_FOLDER).mkdir()
    return tmp_path


def test_training_record_round_trips(root: Path) -> None:
    assert read_record(root) is None
    write_record(root, BEFORE)
    assert read_record(root) == BEFORE
    assert BEFORE.events == 12


def test_new_events_include_additions_to_old_days() -> None:
    assert new_events({10: 5, 11: 9, 12: 4}, BEFORE) == 2 + 4
    assert new_events({10: 5}, None) == 5
    assert new_events({11: 3, 12: 4}, BEFORE) == 4, "what was removed since does not hide what is new"


def test_unreadable_record_error_names_the_remedy(root: Path) -> None:
    file = root / TRAINING_FOLDER / LEARNED_FILE
    for content in (b"", b"{", b'{"schema": 1}', b"\xff", b'{"schema": 1, "time": 3}'):
        file.write_bytes(content)
        with pytest.raises(StoreDamagedError, match="run shelfwise learn without --if-new"):
            read_record(root)
    file.write_bytes(b'{"schema": 2}')
    with pytest.raises(StoreForeignError, match="is of schema 2, this program reads 1"):
        read_record(root)
