"""Explanations of a ranker's scores for the hits of one page."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from shelfwise.rerank.ranker.explanation import Factor, QueryWords, contributions, select_candidates, term_matches
from shelfwise.rerank.ranker.features import (
    BM25_SCALE,
    FEATURES,
    HALF_LIFE_DAYS,
    MAX_QUERY_TOKENS,
    Candidates,
    popularity_share,
)
from shelfwise.rerank.ranker.onnx import OnnxRanker
from shelfwise.retrieval.encoders.base import TokenEncoder, as_token_encoder
from shelfwise.retrieval.index.fusion import PREFERRED
from shelfwise.retrieval.index.keyword import Rows
from shelfwise.retrieval.index.token_states import MAX_TOKENS
from shelfwise.retrieval.records import Contribution, Explanation, Product, TermMatch
from shelfwise.retrieval.store.products import encoder_text
from shelfwise.retrieval.text.highlight import token_words
from shelfwise.service.curation.relevance import without_fields
from shelfwise.service.engine.ranking import RankerCandidates
from shelfwise.service.engine.snapshot import Snapshot


def explain_hits(
    snapshot: Snapshot,
    ranker: OnnxRanker,
    scored: RankerCandidates,
    text: str,
    rows: Rows,
    hidden: Collection[str] = (),
) -> Mapping[int, Explanation]:
    """The parts of the scores of scored products among `rows` (n,), by row; `text` is the query. Words that
    only `hidden` fields of a product have are left out.

    Raises ModelError if the ranker's graph fails.
    """
    places = np.flatnonzero(np.isin(scored.rows, rows))
    if not len(places):
        return {}
    candidates = select_candidates(scored.candidates, places)
    found = contributions(ranker, candidates)
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
