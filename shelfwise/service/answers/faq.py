"""Texts that a store provides for answers: FAQ entries, tickets and passages of manuals.

INDEX/answers.sqlite stores them with their history. Each entry is encoded, when it is added, by the encoder that serves
then. Entries without a vector of the current encoder are found by words alone, and a notice says so.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import xxhash
from msgspec import Meta
from numpy.typing import NDArray

from shelfwise.indexer.cleaning.text import clean_text
from shelfwise.retrieval.encoders.base import Encoder
from shelfwise.retrieval.errors import EncoderError, FaqError
from shelfwise.retrieval.index.vectors import Background
from shelfwise.retrieval.store.files import file_stamp
from shelfwise.retrieval.text.analysis import contains_chinese, fold, word_term
from shelfwise.service.answers.facts import NearTexts, sentence_coverage, sentences_of
from shelfwise.service.answers.questions import Question, concept_terms, content_terms, split_words
from shelfwise.service.curation.document_store import DocumentCodec, DocumentStore, check_text
from shelfwise.service.engine.editors import CompiledEditor
from shelfwise.service.engine.snapshot import Snapshot

MAX_QUESTION, MAX_ANSWER = 500, 4_000
"""Maximum lengths in characters."""
_MAX_PRODUCTS = 1_000
_LONGEST_ID = 200


class FaqEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A text that answers questions."""

    id: Annotated[str, Meta(max_length=_LONGEST_ID)]
    answer: str
    """Answer, quoted verbatim: a short one as a whole, a long one by the sentence that answers best."""
    question: str = ""
    """The question that it answers; empty for a passage of a manual."""
    products: Annotated[tuple[str, ...], Meta(max_length=_MAX_PRODUCTS)] = ()
    """Ids of the products that it is about; empty for the whole store."""
    product_type: Annotated[str, Meta(max_length=_LONGEST_ID)] = ""
    """Type of product that it is about, as a question names it."""
    source: Annotated[str, Meta(max_length=_LONGEST_ID)] = ""
    """Origin of the text: "faq", "tickets", "manual"."""

    @property
    def key(self) -> str:
        """Fingerprint of the text that is encoded."""
        return xxhash.xxh3_128_hexdigest(f"{bool(self.question)} {self.question or self.answer}".encode())


def entry_id(question: str, answer: str) -> str:
    """The id of an entry that has none; equal texts get the same id."""
    return xxhash.xxh3_64_hexdigest(f"{question}\n{answer}".encode())


def _check(entry: FaqEntry, place: str) -> FaqEntry:
    check_text(f"{place}: id", entry.id, _LONGEST_ID, FaqError, must=True)
    check_text(f"{place}: question", entry.question, MAX_QUESTION, FaqError)
    check_text(f"{place}: answer", entry.answer, MAX_ANSWER, FaqError, must=True)
    return entry


def _from_user(entry: FaqEntry) -> FaqEntry:
    """An entry without markup, with an id derived from its texts unless it has one; personal data is not masked."""
    question, answer = (clean_text(each, set()) for each in (entry.question, entry.answer))
    own_id, product_type = entry.id or entry_id(question, answer), entry.product_type.strip()
    return msgspec.structs.replace(entry, id=own_id, question=question, answer=answer, product_type=product_type)


_VECTORS = "CREATE TABLE vectors (encoder TEXT, key TEXT, vector BLOB, PRIMARY KEY (encoder, key)) WITHOUT ROWID;"


class FaqStore(DocumentStore[FaqEntry]):
    """The entries of an index directory, their changes and their vectors (INDEX/answers.sqlite)."""

    kind = DocumentCodec(
        one="entry",
        many="answers",
        entry=FaqEntry,
        application=0x53574651,
        error=FaqError,
        check=_check,
        from_user=_from_user,
        batch=100,
        more_tables=_VECTORS,
    )

    def vectors(self, encoder: str) -> Mapping[str, NDArray[np.float32]]:
        """The vectors of an encoder, each of shape (dimension,), by entry key."""
        with self._file.reading() as cursor:
            if cursor is None:
                return {}
            rows = cursor.execute("SELECT key, vector FROM vectors WHERE encoder = ?", (encoder,)).fetchall()
        return {key: np.frombuffer(vector, np.float32) for key, vector in rows}

    def identity(self) -> int:
        """A fingerprint of the stored content, which also changes when vectors do."""
        return hash(file_stamp(self.path))

    def add_vectors(self, encoder: str, vectors: Mapping[str, NDArray[np.float32]]) -> None:
        """Stores vectors by entry key, and deletes those of other encoders and of deleted entries."""
        with self._file.writing() as cursor:
            there = {entry.key for entry in self._all(cursor)}
            kept = [key for (key,) in cursor.execute("SELECT key FROM vectors WHERE encoder = ?", (encoder,))]
            gone = [(key,) for key in kept if key not in there]
            cursor.executemany("DELETE FROM vectors WHERE key = ?", gone)
            cursor.execute("DELETE FROM vectors WHERE encoder != ?", (encoder,))
            rows = [(encoder, key, vector.astype(np.float32).tobytes()) for key, vector in vectors.items()]
            cursor.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", rows)


@dataclass(frozen=True, slots=True)
class FaqMatch:
    """An entry that may answer a question."""

    entry: FaqEntry
    text: str
    """The quote: the whole answer, or one sentence of it."""
    score: float


_WHOLE = 600
"""Maximum length in characters of an answer that is quoted as a whole."""
_MAX_FOUND = 3
_SHORTLIST = 50


@dataclass(frozen=True, slots=True, eq=False)
class FaqIndex:
    """The entries of a store, searchable by words and by meaning. Immutable, thread-safe."""

    entries: Sequence[FaqEntry] = ()
    vectors: NDArray[np.float32] | None = None
    """Vectors (entries, dimension); a row is zero if its entry has no vector."""
    encoder: Encoder | None = None
    background: Background | None = None
    _terms: Sequence[frozenset[str]] = ()
    """Terms of each entry's question, or of its answer if it has no question."""
    _postings: Mapping[str, Sequence[int]] = field(default_factory=dict)
    _free: frozenset[int] = frozenset()
    """Numbers of the entries that are about no particular product or type."""
    _by_product: Mapping[str, Sequence[int]] = field(default_factory=dict)
    _by_type: Mapping[tuple[str, ...], Sequence[int]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        entries: Sequence[FaqEntry],
        encoder: Encoder,
        background: Background,
        stored: Mapping[str, NDArray[np.float32]],
    ) -> FaqIndex:
        """Builds the index; `stored` maps entry keys to vectors of the encoder."""
        if not entries:
            return NO_ENTRIES
        vectors = np.zeros((len(entries), encoder.dimension), np.float32)
        postings, by_product = (defaultdict[str, list[int]](list) for _ in range(2))
        by_type = defaultdict[tuple[str, ...], list[int]](list)
        terms, free = [], []
        for at, entry in enumerate(entries):
            vector = stored.get(entry.key)
            if vector is not None and len(vector) == encoder.dimension:
                vectors[at] = vector
            own = _terms_of(entry.question or entry.answer)
            terms.append(own)
            for term in own | _terms_of(_MASKED.sub(" ", entry.answer)):
                postings[term].append(at)
            for product in entry.products:
                by_product[product].append(at)
            if entry.product_type:
                by_type[_type_key(entry.product_type)].append(at)
            if not (entry.products or entry.product_type):
                free.append(at)
        return cls(entries, vectors, encoder, background, terms, postings, frozenset(free), by_product, by_type)

    @property
    def unencoded(self) -> int:
        """Number of entries without a vector."""
        return 0 if self.vectors is None else int((~self.vectors.any(axis=1)).sum())

    def find(self, question: Question, least: float) -> list[FaqMatch]:
        """The entries about the whole store that answer a question with a score of at least `least`, best first."""
        return self._best(question, self._scores(question, self._free), least)

    def find_bound(self, question: Question, least: float, product: str, product_type: str) -> list[FaqMatch]:
        """Like `find`, for entries about a product or its type; an entry about drills also applies to cordless
        drills."""
        key = _type_key(product_type)
        of_types = (self._by_type.get(key[start:], ()) for start in range(len(key)))
        places = {*self._by_product.get(product, ()), *chain.from_iterable(of_types)}
        return self._best(question, self._scores(question, places), least) if places else []

    def related(self, question: Question, *, exclude: Collection[str] = (), size: int = 2) -> tuple[str, ...]:
        """Questions of entries that share words with a question, those that share most first."""
        places = self._counts(question, self._free)
        counts = {at: sum(bool(word.terms & self._terms[at]) for word in question.words) for at in places}
        ordered = sorted((at for at in counts if counts[at]), key=lambda at: (-counts[at], at))
        found = (self.entries[at] for at in ordered if 2 * counts[at] >= len(question.words))
        questions = (each.question for each in found if each.id not in exclude)
        return tuple(each for each in questions if each and contains_chinese(each) == question.is_chinese)[:size]

    def _best(self, question: Question, scores: Mapping[int, float], least: float) -> list[FaqMatch]:
        best = sorted(scores, key=lambda at: (-scores[at], at))[:_MAX_FOUND]
        return [
            FaqMatch(self.entries[at], _quoted(self.entries[at], question), round(scores[at], 4))
            for at in best
            if scores[at] >= max(least, _CLOSE * scores[best[0]])
        ]

    def _counts(self, question: Question, places: Collection[int]) -> dict[int, int]:
        """Number of words shared with a question, by entry that shares any."""
        counts: dict[int, int] = defaultdict(int)
        for word in question.words:
            for at in {at for term in word.terms for at in self._postings.get(term, ())}:
                if at in places:
                    counts[at] += 1
        return counts

    def _scores(self, question: Question, places: Collection[int]) -> dict[int, float]:
        """Score, 0 to 1, of each entry that shares a word with a question or is close to it in meaning: half of it
        is the cosine, half the mean share of common words on both sides."""
        if not places:
            return {}
        counts = self._counts(question, places)
        similar = self._similarities(question.text)
        near = np.argsort(-similar)[:_SHORTLIST].tolist() if similar is not None else []
        scores = {}
        for at in {*counts, *(each for each in near if each in places)}:
            own = self._terms[at]
            met = sum(1 for word in question.words if word.terms & own)
            lexical = 0.5 * (counts.get(at, 0) / max(len(question.words), 1) + min(1.0, met / max(len(own), 1)))
            meaning = float(similar[at]) if similar is not None else lexical
            # Small English encoders find all Chinese texts similar.
            alone = 0.0 if question.is_chinese else _MEANING_ALONE * meaning
            scores[at] = max(0.5 * lexical + 0.5 * meaning, alone)
        return scores

    def _similarities(self, text: str) -> NDArray[np.float64] | None:
        """The similarity of each entry to a text, shape (n,); 0 at the cosine of unrelated texts. None if the text
        cannot be encoded."""
        if self.vectors is None or self.encoder is None or self.background is None or not self.vectors.any():
            return None
        try:
            vector = self.encoder.encode_queries([text])[0]
        except EncoderError:
            return None
        cosines = (self.vectors @ vector).astype(np.float64)
        floor = self.background.mean
        return np.asarray(np.clip((cosines - floor) / (1 - floor), 0, 1))


NO_ENTRIES = FaqIndex()
_MASKED = re.compile(r"\[[a-z ]+\]")
"""Placeholder of masked personal data, such as "[phone]"; its words are not indexed."""
_MEANING_ALONE = 0.75
"""Weight of the cosine if no word is shared."""
_CLOSE = 0.85
"""Share of the best score that a further entry needs to be quoted."""


def _type_key(name: str) -> tuple[str, ...]:
    """The stems of a type's name, equal for "Cordless drill" and "cordless drills"."""
    return tuple(word_term(word) for word in split_words(fold(name)))


def _terms_of(text: str) -> frozenset[str]:
    return frozenset(content_terms(text)) | concept_terms(text)


def _quoted(entry: FaqEntry, question: Question) -> str:
    if len(entry.answer) <= _WHOLE and entry.question:
        return entry.answer
    sentences = sentences_of(entry.answer) or (entry.answer[:_WHOLE],)
    return max(sentences, key=lambda each: sentence_coverage(each, question.words, ()))


@dataclass(frozen=True, slots=True)
class CompiledFaq:
    """The entries of a store for the questions to one version, and the indexes of its fields and texts."""

    entries: FaqIndex
    near: NearTexts

    @property
    def notices(self) -> Sequence[str]:
        """A notice if entries have no vectors."""
        count = self.entries.unencoded
        why = f"{count:,} answer texts have no vectors and match by words only; shelfwise rebuild encodes them"
        return (why,) if count else ()


class EngineFaq(CompiledEditor[FaqEntry, CompiledFaq]):
    """The answer texts of an engine's index.

    >>> engine.answers.put([FaqEntry("returns", "Within 30 days.", "What is your return policy?")], who="m7")
    """

    def __init__(self, root: Path, snapshot: Callable[[], Snapshot]) -> None:
        self._vectors = vectors = FaqStore(root)

        def compile_entries(entries: Sequence[FaqEntry], snapshot: Snapshot) -> CompiledFaq:
            encoder, background = snapshot.encoder, snapshot.manifest.background
            stored = vectors.vectors(encoder.identity) if entries else {}
            index = FaqIndex.of(entries, encoder, background, stored)
            return CompiledFaq(index, NearTexts(encoder, background))

        super().__init__(vectors, snapshot, compile_entries, lambda compiled: compiled.notices)

    def put(self, documents: Iterable[FaqEntry], /, *, gone: Iterable[str] = (), who: str = "") -> int:
        """Adds entries, or replaces those with the same id, and stores their vectors. Raises FaqError for an invalid
        entry, EncoderError if the encoder fails."""
        checked, gone = self._checked(documents), set(gone)
        # Checked before encoding, which can take minutes.
        self.store.check_count({each.id for each in self.list()} - gone | {each.id for each in checked})
        vectors = self._encode(checked)
        revision = self.store.put(checked, gone=gone, who=who)
        self._vectors.add_vectors(self._snapshot().encoder.identity, vectors)
        return self._followed(revision)

    def encode(self) -> int:
        """Encodes the entries that have no vector of the serving encoder; returns their number."""
        entries = self.list()
        there = self._vectors.vectors(self._snapshot().encoder.identity)
        vectors = self._encode([entry for entry in entries if entry.key not in there])
        self._vectors.add_vectors(self._snapshot().encoder.identity, vectors)
        return len(vectors)

    def _encode(self, entries: Sequence[FaqEntry]) -> Mapping[str, NDArray[np.float32]]:
        """Encodes questions as queries, since they are compared with queries; passages as product texts."""
        encoder = self._snapshot().encoder
        found: dict[str, NDArray[np.float32]] = {}
        questions = [entry for entry in entries if entry.question]
        passages = [entry for entry in entries if not entry.question]
        for some, encode in ((questions, encoder.encode_queries), (passages, encoder.encode_products)):
            if some:
                vectors = encode([entry.question or entry.answer for entry in some])
                found |= dict(zip((entry.key for entry in some), vectors, strict=True))
        return found

    def _followed(self, revision: int) -> int:
        self.encode()
        return super()._followed(revision)
