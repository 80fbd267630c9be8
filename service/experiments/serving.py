"""A search as the experiments that run have it answered: by the variant of its unit, or by two lists in one."""

from __future__ import annotations

import hmac
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from retrieval.errors import RankerError
from retrieval.records import Page, PastAct
from service.experiments.assignment import takes_part, unit_of, variant_of
from service.experiments.experiment import Experiment, Mode
from service.experiments.interleaving import team_draft
from service.experiments.query_ids import Drafted, Part, Seen, marked
from service.experiments.rankers import unserved
from service.experiments.served import Running
from service.experiments.stored import StoredExperiment
from service.metrics import UNSERVED
from service.searching import MOST_SIZE

if TYPE_CHECKING:
    from service.engine import SearchEngine

DEEPEST = MOST_SIZE
"""The last place that is interleaved: pages past it have the first variant's order."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A search, as it was asked, and by whom."""

    text: str
    size: int = 20
    page: int = 1
    filters: str = ""
    facets: Sequence[str] = ()
    sort: str = ""
    explain: bool = False
    correct: bool = True
    history: Sequence[PastAct] = ()
    shopper: str = ""
    session: str = ""
    """As the store calls them; both empty for who wants to be left alone."""

    @property
    def query(self) -> str:
        """What all pages of one answer have in common."""
        return f"{' '.join(self.text.casefold().split())}\0{self.filters}"


@dataclass(frozen=True, slots=True)
class Answered:
    """A page, and the query id that says what it took part in."""

    page: Page
    query_id: str


def answered(engine: SearchEngine, running: Running, asked: Asked) -> Answered:
    """Answers a search. Those without a shopper or a session take no part, nor those that ask for an order of their
    own, for an explanation, or for no hits; raises as `SearchEngine.search` does.

    Where a ranker of an experiment cannot serve, all of its units are answered as by its first variant, and the query
    id says nothing of it.
    """
    try:
        return _answered(engine, running, asked)
    except RankerError:
        # One that could serve when it was looked for, and cannot any more.
        kept = tuple(each for each in running.experiments if "ranker" not in each.experiment.touches)
        return _answered(engine, replace(running, experiments=kept), asked)


def _answered(engine: SearchEngine, running: Running, asked: Asked) -> Answered:
    told: list[Part] = []
    options: dict[str, str | bool] = {}
    draft: StoredExperiment | None = None
    for stored, unit in _takes_part(running, asked):
        experiment = stored.experiment
        if unserved(experiment, engine.ranker_problem):
            options |= _control(engine, experiment)
            UNSERVED.labels(experiment.id).inc()
            continue
        if experiment.mode == Mode.INTERLEAVE:
            draft = stored
            continue
        variant = variant_of(experiment, stored.salt, unit)
        options |= variant.options.given
        told.append(Seen(experiment.id, variant.name))
    if draft is None or not asked.text.strip():
        page = _search(engine, asked, options)
    else:
        page, drafted = _interleaved(engine, asked, options, draft)
        told += [drafted] if drafted else []
    return Answered(page, marked(uuid.uuid4().hex, told, running.key))


def _takes_part(running: Running, asked: Asked) -> list[tuple[StoredExperiment, str]]:
    """What a search takes part in, with its unit there."""
    if asked.sort or asked.explain or not asked.size:
        return []
    units = [
        (each, unit_of(each.experiment, asked.shopper, asked.session, asked.query)) for each in running.experiments
    ]
    return [(each, unit) for each, unit in units if unit and takes_part(each.experiment, each.salt, unit)]


def _control(engine: SearchEngine, experiment: Experiment) -> dict[str, str | bool]:
    """The options of the first variant, without its ranker where that is the one that cannot serve."""
    options = experiment.variants[0].options
    if options.ranker and engine.ranker_problem(options.ranker):
        options = replace(options, ranker=None)
    return options.given


def _interleaved(
    engine: SearchEngine, asked: Asked, options: Mapping[str, str | bool], stored: StoredExperiment
) -> tuple[Page, Drafted | None]:
    first, second = ({**options, **variant.options.given} for variant in stored.experiment.variants)
    depth = asked.page * asked.size
    if asked.page < 1 or depth > DEEPEST:
        return _search(engine, asked, first), None
    whole = replace(asked, size=depth, page=1)
    pages = _search(engine, whole, first), _search(engine, replace(whole, facets=()), second)
    lists = [[hit.product.id for hit in page.hits] for page in pages]
    draft = team_draft(lists[0], lists[1], depth, _seed(stored.salt, asked), _held(*pages))
    hits = {hit.product.id: hit for page in reversed(pages) for hit in page.hits}
    start = depth - asked.size
    page = replace(
        pages[0],
        hits=tuple(hits[each] for each in draft.ids[start:]),
        page=asked.page,
        size=asked.size,
        degraded=tuple(dict.fromkeys((*pages[0].degraded, *pages[1].degraded))),
        timings=_added(pages[0].timings, pages[1].timings),
    )
    teams = draft.teams[start:]
    return page, Drafted(stored.experiment.id, start + 1, teams) if teams else None


def _held(first: Page, second: Page) -> frozenset[str]:
    """What a rule put at the same place of both lists, such as pinned products: it stays there."""
    pairs = zip(first.hits, second.hits, strict=False)
    return frozenset(one.product.id for one, other in pairs if one.rule and one.product.id == other.product.id)


def _seed(salt: bytes, asked: Asked) -> bytes:
    """The same for all pages of one answer, and whenever a shopper asks it again."""
    who = f"shopper\0{asked.shopper}" if asked.shopper else f"session\0{asked.session}"
    return hmac.digest(salt, f"draft\0{who}\0{asked.query}".encode("utf-8", "surrogatepass"), "sha256")


def _search(engine: SearchEngine, asked: Asked, options: Mapping[str, str | bool]) -> Page:
    given = {"stage": "ranked", **options}
    return engine.search(
        asked.text,
        size=asked.size,
        page=asked.page,
        filters=asked.filters,
        facets=asked.facets,
        sort=asked.sort,
        explain=asked.explain,
        correct=asked.correct,
        history=asked.history,
        **given,  # type: ignore[arg-type]
    )


def _added(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    return {stage: one.get(stage, 0.0) + other.get(stage, 0.0) for stage in {**one, **other}}
