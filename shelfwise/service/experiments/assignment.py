"""Random assignment of searches to variants by a keyed hash, interleaving, signed query ids and variant rankers.

Query ids also carry the propensity of an explored product, so that every event of the page has it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import uuid
from base64 import urlsafe_b64encode
from bisect import bisect
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, chain, islice
from typing import TYPE_CHECKING

from prometheus_client import Counter

from shelfwise.retrieval.errors import ModelError
from shelfwise.retrieval.records import Hit, Page
from shelfwise.retrieval.updates.validation import MAX_ID_BYTES
from shelfwise.service.engine.request import MAX_SIZE, SearchRequest
from shelfwise.service.experiments.experiment import Experiment, Mode, StoredExperiments, Unit, Variant, unserved_reason

if TYPE_CHECKING:
    from shelfwise.service.engine.engine import SearchEngine

UNSERVED = Counter(
    "shelfwise_unserved_experiment_searches",
    "Searches outside an experiment because one of its rankers could not serve",
    ["experiment"],
)


# Random assignment by a keyed hash: equal on every machine and after every restart.

_PARTS = 2**64


def random_fraction(salt: bytes, purpose: str, unit: str) -> float:
    """A number in [0, 1), uniform over units and independent of other salts and purposes."""
    digest = hmac.digest(salt, f"{purpose}\0{unit}".encode("utf-8", "surrogatepass"), "sha256")
    return int.from_bytes(digest[:8], "big") / _PARTS


def takes_part(experiment: Experiment, salt: bytes, unit: str) -> bool:
    """Whether a unit belongs to the experiment's share of traffic."""
    return random_fraction(salt, "share", unit) < experiment.share


def variant_of(experiment: Experiment, salt: bytes, unit: str) -> Variant:
    """The variant of a unit, in proportion to the weights."""
    variants = experiment.variants
    *ends, total = accumulate(variant.weight for variant in variants)
    return variants[bisect(ends, random_fraction(salt, "variant", unit) * total)]


def unit_of(experiment: Experiment, shopper: str, session: str, query: str) -> str:
    """The unit of a search; empty if the search does not have it, so that it does not take part. `query` is the text
    with its filters, so that all pages of an answer have one assignment."""
    match experiment.unit:
        case Unit.SHOPPER:
            return shopper and f"shopper\0{shopper}"
        case Unit.SESSION:
            return session and f"session\0{session}"
        case Unit.QUERY:
            who = f"shopper\0{shopper}" if shopper else f"session\0{session}" if session else ""
            return who and f"{who}\0{query}"


FIRST, SECOND, NOBODY = "a", "b", "-"
"""The list that placed a hit: the first variant's or the second's; hits of neither do not count."""


@dataclass(frozen=True, slots=True)
class TeamDraft:
    """One list interleaved from two."""

    ids: tuple[str, ...]
    teams: str
    """A letter for each position: `FIRST`, `SECOND` or `NOBODY`."""


def team_draft(
    first: Sequence[str], second: Sequence[str], depth: int, seed: bytes, held: Collection[str] = ()
) -> TeamDraft:
    """The first `depth` positions of two lists of ids, interleaved.

    Radlinski, Kurup & Joachims 2008, How Does Clickthrough Data Reflect Retrieval Quality?, section 4: the lists take
    turns like captains who pick players; in each round a coin decides who picks first, and each picks its best
    remaining product. The coins depend on `seed` alone. Position n only depends on the first n of each list, so a
    longer draft with the same seed begins like a shorter one: pages neither repeat nor lose a product. If one list
    ends, the rest of the other follows as picked by nobody. Products that are `held` are at the same position in both
    lists; they stay there, picked by nobody.
    """
    places = {place: each for place, each in enumerate(first[:depth]) if each in held}
    own, others = ([each for each in found if each not in held] for found in (first, second))
    drawn = _pick_in_turns(own, others, depth - len(places), seed)
    if not places:
        return TeamDraft(tuple(drawn), "".join(drawn.values()))
    picked, woven = iter(drawn.items()), list[tuple[str, str]]()
    for place in range(depth):
        found = (places[place], NOBODY) if place in places else next(picked, None)
        woven += [found] if found else []
    return TeamDraft(tuple(each for each, _ in woven), "".join(team for _, team in woven))


def _pick_in_turns(first: Sequence[str], second: Sequence[str], depth: int, seed: bytes) -> dict[str, str]:
    """Each id with its team, in order."""
    picked_ids: dict[str, str] = {}
    lists = {FIRST: iter(first), SECOND: iter(second)}
    number = 0
    while len(picked_ids) < depth:
        coin = hashlib.blake2b(number.to_bytes(4, "big"), key=seed[:64], digest_size=1).digest()[0] & 1
        for team in (FIRST, SECOND) if coin else (SECOND, FIRST):
            picked = next((each for each in lists[team] if each not in picked_ids), None)
            if picked is None:
                rest = (each for each in chain(first, second) if each not in picked_ids)
                return dict(islice((picked_ids | dict.fromkeys(rest, NOBODY)).items(), depth))
            picked_ids[picked] = team
        number += 1
    return dict(islice(picked_ids.items(), depth))


# Query ids name the experiments of their search, so that every event has them, through any client.
#
# `9f1c...~price-test.bold~draft:21:abba-~Zm9vYmFyYmF6`: the id itself; for each split the experiment and the variant;
# for interleaving the experiment, the position of the page's first hit, and which list placed each hit; and a signature
# over all of it. Marks with a wrong signature are ignored. `explored:7:1.2500e-03` has the rank of an explored product
# and its propensity.

MAX_TEAMS = 100
"""Maximum number of hits of a page whose teams are recorded."""
_MARK = "~"
_SIGNATURE_BYTES = 9
_SPLIT = re.compile(r"([a-z0-9-]{1,32})\.([a-z0-9-]{1,16})")
_DRAFT = re.compile(r"([a-z0-9-]{1,32}):([1-9][0-9]{0,5}):([ab-]{1,100})")
_EXPLORED = "explored"
_EXPLORATION = re.compile(_EXPLORED + r":([1-9][0-9]{0,5}):([0-9]\.[0-9]{4}e-[0-9]{2})")


@dataclass(frozen=True, slots=True)
class SplitMark:
    """The search used one variant of a split."""

    experiment: str
    variant: str

    def __str__(self) -> str:
        return f"{self.experiment}.{self.variant}"


@dataclass(frozen=True, slots=True)
class DraftMark:
    """The page was interleaved."""

    experiment: str
    first: int
    """Position of its first hit, from 1."""
    teams: str
    """Teams of its first hits, as in `TeamDraft`."""

    def __str__(self) -> str:
        return f"{self.experiment}:{self.first}:{self.teams[:MAX_TEAMS]}"


@dataclass(frozen=True, slots=True)
class ExplorationMark:
    """The page has a product placed by exploration."""

    rank: int
    """Rank, from 1, over all pages."""
    propensity: float
    """Probability of this product at this rank."""

    def __str__(self) -> str:
        return f"{_EXPLORED}:{self.rank}:{self.propensity:.4e}"


Mark = SplitMark | DraftMark | ExplorationMark


def sign_query_id(query_id: str, parts: Sequence[Mark], key: bytes) -> str:
    """A query id with the marks of its search; unchanged if there are none."""
    if not parts:
        return query_id
    text = _MARK.join((query_id, *map(str, parts)))
    return f"{text}{_MARK}{_signature(text, key)}"


def read_marks(query_id: str, key: bytes) -> tuple[Mark, ...]:
    """The marks in a query id; none if it was not signed with this key."""
    text, mark, signature = query_id.rpartition(_MARK)
    if not key or not mark or _MARK not in text or len(query_id) > MAX_ID_BYTES:
        return ()
    if not hmac.compare_digest(signature.encode("utf-8", "surrogatepass"), _signature(text, key).encode()):
        return ()
    found = tuple(_part(each) for each in text.split(_MARK)[1:])
    return tuple(each for each in found if each is not None)


def _part(text: str) -> Mark | None:
    if split := _SPLIT.fullmatch(text):
        return SplitMark(split[1], split[2])
    if draft := _DRAFT.fullmatch(text):
        return DraftMark(draft[1], int(draft[2]), draft[3])
    if exploration := _EXPLORATION.fullmatch(text):
        return ExplorationMark(int(exploration[1]), float(exploration[2]))
    return None


def _signature(text: str, key: bytes) -> str:
    digest = hmac.digest(key, text.encode("utf-8", "surrogatepass"), "sha256")[:_SIGNATURE_BYTES]
    return urlsafe_b64encode(digest).decode()


# Searches with running experiments: answered by the variant of the unit, or by two interleaved lists.

DEEPEST = MAX_SIZE
"""The last position that is interleaved; pages after it have the first variant's order."""


@dataclass(frozen=True, slots=True)
class ShopperSearch:
    """A search request with its shopper and session, by the store's ids; both are empty for private searches."""

    request: SearchRequest
    shopper: str = ""
    session: str = ""

    @property
    def owner(self) -> str:
        return f"shopper\0{self.shopper}" if self.shopper else f"session\0{self.session}"


@dataclass(frozen=True, slots=True)
class MarkedPage:
    """A page, and the query id with its marks."""

    page: Page
    query_id: str


def answer_search(engine: SearchEngine, running: StoredExperiments, search: ShopperSearch) -> MarkedPage:
    """Answers a search. Searches without a shopper or a session take no part in experiments, nor those with a sort
    order, an explanation, several hits of a group or no hits; raises like `SearchEngine.search`.

    If a ranker of an experiment cannot serve, all of its units get its first variant, and the query id does not name
    the experiment.
    """
    try:
        return _assign_and_search(engine, running, search)
    except ModelError:
        # The ranker stopped serving after the check.
        others = tuple(each for each in running.documents if "ranker" not in each.touches)
        return _assign_and_search(engine, replace(running, documents=others), search)


def _assign_and_search(engine: SearchEngine, running: StoredExperiments, search: ShopperSearch) -> MarkedPage:
    marks: list[Mark] = []
    options: dict[str, str | bool] = {}
    draft: Experiment | None = None
    for experiment, unit in _assignments(running, search):
        if unserved_reason(experiment, engine.ranker_problem):
            # The options of the first variant, without its ranker if that is the one that cannot serve.
            control = experiment.variants[0].options
            cannot_serve = control.ranker and engine.ranker_problem(control.ranker)
            options |= (replace(control, ranker=None) if cannot_serve else control).given
            UNSERVED.labels(experiment.id).inc()
        elif experiment.mode == Mode.INTERLEAVE:
            draft = experiment
        else:
            variant = variant_of(experiment, running.salt(experiment.id), unit)
            options |= variant.options.given
            marks.append(SplitMark(experiment.id, variant.name))
    search = replace(search, request=_with_options(search.request, options))
    if draft is None or not search.request.text.strip():
        page = engine.search(replace(search.request, explore=_explorer(running, search)))
        ranked = enumerate(page.hits, (page.page - 1) * page.size + 1)
        marks += [ExplorationMark(rank, hit.propensity) for rank, hit in ranked if hit.propensity is not None]
    else:
        page, mark = _interleave(engine, search, draft, running.salt(draft.id))
        marks += [mark] if mark else []
    is_named = search.shopper or search.session
    query_id = uuid.uuid4().hex if is_named else engine.recorder.answer_id(search.request.text, page)
    return MarkedPage(page, sign_query_id(query_id, marks, running.key))


def _explorer(running: StoredExperiments, search: ShopperSearch) -> str:
    """The id with which a search explores; empty if its rank could not be reported."""
    is_reported = running.key and (search.shopper or search.session) and search.request.per_group == 1
    if not is_reported:
        return ""
    return hmac.digest(running.key, f"explore\0{search.owner}".encode("utf-8", "surrogatepass"), "sha256").hex()


def _assignments(running: StoredExperiments, search: ShopperSearch) -> list[tuple[Experiment, str]]:
    """The experiments in which a search takes part, with its units."""
    request = search.request
    if request.sort or request.explain or request.per_group > 1 or not request.size:
        return []
    units = [
        (each, unit_of(each, search.shopper, search.session, search.request.query_key)) for each in running.documents
    ]
    return [(each, unit) for each, unit in units if unit and takes_part(each, running.salt(each.id), unit)]


def _with_options(request: SearchRequest, options: Mapping[str, str | bool]) -> SearchRequest:
    return replace(request, **options)  # type: ignore[arg-type]  # validated when the experiment was stored


def _interleave(
    engine: SearchEngine, search: ShopperSearch, experiment: Experiment, salt: bytes
) -> tuple[Page, DraftMark | None]:
    request = search.request
    first, second = (_with_options(request, variant.options.given) for variant in experiment.variants)
    depth = request.page * request.size
    if depth > DEEPEST:
        return engine.search(first), None
    pages = (
        engine.search(replace(first, size=depth, page=1)),
        engine.search(replace(second, size=depth, page=1, facets=(), ranges=())),
    )
    lists = [list(map(_group_of, page.hits)) for page in pages]
    # Equal for all pages of one answer, and for the same search by the same shopper.
    purpose = f"draft\0{search.owner}\0{request.query_key}".encode("utf-8", "surrogatepass")
    draft = team_draft(lists[0], lists[1], depth, hmac.digest(salt, purpose, "sha256"), _held(*pages))
    hits = {_group_of(hit): hit for page in reversed(pages) for hit in page.hits}
    one, other = (page.timings for page in pages)
    start = depth - request.size
    page = replace(
        pages[0],
        hits=tuple(hits[each] for each in draft.ids[start:]),
        page=request.page,
        size=request.size,
        degraded=tuple(dict.fromkeys((*pages[0].degraded, *pages[1].degraded))),
        timings={stage: one.get(stage, 0.0) + other.get(stage, 0.0) for stage in {**one, **other}},
        exposure_goals=(),  # the order is not that of a single rule
    )
    teams = draft.teams[start:]
    return page, DraftMark(experiment.id, start + 1, teams) if teams else None


def _group_of(hit: Hit) -> str:
    """The first id of a hit's group, since two lists may show a group by different products."""
    return min((hit.product.id, *hit.siblings[:1]))


def _held(first: Page, second: Page) -> frozenset[str]:
    """Products that rules put at the same position of both lists, such as pinned ones; they stay there."""
    pairs = zip(first.hits, second.hits, strict=False)
    return frozenset(_group_of(one) for one, other in pairs if one.rule and one.product.id == other.product.id)
