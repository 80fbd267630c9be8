"""Control of exposure: keeps the share of attention that some products get over a day above a floor or below a ceiling.

Each counted search changes the strength of a goal by a step times the attention that its products lacked or had in
excess, so that the strength follows the accumulated error, as in FairCo (Morik et al. 2020, Controlling Fairness and
Bias in Dynamic Learning-to-Rank, section 5). The steps become small (Robbins & Monro 1951, A Stochastic Approximation
Method), and the strength is kept across days: the cost in relevance is convex in it, so a nearly constant strength
costs what the curve of constant strengths shows.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import reduce
from pathlib import Path
from typing import Generic, TypeVar

from shelfwise.retrieval.errors import StoreError
from shelfwise.retrieval.records import ExposureGoal, Page
from shelfwise.service.curation.rules import Exposure, Rule
from shelfwise.service.curation.sqlite_file import SqliteFile, wall_clock

EXPOSURE_FILE = "exposure.sqlite"
DEPTH = 20
"""Ranks that get attention: each 1 / rank, position bias with an exponent of 1 (Joachims, Swaminathan & Schnabel 2017,
Unbiased Learning-to-Rank with Biased Feedback, section 5)."""
STRONGEST = 5.0
"""Maximum absolute strength, in standard deviations of the scores of the best hits."""
_GAIN, _EARLY, _MIN_STEP = 40.0, 50, 0.02
"""The step after n searches is `_GAIN` / (n + `_EARLY`), at least `_MIN_STEP`: strength per unit of attention, which
is that of a first rank. Chosen on the dev queries of the demo store."""


@dataclass(frozen=True, slots=True)
class ExposureState:
    """The state of the control of an exposure goal. The attention and the searches are those of one day."""

    day: int = 0
    """Days since 1970 (UTC)."""
    own: float = 0.0
    """Attention of the goal's products."""
    total: float = 0.0
    """Attention of all ranked hits that no rule pinned."""
    searches: int = 0
    strength: float = 0.0
    """Offset of the scores of the goal's products, in standard deviations of the scores of the best hits: positive for
    a floor, negative for a ceiling. It carries over to the next day."""
    counted: int = 0
    """Number of searches of all days."""

    @property
    def share(self) -> float:
        """The share of attention of the day; 0 before the first search."""
        return self.own / self.total if self.total else 0.0

    def on(self, day: int) -> ExposureState:
        """This state on a day; counts are reset on a new day."""
        return self if self.day == day else replace(self, day=day, own=0.0, total=0.0, searches=0)

    def step(self, goal: ExposureGoal, day: int, own: float, total: float) -> ExposureState:
        """Change of this state by one search with this attention of the goal's products and of all hits."""
        size = max(_MIN_STEP, _GAIN / (self.counted + _EARLY))
        return ExposureState(day, own, total, 1, size * (goal.share * total - own), 1)

    def __add__(self, step: ExposureState) -> ExposureState:
        """This state, or step, combined with a later step."""
        day = max(self.day, step.day)
        one, other = self.on(day), step.on(day)
        return ExposureState(
            day,
            one.own + other.own,
            one.total + other.total,
            one.searches + other.searches,
            one.strength + other.strength,
            one.counted + other.counted,
        )

    def within(self, goal: ExposureGoal) -> ExposureState:
        """This state with a strength that the goal allows: positive for a floor, negative for a ceiling."""
        lowest, highest = (0.0, STRONGEST) if goal.at_least else (-STRONGEST, 0.0)
        return replace(self, strength=min(max(self.strength, lowest), highest))


NOT_COUNTED = ExposureState()


def attention(page: Page) -> list[tuple[ExposureGoal, float, float]]:
    """Attention of the goal's products and of all hits, for each goal of a page. Pinned hits count for neither."""
    first = (page.page - 1) * page.size + 1
    placed = list(enumerate(page.hits, first))
    found = []
    for each in page.exposure_goals:
        fixed, own = frozenset(each.pinned), frozenset(each.products)
        seen = {hit.product.id: 1 / at for at, hit in placed if at <= DEPTH and hit.product.id not in fixed}
        found.append((each.goal, sum(share for name, share in seen.items() if name in own), sum(seen.values())))
    return found


def goals_of(rules: Iterable[Rule]) -> list[ExposureGoal]:
    """The exposure goals of rules, in order."""
    actions = ((rule.id, action) for rule in rules for action in rule.actions if isinstance(action, Exposure))
    return [ExposureGoal(name, each.filters, each.at_least, each.at_most) for name, each in actions]


_TABLES = """
CREATE TABLE exposure (
    rule TEXT NOT NULL, filters TEXT NOT NULL, day INTEGER NOT NULL, own REAL NOT NULL, total REAL NOT NULL,
    searches INTEGER NOT NULL, strength REAL NOT NULL, counted INTEGER NOT NULL, PRIMARY KEY (rule, filters)
) WITHOUT ROWID;
"""
_FIELDS = "day, own, total, searches, strength, counted"
ExposureStates = Mapping[tuple[str, str], ExposureState]
"""States by rule and filters, so that a goal whose share is changed continues from its state."""


class ExposureStore:
    """The states of the exposure goals of an index directory (INDEX/exposure.sqlite), shared by all processes that
    serve it. Methods raise StoreError if the file cannot be used."""

    def __init__(self, root: Path) -> None:
        self.path = root / EXPOSURE_FILE
        self._file = SqliteFile(self.path, "the exposure of products", 0x53574558, _TABLES)

    def read(self) -> ExposureStates:
        """All states."""
        with self._file.reading() as cursor:
            rows = cursor.execute(f"SELECT rule, filters, {_FIELDS} FROM exposure").fetchall() if cursor else []  # noqa: S608  # our own words
        return {(rule, filters): ExposureState(*values) for rule, filters, *values in rows}

    def add(self, steps: Mapping[ExposureGoal, ExposureState]) -> None:
        """Adds the counts of searches to the states, durably."""
        with self._file.writing() as cursor:
            for goal, step in steps.items():
                key = (goal.rule, goal.filters)
                wanted = f"SELECT {_FIELDS} FROM exposure WHERE rule = ? AND filters = ?"  # noqa: S608  # our own words
                found = cursor.execute(wanted, key).fetchone()
                state = ((ExposureState(*found) if found else NOT_COUNTED) + step).within(goal)
                values = (*key, state.day, state.own, state.total, state.searches, state.strength, state.counted)
                cursor.execute("INSERT OR REPLACE INTO exposure VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)


Key = TypeVar("Key")
Count = TypeVar("Count")
_WRITE_SECONDS = 1.0


class DelayedCounts(Generic[Key, Count]):
    """Counts by key that are written together about once a second, so that no search waits for the disk.
    Thread-safe."""

    def __init__(
        self,
        store: Callable[[Mapping[Key, Count]], None],
        combine: Callable[[Count, Count], Count],
        failure: str,
        clock: Callable[[], datetime] = wall_clock,
    ) -> None:
        """`store` writes counts, `combine` adds two counts of a key; an error's notice begins with `failure`."""
        self._store, self._combine, self._failure, self._clock = store, combine, failure, clock
        self._waiting: dict[Key, Count] = {}
        self._writing: dict[Key, Count] = {}
        self._written = clock()
        self._lock = threading.Lock()
        self.notices: tuple[str, ...] = ()

    def add(self, key: Key, count: Count) -> None:
        """Adds a count."""
        with self._lock:
            known = self._waiting.get(key)
            self._waiting[key] = count if known is None else self._combine(known, count)

    def waiting(self, key: Key) -> Count | None:
        """The count of a key that is not written yet."""
        with self._lock:
            counts = [each[key] for each in (self._writing, self._waiting) if key in each]
        return reduce(self._combine, counts) if counts else None

    def write_if_due(self, read: Callable[[], object] = lambda: None) -> None:
        """Writes waiting counts, unless the last write was less than a second ago; `read` as in `write`."""
        if self._waiting and (self._clock() - self._written).total_seconds() >= _WRITE_SECONDS:
            self.write(read)

    def write(self, read: Callable[[], object] = lambda: None) -> None:
        """Writes waiting counts and reads them back with `read`; until then they still count as waiting. If writing
        fails, they stay waiting, and `notices` has the reason."""
        with self._lock:
            waiting, self._waiting = self._waiting, {}
            self._writing, self._written = waiting, self._clock()
        if not waiting:
            return
        try:
            self._store(waiting)
            read()
            self.notices, failed = (), False
        except StoreError as error:
            self.notices, failed = (f"{self._failure}: {error}",), True
        with self._lock:
            self._writing = {}
        for key, count in waiting.items() if failed else ():
            self.add(key, count)
