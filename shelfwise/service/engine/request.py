"""The search request of the engine, validated on creation, with the shopper's history, and as it is resolved."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from typing import TypedDict

from shelfwise.rerank.ranker.features import ACT_KINDS
from shelfwise.retrieval.errors import QueryError
from shelfwise.retrieval.filters.conditions import Condition
from shelfwise.retrieval.index.fusion import DEFAULT, METHODS, Merge
from shelfwise.retrieval.index.keyword import NO_ROWS, Rows, Sort
from shelfwise.retrieval.records import EventKind, PastAct, Preference
from shelfwise.retrieval.text.analysis import TermGroup
from shelfwise.service.curation.relevance import Relevance, RelevanceStore
from shelfwise.service.curation.rules import Rule

STAGES = ("bm25", "dense", "merged", "ranked")
REASON_LANGUAGES = ("auto", "en", "zh")
"""Languages of reasons; "auto" is that of the query."""
MAX_TEXT = 10_000
"""Maximum length of a query."""
MAX_SIZE = 1_000
MAX_DEPTH = 100_000
"""The last rank that a page may reach."""
MAX_FACETS = 50
MAX_RANGES = 10
MAX_SEARCH_FIELDS = 20
MAX_SORT_KEYS = 5
MAX_PHRASES = 20
MAX_PER_GROUP = 20
MAX_CHOICES = 5
MAX_CONTEXTS = 20
MAX_OPTIONAL_FILTERS = 20
_LISTS = {
    "facets": ("field names", MAX_FACETS),
    "ranges": ("fields, with or without bounds,", MAX_RANGES),
    "search_fields": ("field names", MAX_SEARCH_FIELDS),
    "phrases": ("texts", MAX_PHRASES),
    "excluded": ("texts", MAX_PHRASES),
    "contexts": ("texts", MAX_CONTEXTS),
    "optional_filters": ("filters", MAX_OPTIONAL_FILTERS),
}
"""The fields that are lists of texts: their content, and their maximum length."""
_PLAIN: dict[str, type] = {"str": str, "int": int, "bool": bool}
"""The types of fields of one value, by their annotation."""
FACET_VALUES = 100
MAX_FACET_VALUES = 10_000
_BOUNDS = {
    "size": (0, MAX_SIZE),
    "facet_values": (1, MAX_FACET_VALUES),
    "choices": (0, MAX_CHOICES),
    "per_group": (1, MAX_PER_GROUP),
    "diversity": (0, 1),
}
"""The least and the greatest value of numeric fields."""
MAX_HISTORY = 1_000
"""Maximum number of acts of a history."""
_KINDS = ", ".join(ACT_KINDS[:-1]) + f" or {ACT_KINDS[-1]}"
_MAX_AGE = timedelta(days=36_500)
_MAX_CLOCK_SKEW = timedelta(days=1)


class SearchOptions(TypedDict, total=False):
    """The fields of a `SearchRequest` other than its text, as keyword arguments."""

    size: int
    page: int
    filters: str
    visible: str
    facets: Sequence[str]
    ranges: Sequence[str]
    search_fields: Sequence[str]
    sort: str
    tie_break: str
    all_types: bool
    stage: str
    merge: str
    explain: bool
    reasons: str
    history: Sequence[PastAct]
    correct: bool
    prefix: bool
    advanced_syntax: bool
    phrases: Sequence[str]
    excluded: Sequence[str]
    contexts: Sequence[str]
    optional_filters: Sequence[str]
    rules: bool | Sequence[Rule]
    ranker: str
    facet_values: int
    group: str
    per_group: int
    diversity: float
    choices: int
    relevance: Relevance | None
    explore: str
    sponsored: bool


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """One search. Raises QueryError, which names the field, for invalid values.

    `size` and `page` select hits; they do not affect counts.
    """

    text: str = ""
    """The query; an empty text browses all products that pass the filter."""
    size: int = 20
    page: int = 1
    """Page number, from 1."""
    filters: str = ""
    """Filter expression, such as `price < 100 AND brand IN (Bosch, Makita)`."""
    visible: str = ""
    """Filter on the products whose words may correct and complete a text, such as that of a narrowed key; hits need not
    pass it."""
    facets: Sequence[str] = ()
    """Fields whose values to count."""
    ranges: Sequence[str] = ()
    """Numeric fields to count ranges of: `price:0,50,100` from 0, 50 and 100; `price` in at most six by quantiles."""
    search_fields: Sequence[str] = ()
    """Fields that must contain the text's words: title, brand, category, description, or text attributes; empty for
    all. It selects products; the order counts all fields."""
    sort: str = ""
    """Comma-separated numeric fields, with a leading "-" for descending order; empty sorts by relevance."""
    tie_break: str = ""
    """An order like `sort`, of equally relevant hits only, and of all hits of an empty text."""
    all_types: bool = False
    """Whether `sort` also shows products of types that the text does not name."""
    stage: str = "ranked"
    """Order of the hits: one of STAGES; "ranked" is the merged order, reordered by the serving ranker, if any."""
    merge: str = DEFAULT
    """One of `shelfwise.retrieval.index.fusion.METHODS`."""
    explain: bool = False
    """Whether hits that a ranker scored explain their scores."""
    reasons: str = ""
    """Language of the reasons for the rank of each hit: one of REASON_LANGUAGES; empty for none."""
    history: Sequence[PastAct] = ()
    """Past acts of this shopper, oldest first, for a ranker that reads them."""
    correct: bool = True
    """Whether to search for the correction of a misspelled text; otherwise the page only suggests it."""
    prefix: bool = False
    """Whether the last word is still being typed: it matches words that begin with it, and is not corrected."""
    advanced_syntax: bool = False
    """Whether the text has operators: a "quoted phrase" must match exactly, and a -word, or a -"phrase", excludes
    products that match it. A text with operators is not corrected."""
    phrases: Sequence[str] = ()
    """Phrases that hits must have."""
    excluded: Sequence[str] = ()
    """Words and phrases that no hit may have."""
    contexts: Sequence[str] = ()
    """Contexts in which rules may apply, such as "mobile"."""
    optional_filters: Sequence[str] = ()
    """Filter expressions that order hits: those that pass rank first or, with a leading "-", last. Several add up."""
    rules: bool | Sequence[Rule] = True
    """Whether the store's merchandising rules apply, or the rules that apply instead."""
    ranker: str = ""
    """Name of a ranker of the index to use instead of the serving one; "off" for none."""
    facet_values: int = FACET_VALUES
    """Maximum number of values of each facet, the most frequent ones."""
    group: str = ""
    """Shows one hit for each group, its best: "variants" for variants and near copies, or a field whose values are the
    groups. Total and facets then count groups."""
    per_group: int = 1
    """Maximum hits of each group, which follow its best hit at once. `size`, `page` and total count groups."""
    diversity: float = 0.0
    """Diversity of the first 100 hits, 0 to 1, by maximal marginal relevance."""
    choices: int = 0
    """Number of fields, at most 5, that narrow a broad query, with their best values; none if a page has all hits."""
    relevance: Relevance | None = None
    """Relevance settings that apply instead of the store's."""
    explore: str = ""
    """Any id of the searcher. With the setting `ranker.exploration`, it decides whether the hits include a product that
    few shoppers were shown, and which one: always the same for the same text and filters. Empty for no such product."""
    sponsored: bool = False
    """Whether the first page by relevance has sponsored hits, apart from its hits, if they are switched on. With
    `prefix`, only if the last word is whole."""

    def __post_init__(self) -> None:
        for name, (kind, most) in _LISTS.items():
            object.__setattr__(self, name, _texts(name, getattr(self, name), kind, most))
        object.__setattr__(self, "history", validate_history(self.history, datetime.now(UTC)))
        self._check_types()
        if len(self.text) > MAX_TEXT:
            raise QueryError(f"the query has {len(self.text)} characters, at most {MAX_TEXT} are allowed")
        for name, (least, most) in _BOUNDS.items():
            if not least <= getattr(self, name) <= most:
                raise QueryError(f"{name} is {getattr(self, name)}, it can be {least} to {most}")
        if self.page < 1:
            raise QueryError(f"page is {self.page}, pages count from 1")
        if self.page * self.size > MAX_DEPTH:
            message = f"page {self.page} of {self.size} reaches past rank {MAX_DEPTH}; narrow the search with a filter"
            raise QueryError(message)
        if self.stage not in STAGES:
            raise QueryError(f"stage is {self.stage!r}, it can be {', '.join(STAGES)}")
        if self.reasons and self.reasons not in REASON_LANGUAGES:
            raise QueryError(f"reasons is {self.reasons!r}, it can be {', '.join(REASON_LANGUAGES)}, or empty for none")
        if self.merge not in METHODS:
            raise QueryError(f"merge is {self.merge!r}, it can be {', '.join(METHODS)}")
        if self.per_group > 1 and not self.group:
            raise QueryError(f"per_group is {self.per_group} without group; name a field to group by, or variants")
        if (hits := self.size * self.per_group) > MAX_SIZE:
            message = f"a page of {self.size} groups with per_group {self.per_group} may have {hits:,} hits"
            raise QueryError(f"{message}; a page can have {MAX_SIZE:,}")
        if self.diversity and self.sort:
            raise QueryError(f"diversity is {self.diversity} and sort is {self.sort!r}; leave out one of them")

    @property
    def query_key(self) -> str:
        """The text and the filters, which all pages of a search share."""
        return f"{' '.join(self.text.casefold().split())}\0{self.filters}"

    def _check_types(self) -> None:
        """Gives callers without a type checker equally clear messages."""
        for each in fields(self):
            kind, value = _PLAIN.get(str(each.type)), getattr(self, each.name)
            if kind and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
                raise QueryError(f"{each.name} is {type(value).__name__}, it must be {kind.__name__}")
        if not isinstance(self.diversity, int | float) or isinstance(self.diversity, bool):
            raise QueryError(f"diversity is {type(self.diversity).__name__}, it must be a number from 0 to 1")
        rules = self.rules if isinstance(self.rules, bool) else tuple(self.rules)
        if not isinstance(rules, bool) and not all(isinstance(each, Rule) for each in rules):
            raise QueryError("rules must be True, False or a list of rules to apply instead of the store's")
        object.__setattr__(self, "rules", rules)
        if self.relevance is not None:
            object.__setattr__(self, "relevance", RelevanceStore.kind.validate(self.relevance))


def _texts(name: str, values: Sequence[str], kind: str, most: int) -> tuple[str, ...]:
    if isinstance(values, str):
        raise QueryError(f"{name} must be a list of {kind}, such as [{values!r}]")
    if not all(isinstance(each, str) for each in values):
        raise QueryError(f"{name} must be a list of {kind}")
    if len(values) > most:
        raise QueryError(f"{name} has {len(values)} entries, it can have {most}")
    return tuple(values)


_OPERATOR = re.compile(r'(?<!\S)(?:-(?P<excluded>"[^"]+"|[^\s"-]\S*)|"(?P<phrase>[^"]+)")(?!\S)')


def apply_operators(request: SearchRequest) -> SearchRequest:
    """Converts the operators in a request's text to its phrases and excluded words. Raises QueryError if there are too
    many of them."""
    found = list(_OPERATOR.finditer(request.text)) if request.advanced_syntax else []
    if not found:
        return request
    phrases = (each["phrase"] for each in found if each["phrase"])
    excluded = (each["excluded"].strip('"') for each in found if each["excluded"])
    return replace(
        request,
        text=" ".join(_OPERATOR.sub(lambda each: each["phrase"] or "", request.text).split()),
        phrases=(*request.phrases, *phrases),
        excluded=(*request.excluded, *excluded),
        correct=False,
        prefix=request.prefix and bool(request.text[found[-1].end() :].strip()),
    )


def validate_history(history: Sequence[PastAct], now: datetime) -> tuple[PastAct, ...]:
    """The history as a tuple; raises QueryError, which names the act, for an invalid one."""
    if isinstance(history, str) or not isinstance(history, Sequence):
        raise QueryError(f"history is {type(history).__name__}, it must be a list such as [PastAct('B0042')]")
    if len(history) > MAX_HISTORY:
        raise QueryError(f"the history has {len(history):,} acts, at most {MAX_HISTORY:,} are allowed; send the newest")
    for number, act in enumerate(history, 1):
        if problem := _problem(act, now):
            raise QueryError(f"act {number} of the history {problem}")
    return tuple(history)


def _problem(act: PastAct, now: datetime) -> str:
    """The problem of an act; empty for a valid one."""
    if not isinstance(act, PastAct):
        return f"is {type(act).__name__}, it must be PastAct"
    if not isinstance(act.product_id, str) or not act.product_id:
        return f"has the product id {act.product_id!r}, it must be a non-empty text"
    if not isinstance(act.kind, str) or act.kind not in ACT_KINDS:
        return f"has the kind {act.kind!r}, it can be {_KINDS}"
    if not isinstance(act.at, datetime | None):
        return f"has the time {act.at!r}, it must be a datetime"
    if act.at and act.at.utcoffset() is None:
        return f"is at {act.at.isoformat()}, a time needs a zone, such as +00:00"
    if act.at and not -_MAX_CLOCK_SKEW <= now - act.at <= _MAX_AGE:
        return f"is at {act.at.isoformat()}, it must be within the last hundred years or the next day"
    return ""


def parse_history(text: str) -> tuple[PastAct, ...]:
    """Parses a history such as "B0042,B0007:cart", oldest first: product ids, with the kind of an act other than click.

    Raises QueryError for anything else.
    """
    return tuple(_parse_act(part.strip(), text) for part in text.split(",")) if text.strip() else ()


def _parse_act(part: str, text: str) -> PastAct:
    product_id, colon, kind = part.rpartition(":")
    if not colon:
        product_id, kind = part, EventKind.CLICK
    if not product_id:
        raise QueryError(f"history is {text!r}, which has an act without a product; write B0042,B0007:cart")
    if kind not in ACT_KINDS:
        raise QueryError(
            f"history has {part!r}; the last colon of an id must be followed by {_KINDS}, as in B0007:cart"
        )
    return PastAct(product_id, EventKind(kind))


@dataclass(frozen=True, slots=True)
class BegunQuery:
    """A query that a text may become while it is typed."""

    text: str
    groups: tuple[TermGroup, ...]
    share: float
    """Share of this word in the texts with any word that the last one begins."""
    product: str
    """The text without values, which may name a type of product."""


@dataclass(frozen=True, slots=True)
class ResolvedRequest:
    """A search with its text analysed and its filter resolved."""

    text: str
    groups: tuple[TermGroup, ...]
    where: Condition | None = None
    """The filter combined with conditions on searched fields."""
    filter: Condition | None = None
    """The filter alone."""
    stage: str = "ranked"
    merge: Merge = METHODS[DEFAULT]
    facets: tuple[str, ...] = ()
    facet_size: int = 100
    sort: Sort | None = None
    unavailable: tuple[str, ...] = ()
    """Stages that cannot take part."""
    pinned: Rows = field(default_factory=lambda: NO_ROWS)
    """Rows that are candidates because a rule pins them, if they pass the filter."""
    all_types: bool = False
    """Whether `sort` also orders products of types that the query does not name."""
    product: str = ""
    """The text without values, which may name a type of product; empty for the whole text."""
    preferences: tuple[tuple[Preference, Condition], ...] = ()
    """The preferences of the query for a price and for values, with their conditions."""
    begun: tuple[BegunQuery, ...] = ()
    """The queries that the text may become while it is typed, the likeliest first."""
    chosen: str = ""
    """Name of the category that shoppers choose from after the query."""
    typed: str = ""
    """The text as typed, if `text` differs from it."""
    is_first: bool = True
    """Whether the request is for the first page, the only one with offers."""
    is_cheap: bool = False
    """Whether the query asks for a low price."""
    lacking: tuple[Condition, ...] = ()
    """Conditions for what the query excludes; they count as preferences do."""
    measures: tuple[Condition, ...] = ()
    """Conditions for the measures of the query; each counts as a preference does."""
    ties: Sort | None = None
    """The order of equally relevant candidates."""


def joined_groups(begun: Sequence[BegunQuery]) -> tuple[TermGroup, ...]:
    """The groups of the first query, whose last one also matches the last groups of the others."""
    *first, last = begun[0].groups
    alternatives = dict.fromkeys(terms for query in begun for terms in query.groups[-1].alternatives)
    synonyms = dict.fromkeys(phrase for query in begun for phrase in query.groups[-1].synonyms)
    return (*first, replace(last, alternatives=tuple(alternatives), synonyms=tuple(synonyms)))
