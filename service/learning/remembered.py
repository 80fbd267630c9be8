"""What the last run that came to its end has learned from: STORE/training/learned.json."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import msgspec

from retrieval.errors import StoreDamagedError, StoreForeignError, StoreMissingError
from retrieval.manifest import write_durably
from retrieval.published import Store
from service.event_log import EventLog
from service.settings import Settings
from service.training.training import TRAINING_FOLDER

LEARNED_FILE = "learned.json"
SCHEMA = 1
_MOST_BYTES = 4 << 20
_CURE = "run shelfwise learn without --if-new: it is written anew"

Days = Mapping[int, int]
"""How many events there are of each day, by days since 1970."""


class Learned(msgspec.Struct, frozen=True, kw_only=True):
    """What learned.json holds."""

    schema: int = SCHEMA
    time: datetime
    """When that run began, UTC."""
    days: Days
    """The events that there were then. By day: what was removed since does not hide what is new."""
    ranker: str
    """The name of the ranker that came of it."""
    serves: bool
    """Whether it served then."""
    tower: str = ""
    """The name of the shopper tower; empty where there was too little to train one."""

    @property
    def events(self) -> int:
        """How many events there were."""
        return sum(self.days.values())


def last_learned(root: Path) -> Learned | None:
    """What was learned from last in an index directory, or None where nothing was yet.

    Raises StoreDamagedError where that cannot be read, StoreForeignError where a newer program wrote it.
    """
    path = root / TRAINING_FOLDER / LEARNED_FILE
    try:
        with path.open("rb") as file:
            said = file.read(_MOST_BYTES + 1)
        schema = msgspec.json.decode(said, type=_Schema).schema
        if schema != SCHEMA:
            raise StoreForeignError(f"{path} is of schema {schema}, this program reads {SCHEMA}: {_CURE}")
        return msgspec.json.decode(said, type=Learned)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StoreDamagedError(f"{path} cannot be read ({error}): {_CURE}") from error


def remember(root: Path, learned: Learned) -> None:
    """Writes what was learned from, durably, in the place of what stood there."""
    write_durably(root / TRAINING_FOLDER / LEARNED_FILE, msgspec.json.encode(learned))


def stored_days(root: Path, settings: Settings) -> Days:
    """The events that there are of an index directory, none where none was ever recorded.

    Raises StoreMissingError where nothing is published there, and what `EventLog.open` raises else.
    """
    Store(root).current()
    try:
        with EventLog.open(root, settings, make=False) as log:
            return {day: state.count for day, state in log.store.days().items()}
    except StoreMissingError:
        return {}


def new_events(now: Days, before: Learned | None) -> int:
    """How many events came since the last run: those of each day that are more than there were of it."""
    then = before.days if before else {}
    return sum(max(0, count - then.get(day, 0)) for day, count in now.items())


class _Schema(msgspec.Struct, frozen=True):
    schema: int
