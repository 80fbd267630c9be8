"""Definition of an experiment: its variants, its units and its period; JSON and validation."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import msgspec

from rerank.model_store import DEFAULT_MODEL, OFF
from rerank.ranker.spec import RANKERS
from retrieval.errors import ExperimentError, close_names
from retrieval.index.fusion import METHODS
from retrieval.updates.validation import CONTROL, is_writable
from service.curation.document_store import read_document


class Mode(StrEnum):
    """How variants are compared."""

    SPLIT = "split"
    """Each unit sees one of them."""
    INTERLEAVE = "interleave"
    """Everybody sees both, hit by hit in one list."""


class Unit(StrEnum):
    """What a lot is drawn for."""

    SHOPPER = "shopper"
    SESSION = "session"
    QUERY = "query"
    """One shopper's searches for one text, those of a session where the shopper is not told."""


class Goal(StrEnum):
    """What decides an experiment; the other figures are shown beside it."""

    CLICK_THROUGH = "click_through"
    EMPTY = "empty"
    ABANDONED = "abandoned"
    CARTS = "carts"
    PURCHASES = "purchases"


@dataclass(frozen=True, slots=True)
class VariantOptions:
    """How a variant answers; what is None is as a search has it by default."""

    stage: str | None = None
    """"merged" or "ranked"."""
    merge: str | None = None
    """One of `retrieval.index.fusion.METHODS`."""
    rules: bool | None = None
    """Whether the store's merchandising rules hold."""
    ranker: str | None = None
    """The name of a ranker of the index, "default" among them, or "off" for the merged order."""

    @property
    def given(self) -> dict[str, str | bool]:
        """Those that are not None, as `SearchEngine.search` takes them."""
        found = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Variant:
    """One of the ways; the first of an experiment is what the others are compared with."""

    name: str
    options: VariantOptions = VariantOptions()
    weight: float = 1.0
    """How often it is drawn, beside the weights of the others."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """Some variants, who takes part, and what is looked at."""

    id: str
    variants: tuple[Variant, ...]
    name: str = ""
    mode: Mode = Mode.SPLIT
    unit: Unit = Unit.SHOPPER
    share: float = 1.0
    """Of all units, those that take part."""
    starts: datetime | None = None
    """The first moment, with its zone; None for when it is put."""
    ends: datetime | None = None
    """The first moment after, with its zone; None for when it is stopped."""
    enabled: bool = True
    """A draft otherwise: it can be changed, and nobody takes part."""
    goal: Goal = Goal.CLICK_THROUGH
    """Of a split; interleaving looks at clicks."""
    planned: int = 10_000
    """How many shoppers are hoped for. The interval that may be looked at at any time is narrowest there."""
    least_effect: float = 0.02
    """The smallest difference that matters, as a share of the first variant's figure; of interleaving, of the share of
    wins above one half."""

    @property
    def touches(self) -> frozenset[str]:
        """The options that any of its variants has."""
        return frozenset(name for variant in self.variants for name in variant.options.given)


MOST_FILE_BYTES = 1 << 20


def experiment_document(experiment: Experiment) -> dict[str, object]:
    """An experiment as plain values that JSON has, what is as by default left out."""
    made = {name: msgspec.to_builtins(value) for name, value in _given(experiment).items()}
    made["variants"] = [
        {name: msgspec.to_builtins(value) for name, value in _given(variant).items() if name != "options"}
        | ({"options": variant.options.given} if variant.options.given else {})
        for variant in experiment.variants
    ]
    return made


def parse_experiment(document: object, place: str = "the experiment") -> Experiment:
    """The experiment that plain values say, checked; raises ExperimentError, which names the field."""
    fields = _object(document, place)
    _check_names(fields, Experiment, place)
    variants = fields.get("variants", ())
    for number, each in enumerate(variants if isinstance(variants, list | tuple) else ()):
        where = f"{place}: variants[{number}]"
        variant = _object(each, where)
        _check_names(variant, Variant, where)
        _check_names(_object(variant.get("options", {}), f"{where}.options"), VariantOptions, f"{where}.options")
    try:
        made = msgspec.convert(fields, Experiment)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$")
        field = path.removesuffix("`").lstrip(".")
        message = f"{place}: {field}: {reason}" if field else f"{place}: {reason}"
        raise ExperimentError(message, field=field.rpartition(".")[2]) from None
    validate_experiment(made)
    return made


def read_experiment(path: Path) -> Experiment:
    """The experiment of a JSON or TOML file; raises ExperimentError for one that cannot be read."""
    return parse_experiment(read_document(path, MOST_FILE_BYTES, ExperimentError), str(path))


def _given(value: Experiment | Variant) -> dict[str, object]:
    """The fields that are not as by default; those without a default are always given."""
    fields = {each.name: (getattr(value, each.name), each.default) for each in dataclasses.fields(value)}
    return {name: given for name, (given, default) in fields.items() if given != default}


def _object(document: object, place: str) -> Mapping[str, object]:
    if not isinstance(document, Mapping) or not all(isinstance(name, str) for name in document):
        raise ExperimentError(f"{place}: is {type(document).__name__}, it must be an object with named fields")
    return document


def _check_names(document: Mapping[str, object], wanted: type, place: str) -> None:
    known = [each.name for each in dataclasses.fields(wanted)]
    for name in document:
        if name not in known:
            close = close_names(name, known)
            advice = f"did you mean {' or '.join(close)}?" if close else f"the fields are {', '.join(known)}"
            raise ExperimentError(f"{place}: no field {name[:100]!r}; {advice}", field=name)


MOST_EXPERIMENTS = 1_000
"""That one index keeps, those that are over among them."""
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
"""Two options that say the same thing of a search: what puts the last order."""
_YEARS = range(2000, 2200)
_LAST = datetime.max.replace(tzinfo=UTC)


def validate_experiment(experiment: Experiment) -> None:
    """Raises ExperimentError, which names the field, what is wrong and what is right."""
    _check_plain(experiment.id, "id", LONGEST_ID, "the experiment")
    place = f"experiment {experiment.id!r}"
    if len(experiment.name) > LONGEST_NAME or not is_writable(experiment.name) or CONTROL.search(experiment.name):
        raise _wrong(place, "name", f"must be at most {LONGEST_NAME} characters without control characters")
    _check_number(place, "share", experiment.share, 1.0)
    _check_number(place, "least_effect", experiment.least_effect, 1.0)
    if not 100 <= experiment.planned <= MOST_PLANNED:
        raise _wrong(place, "planned", f"is {experiment.planned:,}, it can be 100 to {MOST_PLANNED:,} shoppers")
    _check_time(place, experiment)
    _check_variants(place, experiment)


def check_overlaps(experiment: Experiment, others: Iterable[Experiment]) -> None:
    """Raises ExperimentError where an experiment cannot run together with those that others are at some time."""
    concurrent = [each for each in others if each.id != experiment.id and _overlap(experiment, each)]
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


def _overlap(one: Experiment, other: Experiment) -> bool:
    first = datetime.min.replace(tzinfo=UTC)
    return (one.starts or first) < (other.ends or _LAST) and (other.starts or first) < (one.ends or _LAST)


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
        raise _wrong(place, "weight", "interleaving weights both alike; leave it out")
    if interleaves and len({variant.options.rules for variant in variants}) > 1:
        message = "interleaving needs both lists to have the same products; compare rules by a split"
        raise _wrong(place, "rules", message)


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
