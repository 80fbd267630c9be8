"""Experiments: their variants, units and period, their JSON form and validation, their store, and those of an engine.

INDEX/experiments.sqlite also contains the key that signs the marks in query ids. Anyone who reads it can forge marks,
so it is private.
"""

from __future__ import annotations

import hmac
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from shelfwise.rerank.model_store import DEFAULT_MODEL, OFF
from shelfwise.rerank.ranker.spec import RANKERS, ranker_store
from shelfwise.retrieval.errors import ExperimentError, ModelError
from shelfwise.retrieval.index.fusion import DEFAULT, METHODS
from shelfwise.service.curation.document_store import (
    KEY_TABLE,
    DocumentCodec,
    DocumentStore,
    StoredDocuments,
    add_key,
    check_period,
    check_text,
    plain_document,
    read_key,
)
from shelfwise.service.curation.sqlite_file import wall_clock
from shelfwise.service.engine.editors import DocumentEditor
from shelfwise.service.engine.snapshot import Snapshot
from shelfwise.service.engine.versions import stored_encoding
from shelfwise.service.events.hot_reload import ReloadedFile

MAX_AT_ONCE = 4
MAX_VARIANTS = 8
LONGEST_NAME = 200
LONGEST_RANKER = 40
_LAST_STAGE = frozenset({"stage", "ranker"})
"""Two options that both set the last stage of a search."""
_YEARS = range(2000, 2200)
_SALT_BYTES = 16
_RELOAD_SECONDS = 0.25
_Share = Annotated[float, Meta(gt=0, le=1)]


class Mode(StrEnum):
    """Method of comparing variants."""

    SPLIT = "split"
    """Each unit sees one variant."""
    INTERLEAVE = "interleave"
    """All shoppers see both, interleaved in one list."""


class Unit(StrEnum):
    """The unit of assignment."""

    SHOPPER = "shopper"
    SESSION = "session"
    QUERY = "query"
    """One shopper's searches for one text, or those of a session if the shopper is unknown."""


class Goal(StrEnum):
    """The measure that decides an experiment; the others are reported as well."""

    CLICK_THROUGH = "click_through"
    EMPTY = "empty"
    ABANDONED = "abandoned"
    CARTS = "carts"
    PURCHASES = "purchases"


@dataclass(frozen=True, slots=True)
class VariantOptions:
    """Options of a variant's searches; None keeps the default of a search."""

    stage: Literal["merged", "ranked"] | None = None
    merge: str | None = None
    """One of `shelfwise.retrieval.index.fusion.METHODS`."""
    rules: bool | None = None
    """Whether the store's merchandising rules apply."""
    ranker: str | None = None
    """Name of a ranker of the index, including "default", or "off" for the merged order."""

    @property
    def given(self) -> dict[str, str | bool]:
        """The options that are not None, as arguments of `SearchEngine.search`."""
        options: dict[str, str | bool] = plain_document(self)
        return options

    @property
    def effective(self) -> tuple[str, str, bool, str | None]:
        """The stage, merge method, rules and ranker of its searches: equal for variants with equal results."""
        stage = "merged" if self.ranker == OFF else self.stage or "ranked"
        ranker = None if stage == "merged" else self.ranker
        return stage, self.merge or DEFAULT, self.rules is not False, ranker


@dataclass(frozen=True, slots=True)
class Variant:
    """One arm of an experiment; the first one is the baseline of the others."""

    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,15}\Z")]
    options: VariantOptions = VariantOptions()
    weight: Annotated[float, Meta(gt=0, le=1_000_000)] = 1.0
    """Assignment weight, relative to the other variants."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """Variants, who takes part, and the deciding measure."""

    id: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,31}\Z")]
    variants: tuple[Variant, ...]
    name: str = ""
    mode: Mode = Mode.SPLIT
    unit: Unit = Unit.SHOPPER
    share: _Share = 1.0
    """Share of all units that take part."""
    starts: datetime | None = None
    """Start time with its zone; the store sets it to the time when the experiment is enabled, if that is later."""
    ends: datetime | None = None
    """End time (exclusive) with its zone; the store sets it when a running experiment is switched off."""
    enabled: bool = True
    """Whether shoppers take part; otherwise it is a draft, which can be changed."""
    goal: Goal = Goal.CLICK_THROUGH
    """The goal of a split; interleaving compares clicks."""
    planned: Annotated[int, Meta(ge=100, le=1_000_000_000)] = 10_000
    """Expected number of shoppers, at which the anytime-valid interval is narrowest."""
    least_effect: _Share = 0.02
    """The smallest relevant difference, as a share of the first variant's measure; for interleaving, of the share of
    wins above one half."""
    aa_test: bool = False
    """Whether all variants are equal on purpose, to check the assignment and the measures."""

    @property
    def touches(self) -> frozenset[str]:
        """The options that any of its variants sets."""
        return frozenset(name for variant in self.variants for name in variant.options.given)

    def has_begun(self, now: datetime) -> bool:
        """Whether shoppers may have taken part."""
        return self.enabled and self.starts is not None and self.starts <= now

    def runs(self, now: datetime) -> bool:
        """Whether searches take part now."""
        return self.has_begun(now) and (self.ends is None or now < self.ends)

    def state(self, now: datetime) -> str:
        """One of draft, waiting, running and ended."""
        if not self.enabled:
            return "draft"
        if not self.has_begun(now):
            return "waiting"
        return "running" if self.runs(now) else "ended"


_ALLOWED: Mapping[str, str] = {
    "id": "1 to 32 of a-z, 0-9 and -, not beginning with -",
    "name": "1 to 16 of a-z, 0-9 and -, not beginning with -",
    "stage": "merged or ranked",
    "weight": "a number above 0, at most 1,000,000",
    "share": "a number above 0, at most 1",
    "planned": "100 to 1,000,000,000 shoppers",
    "least_effect": "a number above 0, at most 1",
}


def _check(experiment: Experiment, place: str) -> Experiment:
    check_text(f"{place}: name", experiment.name, LONGEST_NAME, ExperimentError)
    check_period(f"{place}: ", experiment.starts, experiment.ends, ExperimentError)
    for name, moment in (("starts", experiment.starts), ("ends", experiment.ends)):
        if moment is not None and moment.year not in _YEARS:
            raise _wrong(place, name, f"is in the year {moment.year}, it can be {_YEARS.start} to {_YEARS.stop - 1}")
    _check_variants(place, experiment)
    return experiment


def check_overlaps(experiment: Experiment, others: Iterable[Experiment]) -> None:
    """Raises ExperimentError if an experiment cannot run at the same time as others."""
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    begins, ends = experiment.starts or first, experiment.ends or last
    concurrent = [
        each
        for each in others
        if each.id != experiment.id and begins < (each.ends or last) and (each.starts or first) < ends
    ]
    place = f"experiment {experiment.id!r}"
    if len(concurrent) >= MAX_AT_ONCE:
        raise _wrong(place, "starts", f"{len(concurrent)} others run at that time, {MAX_AT_ONCE} can; stop one first")
    for other in concurrent:
        if Mode.INTERLEAVE == experiment.mode == other.mode:
            raise _wrong(place, "mode", f"{other.id!r} interleaves at that time, and only one can; end it first")
        touched = other.touches | (_LAST_STAGE if other.touches & _LAST_STAGE else set())
        if shared := sorted(experiment.touches & touched):
            theirs = shared[0] if shared[0] in other.touches else min(other.touches & _LAST_STAGE)
            message = f"{other.id!r} also sets {theirs} at that time: their effects could not be separated"
            raise _wrong(place, shared[0], message)


def _check_variants(place: str, experiment: Experiment) -> None:
    variants, interleaves = experiment.variants, experiment.mode == Mode.INTERLEAVE
    if not 2 <= len(variants) <= (2 if interleaves else MAX_VARIANTS):
        right = "interleaving needs 2" if interleaves else f"it can be 2 to {MAX_VARIANTS}"
        raise _wrong(place, "variants", f"there are {len(variants)}; {right}")
    for number, variant in enumerate(variants):
        _check_options(f"{place}: variants[{number}].options", variant.options)
    names = [variant.name for variant in variants]
    if len(set(names)) < len(names):
        raise _wrong(place, "variants", "two of them have the same name; give each its own")
    if interleaves and len({variant.weight for variant in variants}) > 1:
        raise _wrong(place, "weight", "interleaving gives both the same weight; leave it out")
    if interleaves and len({variant.options.rules for variant in variants}) > 1:
        message = "interleaving needs both lists to have the same products; compare rules by a split"
        raise _wrong(place, "rules", message)
    options = [variant.options.effective for variant in variants]
    if experiment.aa_test and len(set(options)) > 1:
        raise _wrong(place, "aa_test", "the variants differ; an A/A test compares equal ones")
    twins = next((at for at, each in enumerate(options) if each in options[:at]), None)
    if twins is not None and not experiment.aa_test:
        other = variants[options.index(options[twins])].name
        message = f"equals {other!r}, so they cannot be compared; change an option, or declare an A/A test (aa_test)"
        raise _wrong(f"{place}: variants[{twins}]", "options", message)


def _check_options(place: str, options: VariantOptions) -> None:
    if options.merge is not None and options.merge not in METHODS:
        raise _wrong(place, "merge", f"is {options.merge[:40]!r}, it can be {', '.join(METHODS)}")
    if (ranker := options.ranker) is None:
        return
    is_name = len(ranker) <= LONGEST_RANKER and RANKERS.is_name(ranker)
    if not is_name and ranker not in (OFF, DEFAULT_MODEL):
        names = f"{OFF}, {DEFAULT_MODEL} or a name of shelfwise models list"
        raise _wrong(place, "ranker", f"is {ranker[: LONGEST_RANKER + 1]!r}; it can be {names}")
    if options.stage == "merged":
        raise _wrong(place, "ranker", 'no ranker reorders the stage "merged"; leave one of the two out')


def _wrong(place: str, field: str, message: str) -> ExperimentError:
    return ExperimentError(f"{place}: {field}: {message}", field=field)


# While one of an experiment's rankers cannot serve, no one takes part in any of its variants: shoppers who do not get
# the answers of their variant would make the variants look alike.

Problem = Callable[[str], str]
"""The reason why the ranker of a name (empty for the serving one) cannot serve; empty if it can. An engine's is
`SearchEngine.ranker_problem`."""


def unserved_reason(experiment: Experiment, problem: Problem) -> str:
    """The reason why an experiment cannot be answered now; empty if it can, as always without rankers."""
    if "ranker" not in experiment.touches:
        return ""
    options = [variant.options for variant in experiment.variants]
    # A variant without a ranker uses the serving one; without that, it would equal a variant with "off".
    names = dict.fromkeys(each.ranker or "" for each in options if each.stage != "merged")
    return next(filter(None, map(problem, names)), "")


def check_rankers(experiment: Experiment, problem: Problem) -> None:
    """Raises ExperimentError if one of the rankers cannot serve."""
    if why := unserved_reason(experiment, problem):
        raise ExperimentError(f"experiment {experiment.id!r}: ranker: {why}", experiment.id, "ranker")


def stored_problem(index: Path) -> Problem:
    """`Problem` for an index directory that is not opened, or whose engine has no models."""

    def problem(name: str) -> str:
        registry, encoding = ranker_store(index), stored_encoding(index)
        try:
            if name and name != OFF:
                registry.servable(name, encoding)
        except ModelError as error:
            return str(error)
        return "" if name or registry.serving(encoding).model else "no ranker serves"

    return problem


@dataclass(frozen=True, slots=True)
class StoredExperiments(StoredDocuments[Experiment]):
    """Experiments, ordered by id: all, or those running at one time."""

    key: bytes = b""
    """Signs the marks in query ids; empty if none was needed yet."""

    def salt(self, experiment_id: str) -> bytes:
        """Makes the random assignment of an experiment independent of other experiments and indexes."""
        return hmac.digest(self.key, f"experiment\0{experiment_id}".encode(), "sha256")[:_SALT_BYTES]


class ExperimentStore(DocumentStore[Experiment]):
    """The experiments of an index directory and their changes (INDEX/experiments.sqlite); its errors are
    ExperimentError. An experiment that shoppers may have seen can only be switched off, which ends it."""

    kind = DocumentCodec(
        one="experiment",
        many="experiments",
        entry=Experiment,
        application=0x53574558,
        error=ExperimentError,
        check=_check,
        allowed=_ALLOWED,
        to_plain=plain_document,
        more_tables=KEY_TABLE,
        private=True,
    )

    def read(self) -> StoredExperiments:
        """The current experiments."""
        with self._file.reading() as cursor:
            if cursor is None:
                return StoredExperiments()
            return StoredExperiments(self._revision(cursor), self._all(cursor), key=read_key(cursor))

    def _write(self, cursor: sqlite3.Cursor, lines: Mapping[str, str | None], who: str) -> None:
        now, stored = self._clock(), {each.id: each for each in self._all(cursor)}
        changed: dict[str, Experiment | None] = {}
        for name, line in lines.items():
            changed[name] = _allowed_change(stored.get(name), None if line is None else self._decoded(line), now)
        enabled = [each for each in {**stored, **changed}.values() if each is not None and each.enabled]
        for name, each in changed.items():
            has_begun = name in stored and stored[name].has_begun(now)
            if each is not None and each.enabled and not has_begun:
                check_rankers(each, stored_problem(self.path.parent))
                check_overlaps(each, enabled)
        add_key(cursor)
        encoded = {name: None if each is None else self._encoded(each) for name, each in changed.items()}
        super()._write(cursor, encoded, who)


def _allowed_change(before: Experiment | None, after: Experiment | None, now: datetime) -> Experiment | None:
    """The experiment that a change stores at a time: with its start, and with its end if the change switches it off."""
    if before is not None and before.has_begun(now):
        if after is not None and replace(after, starts=before.starts, enabled=True) == before:
            is_postponed = after.starts is not None and not replace(after, enabled=True).has_begun(now)
            if not is_postponed:
                return before if after.enabled or not before.runs(now) else replace(before, ends=now)
        message = "has started: it can be switched off, not changed; use another id for a new one"
        raise ExperimentError(f"experiment {before.id!r} {message}", before.id, "id")
    if after is None or after == before:
        return after
    if after.ends is not None and after.ends <= now:
        raise ExperimentError(f"experiment {after.id!r}: ends: is over already", after.id, "ends")
    return replace(after, starts=max(now, after.starts or now)) if after.enabled else after


@dataclass(frozen=True, slots=True)
class ExperimentState:
    """The state of an experiment at one time."""

    state: str
    """draft, waiting, running or ended."""


class EngineExperiments(DocumentEditor[Experiment]):
    """The experiments of an engine's index; searches over HTTP follow a change within a quarter of a second.

    >>> variants = (Variant("now"), Variant("rrf", VariantOptions(merge="rrf")))
    >>> engine.experiments.put([Experiment("merging", variants)], who="m7")
    """

    def __init__(
        self,
        root: Path,
        snapshot: Callable[[], Snapshot],
        problem: Problem,
        *,
        clock: Callable[[], datetime] = wall_clock,
    ) -> None:
        store = ExperimentStore(root, clock=clock)
        self._problem = problem
        self._clock = clock
        self._stored = ReloadedFile(
            store.path,
            # The key may be created without a change of the documents.
            lambda _: store.read(),
            StoredExperiments(),
            "changes of the experiments are not loaded",
            keeps_value=True,
            interval=_RELOAD_SECONDS,
        )
        super().__init__(store, snapshot)

    @property
    def notices(self) -> tuple[str, ...]:
        """Reasons why the latest experiments are not loaded, and which ones are paused."""
        paused = (f"no shopper is assigned to the experiment {name}: {why}" for name, why in self.faults.items())
        return (*self._stored.notices, *paused)

    @property
    def faults(self) -> Mapping[str, str]:
        """The reason, by id, for each running experiment in which no shopper takes part now."""
        reasons = {each.id: unserved_reason(each, self._problem) for each in self.running().documents}
        return {name: why for name, why in reasons.items() if why}

    def details(self, _product: str = "", /) -> Mapping[str, object]:
        now = self._clock()
        return {"states": {each.id: ExperimentState(each.state(now)) for each in self.list()}}

    def running(self) -> StoredExperiments:
        """The experiments in which searches take part now."""
        stored, now = self._stored.current(), self._clock()
        return replace(stored, documents=tuple(each for each in stored.documents if each.runs(now)))

    def reload_if_changed(self, _snapshot: Snapshot, /) -> None:
        """Loads changed experiments at once."""
        self._stored.reload_if_changed()
