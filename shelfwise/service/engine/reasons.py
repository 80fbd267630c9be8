"""Explanations of a ranker's scores for the hits of a page, and reasons for the ranks of hits: the parts of a hit's
score without which it would lose ranks.

A reason is found by removal (Covert, Lundberg & Lee 2021, Explaining by Removing, section 4): the hit is scored again
without its matched words, its type, a value, its similarity, its picture, or shoppers' choices, all else equal. It is
named if the hit would then rank behind another candidate (docs/explanations.md).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from shelfwise.rerank.ranker.explanation import Factor, QueryWords, contributions, select_candidates, term_matches
from shelfwise.rerank.ranker.features import (
    BM25_SCALE,
    FEATURES,
    FIRST_STAGE,
    HALF_LIFE_DAYS,
    HAS_STATES,
    MAX_QUERY_TOKENS,
    PADDING,
    Candidates,
    History,
    first_stage_columns,
    popularity_share,
)
from shelfwise.rerank.ranker.memory import product_hashes
from shelfwise.retrieval.encoders.base import TokenEncoder, as_token_encoder
from shelfwise.retrieval.index.fusion import DEFAULT, METHODS, PREFERRED, RetrievalScores
from shelfwise.retrieval.index.keyword import Rows
from shelfwise.retrieval.index.token_states import MAX_TOKENS, ProductTokens
from shelfwise.retrieval.index.vectors import places_of
from shelfwise.retrieval.records import (
    Contribution,
    Explanation,
    Hit,
    Preference,
    Product,
    Reason,
    ReasonKind,
    TermMatch,
)
from shelfwise.retrieval.store.products import encoder_text
from shelfwise.retrieval.text.analysis import contains_chinese, fold, word_term
from shelfwise.retrieval.text.highlight import query_words, token_words
from shelfwise.service.curation.relevance import without_fields
from shelfwise.service.engine.ranking import Ranking
from shelfwise.service.engine.request import ResolvedRequest
from shelfwise.service.engine.reranking import Reranking, bonuses_of, first_stage
from shelfwise.service.engine.snapshot import Snapshot

Floats = NDArray[np.float64]
Places = NDArray[np.int64]

MIN_RANKS = 1
"""Minimum number of ranks that a hit must lose without a reason for it to be named."""
_MIN_OF_WORDS = 0.1
"""Minimum share of a word in the BM25 of all words for it to be named."""
_MIN_POPULARITY = 0.1
"""Minimum share of the most chosen product's popularity."""
_MIN_RATING = 4.0


@dataclass(frozen=True, slots=True, eq=False)
class Variants:
    """P variants of hits, to be scored again."""

    places: Places
    """Positions of the hits in the ranking (P,)."""
    evidence: RetrievalScores
    features: NDArray[np.float32]
    """Features (P, F); 0 for a hit that no ranker scored."""
    products: ProductTokens
    query: NDArray[np.signedinteger]
    """Ids of the query's tokens."""

    def remove(self, kind: ReasonKind, part: slice) -> None:
        """Removes a reason from the variants of a slice."""
        match kind:
            case ReasonKind.WORDS:
                self.evidence.bm25[part] = 0
                ids = self.products.ids[part]
                matches = np.isin(ids, self.query)
                ids[matches] = PADDING
                self.products.states[part][matches] = 0
                self.features[part, HAS_STATES] *= (ids != PADDING).any(axis=1)
            case ReasonKind.TYPE:
                self.evidence.intent[part] = 0
            case ReasonKind.VALUE:
                self.evidence.preferred[part] -= 1
            case ReasonKind.MEANING:
                self.evidence.cosine[part] = self.evidence.background.mean
            case _:  # features become unknown
                self.features[part, [FEATURES.index(name) for name in _BY_FEATURES[kind]]] = 0


@dataclass(frozen=True, slots=True, eq=False)
class _Removal:
    """A reason that some hits may have, to be removed."""

    kind: ReasonKind
    places: Places
    """Positions of the hits in the ranking (p,)."""
    values: Sequence[tuple[str, ...]] = ()
    """Values of each (p,); empty for a kind without values."""


def find_reasons(
    snapshot: Snapshot, last: Reranking | None, request: ResolvedRequest, ranking: Ranking, scores: Floats, rows: Rows
) -> Mapping[int, tuple[Reason, ...]]:
    """The reasons of the hits at `rows`, by row, strongest first; `scores` (n,) are those of the ranking including
    rules. Exact identifiers, hits after the ranked part and orders other than relevance have none.

    Raises ModelError if the ranker cannot score.
    """
    is_by_relevance = request.stage in ("merged", "ranked") and request.merge is METHODS[DEFAULT]
    is_wanted = np.isin(ranking.rows, rows) & ~np.isin(ranking.rows, list(ranking.identified))
    places = np.flatnonzero(is_wanted)
    if not (is_by_relevance and len(request.begun) < 2 and len(places)):
        return {}
    ascending, found = np.sort(scores), {int(row): list[Reason]() for row in ranking.rows[places]}
    for removal, drops in _Finder(snapshot, last, request, ranking, places).drops():
        own = scores[removal.places]
        lost = np.searchsorted(ascending, own) - np.searchsorted(ascending, own - drops, "right")
        for at in np.flatnonzero(lost >= MIN_RANKS).tolist():
            values = removal.values[at] if removal.values else ()
            found[int(ranking.rows[removal.places[at]])].append(Reason(removal.kind, values, int(lost[at])))
    return {row: tuple(sorted(reasons, key=lambda each: -each.ranks)) for row, reasons in found.items()}


_CHOSEN = ("query_product", "query_cart", "query_purchase", "words_product")
_BY_FEATURES = {
    ReasonKind.CHOSEN: _CHOSEN,
    ReasonKind.POPULAR: ("popularity",),
    ReasonKind.RATED: ("rating", "has_rating"),
}


@dataclass(frozen=True, slots=True, eq=False)
class _Finder:
    snapshot: Snapshot
    last: Reranking | None
    request: ResolvedRequest
    ranking: Ranking
    places: Places
    """Positions of the hits in the ranking (n,), ascending."""

    def drops(self) -> Iterator[tuple[_Removal, Floats]]:
        """Each removal, and how much it lowers the scores of its hits (p,)."""
        removals = [each for each in self._removals() if len(each.places)]
        variants = self._variants(np.concatenate([self.places, *(each.places for each in removals)]))
        starts = np.cumsum([len(self.places), *(len(each.places) for each in removals)])[:-1]
        for each, start in zip(removals, starts.tolist(), strict=True):
            variants.remove(each.kind, slice(start, start + len(each.places)))
        before, *others = np.split(self._scores(variants), starts)
        for each, after in zip(removals, others, strict=True):
            yield each, before[np.searchsorted(self.places, each.places)] - after
        scored = self.ranking.scored
        if scored and len(scored.candidates.history.kinds):
            nothing = History.none(scored.candidates.history.vectors.shape[1])
            yield _Removal(ReasonKind.HISTORY, self.places), before - self._scores(self._variants(self.places), nothing)
        yield _Removal(ReasonKind.LOOKS, self.places), self.ranking.by_picture[self.places]
        rows = self.ranking.rows[self.places].tolist()
        parts = (self.ranking.signals.get(row, ()) for row in rows)
        signals = np.array([sum(each.contribution for each in part) for part in parts])
        yield _Removal(ReasonKind.SIGNALS, self.places), signals

    def _removals(self) -> Iterator[_Removal]:
        found, rows = self.ranking.evidence.select(self.places), self.ranking.rows[self.places]
        of_type = found.intent > 0
        products = [self.snapshot.products[row] for row in rows.tolist()]
        names = [(self._type_name(row, each),) for row, each in zip(rows.tolist(), products, strict=True)]
        yield self._removal(ReasonKind.TYPE, of_type, names)
        for preference, holders in self.ranking.preferences:
            phrase = [(self._phrase(preference),)] * len(rows)
            yield self._removal(ReasonKind.VALUE, np.isin(rows, holders), phrase)
        words = self._words(rows)
        # A character of a Chinese word matches as well, but is not a word.
        has_words = (found.bm25 > 0) & np.array([bool(each) for each in words])
        yield self._removal(ReasonKind.WORDS, has_words, words)
        yield self._removal(ReasonKind.MEANING, found.similarity > 0)
        if self.ranking.scored and self.last:
            features = self._variants(self.places).features
            popularity = map(popularity_share, features[:, FEATURES.index("popularity")].tolist())
            ratings = [each.rating or 0.0 for each in products]
            ids = product_hashes([each.id for each in products])
            yield self._removal(ReasonKind.CHOSEN, self.last.memory.chosen(self.ranking.text, ids))
            yield self._removal(ReasonKind.POPULAR, np.array([share >= _MIN_POPULARITY for share in popularity]))
            is_good = np.array(ratings) >= _MIN_RATING
            yield self._removal(ReasonKind.RATED, is_good, [(f"{each:.1f}",) for each in ratings])

    def _removal(
        self, kind: ReasonKind, is_possible: NDArray[np.bool_], values: Sequence[tuple[str, ...]] = ()
    ) -> _Removal:
        kept = np.flatnonzero(is_possible)
        return _Removal(kind, self.places[kept], [values[at] for at in kept.tolist()] if values else ())

    def _variants(self, places: Places) -> Variants:
        """Variants of hits without changes."""
        evidence, scored = self.ranking.evidence.select(places), self.ranking.scored
        if scored is None:
            features, products = np.zeros((len(places), len(FEATURES)), np.float32), ProductTokens.none(len(places), 1)
            return Variants(places, evidence, features, products, np.empty(0, np.int64))
        at = places_of(self.ranking.rows[places], scored.rows)
        given = scored.candidates
        products = ProductTokens(given.products.ids[at], given.products.states[at])
        return Variants(places, evidence, given.features[at] * (at >= 0)[:, None], products, given.query.ids)

    def _scores(self, variants: Variants, history: History | None = None) -> Floats:
        """Scores (P,): those of the ranker for the hits that it scored, otherwise merged scores."""
        scores, scored = METHODS[DEFAULT](variants.evidence), self.ranking.scored
        if scored is None or self.last is None:
            return scores
        at = places_of(self.ranking.rows[variants.places], scored.rows)
        known = np.flatnonzero(at >= 0)
        evidence, features = variants.evidence.select(known), variants.features[known]
        features[:, : len(FIRST_STAGE)] = first_stage_columns(first_stage(evidence, self.ranking.best_bm25))
        candidates = replace(
            scored.candidates,
            products=ProductTokens(variants.products.ids[known], variants.products.states[known]),
            features=features,
            vectors=scored.candidates.vectors[at[known]],
            history=history or scored.candidates.history,
        )
        bonuses = bonuses_of(evidence, is_type_sure=self.ranking.is_type_sure)
        scores[known] = self.last.score(candidates) + np.sum(bonuses, axis=0)
        return scores

    def _type_name(self, row: int, product: Product) -> str:
        """The name of a product's type, preferably one with a word of the query."""
        named = self.snapshot.types.names_of(row, product)
        analyzer = self.snapshot.analyzer
        known = [name for name in (named.by_rule, named.by_title, named.by_category) if name]
        wanted = {*analyzer.terms(self.request.text)}
        name = next((each for each in known if wanted & {*analyzer.terms(each)}), known[-1] if known else "")
        return name.replace(" ", "") if contains_chinese(name) else name

    def _phrase(self, preference: Preference) -> str:
        """The part of the query that names a preference."""
        low, high = preference.low, preference.high
        if not preference.values:
            return (
                f"{low:g} – {high:g}"
                if low is not None and high is not None
                else f"≥ {low:g}"
                if high is None
                else f"≤ {high:g}"
            )
        folded = fold(self.request.text)
        named = (each for each in self.snapshot.values.find(folded) if preference.field in each.values)
        same = (each for each in named if tuple(each.values[preference.field]) == preference.values)
        return next((folded[each.start : each.end] for each in same), preference.values[0])

    def _words(self, rows: Rows) -> list[tuple[str, ...]]:
        """The words of the query that matter in the BM25 of hits (n,)."""
        groups = [group for group in self.request.groups if not group.is_character]
        typed = {word: set(self.snapshot.analyzer.terms(word)) for word in map(fold, query_words(self.request.text))}
        gained = np.zeros((len(rows), len(groups)))
        ordered = np.sort(rows)
        for number, group in enumerate(groups):
            # A learned expansion replaces a word that the product does not have.
            matches = self.snapshot.keyword.score(ordered, (replace(group, expansions=()),))
            at = places_of(rows, matches.rows)
            gained[:, number] = np.where(at >= 0, matches.scores[at] if len(matches.scores) else 0.0, 0.0)
        names = []
        for group in groups:
            terms = {term for phrase in group.alternatives for term in phrase}
            names.append([word for word, own in typed.items() if own & terms] or [" ".join(group.alternatives[0])])
        counts = gained >= _MIN_OF_WORDS * gained.sum(axis=1, keepdims=True).clip(min=1e-9)
        order = {word: number for number, word in enumerate(typed)}
        found = []
        for row in counts.tolist():
            words = dict.fromkeys(word for name, is_met in zip(names, row, strict=True) if is_met for word in name)
            found.append(tuple(sorted(words, key=lambda word: order.get(word, len(order)))))
        return found


def with_store_reasons(hit: Hit, found: tuple[Reason, ...], moved: float, *, is_pinned: bool) -> tuple[Reason, ...]:
    """The reasons of a hit including the effect of rules, which is always named: `moved` is what they added to its
    score. A hit whose rank does not depend on its score has no other reasons."""
    if hit.identifier:
        return (Reason(ReasonKind.IDENTIFIER, (hit.identifier,)),)
    if hit.explored:
        return (Reason(ReasonKind.EXPLORED),)
    if hit.rule and is_pinned:
        return (Reason(ReasonKind.PINNED, (hit.rule,)),)
    if hit.rule and moved:
        return (*found, Reason(ReasonKind.BOOSTED if moved > 0 else ReasonKind.BURIED, (hit.rule,)))
    return found


_WORD = re.compile(r"\w+|≤|≥")
_MAX_SHOWN = 3
"""Maximum number of reasons in a line, not counting those of the store."""
_STORE = (ReasonKind.SIGNALS, ReasonKind.PINNED, ReasonKind.BOOSTED, ReasonKind.BURIED, ReasonKind.EXPLORED)
_MATCHES = (ReasonKind.TYPE, ReasonKind.VALUE, ReasonKind.WORDS)
_TEXTS: Mapping[str, Mapping[ReasonKind, str]] = {
    "en": {
        ReasonKind.IDENTIFIER: "has the number {}",
        ReasonKind.MEANING: "close in meaning",
        ReasonKind.LOOKS: "looks like what you searched for",
        ReasonKind.CHOSEN: "often chosen by others who searched this",
        ReasonKind.POPULAR: "popular",
        ReasonKind.RATED: "rated {} of 5",
        ReasonKind.HISTORY: "like what you looked at before",
        ReasonKind.SIGNALS: "preferred by the store",
        ReasonKind.BOOSTED: "moved up by the store",
        ReasonKind.BURIED: "moved down by the store",
        ReasonKind.PINNED: "placed here by the store",
        ReasonKind.EXPLORED: "placed here by chance: few have seen it yet",
    },
    "zh": {
        ReasonKind.IDENTIFIER: "编号为 {}",
        ReasonKind.MEANING: "含义相近",
        ReasonKind.LOOKS: "外观与您搜索的相符",
        ReasonKind.CHOSEN: "搜索此内容的顾客常选",
        ReasonKind.POPULAR: "热门",
        ReasonKind.RATED: "评分 {}（满分 5 分）",
        ReasonKind.HISTORY: "与您看过的商品相似",
        ReasonKind.SIGNALS: "商店优先展示",
        ReasonKind.BOOSTED: "商店提前展示",
        ReasonKind.BURIED: "商店靠后展示",
        ReasonKind.PINNED: "商店置于此处",
        ReasonKind.EXPLORED: "随机置于此处：看过的人还很少",
    },
}
_MATCHED = {"en": ("matches ", ", ", "; "), "zh": ("匹配 ", "、", "；")}
"""Texts before the matches, between their values, and between reasons."""


def reason_line(reasons: Sequence[Reason], language: str, query: str) -> str:
    """The reasons as one line in a language of `REASON_LANGUAGES`: matches, at most three others, and always those of
    the store. A similar meaning is only named if nothing matches."""
    language = ("zh" if contains_chinese(query) else "en") if language == "auto" else language
    opening, comma, semicolon = _MATCHED[language]
    named: list[str] = []
    for kind in _MATCHES:
        for value in (value for each in reasons if each.kind is kind for value in each.values):
            if not _terms_of(value) <= set().union(*map(_terms_of, named)):
                named.append(value)
    parts = [opening + comma.join(named)] if named else []
    hidden = {*_MATCHES, *_STORE, *((ReasonKind.MEANING,) if named else ())}
    others = [each for each in reasons if each.kind not in hidden][:_MAX_SHOWN]
    shown = (*others, *(reason for reason in reasons if reason.kind in _STORE))
    parts += [_TEXTS[language][each.kind].format(*each.values) for each in shown]
    line = semicolon.join(parts)
    return line[:1].upper() + line[1:]


def _terms_of(value: str) -> set[str]:
    return {word_term(word) for word in _WORD.findall(fold(value))}


def explain_hits(
    snapshot: Snapshot, last: Reranking, ranking: Ranking, text: str, rows: Rows, hidden: Collection[str] = ()
) -> dict[int, Explanation]:
    """The parts of the scores of scored products among `rows` (n,), by row; `text` is the query. Words that
    only `hidden` fields of a product have are left out. The network runs in the calling thread.

    Raises ModelError if the ranker's graph fails.
    """
    scored = ranking.scored
    if scored is None:
        return {}
    places = np.flatnonzero(np.isin(scored.rows, rows))
    if not len(places):
        return {}
    candidates = select_candidates(scored.candidates, places)
    found = contributions(last.reranker.ranker, candidates)
    encoder = as_token_encoder(snapshot.encoder)
    query: QueryWords | None = None
    if encoder:
        most = min(len(candidates.query.ids), MAX_QUERY_TOKENS)
        words = token_words(encoder.query_spans(text), most)
        query = QueryWords(words, candidates.query.states[:most], candidates.query_idf[:most])
    past = candidates.history.vectors
    alike = candidates.vectors @ past.T if len(past) else np.empty((len(places), 0), np.float32)
    made: dict[int, Explanation] = {}
    for at, place in enumerate(places.tolist()):
        row = int(scored.rows[place])
        product = snapshot.products[row]
        met = _matches(encoder, query, product, candidates, at) if encoder and query else ()
        if hidden:
            product = without_fields(product, hidden)
            shown = encoder_text(product)
            met = tuple(each for each in met if each.product_word in shown)
        unrelated = snapshot.manifest.background.mean
        named = snapshot.types.names_of(row, product).name
        hit = HitFacts(product, candidates.features[at], place + 1, unrelated, met, alike[at], named)
        gains = {factor: float(scores[at]) for factor, scores in found.items()}
        if of_type := float(scored.of_type[place]):
            gains[Factor.TYPE] = gains.get(Factor.TYPE, 0.0) + of_type
        described = [(*DESCRIPTIONS[factor], gain) for factor, gain in gains.items()]
        parts = [Contribution(name, describe(hit), gain) for name, describe, gain in described]
        if gained := float(scored.preferred[place]):
            parts.append(Contribution(OF_PREFERENCES, f"{gained / PREFERRED:g}", gained))
        if (gained := float(scored.by_picture[place])) and snapshot.pictures:
            deviations = snapshot.pictures.index.deviations(gained)
            parts.append(Contribution(OF_PICTURE, f"{deviations:.1f} deviations above unrelated pictures", gained))
        parts.sort(key=lambda each: -abs(each.contribution))
        made[row] = Explanation(tuple(parts), met)
    return made


def _matches(
    encoder: TokenEncoder, query: QueryWords, product: Product, candidates: Candidates, at: int
) -> tuple[TermMatch, ...]:
    """The word matches of the candidate at position `at`; none if its words are not those of its token states."""
    ids = candidates.products.ids[at]
    ids = ids[ids >= 0]
    stands = encoder.product_spans(encoder_text(product))
    if not np.array_equal(stands.ids[:MAX_TOKENS], ids):
        return ()
    words = token_words(stands, len(ids), query.words.words)
    return term_matches(query, words, candidates.products.states[at, : len(ids)])


OF_PREFERENCES = "matches the price, brand, colour and size searched for"
"""Name of the bonus for the preferences of the query."""
OF_PICTURE = "its picture matches the words"
"""Name of the bonus for the picture."""
MAX_MATCHES = 3
"""Maximum number of query words shown with their matches."""
_UNKNOWN = "not known"
_SAME_PRICE = 0.03
_MONTH, _YEAR = 30.4, 365.25
_IN_STOCK = {1.0: "yes", -1.0: "no"}


@dataclass(frozen=True, slots=True)
class HitFacts:
    """The values of one hit that explanations describe."""

    product: Product
    features: NDArray[np.float32]
    """Features of the hit (F,)."""
    merged_rank: int
    unrelated: float
    """The cosine of unrelated products."""
    matches: tuple[TermMatch, ...]
    alike: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    """Cosine with each product of the shopper's history (h,)."""
    product_type: str = ""

    def feature(self, name: str) -> float:
        """The value of one of FEATURES."""
        return float(self.features[FEATURES.index(name)])


def _match(match: TermMatch) -> str:
    if match.exact:
        return f"{match.query_word} = {match.product_word}"
    return f"{match.query_word} ~ {match.product_word} ({match.similarity:.2f})"


def _keywords(hit: HitFacts) -> str:
    score, share = hit.feature("bm25") * BM25_SCALE, hit.feature("bm25_share")
    return f"{score:.1f}, {share:.0%} of the best match" if score > 0 else "none of them"


def _product_words(hit: HitFacts) -> str:
    if hit.matches:
        return ", ".join(map(_match, hit.matches[:MAX_MATCHES]))
    return "read" if hit.feature("has_states") else "not read yet"


def _price(hit: HitFacts) -> str:
    if not hit.feature("has_price"):
        return _UNKNOWN
    share = float(np.exp(hit.feature("price_gap")))
    if abs(share - 1) < _SAME_PRICE:
        return "what such products usually cost"
    if share > 2:
        return f"{share:.1f} times what such products usually cost"
    return f"{abs(share - 1):.0%} {'below' if share < 1 else 'above'} what such products usually cost"


def _popularity(hit: HitFacts) -> str:
    share = popularity_share(hit.feature("popularity"))
    if share <= 0:
        return "hardly chosen lately"
    if share > 0.995:
        return "the most chosen product lately"
    return f"{share:.0%} of the most chosen product's" if share >= 0.01 else "under 1% of the most chosen product's"


def _memory(hit: HitFacts) -> str:
    for name, where in _REMEMBERED:
        if hit.feature(name):
            times = float(np.exp(hit.feature(name)))
            return f"clicked {times:.1f} times as often as others {where}"
    return _UNKNOWN


_REMEMBERED = (("query_product", "for this query"), ("words_product", "for queries with its words"))
"""The scopes, nearest first."""


def _age(hit: HitFacts) -> str:
    freshness = hit.feature("freshness")
    if not hit.feature("has_created"):
        return _UNKNOWN
    # Below the smallest float: some 35 years.
    if not freshness:
        return "listed decades ago"
    days = -HALF_LIFE_DAYS * float(np.log2(freshness))
    if days < 3 * _MONTH:
        return f"listed {days:.0f} days ago"
    if days < 2 * _YEAR:
        return f"listed {days / _MONTH:.0f} months ago"
    return f"listed {days / _YEAR:.0f} years ago"


def _rating(hit: HitFacts) -> str:
    rating, count = hit.product.rating, hit.product.rating_count
    if rating is None:
        return "none yet"
    return f"{rating:.1f} of 5" + (f", {count:,} rating{'s' if count != 1 else ''}" if count is not None else "")


def _history(hit: HitFacts) -> str:
    count = len(hit.alike)
    if not count:
        return _UNKNOWN
    acts = f"{count} act{'s' if count != 1 else ''}"
    return f"{acts}; the product nearest in meaning: {float(hit.alike.max()):.2f}"


DESCRIPTIONS: Mapping[Factor, tuple[str, Callable[[HitFacts], str]]] = {
    Factor.MERGED: ("merged score", lambda hit: f"{hit.feature('merged'):.2f}, #{hit.merged_rank} before the ranker"),
    Factor.KEYWORDS: ("matches the words (BM25)", _keywords),
    Factor.MEANING: (
        "similar in meaning",
        lambda hit: f"{hit.feature('cosine'):.2f}; unrelated products have {hit.unrelated:.2f}",
    ),
    Factor.TYPE: ("of the type searched for", lambda hit: hit.product_type or "none"),
    Factor.WORDS: ("its words, in context", _product_words),
    Factor.PRICE: ("price", _price),
    Factor.AVAILABILITY: ("in stock", lambda hit: _IN_STOCK.get(hit.feature("availability"), _UNKNOWN)),
    Factor.POPULARITY: ("popularity", _popularity),
    Factor.MEMORY: ("what shoppers chose for the query", _memory),
    Factor.AGE: ("new", _age),
    Factor.RATING: ("rating", _rating),
    Factor.HISTORY: ("what this shopper viewed before", _history),
}
"""The display name of each factor, and a description of its value for a hit."""
