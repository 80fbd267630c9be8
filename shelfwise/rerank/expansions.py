"""Learned query expansion: the terms of products that stand for a word of a query, and the family of such models.

expansions.json   by the term of a typed word, the terms that match in its place, each with its strength
expansion.json    ExpansionSpec: the text analysis of the terms, and the counts of the training
report.json       ModelReport: its measures, and whether it may serve
seal.json         length and XXH3 checksum of each file
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from shelfwise.rerank.model_card import model_use
from shelfwise.rerank.model_store import FORMAT, ModelFamily, ModelStore
from shelfwise.retrieval.errors import EXPANSION, ModelDamagedError, ModelMismatchError
from shelfwise.retrieval.index.keyword import MAX_MATCHING
from shelfwise.retrieval.text.analysis import NO_EXPANSIONS, RULES, Expansion, Expansions

EXPANSIONS_FILE, SPEC_FILE = "expansions.json", "expansion.json"
_MAX_BYTES = 64 << 20
_ROUNDS = 5
_SMOOTHING = 0.5
"""Added to the count of each term of products: one that occurs in few pairs predicts no word surely."""
_MIN_PAIRS = 3
"""The fewest pairs of a query and a product in which a word must occur."""
_MIN_STRENGTH, _MIN_OF_STRONGEST = 0.1, 0.05
_MAX_TERMS = 64
"""The most expansions of one word: those with strength .1, and its five strongest from .05 on, which match if no
product has the word (docs/decisions/0028-query-expansion.md)."""
_MAX_PAIRS = 200_000


class ExpansionSpec(msgspec.Struct, frozen=True, kw_only=True):
    """The content of expansion.json."""

    format: int = FORMAT
    rules: str = RULES
    """The text analysis that made the table's terms."""
    words: int = 0
    """The number of query words with an expansion."""
    pairs: int = 0
    """The number of pairs of a query and a relevant product on which it was trained."""
    examples: Mapping[str, Sequence[str]] = {}
    """Query words, each with the terms that match in its place."""
    trained_on: Mapping[str, str | int | float] = {}
    """Data, queries: informational."""


def _check(path: Path, spec: ExpansionSpec) -> None:
    if spec.rules != RULES:
        why = f"is of the text analysis {spec.rules}, this program's is {RULES}; train it again: {_TRAIN}"
        raise ModelMismatchError(f"{path} {why}", EXPANSION)


_TRAIN = "shelfwise train expansions"
EXPANSION_MODELS = ModelFamily(
    name=EXPANSION,
    noun="expansion",
    folder="expansions",
    spec_type=ExpansionSpec,
    spec_file=SPEC_FILE,
    network_files=(),
    extra_files=(EXPANSIONS_FILE,),
    use=model_use(
        "Learned query expansion: terms of products that stand for words of queries (docs/synonyms.md).",
        "A word of few pairs of a query and a product has no expansion.",
    ),
    max_file_bytes=_MAX_BYTES,
    max_json_bytes=_MAX_BYTES,
    train=_TRAIN,
    fallback="words match only by themselves and their synonyms",
    keep=5,
    misfit=lambda _spec, _index: "",
    columns=lambda _spec: {},
    check=_check,
)
ExpansionStore = ModelStore[ExpansionSpec]


def expansion_store(root: Path) -> ExpansionStore:
    """The expansions of an index directory."""
    return ModelStore(root, EXPANSION_MODELS)


def write_expansions(folder: Path, expansions: Expansions) -> None:
    """Writes the table into a model's folder."""
    (folder / EXPANSIONS_FILE).write_bytes(msgspec.json.encode(expansions, order="sorted"))


def serving_expansions(root: Path) -> tuple[Expansions, tuple[str, ...]]:
    """The table that serves an index directory, empty if there is none, and the reason why none serves although one was
    published, if so."""
    found = expansion_store(root).serving(None)
    if found.model is None:
        return NO_EXPANSIONS, found.notices
    try:
        path = found.model.folder / EXPANSIONS_FILE
        return EXPANSION_MODELS.read_json(path, dict[str, tuple[Expansion, ...]]), found.notices
    except ModelDamagedError as error:
        return NO_EXPANSIONS, (f"{error}; {EXPANSION_MODELS.fallback}",)


@dataclass(frozen=True, slots=True)
class RelevantPair:
    """A query and a product that is relevant for it, in terms."""

    words: Sequence[str]
    terms: Sequence[str]
    weight: float
    """Above 0: its relevance as a share of the highest gain."""


def learn_expansions(pairs: Sequence[RelevantPair]) -> Expansions:
    """The probability t(word | term) of a word in a query for a product with a term, by the first model of Brown et al.
    (1993), The Mathematics of Statistical Machine Translation, as Berger & Lafferty (1999) use it in Information
    Retrieval as Statistical Translation: expectation maximisation over all pairs, with a term that every product has.

    Words of few pairs and weak expansions are left out. Of more than 200,000 pairs, the most relevant are used.
    """
    if len(pairs) > _MAX_PAIRS:
        pairs = sorted(pairs, key=lambda pair: -pair.weight)[:_MAX_PAIRS]
    counts = Counter(word for pair in pairs for word in pair.words)
    numbers: dict[str, int] = {}
    words, terms, links, weights = [], [], [], []
    for pair in pairs:
        sources = [0, *(numbers.setdefault(term, len(numbers) + 1) for term in dict.fromkeys(pair.terms))]
        for word in pair.words:
            if counts[word] >= _MIN_PAIRS:
                target = numbers.setdefault(word, len(numbers) + 1)
                words += [target] * len(sources)
                terms += sources
                links.append(len(sources))
                weights.append(pair.weight)
    size = len(numbers) + 1
    keys, entry = np.unique(np.array(terms, np.int64) * size + np.array(words, np.int64), return_inverse=True)
    link, weight = np.repeat(np.arange(len(links)), links), np.array(weights)
    source, wanted = keys // size, keys % size
    strength = np.ones(len(keys))
    for _ in range(_ROUNDS if len(keys) else 0):
        share = strength[entry]
        share *= (weight / np.bincount(link, share, len(links)))[link]
        expected = np.bincount(entry, share, len(keys))
        strength = expected / (np.bincount(source, expected, size) + _SMOOTHING)[source]
    names = ["", *numbers]
    found: defaultdict[str, list[Expansion]] = defaultdict(list)
    for at in np.flatnonzero((strength >= _MIN_OF_STRONGEST) & (source > 0) & (source != wanted)).tolist():
        found[names[wanted[at]]].append(Expansion(names[source[at]], round(float(strength[at]), 4)))
    return {word: _strongest(others) for word, others in sorted(found.items())}


def _strongest(others: Sequence[Expansion]) -> tuple[Expansion, ...]:
    ordered = sorted(others, key=lambda each: (-each.strength, each.term))[:_MAX_TERMS]
    return tuple(each for place, each in enumerate(ordered) if place < MAX_MATCHING or each.strength >= _MIN_STRENGTH)
