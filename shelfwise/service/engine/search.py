"""One search of one snapshot: the request is validated, candidates are ranked and counted, and a page is created."""

from __future__ import annotations

import math
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial

import numpy as np

from shelfwise.retrieval.errors import ModelError, QueryError, UnknownFieldError
from shelfwise.retrieval.filters.ast import PLACES, Filter, Within, leaves
from shelfwise.retrieval.filters.conditions import AnyOf, Condition, NotThat, all_of, fields_of
from shelfwise.retrieval.filters.parser import parse_filter
from shelfwise.retrieval.filters.places import Circle, coordinates, distances, place_problem
from shelfwise.retrieval.filters.schema import FieldCatalog
from shelfwise.retrieval.index.choices import CONSIDERED, guided_choices
from shelfwise.retrieval.index.fusion import METHODS
from shelfwise.retrieval.index.grouping import MAX_SIBLINGS, VARIANTS, CandidateGroups, diversify, product_similarity
from shelfwise.retrieval.index.keyword import NO_ROWS, Rows, Selection, Sort, SortKey, has_phrase, words_within
from shelfwise.retrieval.index.ranges import conditions, parse_ranges, quantile_bounds, range_count
from shelfwise.retrieval.records import (
    Candidate,
    Choice,
    Contribution,
    ControlledExposure,
    Facet,
    Hit,
    Page,
    Place,
    Product,
    RangeCount,
    Reason,
)
from shelfwise.retrieval.text.analysis import TermGroup
from shelfwise.retrieval.text.preferences import QueryPreferences, lacking_forms, query_preferences
from shelfwise.retrieval.text.units import is_measure
from shelfwise.service.curation.relevance import without_fields
from shelfwise.service.curation.rule_matching import NOTHING, CompiledRules, Lift
from shelfwise.service.engine.candidates import Stages
from shelfwise.service.engine.ranking import HEAD, OFFERED, Ranking, Sponsor
from shelfwise.service.engine.reasons import explain_hits, find_reasons, reason_line, with_store_reasons
from shelfwise.service.engine.request import (
    MAX_FACET_VALUES,
    MAX_SORT_KEYS,
    BegunQuery,
    ResolvedRequest,
    SearchRequest,
    joined_groups,
)
from shelfwise.service.engine.reranking import RuleArranger, RuleOrder, first_rows
from shelfwise.service.engine.snapshot import Snapshot, condition_of
from shelfwise.service.engine.spelling import Completion
from shelfwise.service.experiments.exploration import Exploration

_BETWEEN_KEYS = re.compile(r",(?![^(]*\))")
_DISTANCE = re.compile(r"distance\((?P<lat>[^,()]+),(?P<lng>[^,()]+)\)", re.IGNORECASE)
_OPTIONAL = 5.0
"""Strength of an optional filter, in standard deviations of the scores of the best hits."""
EXPLANATION = "explanation"
"""Name in `Page.degraded` if a ranker could not explain its scores."""


class Search:
    """One search of one snapshot."""

    def __init__(
        self,
        snapshot: Snapshot,
        stages: Stages,
        request: SearchRequest,
        unavailable: tuple[str, ...] = (),
        rules: CompiledRules | None = None,
        typed: str = "",
        completions: Sequence[Completion] = (),
        chosen: str = "",
        *,
        exploration: Exploration | None = None,
        sponsor: Sponsor | None = None,
    ) -> None:
        """`unavailable` names stages that cannot take part. `rules` also apply to the text as `typed`, if the text of
        the request is its correction; `completions` are the texts that it may become, itself first; `chosen` names the
        category that shoppers choose from after it; `sponsor` chooses sponsored hits."""
        self._snapshot = snapshot
        self._hidden = stages.relevance.settings.hidden
        """Fields that choices and explanations leave out."""
        self._stages = stages
        self._sponsor = sponsor
        self._query = request
        self._facets = {name: snapshot.catalog.resolve(name).name for name in request.facets}
        self._counted = tuple(sorted(set(self._facets.values())))
        self._ranges = [parse_ranges(each, snapshot.catalog) for each in request.ranges]
        self._sort = self._sorted_by(request.sort) if request.sort else None
        ties = self._sorted_by(request.tie_break) if request.tie_break else None
        where = condition_of(snapshot, request.filters)
        self._center = _center(self._sort, request.filters)
        filtered: frozenset[str] = fields_of(where) if where else frozenset()
        # The number of a price may be incomplete.
        preferences = partial(query_preferences, catalog=snapshot.catalog, values=snapshot.values, types=snapshot.types)
        query = preferences(request.text, filtered=filtered | {"price"} if completions else filtered)
        text = request.text if completions else query.text
        # The text comes first, even if it is empty.
        distinct = dict.fromkeys((text, *filter(None, (request.text, typed))))
        texts = [snapshot.analyzer.analyze(each) for each in distinct]
        self._effect = rules.effect(texts, where, time.time(), request.contexts) if rules else NOTHING
        spread = self._spread if request.diversity else None
        optional = cache(partial(_optional, snapshot))  # one that counts several times is there as often
        lifts = (*self._effect.lifts, *map(optional, request.optional_filters))
        self._least = snapshot.manifest.cutoff.known + stages.cutoff_offset
        explore = partial(exploration.choose, snapshot, least=self._least) if exploration else None
        self._arranging = RuleArranger(self._effect.pins, lifts, snapshot.products, snapshot.keyword, spread, explore)
        self._group = self._grouped_by(request.group)
        begun = [
            BegunQuery(each.text, groups, each.share, preferences(each.text).product)
            for each in completions
            if (groups := snapshot.analyzer.analyze(each.text).groups)
        ]
        groups = joined_groups(begun) if begun else self._groups_of(query)
        phrases = snapshot.analyzer.phrases
        excluded = (NotThat(has_phrase(phrases(each))) for each in request.excluded)
        where = all_of(self._effect.condition(where), excluded)
        self._request = ResolvedRequest(
            text=text,
            groups=groups,
            where=self._with_words(groups, where),
            filter=where,
            stage=request.stage,
            merge=METHODS[request.merge],
            facets=self._counted,
            facet_size=MAX_FACET_VALUES if request.group else request.facet_values,
            sort=self._sort,
            unavailable=unavailable,
            pinned=self._arranging.pinned,
            all_types=request.all_types,
            product=query.product,
            preferences=query.preferences,
            begun=tuple(begun),
            chosen=chosen,
            typed=typed or request.text,
            is_first=request.page == 1,
            is_cheap=query.is_cheap,
            lacking=self._lacking(query.lacking),
            measures=() if begun else tuple(_measured(groups)),
            ties=ties,
        )

    def _groups_of(self, query: QueryPreferences) -> tuple[TermGroup, ...]:
        """The groups of a query; in a query of two words, the word of a preferred value need not match."""
        analyze = self._snapshot.analyzer.analyze
        groups, others = analyze(query.text).groups, analyze(query.product).groups
        if len(others) != 1:
            return groups
        kept = others[0].alternatives[0]
        return tuple(each if each.alternatives[0] == kept else replace(each, is_optional=True) for each in groups)

    def _lacking(self, what: str) -> tuple[Condition, ...]:
        """Conditions that a product lacks what the query excludes, or declares so; and the second alone."""
        if not what:
            return ()
        phrases = self._snapshot.analyzer.phrases
        declared = has_phrase([terms for form in lacking_forms(what) for terms in phrases(form)])
        return AnyOf((NotThat(has_phrase(phrases(what))), declared)), declared

    def _with_words(self, groups: tuple[TermGroup, ...], where: Condition | None) -> Condition | None:
        """A filter combined with the words in the requested fields, and with the phrases."""
        fields = tuple(map(self._snapshot.catalog.resolve_searched, self._query.search_fields))
        for name in fields:
            if not self._snapshot.manifest.weights.weight_of(name):
                raise QueryError(f"search_fields names {name}, which is not searched, since its weight is 0")
        phrases = filter(None, map(self._snapshot.analyzer.phrases, self._query.phrases))
        within = (words_within(groups, fields),) if fields and groups else ()
        return all_of(where, (*within, *map(has_phrase, phrases)))

    def page(self) -> Page:
        """The result page."""
        if not self._query.text.strip():
            return self._browsed()
        if not self._request.groups:
            return self._answer((), 0, self._empty())
        ranking = self._stages.rank(self._request)
        if not ranking.total:
            return self._answer((), 0, self._empty(), ranking)
        groups, end = self._candidate_groups(ranking.selection, ranking), self._query.page * self._query.size
        if ranking.ordered and self._sort:
            in_order = partial(self._in_order, ranking.selection, self._sort)
            arranged = RuleOrder(first_rows(in_order, end, groups) if groups else ranking.ordered.rows)
        else:
            further = partial(self._stages.further, self._request, ranking)
            arranged = self._arranging.ranked(ranking, further, end, groups)
        rows = self._with_companions(self._cut(arranged.rows), groups, partial(self._ranked_order, arranged, ranking))
        total = groups.total if groups else ranking.total
        page = self._shown(rows, arranged, ranking.selection, total, ranking.facets, groups, ranking)
        goals = tuple(self._exposure_goals(rows, arranged))
        sponsored = self._sponsor(ranking, self._request, self._least, arranged.buried) if self._sponsor else ()
        page = replace(page, exposure_goals=goals, sponsored=sponsored)
        is_broad = total > self._query.size
        return replace(page, choices=self._choices(ranking, groups)) if self._query.choices and is_broad else page

    def _choices(self, ranking: Ranking, groups: CandidateGroups | None) -> tuple[Choice, ...]:
        """The choices, computed from candidates sampled evenly over all ranks."""
        places = np.arange(0, len(ranking.rows), max(1, len(ranking.rows) // CONSIDERED))[:CONSIDERED]
        shown = (self._snapshot.products[row] for row in ranking.rows[places].tolist())
        products = [without_fields(product, self._hidden) for product in shown] if self._hidden else list(shown)
        where, compiled = self._request.where, self._snapshot.catalog.compile

        def count(filters: Sequence[Filter]) -> list[int]:
            return self._count(ranking.selection, groups, list(map(compiled, filters)))

        without = {*(fields_of(where) if where else ()), *(each.field for each in ranking.preferred)}
        return guided_choices(products, places + 1, count, self._query.choices, without)

    def _count(
        self, selection: Selection, groups: CandidateGroups | None, conditions: Sequence[Condition]
    ) -> list[int]:
        """The number of hits of a selection that meet each condition."""
        keyword = self._snapshot.keyword
        within = [replace(selection, where=all_of(selection.where, (each,))) for each in conditions]
        return [groups.count(keyword.select(one)) for one in within] if groups else keyword.count(within)

    def _browsed(self) -> Page:
        """All products that pass the filter, the best known first unless sorted otherwise."""
        by = self._sort or self._request.ties or self._sorted_by("-rating_count")
        everything = Selection(where=self._request.where, everything=True)
        room = 0 if self._sort else len(self._request.pinned)
        ordered = self._snapshot.keyword.sort(everything, replace(by, limit=by.limit + room))
        groups = self._candidate_groups(everything)

        def fetch(count: int) -> Rows:
            return ordered.rows if count <= by.limit + room else self._in_order(everything, by, count)

        # A requested sort order applies; without keyword search there is nothing to browse.
        if not self._sort and ordered.total:
            arranged = self._arranging.browsed(everything, fetch, by.limit, groups)
        else:
            arranged = RuleOrder(first_rows(fetch, by.limit, groups))
        rows = self._with_companions(self._cut(arranged.rows), groups, partial(self._sorted_order, by))
        facets: Mapping[str, Facet] = {}
        if self._counted:
            facets = self._snapshot.keyword.facets(everything, self._counted, self._request.facet_size)
        return self._shown(rows, arranged, everything, groups.total if groups else ordered.total, facets, groups)

    def _shown(
        self,
        rows: list[int],
        arranged: RuleOrder,
        selection: Selection,
        total: int,
        facets: Mapping[str, Facet],
        groups: CandidateGroups | None,
        ranking: Ranking | None = None,
    ) -> Page:
        """The page with the hits at `rows`, with `facets` over all products of the selection."""
        hits: Sequence[Hit] = [self._hit(row, arranged, ranking) for row in rows]
        if ranking:
            hits = self._explained(hits, rows, arranged, ranking)
        hits = self._grouped(self._with_reasons(hits, rows, arranged, ranking), rows, groups)
        counted = self._facets_of(facets, groups) or self._empty()
        return self._answer(hits, total, counted, ranking, self._ranges_of(selection, groups))

    def _in_order(self, selection: Selection, by: Sort, count: int) -> Rows:
        return self._snapshot.keyword.sort(selection, replace(by, limit=count)).rows

    def _candidate_groups(self, selection: Selection, ranking: Ranking | None = None) -> CandidateGroups | None:
        """The groups of the whole candidate set; None if results are not grouped."""
        if not self._group:
            return None
        is_complete = ranking and ranking.total <= len(ranking.rows) and not ranking.product_type
        return self._groups(ranking.rows if ranking and is_complete else self._snapshot.keyword.select(selection))

    def _groups(self, rows: Rows) -> CandidateGroups:
        groups, product_of = self._snapshot.groups, self._snapshot.products.__getitem__
        return CandidateGroups(rows, lambda some: groups.of(some, self._group, product_of))

    def _grouped(self, hits: Sequence[Hit], rows: Sequence[int], groups: CandidateGroups | None) -> Sequence[Hit]:
        """The hits with the sizes of their groups and their siblings."""
        if groups is None:
            return hits
        found, ranks = [], Counter[int]()
        for hit, row in zip(hits, rows, strict=True):
            members = groups.members(row)
            ranks[first := int(members[0])] += 1
            others = members[members != row][:MAX_SIBLINGS].tolist()
            siblings = tuple(map(self._snapshot.products.id_of, others))
            found.append(replace(hit, group_size=len(members), siblings=siblings, group_rank=ranks[first]))
        return found

    def _with_companions(
        self, rows: list[int], groups: CandidateGroups | None, order: Callable[[Rows], Rows]
    ) -> list[int]:
        """The rows, each followed by the next ones of its group, up to the requested number; `order` sorts rows."""
        if groups is None or self._query.per_group == 1 or not rows:
            return rows
        members = [groups.members(row) for row in rows]
        ordered, found = order(np.setdiff1d(np.concatenate(members), rows)), []
        for row, group in zip(rows, members, strict=True):
            companions = ordered[np.isin(ordered, group)]
            found += [row, *companions[: self._query.per_group - 1].tolist()]
        return found

    def _ranked_order(self, arranged: RuleOrder, ranking: Ranking, rows: Rows) -> Rows:
        """Candidates (n,) in the order of a search."""
        if self._sort:
            return self._sorted_order(self._sort, rows)
        ranked = arranged.ranked[np.isin(arranged.ranked, rows)]
        behind = self._snapshot.keyword.score(np.setdiff1d(rows, ranked), ranking.selection.groups)
        return np.concatenate([ranked, behind.rows[np.lexsort((behind.rows, -behind.scores))]])

    def _sorted_order(self, by: Sort, rows: Rows) -> Rows:
        return self._in_order(Selection(rows=rows), by, len(rows))

    def _facets_of(self, facets: Mapping[str, Facet], groups: CandidateGroups | None) -> Mapping[str, Facet]:
        if groups is None:
            return facets
        repeated = partial(self._snapshot.groups.repeated, product_of=self._snapshot.products.__getitem__)
        return groups.facets(facets, self._query.facet_values, repeated)

    def _ranges_of(
        self, selection: Selection, groups: CandidateGroups | None = None
    ) -> dict[str, tuple[RangeCount, ...]]:
        """The requested ranges with the numbers of products, or of groups, in a candidate set."""
        found = {}
        for each in self._ranges:
            bounds = each.bounds
            if not bounds:
                facets = self._snapshot.keyword.facets(selection, (each.field,), sys.maxsize)
                bounds = quantile_bounds(facets[each.field])
            ranges = list(conditions(each.field, bounds)) if bounds else []
            found[each.request] = tuple(map(range_count, ranges, self._count(selection, groups, ranges)))
        return found

    def _spread(self, rows: Rows, scores: Mapping[int, float], leading: int) -> Rows:
        """The rows (n,), with the head of those that have scores reordered by diversity."""
        head = np.array([row for row in rows[:HEAD].tolist() if row in scores], np.int64)
        relevance = np.array([scores[row] for row in head.tolist()])
        relevance -= relevance.min(initial=np.inf)
        relevance /= relevance.max(initial=0.0) or 1.0
        unrelated = self._snapshot.manifest.background.mean
        similarity = product_similarity(self._snapshot.vectors.gather(head), unrelated)
        order = diversify(relevance, similarity, leading, self._query.diversity)
        return np.concatenate([head[order], rows[len(head) :]])

    def _grouped_by(self, name: str) -> str:
        if name in ("", VARIANTS):
            return name
        try:
            return self._snapshot.catalog.resolve(name).name
        except UnknownFieldError as error:
            raise UnknownFieldError(
                f"group is {name!r}, it can be {VARIANTS!r} or a field: {error}", name, (*error.close, VARIANTS)
            ) from None

    def _sorted_by(self, name: str) -> Sort:
        keys = parse_sort(name, self._snapshot.catalog)
        return Sort(keys, self._query.page * self._query.size)

    def _empty(self) -> dict[str, Facet]:
        """Facets without counts."""
        return {name: Facet(name, ()) for name in self._counted}

    def _cut(self, rows: Rows) -> list[int]:
        end = self._query.page * self._query.size
        return [int(row) for row in rows[end - self._query.size : end]]

    def _hit(self, row: int, arranged: RuleOrder, ranking: Ranking | None) -> Hit:
        candidate = ranking.candidate(row) if ranking else Candidate(row, 0.0, {})
        product, explored = self._snapshot.products[row], arranged.explored
        hit = Hit(
            product,
            arranged.scores.get(row, candidate.score),
            candidate.stages,
            self._query.text.strip() if ranking and row in ranking.identified else "",
            rule=arranged.rules.get(row, ""),
            product_type=self._snapshot.types.names_of(row, product).name,
            distance=self._distance(product),
        )
        if explored is None or explored.row != row:
            return hit
        return replace(hit, explored=True, propensity=explored.propensity)

    def _distance(self, product: Product) -> float | None:
        """Distance in metres from the place of the request to the product's nearest place."""
        if self._center is None or not product.places:
            return None
        return float(distances(self._center, *coordinates(product.places)).min())

    def _exposure_goals(self, rows: Sequence[int], arranged: RuleOrder) -> Iterator[ControlledExposure]:
        """The effect of rules on the exposure of the products at `rows`."""
        id_of, pinned = self._snapshot.products.id_of, set(self._arranging.pinned.tolist())
        for lift, passing in arranged.lifted:
            if lift.goal:
                own, fixed = (
                    tuple(id_of(row) for row in rows if row in some) for some in ({*passing.tolist()}, pinned)
                )
                yield ControlledExposure(lift.goal, lift.strength, own, fixed)

    def _explained(
        self, hits: Sequence[Hit], rows: Sequence[int], arranged: RuleOrder, ranking: Ranking
    ) -> Sequence[Hit]:
        if not self._query.explain or self._stages.last is None:
            return hits
        try:
            places = np.array(rows, np.int64)
            explanations = explain_hits(
                self._snapshot, self._stages.last, ranking, self._query.text, places, self._hidden
            )
        except ModelError:
            ranking.degraded = (*ranking.degraded, EXPLANATION)
            return hits
        for row, added in (*ranking.signals.items(), *self._lift_contributions(rows, arranged, ranking)):
            if (found := explanations.get(row)) is not None:
                parts = sorted((*found.contributions, *added), key=lambda each: -abs(each.contribution))
                explanations[row] = replace(found, contributions=tuple(parts))
        for hit, row in zip(hits, rows, strict=True):
            if hit.propensity is not None and (found := explanations.get(row)) is not None:
                part = Contribution("exploration", f"at this rank by chance, probability {hit.propensity:.2%}", 0.0)
                explanations[row] = replace(found, contributions=(*found.contributions, part))
        return [replace(hit, explanation=explanations.get(row)) for hit, row in zip(hits, rows, strict=True)]

    @staticmethod
    def _lift_contributions(
        rows: Sequence[int], arranged: RuleOrder, ranking: Ranking
    ) -> Iterator[tuple[int, Iterable[Contribution]]]:
        """Contributions of boosts, burials, exposure goals and optional filters to the scores of rows."""
        for lift, passing in arranged.lifted:
            name = f"rule {lift.rule}" if lift.rule else "optional filter"
            part = Contribution(name, lift.text, lift.strength * ranking.deviation)
            yield from ((row, (part,)) for row in rows if lift.strength and row in passing)

    def _with_reasons(
        self, hits: Sequence[Hit], rows: Sequence[int], arranged: RuleOrder, ranking: Ranking | None = None
    ) -> list[Hit]:
        """The hits with the reasons for their ranks, if requested."""
        if not self._query.reasons:
            return [*hits]
        found: Mapping[int, tuple[Reason, ...]] = {}
        own: Mapping[int, float] = {}
        if ranking and not self._sort:
            own = dict(zip(ranking.rows.tolist(), ranking.scores.tolist(), strict=True))
            scores = np.array([arranged.scores.get(*each) for each in own.items()])
            try:
                places = np.array(rows, np.int64)
                found = find_reasons(self._snapshot, self._stages.last, self._request, ranking, scores, places)
            except ModelError:
                ranking.degraded = (*ranking.degraded, EXPLANATION)
        pinned, language = self._arranging.pinned, self._query.reasons
        made = []
        for hit, row in zip(hits, rows, strict=True):
            moved = arranged.scores.get(row, 0.0) - own.get(row, 0.0) if row in arranged.scores else 0.0
            reasons = with_store_reasons(hit, found.get(row, ()), moved, is_pinned=row in pinned)
            made.append(replace(hit, reasons=reasons, reason_line=reason_line(reasons, language, self._query.text)))
        return made

    def _answer(
        self,
        hits: Sequence[Hit],
        total: int,
        facets: Mapping[str, Facet],
        ranking: Ranking | None = None,
        ranges: Mapping[str, tuple[RangeCount, ...]] | None = None,
    ) -> Page:
        nearest: tuple[Hit, ...] = ()
        offered = (ranking.also_near if ranking.total else ranking.rows) if ranking else NO_ROWS
        if ranking and len(offered) and self._request.is_first:
            groups = self._groups(offered) if self._group else None
            rows = groups.collapse(offered) if groups else offered
            offers = rows[: min(OFFERED, self._query.size)].tolist()
            nearest = tuple(self._hit(row, RuleOrder(ranking.rows), ranking) for row in offers)
            nearest = tuple(self._grouped(nearest, offers, groups))
        return Page(
            hits=tuple(hits),
            total=total,
            page=self._query.page,
            size=self._query.size,
            facets={requested: facets[name] for requested, name in self._facets.items()},
            ranges=self._ranges_of(Selection()) if ranges is None else ranges,
            degraded=ranking.degraded if ranking else self._request.unavailable,
            nearest=nearest,
            timings=ranking.timings if ranking else {},
            version=self._snapshot.manifest.version,
            fit=ranking.fit if ranking else None,
            nothing_fits=ranking.nothing_fits if ranking else False,
            doubtful=ranking.is_doubtful if ranking else False,
            rules=self._effect.rules,
            redirect=self._effect.redirect,
            data=self._effect.data,
            product_type=ranking.product_type if ranking else "",
            preferred=ranking.preferred if ranking else (),
        )


def parse_sort(text: str, catalog: FieldCatalog) -> tuple[SortKey, ...]:
    """The keys of a sort order such as "-rating,price". Raises UnknownFieldError for a field that is not numeric,
    QueryError for more keys than MAX_SORT_KEYS, and for an empty key."""
    names = [each.strip() for each in _BETWEEN_KEYS.split(text)]
    if len(names) > MAX_SORT_KEYS or not all(name.removeprefix("-") for name in names):
        raise QueryError(f"sort is {text[:100]!r}, it can be 1 to {MAX_SORT_KEYS} fields, such as -rating,price")
    return tuple(_sort_key(name, catalog) for name in names)


def _measured(groups: Iterable[TermGroup]) -> Iterator[Condition]:
    """That a product has a measure of the query: "50 ft"."""
    for typed, *_ in (group.alternatives for group in groups):
        if len(typed) == 1 and is_measure(typed[0]):
            yield has_phrase([typed])


def _sort_key(name: str, catalog: FieldCatalog) -> SortKey:
    if "(" not in name:
        return SortKey(catalog.resolve_sortable(name.removeprefix("-")).name, name.startswith("-"))
    found = _DISTANCE.fullmatch(name)
    try:
        place = Place(float(found["lat"]), float(found["lng"])) if found else Place(math.nan, math.nan)
    except ValueError:
        place = Place(math.nan, math.nan)
    if problem := place_problem(place.lat, place.lng):
        raise QueryError(f"sort has {name[:100]!r}; write distance(52.5, 13.4) to sort nearest first: {problem}")
    return SortKey(PLACES, place=place)


def _center(sort: Sort | None, filters: str) -> Place | None:
    """The place by which a request sorts, or else the first one by which it filters."""
    tree = parse_filter(filters)
    areas = (leaf.area for leaf in leaves(tree) if isinstance(leaf, Within)) if tree else ()
    centers = (area.center for area in areas if isinstance(area, Circle))
    return next((key.place for key in sort.keys if key.place) if sort else iter(()), None) or next(centers, None)


def _optional(snapshot: Snapshot, expression: str) -> Lift:
    """The lift of an optional filter, larger than usual score differences."""
    sign = -1.0 if expression.startswith("-") else 1.0
    wanted = condition_of(snapshot, expression.removeprefix("-"))
    if wanted is None:
        raise QueryError("optional_filters has an empty filter; write one such as brand = Bosch")
    return Lift(wanted, sign * _OPTIONAL, "")
