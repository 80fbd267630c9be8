"""Training data of the text towers: judged queries and product rows, split by the SHA-1 of the query."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random

import numpy as np
import polars as pl
from numpy.typing import NDArray

from shelfwise.rerank.training.query_text import mistype, phrase, read_words, with_other_units
from shelfwise.retrieval.errors import TrainingError
from shelfwise.retrieval.judgments import Judgments
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.text.analysis import fold

MIN_GAIN = 0.25
"""Smallest gain, relative to the highest, of a positive; products below it may be negatives."""
MIN_TRAINING, MIN_VALIDATION = 20, 5
"""Minimum number of queries with a positive."""
_PARTS = 1_000

Rows = NDArray[np.int64]
Floats = NDArray[np.float32]
RowOf = Callable[[str], int | None]


@dataclass(frozen=True, slots=True)
class Opinion:
    """Relevance of one product for one query."""

    gain: float
    """0 to 1, as a share of the highest gain."""
    weight: float = 1.0
    """0 to 1: weight in training, such as by the number of clicks."""


@dataclass(frozen=True, slots=True)
class JudgedQuery:
    """A query with its judged product ids."""

    query: str
    opinions: Mapping[str, Opinion]


@dataclass(frozen=True, slots=True)
class TowerSources:
    """Sources of training data."""

    training: Sequence[JudgedQuery]
    validation: Sequence[JudgedQuery] | None = None
    """Validation queries; None takes a share of `training`."""
    held_out: Collection[str] = ()
    """Queries excluded from training and validation because they are used for evaluation."""
    share: float = 0.1
    """Share of validation queries if `validation` is None."""


@dataclass(frozen=True, slots=True)
class DropCounts:
    """Counts of excluded rows and queries."""

    gone: int = 0
    """Opinions of products that the index does not have."""
    leaked: int = 0
    """Queries in both splits after normalising, or among the held-out ones."""
    without_positive: int = 0
    """Queries without a positive."""


@dataclass(frozen=True, slots=True, eq=False)
class TowerDataset:
    """Judged queries. Pairs are ordered by query, then by row."""

    queries: tuple[str, ...]
    """(q,)."""
    training: Rows
    """Numbers of the training queries, ascending."""
    validation: Rows
    """Numbers of the validation queries."""
    query_of: Rows
    """(n,): query of each pair."""
    rows: Rows
    """(n,): product row of each pair."""
    gains: Floats
    """(n,): as `Opinion.gain`."""
    weights: Floats
    """(n,): as `Opinion.weight`."""
    dropped: DropCounts = field(default_factory=DropCounts)

    @property
    def is_positive(self) -> NDArray[np.bool_]:
        """(n,): whether the product is a positive of the query."""
        return self.gains >= MIN_GAIN

    @property
    def positives(self) -> int:
        return int((self.is_positive & (self.weights > 0)).sum())

    @property
    def training_pairs(self) -> Rows:
        """Numbers of the training pairs, ascending: positives of training queries with a weight."""
        return np.flatnonzero(self.is_positive & (self.weights > 0) & np.isin(self.query_of, self.training))

    def pairs_of(self, queries: Rows) -> Rows:
        return np.flatnonzero(np.isin(self.query_of, queries))


def normalize_query(query: str) -> str:
    """Normalises case, width, accents and spaces of a query."""
    return " ".join(fold(query).split())


def is_validation_query(query: str, share: float, seed: int = 0) -> bool:
    """Whether a query is in the validation split; depends only on its normalised text and the seed."""
    digest = hashlib.sha1(f"{seed}/{normalize_query(query)}".encode("utf-8", "replace"), usedforsecurity=False).digest()
    return int.from_bytes(digest, "big") % _PARTS < round(share * _PARTS)


JUDGING_SHARE = 0.2
"""The share of queries that are only judged."""
_JUDGING = -1
"""The seed of this split; the splits that choose have seeds from 0 on."""


def is_judging_query(query: str) -> bool:
    """Whether a query is in the test set, a fifth of all, which is used neither for training nor for any choice."""
    return is_validation_query(query, JUDGING_SHARE, _JUDGING)


def judged_gains(judged: Iterable[JudgedQuery], row_of: RowOf) -> dict[str, dict[str, float]]:
    """The gains of existing products by query, without queries that no product answers. Queries that are equal after
    normalisation are merged, each product with its highest gain."""
    known: dict[str, tuple[str, dict[str, float]]] = {}
    for each in judged:
        _, gains = known.setdefault(normalize_query(each.query), (each.query, {}))
        for product, opinion in each.opinions.items():
            if row_of(product) is not None:
                gains[product] = max(opinion.gain, gains.get(product, 0.0))
    return {query: gains for query, gains in known.values() if max(gains.values(), default=0.0) > 0}


def build_dataset(sources: TowerSources, row_of: RowOf, seed: int = 0) -> TowerDataset:
    """Builds the dataset; queries with the same normalised text are merged, with the higher opinion of each product.
    Raises TrainingError if there is no positive, only one positive product, or too few queries."""
    training, gone = _by_query(sources.training, row_of)
    validation: dict[str, _QueryOpinions] = {}
    if sources.validation is not None:
        validation, gone_too = _by_query(sources.validation, row_of)
        gone += gone_too
    else:
        for key in [key for key in training if is_validation_query(key, sources.share, seed)]:
            validation[key] = training.pop(key)
    measured = {normalize_query(query) for query in sources.held_out}
    choosing = {key: known for key, known in validation.items() if key not in measured}

    def may_train(key: str) -> bool:
        chooses = key in validation or (sources.validation is None and is_validation_query(key, sources.share, seed))
        return not chooses and key not in measured

    kept = {key: known for key, known in training.items() if may_train(key)}
    leaked = len(training) - len(kept) + len(validation) - len(choosing)
    return _numbered(kept, choosing, DropCounts(gone, leaked))


@dataclass(slots=True)
class _QueryOpinions:
    query: str
    opinions: dict[int, Opinion] = field(default_factory=dict)

    @property
    def positives(self) -> dict[int, Opinion]:
        fits = {row: each for row, each in self.opinions.items() if each.gain >= MIN_GAIN}
        return {row: each for row, each in fits.items() if each.weight > 0}


def _by_query(judged: Iterable[JudgedQuery], row_of: RowOf) -> tuple[dict[str, _QueryOpinions], int]:
    """Groups queries by normalised text; also counts the opinions of missing products."""
    found: dict[str, _QueryOpinions] = {}
    gone = 0
    for each in judged:
        if not (key := normalize_query(each.query)):
            continue
        known = found.setdefault(key, _QueryOpinions(each.query))
        for product_id, opinion in each.opinions.items():
            row = row_of(product_id)
            if row is None:
                gone += 1
            elif row not in known.opinions or opinion.gain > known.opinions[row].gain:
                known.opinions[row] = opinion
    return found, gone


def _numbered(
    training: dict[str, _QueryOpinions], validation: dict[str, _QueryOpinions], dropped: DropCounts
) -> TowerDataset:
    sides = [[known for known in side.values() if known.positives] for side in (training, validation)]
    lost = len(training) + len(validation) - sum(map(len, sides))
    _check(sides, dropped, lost)
    everything = [*sides[0], *sides[1]]
    pairs = [pair for known in everything for pair in sorted(known.opinions.items())]
    return TowerDataset(
        tuple(known.query for known in everything),
        np.arange(len(sides[0])),
        np.arange(len(sides[0]), len(everything)),
        np.repeat(np.arange(len(everything)), [len(known.opinions) for known in everything]),
        np.array([row for row, _ in pairs], np.int64),
        np.array([opinion.gain for _, opinion in pairs], np.float32),
        np.array([opinion.weight for _, opinion in pairs], np.float32),
        replace(dropped, without_positive=lost),
    )


def _check(sides: Sequence[Sequence[_QueryOpinions]], dropped: DropCounts, lost: int) -> None:
    counts: dict[int, int] = defaultdict(int)
    for known in (known for side in sides for known in side):
        for row, opinion in known.opinions.items():
            counts[row] += opinion.gain >= MIN_GAIN
    positives = [row for row, count in counts.items() if count]
    summary = (
        f"{dropped.gone:,} labels are for products that no longer exist, {lost:,} queries have no relevant product"
    )
    if not positives:
        raise TrainingError(
            f"there are no positives to train towers on ({summary}): use judgments or clicks of this catalog"
        )
    if len(positives) == 1:
        raise TrainingError(f"all positives are one product, so there is one class only ({summary}): add more")
    for side, least, name in zip(sides, (MIN_TRAINING, MIN_VALIDATION), ("train on", "validate on"), strict=True):
        if len(side) < least:
            raise TrainingError(
                f"{len(side)} queries with a positive are left to {name}, at least {least} are needed "
                f"({summary}; {dropped.leaked:,} were in both parts): add more judged queries"
            )


def from_judgments(judgments: Judgments) -> list[JudgedQuery]:
    """Converts judgments; gains are 2^(grade - lowest) - 1 as a share of the highest, weights are equal. Raises
    TrainingError if the only grade is 0 or less."""
    grades = {grade for judged in judgments.grades.values() for grade in judged.values()}
    highest = max(grades)
    if len(grades) == 1 and highest <= 0:
        raise TrainingError(
            f"all judgments have the grade {highest:g}, so there are no positives: grade what is relevant higher"
        )
    most = judgments.gain(highest)
    gains = {grade: judgments.gain(grade) / most for grade in grades}
    return [
        JudgedQuery(query, {product: Opinion(gains[grade], gains[grade]) for product, grade in judged.items()})
        for query, judged in judgments.grades.items()
    ]


def from_labels(labels: pl.DataFrame) -> list[JudgedQuery]:
    """Converts the table `labels` of `shelfwise.rerank.sessions.tables.Derived`: gains are labels as a share of the
    query's best, weights are the share of click evidence. Products without a click, cart or purchase are left out."""
    chosen = labels.filter((pl.col("clicks") + pl.col("carts") + pl.col("purchases")) > 0).filter(pl.col("label") > 0)
    shares = chosen.with_columns(gain=pl.col("label") / pl.col("label").max().over("query"))
    made = []
    for (query,), rows in shares.sort("query", "product_id").group_by("query", maintain_order=True):
        known = zip(rows["product_id"], rows["gain"], rows["weight"], strict=True)
        opinions = {product: Opinion(gain, gain * weight) for product, gain, weight in known}
        made.append(JudgedQuery(str(query), opinions))
    return made


_MIN_LEFT = 3
"""Minimum number of words that remain in a title."""


@dataclass(frozen=True, slots=True)
class AugmentOptions:
    """Shares of examples, each drawn on its own."""

    typos: float = 0.0
    """The share with a typing error in the query, if it has a word of four English letters."""
    units: float = 0.0
    """The share with another spelling of the query's units, if it has any."""
    brands: float = 0.0
    """The share without the positive's brand in the query, if it has other words."""
    fields: float = 0.0
    """The share without brand, category or description of the positive, each with probability 1/2."""
    unlike: float = 0.0
    """The share without the query's words in the positive's title (the inverse cloze task: Lee et al. 2019, Latent
    Retrieval for Weakly Supervised Open Domain Question Answering, section 4)."""


class Augmentation:
    """Augments examples one after the other, with a seed."""

    def __init__(self, options: AugmentOptions, seed: str) -> None:
        self._options = options
        self._random = Random(seed)  # noqa: S311 - nothing here is secret

    def query(self, text: str, product: Product) -> str:
        """The augmented query; `product` is its positive."""
        if self._is_drawn(self._options.brands):
            text = _without_brand(text, product.brand)
        if self._is_drawn(self._options.units):
            text = with_other_units(text, self._random)
        return " ".join(mistype(tuple(text.split()), self._random)) if self._is_drawn(self._options.typos) else text

    def positive(self, query: str, product: Product) -> Product:
        """The augmented product text."""
        if self._is_drawn(self._options.fields):
            keeps = [self._random.random() < 0.5 for _ in range(3)]
            product = replace(
                product,
                brand=product.brand if keeps[0] else "",
                category=product.category if keeps[1] else (),
                description=product.description if keeps[2] else "",
            )
        return _unlike(query, product) if self._is_drawn(self._options.unlike) else product

    def _is_drawn(self, share: float) -> bool:
        return share > 0 and self._random.random() < share


def _without_brand(query: str, brand: str) -> str:
    named, words = set(fold(brand).split()), query.split()
    left = [word for word in words if fold(word) not in named]
    return " ".join(left) if left and named and named <= set(fold(query).split()) else query


def _unlike(query: str, product: Product) -> Product:
    searched = {word.text for word in read_words(query)}
    left = [word.text for word in read_words(product.title) if word.text not in searched]
    return replace(product, title=phrase(left)) if len(left) >= _MIN_LEFT else product
