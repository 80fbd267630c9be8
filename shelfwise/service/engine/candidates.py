"""Candidate retrieval and merging: both retrievers in parallel, one candidate set, one merged score.

The candidate set consists of the keyword matches and the products nearest in meaning: those among the `DENSE_DEPTH`
nearest of the whole catalog that are not much further away than the nearest one. Both depend on the product and the
query alone, so a filter keeps exactly its own part of the set: hits, total, facets and pages are computed from the same
products, and selecting a facet's value gives as many hits as its count.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from shelfwise.retrieval.encoders.base import Encoder, Tokens, as_token_encoder
from shelfwise.retrieval.errors import EncoderError, ModelError
from shelfwise.retrieval.filters.conditions import Condition, all_of
from shelfwise.retrieval.index.fusion import OF_TYPE, RetrievalScores
from shelfwise.retrieval.index.keyword import (
    NO_ROWS,
    CandidateDetails,
    DetailsRequest,
    Matches,
    Retrieval,
    Rows,
    Selection,
    has_phrase,
    minimum_matches,
)
from shelfwise.retrieval.index.vectors import NearestRows, Vectors
from shelfwise.retrieval.single_flight import SingleFlight
from shelfwise.retrieval.text.analysis import TermGroup, contains_chinese, fold, identifier_key
from shelfwise.retrieval.text.preferences import cheapness
from shelfwise.retrieval.text.product_types import (
    MAX_WORDS,
    NO_TYPES,
    WantedTypes,
    compound_head,
    type_phrase,
    type_synonyms,
    without_numbers,
)
from shelfwise.retrieval.text.vocabulary import language_words, words_of
from shelfwise.service.engine.ranking import (
    OFFERED,
    Preferred,
    Ranking,
    aligned_scores,
    break_ties,
    permute,
    ranked_part,
    sort_by_merged_score,
)
from shelfwise.service.engine.request import STAGES, BegunQuery, ResolvedRequest
from shelfwise.service.engine.reranking import DEFAULT_SETTINGS, CompiledRelevance, Reranking
from shelfwise.service.engine.snapshot import FILTERED_DEPTH, PICTURES, Snapshot

KEYWORD_DEPTH = 500
"""Number of keyword matches that are merged with the vectors; later ones follow in BM25 order."""
DENSE_DEPTH = 200
_VOTERS, _VOTED, _CLEAR_VOTE, _CLEAR_WORDS, _ABOVE_BM25 = 20, 1.33, 0.4, 2, 1.75
"""The number of nearest products that vote on the type of a query without a known head, and the agreement with all
their votes. If the given share of them agrees on a query of one word, or twice the share on two words, the head is a
word of accessories, and the type counts for more than the best BM25 of the catalog."""
_CLEAR_HEAD, _OF_HEAD = 0.5, 4.0
"""The share of the products nearest to the head of a Chinese compound that must agree on a type, and the agreement with
all of them; products that only match the other word are not searched for, however near they are."""
_COMMON = 0.1
"""Number of products of the named types, per product of the voted types, from which the query is taken literally."""
_CHOSEN = 2.0
"""Agreement with the category that shoppers choose from, in addition to that with the query's own type."""
_FEW_MATCHES = 5
"""Number of products that must have both words of a two-word query; if fewer do, one word is enough."""
_OF_TYPE_WITHIN, _MIN_OF_SURE = 2.0, 0.5
"""Distance in deviations from the nearest product within which a product's type counts in merging, decreasing with
distance; and the part that counts at any distance if all words of the query name the type."""
_OTHER_TYPE_MARGIN = 0.5
"""Maximum distance of a candidate of a type other than the one that all words of a query name, below the nearest
product, in deviations of unrelated products (docs/decisions/0019)."""
_CHECKED = 20
"""Number of best keyword matches among which one with all words of the query is sought."""
_MOSTLY, _ENOUGH = 0.6, 8
"""The share of the best keyword matches that must be of the types that a query names, and the number of products that
must have all of its words, for the narrower margin to hold for products of other types."""
_DOUBTFUL = 0.25
"""Probability of relevance of the best hit below which the page says that hits are only the nearest, if no product has
all words of the query (docs/decisions/0018)."""
_DOUBTFUL_SHORT = 0.5
"""The same for a query of one or two words if the best hit is of no type that the nearest products agree on."""
_DOUBTFUL_KIND = 0.75
"""The same threshold if products have the words of a query that names no type: accessories have them, too."""
_INTERLEAVED = 100
"""Number of best candidates that are interleaved if a text may become several queries."""
_MAX_OF_TYPE = 10_000
"""Maximum number of products of one type in orders other than relevance; more are treated like other candidates."""
ABOUT_DEPTH = 20
"""Number of best products of each retriever that define the subject of a query, such as the usual price."""

T = TypeVar("T")

_NONE = NearestRows(NO_ROWS, np.empty(0, dtype=np.float32))


@dataclass(frozen=True, slots=True)
class EncodedQuery:
    """The vector (dimension,) of a query and, if requested, its tokens."""

    vector: Vectors
    tokens: Tokens | None = None


Encodings = SingleFlight[tuple[str, str, bool], EncodedQuery]
"""Encoded queries, by encoder, text, and whether with tokens."""


class Stages:
    """Finds and ranks candidates of one snapshot. Threads of `executor` run the two retrievers in parallel."""

    def __init__(
        self,
        snapshot: Snapshot,
        executor: Executor,
        last: Reranking | None = None,
        encodings: Encodings | None = None,
        relevance: CompiledRelevance = DEFAULT_SETTINGS,
    ) -> None:
        self._snapshot = snapshot
        self._executor = executor
        self.last = last
        self._encodings = encodings or Encodings()
        self.relevance = relevance
        self.cutoff_offset = relevance.settings.cutoff * snapshot.manifest.background.deviation
        """Offset of the cosine below which nothing fits a query."""

    def rank(self, request: ResolvedRequest) -> Ranking:
        """The candidate set of a request, with its ranked part in order."""
        timings: dict[str, float] = {}
        keyword = self._executor.submit(_timed, timings, "bm25", lambda: self._retrieved(request))
        pictured = self._pictured(request, timings)
        encoded, degraded = self._encoded(request, timings)
        query = None if encoded is None else encoded.vector
        # Without keyword search, the filter can only select among the nearest products.
        depth = FILTERED_DEPTH if request.unavailable and request.where is not None else DENSE_DEPTH
        search = self._snapshot.vectors.search
        nearest = _timed(timings, "dense", lambda: _NONE if query is None else search(query, depth))
        retrieved = keyword.result()
        if retrieved.best.total < _FEW_MATCHES and request.stage != "dense":
            relaxed = tuple(replace(group, is_enough=True) for group in request.groups)
            if minimum_matches(relaxed) < minimum_matches(request.groups):
                request = replace(request, groups=relaxed)
                retrieved = self._retrieved(request)
        wanted = self._with_chosen(request, retrieved, self._wanted_types(request, retrieved, nearest))
        shows_type = request.sort is not None and not request.all_types and wanted.is_sure
        merged = replace(request, sort=None, facets=()) if shows_type else request
        looks = pictured.result() if pictured else None
        lost = (PICTURES,) if pictured and looks is None else ()
        ranking = _timed(timings, "merge", lambda: self._merged(merged, query, retrieved, nearest, looks, wanted))
        if shows_type and ranking.total:
            self._sort_type(request, ranking, wanted)
        fits = query is None or self._fits(request, retrieved, nearest)
        if query is not None and not (fits and (ranking.total or request.where is None)):
            ranking = self._offers(request, query, nearest)
            ranking.nothing_fits = not fits
        elif request.stage == "ranked" and (last := self.last) is not None:
            try:
                _timed(timings, "rerank", lambda: self._rerank(last, request, retrieved, ranking, encoded))
            except ModelError:
                degraded = (*degraded, "ranked")
        if query is not None and request.is_first and 0 < ranking.total < OFFERED:
            ranking.also_near = self._near_others(request, query, nearest, wanted, ranking)
        if ranking.total and request.stage in ("merged", "ranked") and not request.sort:
            self._reorder(request, ranking)
        if len(request.begun) > 1 and ranking.total:
            self._interleave(request.begun, ranking)
        ranking.degraded, ranking.timings = (*request.unavailable, *degraded, *lost), timings
        ranking.stages = self._stages_run(request, ranking)
        return ranking

    def _reorder(self, request: ResolvedRequest, ranking: Ranking) -> None:
        """Applies the signals, then the order of ties."""
        if self.relevance.signals:
            self.relevance.signals.reorder(ranking, self._snapshot.products)
        if request.ties:
            rows, by = ranking.rows, replace(request.ties, limit=len(ranking.rows))
            words = np.sum([np.isin(rows, self._with_all_words((each,), rows)) for each in request.groups], axis=0)
            has_values = request.preferences or request.measures or request.lacking or request.is_cheap
            ordered = self._snapshot.keyword.sort(Selection(rows=np.sort(rows)), by).rows
            break_ties(ranking, ordered, words, has_values=bool(has_values))

    def _rerank(
        self,
        last: Reranking,
        request: ResolvedRequest,
        retrieved: Retrieval,
        ranking: Ranking,
        encoded: EncodedQuery | None,
    ) -> None:
        """Reorders a ranking by its last stage; raises ModelError on failure."""
        last.rerank(ranking, encoded.tokens if encoded else None)
        if encoded and last.judges_relevance and self._is_doubtful(request, retrieved, ranking):
            # Independent of the filter.
            whole = replace(request, where=None, filter=None, facets=(), sort=None)
            ranking.is_doubtful = request.where is None or self.rank(whole).is_doubtful

    def further(self, request: ResolvedRequest, ranking: Ranking, end: int) -> Rows:
        """The rows up to position `end`; after the ranked part they are in BM25 order."""
        if end <= len(ranking.rows) or ranking.total <= len(ranking.rows):
            return ranking.rows[:end]
        matches = self._snapshot.keyword.search(ranking.selection.groups, end + len(ranking.rows), request.where)
        behind = matches.rows[~np.isin(matches.rows, ranking.rows)]
        return np.concatenate([ranking.rows, behind])[:end]

    def _retrieved(self, request: ResolvedRequest) -> Retrieval:
        groups = () if request.stage == "dense" else request.groups
        return self._snapshot.keyword.retrieve(groups, identifier_key(request.text), KEYWORD_DEPTH, request.where)

    def _encoded(
        self, request: ResolvedRequest, timings: dict[str, float]
    ) -> tuple[EncodedQuery | None, tuple[str, ...]]:
        if request.stage == "bm25":
            return None, ()
        reads_tokens = request.stage == "ranked" and self.last is not None and self.last.reads_tokens
        try:
            return _timed(timings, "encode", lambda: self._encode_all(request, reads_tokens=reads_tokens)), ()
        except EncoderError:
            return None, ("dense",)

    def _pictured(self, request: ResolvedRequest, timings: dict[str, float]) -> Future[Vectors | None] | None:
        """The query as encoded by the picture encoder, computed in a thread; None if no pictures are compared."""
        pictures = self._snapshot.pictures
        if pictures is None or request.stage not in ("merged", "ranked") or request.begun:
            return None
        return self._executor.submit(_timed, timings, PICTURES, lambda: self._vector(pictures.encoder, request.text))

    def _vector(self, encoder: Encoder, text: str) -> Vectors | None:
        """The vector of a text; None if the encoder fails."""
        try:
            return self._encode(encoder, text, reads_tokens=False).vector
        except EncoderError:
            return None

    def _encode_all(self, request: ResolvedRequest, *, reads_tokens: bool) -> EncodedQuery:
        """The encoded query, or the mean of the texts that it may become."""
        encoder = self._snapshot.encoder
        query = self._encode(encoder, request.text, reads_tokens=reads_tokens)
        if len(request.begun) < 2:
            return query
        others = (self._encode(encoder, each.text, reads_tokens=False).vector for each in request.begun[1:])
        mean = np.mean([query.vector, *others], axis=0)
        return EncodedQuery(np.asarray(mean / np.linalg.norm(mean), np.float32), query.tokens)

    def _encode(self, encoder: Encoder, text: str, *, reads_tokens: bool) -> EncodedQuery:
        token_encoder = as_token_encoder(encoder) if reads_tokens else None

        def make() -> EncodedQuery:
            if token_encoder is None:
                return EncodedQuery(encoder.encode_queries([text])[0])
            vectors, tokens = token_encoder.encode_queries_with_tokens([text])
            return EncodedQuery(vectors[0], tokens[0])

        # The vector is the same with tokens.
        return self._encodings.get((encoder.identity, text, reads_tokens), make, rather=(encoder.identity, text, True))

    def _stages_run(self, request: ResolvedRequest, ranking: Ranking) -> tuple[str, ...]:
        stages: tuple[str, ...] = (request.stage,)
        if request.stage in ("merged", "ranked"):
            stages = ("bm25", "dense", "merged")
        if request.stage == "ranked" and self.last is not None and ranking.total:
            stages = STAGES
        return tuple(stage for stage in stages if stage not in ranking.degraded)

    def _merged(
        self,
        request: ResolvedRequest,
        query: Vectors | None,
        retrieved: Retrieval,
        nearest: NearestRows,
        looks: Vectors | None,
        wanted: WantedTypes,
    ) -> Ranking:
        matches, named = ranked_part(retrieved), retrieved.identifier_rows
        groups = () if request.stage == "dense" else request.groups
        near = nearest.rows[self._are_near(request, nearest, wanted)]
        # If many products have the words, accessories have them most often and are nearest.
        is_crowded = wanted.is_sure and not wanted.is_voted and retrieved.best.total > len(retrieved.best.rows)
        of_type = self._snapshot.types.best_known(wanted, DENSE_DEPTH) if is_crowded else NO_ROWS
        pictures = self._snapshot.pictures
        seen = NO_ROWS if pictures is None or looks is None else pictures.index.near(looks)
        proposed = np.concatenate([near, named, of_type, seen, request.pinned])
        completed = self._completed(request, groups, matches, proposed)
        others = completed.candidates
        rows = np.concatenate([matches.rows, others.rows])
        background = self._snapshot.manifest.background
        cosine = np.zeros(len(rows))
        if query is not None:
            cosine = self._snapshot.vectors.similarity(query, rows).astype(np.float64)
        intent = self._snapshot.types.agreements(wanted, rows)
        # Products of the type that are far from the query would displace the others.
        behind = (nearest.scores[0] - cosine) / background.deviation if len(nearest.rows) else np.zeros(len(rows))
        closeness = np.clip(1 - behind / _OF_TYPE_WITHIN, _MIN_OF_SURE if wanted.is_sure else 0, 1)
        preferred, held = self._preferred(request, rows, (intent > 0) | (not wanted.is_sure), wanted)
        evidence = aligned_scores(
            len(request.groups), background, (matches, others, nearest), cosine, (intent, closeness, preferred)
        )
        extra = others.rows[others.scores == 0]
        alone = {"bm25": evidence.bm25, "dense": evidence.cosine}
        scores = alone[request.stage] if request.stage in alone else request.merge(evidence)
        gained = np.zeros(len(rows))
        if pictures is not None and looks is not None:
            gained = pictures.index.gains(looks, rows)
            scores = scores + gained
        ranking = Ranking(
            rows,
            scores,
            evidence,
            matches.total + len(extra),
            Selection(groups, np.sort(extra), request.where),
            scores,
            np.arange(len(rows)),
            gained,
            frozenset(np.intersect1d(named, rows).tolist()) if len(named) else frozenset(),
            completed.facets,
            completed.ordered,
            best_bm25=float(retrieved.best.scores.max(initial=0.0)),
            about=np.union1d(retrieved.best.rows[:ABOUT_DEPTH], nearest.rows[:ABOUT_DEPTH]),
            text=request.typed or request.text,
            preferences=held,
            is_type_sure=wanted.is_sure,
        )
        sort_by_merged_score(ranking)
        return ranking

    def _completed(
        self, request: ResolvedRequest, groups: tuple[TermGroup, ...], matches: Matches, proposed: Rows
    ) -> CandidateDetails:
        """The candidates with their scores, including those outside the best keyword matches, nearest vectors and exact
        identifiers; facets and order over all candidates."""
        wanted = np.array(sorted({*proposed.tolist()}.difference(matches.rows.tolist())), dtype=np.int64)
        all_matches_known = matches.total <= len(matches.rows)
        is_scored = request.where is not None or not (all_matches_known or request.stage == "dense")
        details = DetailsRequest(
            wanted, groups, request.where, request.facets, request.facet_size, request.sort, is_scored
        )
        completed = self._snapshot.keyword.fetch_details(details)
        if is_scored:
            return completed
        unscored = Matches(wanted, np.zeros(len(wanted), dtype=np.float32), len(wanted))
        return replace(completed, candidates=unscored)

    def _interleave(self, begun: Sequence[BegunQuery], ranking: Ranking) -> None:
        """Gives each query that a text may become its share of the head of a ranking."""
        rows = ranking.rows[:_INTERLEAVED]
        owner = np.zeros(len(rows), np.int64)
        for number, query in reversed(list(enumerate(begun))):
            matches = self._snapshot.keyword.score(rows, query.groups[-1:])
            owner[np.isin(rows, matches.rows[matches.scores > 0])] = number
        turn = np.empty(len(rows))
        for number, query in enumerate(begun):
            own = owner == number
            turn[own] = (np.arange(int(own.sum())) + 0.5) / query.share
        permute(ranking, np.concatenate([np.argsort(turn, kind="stable"), np.arange(len(rows), len(ranking.rows))]))

    def _wanted_types(self, request: ResolvedRequest, retrieved: Retrieval, nearest: NearestRows) -> WantedTypes:
        """The product types that a query asks for; none if no score is merged."""
        if request.stage in ("bm25", "dense"):
            return NO_TYPES
        types = self._snapshot.types
        # A Chinese word with synonyms counts as one word; otherwise the type is a guess, so its characters count, too.
        product = request.product or request.text
        groups = self._snapshot.analyzer.analyze(product).groups if request.product else request.groups
        words = sum(not (group.is_character and group.synonyms) for group in groups)
        texts = [each.product for each in request.begun] or [product]
        named = [found for text in texts if (found := self._named(text, words, retrieved)) is not None]
        agreement = {number: share for each in reversed(named) for number, share in each.agreement.items()}
        wanted = WantedTypes(agreement, bool(named) and all(each.is_sure for each in named))
        voting = without_numbers(product) or product
        has_numbers = voting != " ".join(fold(product).split())
        if has_numbers:
            words = min(words, len(self._snapshot.analyzer.analyze(voting).groups))
        may_be_clear = words <= _CLEAR_WORDS and voting.replace(" ", "").isalpha()
        if has_numbers and may_be_clear:
            # A size is in the titles of accessories, too: a screen protector is the nearest to "laptop 15 inch".
            nearest = self._voters(request, voting, nearest)
        if named and (not len(nearest.rows) or types.agreements(wanted, nearest.rows[:_VOTERS]).any()):
            return wanted
        if self._snapshot.values.is_value(voting):
            return NO_TYPES
        head = "" if named or request.begun else compound_head(voting)
        if head and (of_head := self._voted_by_head(head)) is not None:
            return of_head
        if named and not may_be_clear:
            return wanted
        nearest = nearest if has_numbers and may_be_clear else self._voters(request, voting, nearest)
        rows, scores = nearest.rows[:_VOTERS], nearest.scores[:_VOTERS].astype(np.float64)
        if not len(rows):
            return NO_TYPES
        similarity = self._snapshot.manifest.background.standardise(scores)
        titles = {row: self._snapshot.products[row].title for row in rows.tolist()}
        gain_of_all = _VOTED * min(1.0, MAX_WORDS / max(words, 1)) ** 2
        voted = types.voted(voting, titles, similarity, gain_of_all, is_named=bool(named))
        leading = max(voted.agreement.values(), default=0.0) / gain_of_all
        # An unknown word has nearest products in the encoder's space, too, but no meaning.
        is_near = scores[types.agreements(voted, rows) > 0].max(initial=-1.0) >= self._snapshot.manifest.cutoff.known
        is_clear = may_be_clear and is_near and leading >= _CLEAR_VOTE * words
        if not is_clear or (named and types.count(wanted) >= _COMMON * types.count(voted)):
            return wanted if named else voted
        required = max(1, sum(not each.is_optional for each in request.groups))
        gain = max(1.0, _ABOVE_BM25 * float(retrieved.best.scores.max(initial=0.0)) / required / OF_TYPE / gain_of_all)
        agreement = {number: gain * share for number, share in voted.agreement.items()}
        return WantedTypes(agreement, words == 1, is_voted=True)

    def _named(self, text: str, words: int, retrieved: Retrieval) -> WantedTypes | None:
        """The types that a text of `words` words names. A Chinese text is the name of a type, and nothing else, if most
        products with its words are of that type."""
        types, synonyms = self._snapshot.types, type_synonyms(self._snapshot.analyzer)
        phrase = type_phrase(text) if contains_chinese(text) else ()
        if phrase and (whole := types.named(text, len(phrase), synonyms)) is not None and whole.is_sure:
            best = retrieved.best.rows[:_CHECKED]
            if len(best) and np.mean(types.agreements(whole, best) > 0) >= _MOSTLY:
                return whole
        return types.named(text, words, synonyms)

    def _voted_by_head(self, head: str) -> WantedTypes | None:
        """The types on which the products nearest to the head of a query agree; None if too few agree."""
        if (nearest := self._nearest_to(head)) is None:
            return None
        similarity = self._snapshot.manifest.background.standardise(nearest.scores.astype(np.float64))
        titles = {row: self._snapshot.products[row].title for row in nearest.rows.tolist()}
        voted = self._snapshot.types.voted(head, titles, similarity, _OF_HEAD)
        return voted if max(voted.agreement.values(), default=0.0) >= _CLEAR_HEAD * _OF_HEAD else None

    def _with_chosen(self, request: ResolvedRequest, retrieved: Retrieval, wanted: WantedTypes) -> WantedTypes:
        """Wanted types, including that of the category that shoppers choose from, and whether the best keyword matches
        cover them."""
        number = self._snapshot.types.number_of(request.chosen)
        if number >= 0 and request.stage not in ("bm25", "dense"):
            gained = wanted.agreement.get(number, 0.0) + _CHOSEN
            wanted = replace(wanted, agreement={**wanted.agreement, number: gained})
        return replace(wanted, is_covered=self._are_covered(request, retrieved, wanted))

    def _voters(self, request: ResolvedRequest, voting: str, nearest: NearestRows) -> NearestRows:
        """The products nearest to the part of a query that may name a type."""
        if voting == " ".join(fold(request.text).split()) or not len(nearest.rows):
            return nearest
        return self._nearest_to(voting) or nearest

    def _nearest_to(self, text: str) -> NearestRows | None:
        """The products nearest to a text, which vote on a type; None if the encoder fails."""
        vector = self._vector(self._snapshot.encoder, text)
        return None if vector is None else self._snapshot.vectors.search(vector, _VOTERS)

    def _preferred(
        self, request: ResolvedRequest, rows: Rows, is_eligible: NDArray[np.bool_], wanted: WantedTypes
    ) -> tuple[NDArray[np.float64], list[Preferred]]:
        """The number of preferences of a query that each eligible product meets (n,), and which products meet each."""
        counts, found = np.zeros(len(rows)), list[Preferred]()
        if request.stage not in ("merged", "ranked"):
            return counts, found
        eligible = np.sort(rows[is_eligible])
        for preference, condition in request.preferences:
            passing = self._snapshot.keyword.select(Selection(rows=eligible, where=condition))
            counts[np.isin(rows, passing)] += 1
            found.append((preference, passing))
        for condition in (*request.lacking, *request.measures):
            passing = self._snapshot.keyword.select(Selection(rows=eligible, where=condition))
            counts[np.isin(rows, passing)] += 1
        if request.is_cheap and (cheap := self._cheapness(rows, wanted)):
            counts += cheap[0]
            found.append(cheap[1])
        return counts, found

    def _cheapness(self, rows: Rows, wanted: WantedTypes) -> tuple[NDArray[np.float64], Preferred] | None:
        """Bonus (n,) of a low price among all products of the type that a query asks for, and the preference for a low
        price; None without a type or prices. Across types the cheapest products are accessories."""
        types, signals = self._snapshot.types, self._snapshot.signals
        best = types.strongest(wanted)
        prices = np.where(types.are_of(rows, best), signals.at(rows).price, np.nan)
        found = cheapness(prices, signals.at(types.with_types(best)).price)
        return found and (found[0], (found[1], rows[prices <= (found[1].high or 0)]))

    def _are_near(self, request: ResolvedRequest, nearest: NearestRows, wanted: WantedTypes) -> NDArray[np.bool_]:
        """Whether each of the nearest products is near enough to be a candidate (n,)."""
        if request.stage == "dense" or not len(nearest.rows):
            return np.ones(len(nearest.rows), bool)
        similarity = self._snapshot.manifest.background.standardise(nearest.scores.astype(np.float64))
        margins = np.full(len(similarity), self.relevance.settings.margin)
        if wanted.is_sure or wanted.is_covered:
            margins[self._snapshot.types.agreements(wanted, nearest.rows) == 0] = _OTHER_TYPE_MARGIN
        return np.asarray(similarity >= similarity[0] - margins)

    def _sort_type(self, request: ResolvedRequest, ranking: Ranking, wanted: WantedTypes) -> None:
        """Orders the candidates of the type that the query names as requested, and leaves out the others."""
        keyword = self._snapshot.keyword
        rows = ranking.rows if ranking.total == len(ranking.rows) else keyword.select(ranking.selection)
        of_type = np.sort(rows[self._snapshot.types.agreements(wanted, rows) > 0])
        is_shown = 0 < len(of_type) <= _MAX_OF_TYPE
        if is_shown:
            ranking.selection, ranking.total = Selection(rows=of_type), len(of_type)
            ranking.product_type = request.text.strip()
        chosen = ranking.selection
        sorting = DetailsRequest(
            chosen.rows, chosen.groups, chosen.where, request.facets, request.facet_size, request.sort, is_scored=False
        )
        details = keyword.fetch_details(sorting)
        ranking.facets, ranking.ordered = details.facets, details.ordered

    def _fits(self, request: ResolvedRequest, retrieved: Retrieval, nearest: NearestRows) -> bool:
        """Whether the catalog has something for a query: a product that it names, all of its words, or a similarity as
        of relevant products. Independent of the filter."""
        cutoff, best = self._snapshot.manifest.cutoff, retrieved.best.rows[:_CHECKED]
        found = len(retrieved.identifier_rows) or len(request.pinned)
        if found or request.stage not in ("merged", "ranked") or not len(nearest.rows) or request.unavailable:
            return True
        closest = float(nearest.scores[0]) - self.cutoff_offset
        if closest >= cutoff.unknown or len(self._with_all_words(request.groups, best)):
            return True
        is_known = bool(retrieved.best.total) or any(word in language_words() for word in words_of(request.text))
        return is_known and closest >= cutoff.known

    def _is_doubtful(self, request: ResolvedRequest, retrieved: Retrieval, ranking: Ranking) -> bool:
        """Whether the ranker doubts the best hit of a query that, without its values, names no type of the catalog, or
        has words that no product has together."""
        found = len(retrieved.identifier_rows) or len(request.pinned) or request.begun or request.unavailable
        if found or ranking.fit is None or ranking.fit >= _DOUBTFUL_KIND:
            return False
        # No title says "best"; and the characters of a Chinese word may occur in other words of a product.
        product = request.product or request.text
        groups = self._snapshot.analyzer.analyze(product).groups
        words = tuple(group for group in groups if not group.is_character)
        is_open = len(words) <= _CLEAR_WORDS and ranking.evidence.intent[0] < 1
        if not len(self._with_all_words(words, retrieved.best.rows[:_CHECKED])):
            return ranking.fit < (_DOUBTFUL_SHORT if is_open else _DOUBTFUL)
        types, synonyms = self._snapshot.types, type_synonyms(self._snapshot.analyzer)
        return is_open and product.replace(" ", "").isalpha() and types.named(product, len(words), synonyms) is None

    def _are_covered(self, request: ResolvedRequest, retrieved: Retrieval, wanted: WantedTypes) -> bool:
        """Whether enough products have all words of a query, most of them of the types that it names."""
        is_known = wanted.agreement and not (wanted.is_sure or wanted.is_voted)
        # Where one word is enough, few products have both.
        if not is_known or retrieved.best.total < _ENOUGH or all(group.is_enough for group in request.groups):
            return False
        rows, groups = retrieved.best.rows[:_CHECKED], request.groups
        if minimum_matches(groups) < len(groups):
            rows = self._with_all_words(groups, rows)
        return len(rows) >= _ENOUGH and bool(np.mean(self._snapshot.types.agreements(wanted, rows) > 0) >= _MOSTLY)

    def _with_all_words(self, groups: tuple[TermGroup, ...], rows: Rows) -> Rows:
        """The products among some that have every word of a query, or a synonym or expansion of it."""
        forms = ((*each.alternatives, *each.synonyms, *((x.term,) for x in each.expansions)) for each in groups)
        where = all_of(None, map(has_phrase, forms))
        return self._snapshot.keyword.select(Selection(rows=np.sort(rows), where=where)) if len(rows) else rows

    def _near_others(
        self, request: ResolvedRequest, query: Vectors, nearest: NearestRows, wanted: WantedTypes, ranking: Ranking
    ) -> Rows:
        """Products that pass the filter and are near enough to be candidates, although other products of the catalog
        are nearer."""
        if request.filter is None or request.sort or request.unavailable or not len(nearest.rows):
            return NO_ROWS
        found = self._nearest_passing(request.filter, query, 2 * OFFERED)
        # The distance limit depends on the nearest product of the catalog.
        rows, scores = np.append(nearest.rows[:1], found.rows), np.append(nearest.scores[:1], found.scores)
        near = found.rows[self._are_near(request, NearestRows(rows, scores), wanted)[1:]]
        return near[~np.isin(near, ranking.rows)][: OFFERED - ranking.total]

    def _nearest_passing(self, where: Condition, query: Vectors, limit: int) -> NearestRows:
        """The nearest products that pass a filter."""
        allowed = self._snapshot.keyword.select(Selection(where=where, everything=True))
        return self._snapshot.vectors.search(query, limit, allowed)

    def _offers(self, request: ResolvedRequest, query: Vectors, nearest: NearestRows) -> Ranking:
        """A ranking without candidates that offers the nearest products, or the nearest ones that pass the filter."""
        if request.filter is not None:
            nearest = self._nearest_passing(request.filter, query, DENSE_DEPTH)
        rows, count = nearest.rows, len(nearest.rows)
        nothing, ranks = np.zeros(count), np.arange(1.0, count + 1)
        cosine = nearest.scores.astype(np.float64)
        background = self._snapshot.manifest.background
        unranked = np.full(count, np.inf)
        evidence = RetrievalScores(
            len(request.groups), background, nothing, cosine, unranked, ranks, nothing, nothing, nothing
        )
        places = np.arange(1, count + 1)
        return Ranking(rows, cosine, evidence, 0, Selection(), cosine, places, nothing)


def _timed(timings: dict[str, float], stage: str, work: Callable[[], T]) -> T:
    started = time.perf_counter()
    result = work()
    timings[stage] = (time.perf_counter() - started) * 1_000
    return result
