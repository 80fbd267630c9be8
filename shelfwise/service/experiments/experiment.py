"""Definition of an experiment: its variants, its units and its period; JSON and validation."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from enum import StrEnum

from shelfwise.rerank.model_store import DEFAULT_MODEL, OFF
from shelfwise.rerank.ranker.spec import RANKERS
from shelfwise.retrieval.errors import ExperimentError
from shelfwise.retrieval.index.fusion import DEFAULT, METHODS
from shelfwise.retrieval.updates.validation import CONTROL, is_writable
from shelfwise.service.curation.document_store import plain_fields


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

    stage: str | None = None
    """"merged" or "ranked"."""
    merge: str | None = None
    """One of `shelfwise.retrieval.index.fusion.METHODS`."""
    rules: bool | None = None
    """Whether the store's merchandising rules apply."""
    ranker: str | None = None
    """Name of a ranker of the index, including "default", or "off" for the merged order."""

    @property
    def given(self) -> dict[str, str | bool]:
        """The options that are not None, as arguments of `SearchEngine.search`."""
        found = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in found.items() if value is not None}

    @property
    def effective(self) -> tuple[str, str, bool, str | None]:
        """The stage, merge method, rules and ranker of its searches: equal for variants with equal results."""
        stage = "merged" if self.ranker == OFF else self.stage or "ranked"
        ranker = None if stage == "merged" else self.ranker
        return stage, self.merge or DEFAULT, self.rules is not False, ranker


@dataclass(frozen=True, slots=True)
class Variant:
    """One arm of an experiment; the first one is the baseline of the others."""

    name: str
    options: VariantOptions = VariantOptions()
    weight: float = 1.0
    """Assignment weight, relative to the other variants."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """Variants, who takes part, and the deciding measure."""

    id: str
    variants: tuple[Variant, ...]
    name: str = ""
    mode: Mode = Mode.SPLIT
    unit: Unit = Unit.SHOPPER
    share: float = 1.0
    """Share of all units that take part."""
    starts: datetime | None = None
    """Start time with its zone; the store sets it to the time when the experiment is enabled, if that is later."""
    ends: datetime | None = None
    """End time (exclusive) with its zone; the store sets it when a running experiment is switched off."""
    enabled: bool = True
    """Whether shoppers take part; otherwise it is a draft, which can be changed."""
    goal: Goal = Goal.CLICK_THROUGH
    """The goal of a split; interleaving compares clicks."""
    planned: int = 10_000
    """Expected number of shoppers, at which the anytime-valid interval is narrowest."""
    least_effect: float = 0.02
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


def experiment_document(experiment: Experiment) -> dict[str, object]:
    """An experiment as plain values for JSON, without defaults."""
    made = plain_fields(experiment)
    made["variants"] = [
        plain_fields(replace(each, options=VariantOptions()))
        | ({"options": each.options.given} if each.options.given else {})
        for each in experiment.variants
    ]
    return made


MOST_AT_ONCE = 4
MOST_VARIANTS = 8
LONGEST_ID = 32
LONGEST_VARIANT = 16
LONGEST_NAME = 200
HEAVIEST = 1_000_000
MOST_PLANNED = 1_000_000_000
LONGEST_RANKER = 40
STAGES = ("merged", "ranked")
_PLAIN = re.compile(r"[a-z0-9][a-z0-9-]*")
_LAST_STAGE = frozenset({"stage", "ranker"})
"""Two options that both set the last stage of a search."""
_YEARS = range(2000, 2200)


def check_experiment(experiment: Experiment, place: str) -> Experiment:
    """The experiment itself; raises ExperimentError, whose message begins with the place and names the field, the
    problem and the remedy."""
    _check_plain(experiment.id, "id", LONGEST_ID, place)
    if len(experiment.name) > LONGEST_NAME or not is_writable(experiment.name) or CONTROL.search(experiment.name):
        raise _wrong(place, "name", f"must be at most {LONGEST_NAME} characters without control characters")
    _check_number(place, "share", experiment.share, 1.0)
    _check_number(place, "least_effect", experiment.least_effect, 1.0)
    if not 100 <= experiment.planned <= MOST_PLANNED:
        raise _wrong(place, "planned", f"is {experiment.planned:,}, it can be 100 to {MOST_PLANNED:,} shoppers")
    _check_time(place, experiment)
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
    if len(concurrent) >= MOST_AT_ONCE:
        raise _wrong(place, "starts", f"{len(concurrent)} others run at that time, {MOST_AT_ONCE} can; stop one first")
    for other in concurrent:
        if Mode.INTERLEAVE == experiment.mode == other.mode:
            raise _wrong(place, "mode", f"{other.id!r} interleaves at that time, and only one can; end it first")
        touched = other.touches | (_LAST_STAGE if other.touches & _LAST_STAGE else set())
        if shared := sorted(experiment.touches & touched):
            theirs = shared[0] if shared[0] in other.touches else min(other.touches & _LAST_STAGE)
            message = f"{other.id!r} also sets {theirs} at that time: their effects could not be separated"
            raise _wrong(place, shared[0], message)


def _check_time(place: str, experiment: Experiment) -> None:
    for name, moment in (("starts", experiment.starts), ("ends", experiment.ends)):
        if moment is not None and moment.utcoffset() is None:
            raise _wrong(place, name, "has no zone; write it as 2026-11-27T00:00:00+01:00")
        if moment is not None and moment.year not in _YEARS:
            raise _wrong(place, name, f"is in the year {moment.year}, it can be {_YEARS.start} to {_YEARS.stop - 1}")
    if experiment.starts and experiment.ends and experiment.ends <= experiment.starts:
        raise _wrong(place, "ends", "is not after starts")


def _check_variants(place: str, experiment: Experiment) -> None:
    variants, interleaves = experiment.variants, experiment.mode == Mode.INTERLEAVE
    if not 2 <= len(variants) <= (2 if interleaves else MOST_VARIANTS):
        right = "interleaving needs 2" if interleaves else f"it can be 2 to {MOST_VARIANTS}"
        raise _wrong(place, "variants", f"there are {len(variants)}; {right}")
    for number, variant in enumerate(variants):
        _check_variant(f"{place}: variants[{number}]", variant)
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


def _check_variant(place: str, variant: Variant) -> None:
    _check_plain(variant.name, "name", LONGEST_VARIANT, place)
    _check_number(place, "weight", variant.weight, HEAVIEST)
    options, place = variant.options, f"{place}.options"
    for name, given, right in (("stage", options.stage, STAGES), ("merge", options.merge, METHODS)):
        if given is not None and given not in right:
            raise _wrong(place, name, f"is {given[:40]!r}, it can be {', '.join(right)}")
    if options.ranker is not None:
        _check_ranker(place, options.ranker, options.stage)


def _check_ranker(place: str, ranker: str, stage: str | None) -> None:
    is_name = len(ranker) <= LONGEST_RANKER and RANKERS.is_name(ranker)
    if not is_name and ranker not in (OFF, DEFAULT_MODEL):
        right = f"it can be {OFF}, {DEFAULT_MODEL} or a name of shelfwise models list"
        raise _wrong(place, "ranker", f"is {ranker[: LONGEST_RANKER + 1]!r}; {right}")
    if stage == "merged":
        raise _wrong(place, "ranker", 'no ranker reorders the stage "merged"; leave one of the two out')


def _check_plain(text: str, field: str, longest: int, place: str) -> None:
    if not _PLAIN.fullmatch(text) or len(text) > longest:
        right = f"it must be 1 to {longest} of a-z, 0-9 and -, and not begin with -"
        raise _wrong(place, field, f"is {text[: longest + 1]!r}; {right}")


def _check_number(place: str, field: str, number: float, most: float) -> None:
    if not (math.isfinite(number) and 0 < number <= most):
        raise _wrong(place, field, f"is {number:g}, it must be above 0 and at most {most:g}")


def _wrong(place: str, field: str, message: str) -> ExperimentError:
    return ExperimentError(f"{place}: {field}: {message}", field=field)
