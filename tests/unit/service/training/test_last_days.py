"""The events of the last completed run, and the number of new ones since."""

from __future__ import annotations

from pathlib import Path

import pytest

from shelfwise.retrieval.errors import StoreDamagedError, StoreForeignError
from shelfwise.service.training.learn import last_days, new_events, report_path

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
