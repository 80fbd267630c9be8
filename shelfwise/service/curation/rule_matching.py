"""Merchandising rules in searches: compiled for a version, found by query and filter, and their effect on the order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from shelfwise.retrieval.errors import FilterError, RuleError, UnknownFieldError
from shelfwise.retrieval.filters.ast import In
from shelfwise.retrieval.filters.conditions import AllOf, Condition, NotThat, all_of
from shelfwise.retrieval.filters.parser import parse_filter
from shelfwise.retrieval.filters.schema import FieldCatalog, fold_value
from shelfwise.retrieval.records import ExposureGoal
from shelfwise.retrieval.text.analysis import AnalyzedText, Analyzer
from shelfwise.service.curation.exposure import NOT_COUNTED, ExposureState
from shelfwise.service.curation.rules import (
    Action,
    Boost,
    Bury,
    Classify,
    Data,
    Exposure,
    Hide,
    Match,
    Pin,
    Redirect,
    Restrict,
    Rule,
)


@dataclass(frozen=True, slots=True)
class PinnedProduct:
    """A product and its wanted position, from 1, by the rule with this id."""

    product: str
    position: int
    rule: str


@dataclass(frozen=True, slots=True)
class Lift:
    """Moves the hits of a condition up, or down if the strength is negative."""

    condition: Condition
    strength: float
    rule: str
    goal: ExposureGoal | None = None
    """The exposure goal that controls the strength, if any."""
    state: ExposureState = NOT_COUNTED
    """State of the control, if there is a goal."""

    @property
    def text(self) -> str:
        """A description of its effect."""
        done = f"offset {self.strength:+.2f} deviations"
        if self.goal is None:
            return done
        limit = "at least" if self.goal.at_least else "at most"
        return f"{done}: {self.state.share:.2%} of attention today, {limit} {self.goal.share:.2%}"


@dataclass(frozen=True, slots=True)
class GivenType:
    """Name of the type of the products of a condition."""

    condition: Condition
    name: str


@dataclass(frozen=True, slots=True)
class Effect:
    """The actions of all rules that match a search, by priority."""

    rules: tuple[str, ...] = ()
    """Ids of the rules."""
    where: tuple[Condition, ...] = ()
    """Conditions in addition to the shopper's filter."""
    pins: tuple[PinnedProduct, ...] = ()
    """Pinned products, each once."""
    lifts: tuple[Lift, ...] = ()
    redirect: str = ""
    excluded_by: tuple[str, ...] = ()
    """The rules to which `where` belongs."""
    types: tuple[GivenType, ...] = ()
    data: tuple[Mapping[str, object], ...] = ()

    def condition(self, filters: Condition | None) -> Condition | None:
        """`where` combined with the shopper's filter."""
        return all_of(filters, self.where)


NOTHING = Effect()


MAX_MATCHING = 50
"""Maximum number of rules that apply to one search; the first matches count."""
MAX_LIFTS = 20
"""Maximum number of boosts and burials that apply to one search."""
_MAX_NAMED = 5
"""Number of unusable rules that notices name."""


@dataclass(frozen=True, slots=True)
class _CompiledRule:
    """A rule compiled for a version."""

    rule: Rule
    terms: frozenset[str]
    """Terms that a query must have; empty unless the rule matches by containment."""
    within: frozenset[Condition]
    """Conditions that must be parts of the request's filter."""
    effect: Effect

    def holds(self, terms: frozenset[str], parts: frozenset[Condition], contexts: Collection[str], now: float) -> bool:
        """Whether the rule matches a query with these terms, a filter with these parts, in these contexts."""
        when = self.rule.when
        if when.contexts and not set(when.contexts) & set(contexts):
            return False
        has_begun = when.starts is None or when.starts.timestamp() <= now
        has_ended = when.ends is not None and when.ends.timestamp() <= now
        return has_begun and not has_ended and self.terms <= terms and self.within <= parts


class CompiledRules:
    """The enabled rules of an index for one version: filters resolved against its fields, queries folded. Shared by all
    searches.

    A search looks up its rules by the whole query, by its terms and by the parts of its filter, so that unrelated rules
    cost nothing.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        catalog: FieldCatalog,
        analyzer: Analyzer,
        state_of: Callable[[ExposureGoal], ExposureState] = lambda _: NOT_COUNTED,
    ) -> None:
        """`state_of` returns the state of the control of each exposure goal."""
        self._state_of = state_of
        self.faults: dict[str, str] = {}
        """The reason, by id, for each rule that this version cannot apply."""
        self._crowd = ""
        """The notice once more rules matched a search than can apply."""
        ready: list[_CompiledRule] = []
        for rule in rules:
            if rule.enabled:
                try:
                    ready.append(_compile(rule, catalog, analyzer))
                except RuleError as error:
                    self.faults[rule.id] = str(error)
        ready.sort(key=lambda each: (-each.rule.priority, each.rule.id))
        self.types = tuple(chain.from_iterable(each.effect.types for each in ready))
        """The first one that a product passes counts."""
        ready = [each for each in ready if each.effect.rules]
        common = Counter(term for each in ready for term in each.terms)
        self._by_text: dict[str, list[_CompiledRule]] = {}
        self._by_term: dict[str, list[_CompiledRule]] = {}
        self._by_part: dict[Condition, list[_CompiledRule]] = {}
        self._always: list[_CompiledRule] = []
        for each in ready:
            match each.rule.when.match:
                case Match.EXACT:
                    self._by_text.setdefault(fold_value(each.rule.when.query), []).append(each)
                case Match.CONTAINS:
                    rarest = min(sorted(each.terms), key=common.__getitem__)
                    self._by_term.setdefault(rarest, []).append(each)
                case Match.ANY if each.within:
                    self._by_part.setdefault(min(each.within, key=repr), []).append(each)
                case Match.ANY:
                    self._always.append(each)

    @property
    def notices(self) -> tuple[str, ...]:
        """The skipped rules, with the reasons."""
        reasons = [f"skipped {fault}" for fault in list(self.faults.values())[:_MAX_NAMED]]
        more = len(self.faults) - len(reasons)
        if more > 0:
            reasons.append(f"{more:,} more rules are skipped; see shelfwise curate list rules")
        return (*reasons, self._crowd) if self._crowd else tuple(reasons)

    def effect(
        self, texts: Sequence[AnalyzedText], filters: Condition | None, now: float, contexts: Sequence[str] = ()
    ) -> Effect:
        """The effect of all rules that match one of these texts (as typed, and as corrected) under this filter in these
        contexts, at a time in seconds since 1970."""
        parts = _parts(filters)
        distinct = {each.text: each for each in texts}.values()
        matching = {each.rule.id: each for text in distinct for each in self._matching(text, parts, contexts, now)}
        if not matching:
            return NOTHING
        ordered = sorted(matching.values(), key=lambda each: (-each.rule.priority, each.rule.id))
        found = _together([each.effect for each in ordered[:MAX_MATCHING]])
        if len(ordered) > MAX_MATCHING or len(found.lifts) > MAX_LIFTS:
            self._crowd = (
                f"a search matched {len(ordered):,} rules: the first {MAX_MATCHING} apply, with at most "
                f"{MAX_LIFTS} boosts and burials; give rules that match every search a query or a filter"
            )
        lifts = list(found.lifts[:MAX_LIFTS])
        for number, lift in enumerate(lifts):
            if lift.goal is not None:
                state = self._state_of(lift.goal)
                lifts[number] = replace(lift, strength=state.strength, state=state)
        return replace(found, lifts=tuple(lifts))

    def _matching(
        self, text: AnalyzedText, parts: frozenset[Condition], contexts: Sequence[str], now: float
    ) -> Iterator[_CompiledRule]:
        terms = text.terms if self._by_term else frozenset[str]()
        found = chain(
            self._always,
            self._by_text.get(fold_value(text.text), ()),
            chain.from_iterable(self._by_term.get(term, ()) for term in terms),
            chain.from_iterable(self._by_part.get(part, ()) for part in parts),
        )
        return (each for each in found if each.holds(terms, parts, contexts, now))


def _compile(rule: Rule, catalog: FieldCatalog, analyzer: Analyzer) -> _CompiledRule:
    when = rule.when
    terms: frozenset[str] = frozenset()
    if when.match == Match.CONTAINS:
        # As typed: synonyms are other words.
        groups = analyzer.groups(when.query)
        terms = frozenset(term for group in groups for term in group.alternatives[0])
        if not terms:
            message = f"rule {rule.id!r}: when.query: {when.query!r} has no word that another query could contain"
            raise RuleError(message, rule.id, "when.query")
    within = _condition(rule, "when.filters", when.filters, catalog)
    effects = [_effect(rule, number, action, catalog) for number, action in enumerate(rule.actions)]
    return _CompiledRule(rule, terms, _parts(within), _together(effects))


def _effect(rule: Rule, number: int, action: Action, catalog: FieldCatalog) -> Effect:
    rules, place = (rule.id,), f"actions[{number}].filters"
    match action:
        case Pin(products, position):
            return Effect(rules, pins=tuple(PinnedProduct(p, at, rule.id) for at, p in enumerate(products, position)))
        case Boost(filters, strength) | Bury(filters, strength):
            moved = _condition(rule, place, filters, catalog)
            signed = strength if isinstance(action, Boost) else -strength
            return Effect(rules, lifts=() if moved is None else (Lift(moved, signed, rule.id),))
        case Exposure(filters, at_least, at_most):
            moved = _condition(rule, place, filters, catalog)
            goal = ExposureGoal(rule.id, filters, at_least, at_most)
            return Effect(rules, lifts=() if moved is None else (Lift(moved, 0.0, rule.id, goal),))
        case Hide(products=products, filters=filters) | Classify(products=products, filters=filters):
            named = (catalog.compile(In("id", products)),) if products else ()
            found = (*named, _condition(rule, place, filters, catalog))
            if isinstance(action, Classify):
                # It applies to all searches and takes part in none.
                return Effect(types=tuple(GivenType(each, action.type) for each in found if each is not None))
            hidden = tuple(NotThat(each) for each in found if each is not None)
            return Effect(rules, where=hidden, excluded_by=rules)
        case Restrict(filters):
            only = _condition(rule, place, filters, catalog)
            return Effect(rules, where=() if only is None else (only,), excluded_by=rules)
        case Redirect(url):
            return Effect(rules, redirect=url)
        case Data(values):
            return Effect(rules, data=(values,))


def _condition(rule: Rule, place: str, filters: str, catalog: FieldCatalog) -> Condition | None:
    try:
        tree = parse_filter(filters)
        return None if tree is None else catalog.compile(tree)
    except (FilterError, UnknownFieldError) as error:
        raise RuleError(f"rule {rule.id!r}: {place}: {error}", rule.id, place) from error


def _parts(condition: Condition | None) -> frozenset[Condition]:
    """The conditions of which this is the conjunction."""
    if condition is None:
        return frozenset()
    if isinstance(condition, AllOf):
        return frozenset[Condition]().union(*map(_parts, condition.operands))
    return frozenset((condition,))


def _together(effects: Sequence[Effect]) -> Effect:
    """Combines several effects; the first redirect and the first pin of each product count."""
    pins: dict[str, PinnedProduct] = {}
    for effect in effects:
        for pin in effect.pins:
            pins.setdefault(pin.product, pin)
    return Effect(
        tuple(dict.fromkeys(rule for effect in effects for rule in effect.rules)),
        tuple(part for effect in effects for part in effect.where),
        tuple(pins.values()),
        tuple(lift for effect in effects for lift in effect.lifts),
        next((effect.redirect for effect in effects if effect.redirect), ""),
        tuple(dict.fromkeys(rule for effect in effects for rule in effect.excluded_by)),
        tuple(chain.from_iterable(effect.types for effect in effects)),
        tuple(chain.from_iterable(effect.data for effect in effects)),
    )
