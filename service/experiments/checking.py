"""Whether an experiment can be taken: its bounds, its variants, and what else runs at the same time."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime

from rerank.ranker.pointer import NO_RANKER, RANKER_NAME
from rerank.ranker.shipped import DEFAULT_RANKER
from retrieval.errors import ExperimentError
from retrieval.merging import METHODS
from retrieval.value_checks import CONTROL, is_writable
from service.experiments.experiment import Experiment, Mode, Options, Variant

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


def check(experiment: Experiment) -> None:
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


def check_beside(experiment: Experiment, others: Iterable[Experiment]) -> None:
    """Raises ExperimentError where an experiment cannot run together with those that others are at some time."""
    beside = [each for each in others if each.id != experiment.id and _overlap(experiment, each)]
    place = f"experiment {experiment.id!r}"
    if len(beside) >= MOST_AT_ONCE:
        raise _wrong(place, "starts", f"{len(beside)} others run at that time, {MOST_AT_ONCE} can; stop one first")
    for other in beside:
        if Mode.INTERLEAVE == experiment.mode == other.mode:
            raise _wrong(place, "mode", f"{other.id!r} interleaves at that time, and one can; let it end first")
        shared = sorted(experiment.touches & _with_last_stage(other.touches))
        if shared:
            theirs = shared[0] if shared[0] in other.touches else min(other.touches & _LAST_STAGE)
            told = f"{other.id!r} sets {theirs} at that time, too: nobody could tell which one made a difference"
            raise _wrong(place, shared[0], told)


def _with_last_stage(touched: frozenset[str]) -> frozenset[str]:
    return touched | _LAST_STAGE if touched & _LAST_STAGE else touched


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
        right = "interleaving takes 2" if interleaves else f"it can be 2 to {MOST_VARIANTS}"
        raise _wrong(place, "variants", f"there are {len(variants)}; {right}")
    for number, variant in enumerate(variants):
        _check_variant(f"{place}: variants[{number}]", variant)
    names = [variant.name for variant in variants]
    if len(set(names)) < len(names):
        raise _wrong(place, "variants", "two of them have the same name; give each its own")
    if interleaves and len({variant.weight for variant in variants}) > 1:
        raise _wrong(place, "weight", "interleaving gives both the same; leave it out")
    if interleaves and len({variant.options.rules for variant in variants}) > 1:
        raise _wrong(
            place, "rules", "interleaving needs both lists to have the same products; compare rules by a split"
        )


def _check_variant(place: str, variant: Variant) -> None:
    _check_plain(variant.name, "name", LONGEST_VARIANT, place)
    _check_number(place, "weight", variant.weight, HEAVIEST)
    _check_options(place, variant.options)


def _check_options(place: str, options: Options) -> None:
    for name, given, right in (("stage", options.stage, STAGES), ("merge", options.merge, METHODS)):
        if given is not None and given not in right:
            raise _wrong(f"{place}.options", name, f"is {given[:40]!r}, it can be {', '.join(right)}")
    if options.ranker is not None:
        _check_ranker(f"{place}.options", options.ranker, options.stage)


def _check_ranker(place: str, ranker: str, stage: str | None) -> None:
    is_name = len(ranker) <= LONGEST_RANKER and RANKER_NAME.fullmatch(ranker)
    if not is_name and ranker not in (NO_RANKER, DEFAULT_RANKER):
        right = f"it can be {NO_RANKER}, {DEFAULT_RANKER} or a name of shelfwise models list"
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


def _wrong(place: str, field: str, told: str) -> ExperimentError:
    return ExperimentError(f"{place}: {field}: {told}", field=field)
